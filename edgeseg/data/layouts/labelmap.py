"""Images and label maps: one file says for every pixel which class it belongs to."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

from edgeseg.core.images import list_images, read_image
from edgeseg.core.limits import CLASSES
from edgeseg.data.case import Case
from edgeseg.data.defects import DefectError, stray_labels
from edgeseg.data.layouts.base import Found, collect_cases, compare_names, list_folder, name_files
from edgeseg.data.reading import Reading, find_values, split_labels


class LabelMapLayout:
    """images/NAME.png and labels/NAME.png with 0 for background and 1 to K for the classes."""

    name = "labelmap"
    expects = "images/NAME.png and labels/NAME.png (0 for background, 1 to K for the classes)"

    def fits(self, root: Path) -> bool:
        """Look for images/ and labels/."""
        return all((root / name).is_dir() and list_images(root / name) for name in ("images", "labels"))

    def find(self, root: Path) -> Found:
        """Pair images with label maps; all of these are read once, to know how many classes there are."""
        folder = root / "labels"
        images = name_files(root / "images", list_folder(root, "images"))
        labels = name_files(folder, list_folder(root, "labels"))
        paired = [Case(s, p, (labels.files[s],), s) for s, p in images.files.items() if s in labels.files]
        values: set[int] = set()
        cases, unreadable = collect_cases(paired, partial(_note_values, values=values))
        classes = min(max(values, default=0), CLASSES)
        defects = (*images.defects, *labels.defects, *compare_names(images.files, labels.files, folder), *unreadable)
        reader = partial(read_label_map, classes=classes)
        return Found(
            tuple(dataclasses.replace(case, read=reader) for case in cases),
            number_classes(classes),
            (*defects, *_check_values(values, folder)),
        )


def read_label_map(case: Case, colour: bool, classes: int) -> Reading:
    """Read an image and its label map."""
    frame = read_image(case.image, colour)
    return frame, split_labels(read_image(case.masks[0]), frame, classes, str(case.masks[0]))


def number_classes(count: int) -> tuple[str, ...]:
    """Name classes that have only numbers, so that they sort as they count."""
    return tuple(f"class_{number:0{len(str(count))}d}" for number in range(1, count + 1))


def _note_values(case: Case, values: set[int]) -> Case:
    values.update(find_values(read_image(case.masks[0])))
    return case


def _check_values(values: set[int], folder: Path) -> tuple[DefectError, ...]:
    """Refuse gaps, and more classes than a label map of 8 bits can hold later."""
    expected = set(range(1, max(values, default=0) + 1))
    fits = bool(expected) and expected <= values and len(expected) <= CLASSES
    return (
        () if fits else (stray_labels(str(folder), sorted(values), "K" if len(expected) <= CLASSES else f"{CLASSES}"),)
    )
