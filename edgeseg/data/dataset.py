"""Data folders: list the cases, read images with masks, find empty classes, hash, and import into the plain layout."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import DataError
from edgeseg.core.files import write_json, write_rows
from edgeseg.core.limits import CASES, CLASSES, MAPPED_BYTES, NAME_LETTERS, digest_regular
from edgeseg.core.palette import PALETTE
from edgeseg.core.parallel import map_ahead
from edgeseg.core.progress import Advance, ignore
from edgeseg.core.redact import is_printable
from edgeseg.core.spec import MASKS, ClassSpec, InputSpec
from edgeseg.data.coding import read_above
from edgeseg.data.defects import DataWarning, DefectError, bad_names, nothing_marked, nothing_unmarked
from edgeseg.data.frame_labels import COLUMNS, LABELS, label_cases, list_labels
from edgeseg.data.groups import GROUPS, group_cases, write_groups
from edgeseg.data.layouts import choose_layout, name_fitting
from edgeseg.data.layouts.base import Found, class_folder
from edgeseg.data.layouts.choice import LayoutChoice, parse_layout
from edgeseg.data.layouts.folders import NAMES as MODALITY_NAMES
from edgeseg.data.reading import Case, fit_case, read_pair
from edgeseg.data.weak_labels import WeakLabels
from edgeseg.frame.images import as_data_error, choose_white, write_image
from edgeseg.frame.postprocess import draw_ellipses

__all__ = ["Case", "Dataset", "LabelledImage", "fingerprint_dataset", "open_dataset", "read_case", "read_cases"]
# In a data folder, images that are being added to it.
ADDING, ADDING_PLAN = ".adding", "plan.json"
# Lowest Dice of a labelled ellipse with the one fitted to it; free outlines of vessels and lesions have less. On HC18
# every label reaches it.
ELLIPSE_DICE = 0.99
_COLOURS = 3


@dataclass(frozen=True)
class Dataset:
    """The labelled images of a folder."""

    root: Path
    cases: tuple[Case, ...]
    classes: tuple[ClassSpec, ...]
    """In the order of the folders' names, which is the order of a case's masks."""
    layout: str = "plain"
    warnings: tuple[DataWarning, ...] = ()
    """What a person should know about the listing; nothing in it prevents a training."""

    @property
    def header_region(self) -> bool:
        """Say whether images are cropped to the ultrasound region in their DICOM headers."""
        return any(case.region is not None for case in self.cases)


@dataclass(frozen=True)
class Survey:
    """The usable cases of a folder, and the defects of the others."""

    dataset: Dataset
    defects: tuple[DefectError, ...]


@dataclass(frozen=True)
class LabelledImage:
    """A case in memory: the frame, and one ground-truth mask per class at the frame's size."""

    case: Case
    frame: NDArray[Any]
    masks: tuple[NDArray[np.uint8], ...]
    weak: WeakLabels | None = None
    """What boxes, points or scribbles leave open; the masks are then filled boxes and drawn marks."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frame."""
        return self.frame.shape[0], self.frame.shape[1]

    @property
    def deep(self) -> bool:
        """Say whether the frame has 16 bits, of which the white must be chosen."""
        return bool(self.frame.dtype == np.uint16)

    @property
    def brightest(self) -> int:
        """The highest value in the frame."""
        return int(self.frame.max())

    @property
    def shares(self) -> tuple[float, ...]:
        """Compute the share of the pixels that each class covers."""
        height, width = self.size
        return tuple(count / (height * width) for count in self.marked)

    @property
    def marked(self) -> tuple[int, ...]:
        """Count the pixels of each class."""
        return tuple(int(np.count_nonzero(mask)) for mask in self.masks)

    @property
    def border_shares(self) -> tuple[float, ...]:
        """Compute the share of the image's border that each class covers."""
        return tuple(float(np.mean(np.concatenate(list_border(mask)) > 0)) for mask in self.masks)

    @property
    def labels(self) -> NDArray[np.uint8]:
        """Draw the masks into one label map: 0 is background, k the k-th class."""
        labels = np.zeros(self.masks[0].shape, np.uint8)
        for number, mask in enumerate(self.masks, start=1):
            labels[mask > 0] = number
        return labels

    @property
    def overlapping(self) -> bool:
        """Say whether a pixel belongs to several classes, of which a label map keeps one."""
        return sum(self.marked) > int(np.count_nonzero(self.labels))


def open_dataset(root: str | Path, layout: str | None = None, group_pattern: str | None = None) -> Dataset:
    """List the cases of a folder; a defect in the listing is raised.

    Args:
        root: The folder.
        layout: The name of the layout, or what `write_layout` makes of further options; None detects it.
        group_pattern: A regular expression whose first group, found in a case's name, names its group.
    """
    survey = survey_dataset(Path(root), layout, group_pattern)
    if survey.defects:
        raise survey.defects[0]
    return survey.dataset


def survey_dataset(root: Path, layout: str | None = None, group_pattern: str | None = None) -> Survey:
    """List the cases of a folder and the defects of the listing."""
    if (root / ADDING / ADDING_PLAN).is_file():
        raise DataError(
            f"Expected a whole data set in {root}, got one to which images are being added, or were until that was "
            "interrupted.",
            f"Go on with it: edgeseg data import SRC {root} --add",
        )
    chosen, choice = choose_layout(root, layout), parse_layout(layout)
    try:
        found = _apply_choice(chosen.find(root), choice, root)
    except DataError as error:
        other = None if choice.name is None else name_fitting(root, choice.name)
        if other is None:
            raise
        raise DataError(error.message, f"It looks like {other}: leave --layout out.") from error
    if not found.cases and not found.defects:
        raise DataError(f"Expected labelled images in {root}, got none.", f"{chosen.name} expects {chosen.expects}.")
    if max(len(found.cases), len(found.classes) * CASES // CLASSES) > CASES:
        raise DataError(
            f"Expected at most {CASES} images of {CLASSES} classes in {root}, "
            f"got {len(found.cases)} of {len(found.classes)}.",
            "Divide the folder.",
        )
    classes = tuple(ClassSpec(name, PALETTE[i]) for i, name in enumerate(found.classes))
    grouping = group_cases(found.cases, root, group_pattern)
    labelling = label_cases(grouping.cases, root)
    dataset = Dataset(
        root, labelling.cases, classes, chosen.name, (*found.warnings, *grouping.warnings, *labelling.warnings)
    )
    return Survey(dataset, (*_check_names(dataset), *found.defects, *grouping.defects, *labelling.defects))


def _count_names(classes: Sequence[str]) -> str:
    return "1 name for the class" if len(classes) == 1 else f"{len(classes)} names for the classes"


def _apply_choice(found: Found, choice: LayoutChoice, root: Path) -> Found:
    """Name the classes, and divide masks by brightness, where that was asked for."""
    names = choice.class_names or found.classes
    if len(names) != len(found.classes):
        raise DataError(
            f"Expected {_count_names(found.classes)} {', '.join(found.classes)[:200]} of {root}, "
            f"got {len(names)}: {', '.join(names)[:200]}.",
            "Give --class-name once for each class, in this order.",
        )
    if choice.threshold is None:
        return dataclasses.replace(found, classes=names)
    if any(case.read is not read_pair for case in found.cases):
        raise DataError(
            f"Expected an image file with one mask file for each class in {root}, whose masks can be divided by "
            "brightness, got another layout.",
            "Leave --threshold-masks out.",
        )
    reader = partial(read_above, threshold=choice.threshold)
    cases = tuple(dataclasses.replace(case, read=reader) for case in found.cases)
    return dataclasses.replace(found, cases=cases, classes=names)


def _check_names(dataset: Dataset) -> list[DefectError]:
    """Find names that cannot be written into tables and reports."""
    names = [name for case in dataset.cases for name in (case.stem, case.group)]
    names += [*(spec.name for spec in dataset.classes), *(m for case in dataset.cases[:1] for m in case.modalities)]
    bad = [name for name in dict.fromkeys(names) if not is_printable(name)]
    return [bad_names(dataset.root, bad)] if bad else []


def read_case(case: Case, colour: bool | InputSpec = False) -> LabelledImage:
    """Read a case; masks that do not fit the image are refused.

    Args:
        case: The case.
        colour: Whether a colour frame is wanted, or the network's input that it is read for.
    """
    if isinstance(colour, InputSpec):
        frame, masks = case.read(fit_case(case, colour), colour.in_colour)
    else:
        frame, masks = case.read(case, colour)
    weak = None if case.read_weak is None else case.read_weak(case, (frame.shape[0], frame.shape[1]))
    return LabelledImage(case, frame, masks, weak)


def view_case(case: Case) -> LabelledImage:
    """Read a case for display: grey, or in colour if its channels are modalities."""
    return read_case(case, colour=bool(case.modalities))


def read_cases(
    cases: Iterable[Case], colour: bool | InputSpec = False, on_case: Callable[[str], None] | None = None
) -> Iterable[LabelledImage]:
    """Read cases one after the other, as `read_case` does; `on_case` is called with each name."""
    for case in cases:
        yield read_case(case, colour)
        if on_case is not None:
            on_case(case.stem)


@dataclass(frozen=True)
class CaseImages:
    """Cases that are read one by one, again each time they are gone through."""

    cases: Sequence[Case]
    colour: bool | InputSpec = False

    def __len__(self) -> int:
        """Count the cases."""
        return len(self.cases)

    def __iter__(self) -> Iterator[LabelledImage]:
        """Read one case after the other."""
        return iter(read_cases(self.cases, self.colour))


def find_empty_classes(dataset: Dataset, marked: Iterable[Sequence[int]]) -> list[DefectError]:
    """Find the classes that no case shows.

    Args:
        dataset: The dataset.
        marked: For each case, the number of pixels of each class.
    """
    return [nothing_marked(dataset.root, name) for name in list_absent(dataset.classes, marked)]


def find_full_classes(dataset: Dataset, marked: Iterable[tuple[Sequence[int], int]]) -> list[DefectError]:
    """Find the classes that cover every pixel of every case.

    Args:
        dataset: The dataset.
        marked: For each case, the number of pixels of each class, and of all pixels.
    """
    full = set(range(len(dataset.classes)))
    for counts, pixels in marked:
        full &= {number for number, count in enumerate(counts) if count == pixels}
    return [nothing_unmarked(dataset.root, dataset.classes[number].name) for number in sorted(full)]


def list_border(mask: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], ...]:
    """Return the outermost rows and columns of a mask."""
    return mask[0], mask[-1], mask[:, 0], mask[:, -1]


def list_absent(classes: Sequence[ClassSpec], marked: Iterable[Sequence[int]]) -> list[str]:
    """List the classes without a pixel, by name."""
    seen = {number for counts in marked for number, count in enumerate(counts) if count}
    return [spec.name for number, spec in enumerate(classes) if number not in seen]


def fingerprint_dataset(dataset: Dataset) -> str:
    """Hash names and contents of all images and masks, to notice changed data."""
    total = hashlib.sha256()
    paths = dict.fromkeys(path for case in dataset.cases for path in case.files)
    digests = dict(zip(paths, map_ahead(_digest, paths), strict=True))
    for case in dataset.cases:
        for path in case.files:
            # a folder of masks elsewhere (--masks) may be moved
            name = path.relative_to(dataset.root).as_posix() if path.is_relative_to(dataset.root) else path.name
            total.update(name.encode("utf-8", "surrogateescape"))
            total.update(digests[path])
    return total.hexdigest()


def _digest(path: Path) -> bytes:
    return as_data_error(digest_regular, path, MAPPED_BYTES)


def fingerprint_labels(cases: Iterable[Case]) -> str:
    """Hash the labels of frames; empty where no case has one, as in all data of older versions."""
    rows = sorted(f"{case.stem}\0{case.label}" for case in cases if case.label)
    return hashlib.sha256("\n".join(rows).encode("utf-8", "surrogateescape")).hexdigest() if rows else ""


def find_shape(images: Iterable[LabelledImage]) -> str:
    """Return "ellipse" if each image has a measured head that is labelled as an ellipse, else "free"."""
    return "ellipse" if all(_shows_ellipse(image) for image in images) else "free"


def _shows_ellipse(image: LabelledImage) -> bool:
    if image.case.head_circumference_mm is None:
        return False
    labels = image.labels
    fitted = draw_ellipses(labels, len(image.masks))
    shared = np.count_nonzero((fitted == labels) & (labels > 0))
    return bool(2 * shared >= ELLIPSE_DICE * (np.count_nonzero(fitted) + np.count_nonzero(labels)))


def find_white(images: Iterable[LabelledImage]) -> int:
    """Find the white of 16-bit images; 8-bit ones are ignored, as their white is 255."""
    return choose_white(image.brightest for image in images if image.deep)


def import_dataset(dataset: Dataset, out: Path, on_case: Advance = ignore) -> None:
    """Write a dataset in the plain layout into an existing folder.

    Args:
        dataset: What to write; brightness, bit depth and colour are kept.
        out: The folder.
        on_case: Called with each case's name when it was written.
    """
    for spec in dataset.classes:
        if "/" in spec.name or len(os.fsencode(class_folder(spec.name))) > NAME_LETTERS:
            raise DataError(
                f"Expected names of classes that a folder can have, without slashes, in {dataset.root}, "
                f"got {spec.name[:NAME_LETTERS]}.",
                "Rename the class in the labelling tool, or here with --class-name, once for each class.",
            )
    refuse_weak(dataset)
    folders = [out / class_folder(spec.name) for spec in dataset.classes]
    modalities = dataset.cases[0].modalities if dataset.cases else ()
    several = modalities if len(modalities) not in (0, _COLOURS) else ()
    if several:
        write_json(out / MODALITY_NAMES, {"modalities": several})
    for image in read_cases(dataset.cases, _stack(several) if several else True):
        name = f"{image.case.stem}.png"
        if several:
            for number, place in enumerate(("images", *(f"images_{number + 1}" for number in range(1, len(several))))):
                write_image(out / place / name, image.frame[:, :, number])
        else:
            write_image(out / "images" / name, drop_equal_channels(image.frame))
        for folder, mask in zip(folders, image.masks, strict=True):
            write_image(folder / name, mask * np.uint8(255))
        on_case(image.case.stem)
    write_groups(out / GROUPS, dataset.cases)
    if list_labels(dataset.cases):
        write_rows(out / LABELS, COLUMNS, ((case.stem, case.label) for case in dataset.cases if case.label))


def refuse_weak(dataset: Dataset) -> None:
    """Refuse to write weak labels as masks, which they are not."""
    weak = sum(case.labels != MASKS for case in dataset.cases)
    if weak:
        raise DataError(
            f"Expected full masks to write, got boxes, points or scribbles for {weak} of {len(dataset.cases)} images "
            f"of {dataset.root}.",
            "Train on the folder as it is: edgeseg train reads them.",
        )


def _stack(modalities: Sequence[str]) -> InputSpec:
    """Describe an input that takes all modalities, of whatever size."""
    return InputSpec(16, 16, modalities=tuple(modalities))


def drop_equal_channels(frame: NDArray[Any]) -> NDArray[Any]:
    """Drop the colour channels of a grey image."""
    grey = frame[:, :, 0]
    return grey if np.array_equal(frame, np.repeat(grey[:, :, np.newaxis], 3, axis=2)) else frame
