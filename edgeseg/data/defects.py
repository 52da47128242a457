"""Defects of labelled images: what `data check` lists and a training refuses, with one sentence and a hint each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeseg.core.errors import DataError
from edgeseg.core.redact import show_name

MASK_VALUES = "mask-values"


@dataclass(frozen=True)
class DataWarning:
    """A suspicious property of data that can be trained on, or of the way they were read."""

    kind: str
    message: str
    hint: str
    cases: tuple[str, ...] = ()


class DefectError(DataError):
    """A defect of the data: raised by a training, collected by `data check`."""

    def __init__(self, kind: str, message: str, hint: str, stems: Sequence[str] = ()) -> None:
        super().__init__(message, hint)
        self.kind = kind
        self.stems = tuple(stems)

    def to_json(self) -> dict[str, Any]:
        """Convert the defect to a JSON table."""
        return {"kind": self.kind, "message": self.message, "hint": self.hint, "cases": list(self.stems)}


def as_defect(error: DataError, stem: str) -> DefectError:
    """Convert an error to the defect of a case; an unreadable file is a kind of its own."""
    kind = error.kind if isinstance(error, DefectError) else "unreadable"
    return DefectError(kind, error.message, error.hint, (stem,))


def missing_masks(folder: Path, stems: Sequence[str]) -> DefectError:
    """Describe images without a mask."""
    return DefectError(
        "image-without-mask",
        f"Expected a mask for every image, got none for {_count(stems, 'image')} in {folder}.",
        "Add the masks (an empty one where there is nothing to find) or remove the images.",
        stems,
    )


def missing_images(folder: Path, stems: Sequence[str]) -> DefectError:
    """Describe masks without an image."""
    return DefectError(
        "mask-without-image",
        f"Expected an image for every mask, got none for {_count(stems, 'mask')} of {folder}.",
        "Add the images or remove the masks.",
        stems,
    )


def missing_modalities(folder: Path, stems: Sequence[str]) -> DefectError:
    """Describe images that lack one of their modalities."""
    return DefectError(
        "image-without-modality",
        f"Expected an image of every name in each folder of images, got none for {_count(stems, 'name')} in {folder}.",
        "Add the images, or remove the name from the other folders.",
        stems,
    )


def unlike_modalities(where: str, first: str, got: str) -> DefectError:
    """Describe modalities of one case with different sizes or bit depths."""
    return DefectError(
        "modality-size",
        f"Expected {where} to have the size and depth of the image it belongs to, {first}, got {got}.",
        "Export all modalities of a case on one grid, with the same bit depth.",
    )


def repeated_names(folder: Path, stems: Sequence[str]) -> DefectError:
    """Describe several files whose names differ in the ending only."""
    return DefectError(
        "repeated-name",
        f"Expected one file for each name in {folder}, got several for {_count(stems, 'name')}.",
        "Keep one of the files that differ only in their ending.",
        stems,
    )


def bad_names(folder: Path, names: Sequence[str]) -> DefectError:
    """Describe names that are not UTF-8, or have control characters."""
    return DefectError(
        "file-name",
        f"Expected names in UTF-8 without control characters in {folder}, got {_count(names, 'name')}.",
        "Rename the files: tables, reports and terminals could not show these names.",
        names,
    )


def wrong_size(where: str, size: Sequence[int], got: Sequence[int]) -> DefectError:
    """Describe a mask that has not its image's size."""
    return DefectError(
        "mask-size",
        f"Expected the mask {where} to have its image's size {_size(size)}, got {_size(got)}.",
        "Export the mask again at the image's size.",
    )


def stray_values(where: str, values: Iterable[Any]) -> DefectError:
    """Describe a mask with other values than 0 and one other."""
    return DefectError(
        MASK_VALUES,
        f"Expected 0 and one other value in the mask {where}, got {_list_values(values)}.",
        "Save masks without loss (PNG), 0 outside and 255 inside; several classes: one folder for each, or label maps.",
    )


def jpeg_masks(where: str, stems: Sequence[str] = ()) -> DefectError:
    """Describe masks that JPEG has blurred: one file, or those of a folder."""
    which = f"{_count(stems, 'the JPEG')} in {where}" if stems else f"the JPEG {where}"
    return DefectError(
        MASK_VALUES,
        f"Expected masks without loss, got {which}: JPEG blurs borders into values that mean nothing.",
        "Export the masks as PNG. Where that is not possible and there is one class, this divides them by brightness: "
        "edgeseg data import DATA OUT --threshold-masks 127",
        stems,
    )


def blurred_values(where: str, values: Sequence[int]) -> DefectError:
    """Describe masks with grey levels that are neither numbers of classes nor one for each class."""
    return DefectError(
        MASK_VALUES,
        f"Expected 0 and one value for each class in the masks of {where}, got {_list_values(values)}.",
        "Export the masks as PNG in their own size, without smoothing. Masks of one class with blurred borders: "
        "edgeseg data import DATA OUT --threshold-masks 127",
    )


def blurred_colours(where: str, got: int, most: int) -> DefectError:
    """Describe masks with more colours than classes, such as those along blurred borders."""
    return DefectError(
        MASK_VALUES,
        f"Expected at most {most} fixed colours for the classes in the masks of {where}, got {got} colours"
        f"{', of which some stand on borders only' if got <= most else ''}.",
        "Export the masks as PNG in their own size, without smoothing; photographs and overlays are no masks.",
    )


def stray_colours(where: str, colours: Sequence[str]) -> DefectError:
    """Describe colours that are no classes, or masks without black for the background."""
    return DefectError(
        MASK_VALUES,
        f"Expected black for the background and a fixed colour for each class in {where}, got "
        f"{', '.join(colours[:6])}{f' and {len(colours) - 6} more' if len(colours) > 6 else ''}.",
        "Export the masks with a black background, or as label maps: 0 for the background, 1 to K for the classes.",
    )


def drawn_in_transparency(where: str) -> DefectError:
    """Describe a mask that is drawn in the alpha channel."""
    return DefectError(
        MASK_VALUES,
        f"Expected the mask {where} to be drawn in its brightness, got one brightness and a varied transparency.",
        "Save masks without an alpha channel, 0 outside and 255 inside.",
    )


def stray_labels(where: str, values: Iterable[Any], highest: str) -> DefectError:
    """Describe label maps with other values than those of the classes."""
    return DefectError(
        "label-values",
        f"Expected the label values 0 to {highest} without a gap in {where}, got {_list_values(values)}.",
        "Write label maps as grey images: 0 for background, 1, 2, ... for the classes.",
    )


def nothing_marked(root: Path, name: str) -> DefectError:
    """Describe a class without a single pixel."""
    return DefectError(
        "empty-class",
        f"Expected something marked for the class {name} in the masks of {root}, got only empty ones.",
        "Check the masks, or leave the class out.",
    )


def nothing_unmarked(root: Path, name: str) -> DefectError:
    """Describe a class that covers every pixel of every image."""
    return DefectError(
        "full-class",
        f"Expected something unmarked for the class {name} in the masks of {root}, got every pixel of every image.",
        "Check the masks (0 outside, 255 inside), or leave the class out.",
    )


def missing_rows(path: Path, stems: Sequence[str]) -> DefectError:
    """Describe images without a row in groups.csv."""
    return DefectError(
        "image-without-group",
        f"Expected a row for every image in {path}, got none for {_count(stems, 'image')}.",
        "Add the rows, or remove the file to let every image be its own group.",
        stems,
    )


def repeated_rows(path: Path, rows: Sequence[str]) -> DataWarning:
    """Describe images with several equal rows in groups.csv."""
    return DataWarning(
        "repeated-row",
        f"Expected one row for each image in {path}, got several that agree for {_count(rows, 'image')}.",
        "Remove all but one.",
    )


def unknown_labels(path: Path, stems: Sequence[str]) -> DefectError:
    """Describe labels of images that do not exist."""
    return DefectError(
        "label-without-image",
        f"Expected an image for every row in {path}, got none for {_count(stems, 'image')}.",
        "Correct the names (an image's name without its ending), or remove the rows.",
        stems,
    )


def one_label(path: Path, labels: Sequence[str]) -> DefectError:
    """Describe labels that do not differ."""
    return DefectError(
        "one-label",
        f"Expected at least 2 different labels in {path}, got {show_name(labels[0]) if labels else 'none'}.",
        "Label the other images, too, or remove the file.",
    )


def missing_labels(path: Path, stems: Sequence[str]) -> DataWarning:
    """Describe images without a label among labelled ones."""
    return DataWarning(
        "missing-labels",
        f"{path} labels some images, but not {_count(stems, 'image')}: a network learns the labels from the others.",
        "Add the missing labels if they are known.",
        tuple(stems),
    )


def coded_classes(where: Path, names: Sequence[str], values: str) -> DataWarning:
    """Describe classes that are colours or grey levels without numbers."""
    return DataWarning(
        "coded-classes",
        f"The masks of {where} hold {len(names)} colours or grey levels, which are the classes {', '.join(names)}: "
        f"{values}.",
        "Name them in this order: --class-name NAME, once for each.",
    )


def ignored_label(table: Path, name: str) -> DataWarning:
    """Describe a label whose pixels nnU-Net leaves out of its loss."""
    return DataWarning(
        "ignored-label",
        f"The label {name} of {table} marks pixels that nobody has judged: they are read as background.",
        "Label them, or leave those images out.",
    )


def unlabelled_part(root: Path, part: str, count: int) -> DataWarning:
    """Describe a given part that has images only."""
    return DataWarning(
        "unlabelled-part",
        f"The part {part} of {root} holds {count} images and no masks: it is left out.",
        "Add its masks if there are any; without them another part of the labelled images is tested on.",
    )


def marked_outside(stems: Sequence[str]) -> DataWarning:
    """Describe masks that reach outside the DICOM ultrasound region of their image."""
    return DataWarning(
        "marked-outside",
        f"Something is marked outside the ultrasound region that the header names, for {_count(stems, 'image')}: "
        "only the region is used.",
        "Check the mask, or the region in the header (SequenceOfUltrasoundRegions).",
        tuple(stems),
    )


def too_few_groups(needed: int, purpose: str, got: int) -> DefectError:
    """Describe fewer groups than parts."""
    return DefectError(
        "groups",
        f"Expected at least {needed} groups to divide into {purpose}, got {got}.",
        "Give more patients or clips, or name the groups in groups.csv.",
    )


def too_few_marked(needed: int, purpose: str, got: int) -> DefectError:
    """Describe fewer groups with marked pixels than parts."""
    return DefectError(
        "groups",
        f"Expected at least {needed} groups with something marked to divide into {purpose}, got {got}.",
        "Give more patients or clips that show something: a part without any could not be learnt from or judged.",
    )


def empty_part(part: str) -> DefectError:
    """Describe a given part without a marked pixel."""
    return DefectError(
        "empty-part",
        f"Expected something marked in the given part {part}, got only empty masks.",
        "Correct the column part of groups.csv, or remove it.",
    )


def parted_groups(groups: Sequence[str]) -> DefectError:
    """Describe groups that several given parts share."""
    return DefectError(
        "parted-group",
        f"Expected every group in one of the given parts, got several parts for {_count(groups, 'group')}.",
        "Correct the column part or the column group of groups.csv.",
    )


def _count(stems: Sequence[str], noun: str) -> str:
    more = f" and {len(stems) - 1} more" if len(stems) > 1 else ""
    return f"{noun} {show_name(stems[0])}{more}"


def _size(shape: Sequence[int]) -> str:
    return "x".join(str(side) for side in (shape[1], shape[0], *shape[2:])) if len(shape) > 1 else str(tuple(shape))


def _list_values(values: Iterable[Any]) -> str:
    listed = [f"{value:g}" for value in values]
    return ", ".join(listed[:6]) + (f" and {len(listed) - 6} more" if len(listed) > 6 else "")
