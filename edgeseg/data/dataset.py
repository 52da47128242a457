"""Labelled images on disk: which cases there are, what they show, and whether they can be used."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import DataError
from edgeseg.core.images import list_images, read_image
from edgeseg.core.spec import ClassSpec

PALETTE = ((255, 176, 0), (0, 200, 255), (255, 90, 140), (120, 220, 90), (180, 140, 255))
_LAYOUT = "Expected are images/NAME.png and masks/NAME.png (several classes: masks_CLASS/NAME.png)."


@dataclass(frozen=True)
class Case:
    """One labelled image: the files it is made of, and the group it must not be parted from."""

    stem: str
    image: Path
    masks: tuple[Path, ...]
    group: str


@dataclass(frozen=True)
class Dataset:
    """Labelled images of one folder."""

    root: Path
    cases: tuple[Case, ...]
    classes: tuple[ClassSpec, ...]


@dataclass(frozen=True)
class LabelledImage:
    """A case in memory: the frame, and one true mask per class at the frame's size."""

    case: Case
    frame: NDArray[Any]
    masks: tuple[NDArray[np.uint8], ...]

    @property
    def labels(self) -> NDArray[np.uint8]:
        """Draw the masks into one label map: k is the k-th class."""
        labels = np.zeros(self.masks[0].shape, np.uint8)
        for number, mask in enumerate(self.masks, start=1):
            labels[mask > 0] = number
        return labels


def open_dataset(root: Path) -> Dataset:
    """Find the cases of a folder and refuse images without masks and masks without images."""
    images = _list_folder(root)
    folders = _mask_folders(root)
    masks = {folder: {path.stem: path for path in list_images(folder)} for folder in folders}
    _check_pairs(images, masks)
    groups = _read_groups(root)
    cases = tuple(
        Case(path.stem, path, tuple(masks[f][path.stem] for f in folders), groups.get(path.stem, path.stem))
        for path in images
    )
    classes = tuple(ClassSpec(_class_name(f), PALETTE[i % len(PALETTE)]) for i, f in enumerate(folders))
    return Dataset(root, cases, classes)


def read_case(case: Case, colour: bool = False) -> LabelledImage:
    """Read a case from disk and refuse masks of another size than the image."""
    frame = read_image(case.image, colour)
    masks = tuple(_read_mask(path, frame.shape[:2]) for path in case.masks)
    return LabelledImage(case, frame, masks)


def read_cases(
    cases: Iterable[Case], colour: bool = False, on_case: Callable[[str], None] | None = None
) -> Iterable[LabelledImage]:
    """Read cases one after the other, telling each one's name."""
    for case in cases:
        yield read_case(case, colour)
        if on_case is not None:
            on_case(case.stem)


def fingerprint_dataset(dataset: Dataset) -> str:
    """Hash names and contents of all images and masks, so that changed data are noticed."""
    total = hashlib.sha256()
    for case in dataset.cases:
        for path in (case.image, *case.masks):
            total.update(path.relative_to(dataset.root).as_posix().encode("utf-8"))
            total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def _list_folder(root: Path) -> list[Path]:
    if not root.is_dir():
        raise DataError(f"Expected a data folder at {root}, got none.", _LAYOUT)
    if not (root / "images").is_dir():
        raise DataError(f"Expected a folder images/ in {root}, got none.", _LAYOUT)
    images = list_images(root / "images")
    if not images:
        raise DataError(f"Expected images in {root / 'images'}, got an empty folder.", _LAYOUT)
    return images


def _mask_folders(root: Path) -> list[Path]:
    folders = [p for p in sorted(root.iterdir()) if p.is_dir() and (p.name == "masks" or p.name.startswith("masks_"))]
    if not folders:
        raise DataError(f"Expected a folder masks/ in {root}, got none.", _LAYOUT)
    return folders


def _class_name(folder: Path) -> str:
    return folder.name.removeprefix("masks_") if folder.name != "masks" else "target"


def _check_pairs(images: list[Path], masks: dict[Path, dict[str, Path]]) -> None:
    stems = {path.stem for path in images}
    for folder, found in masks.items():
        missing = sorted(stems - set(found))
        if missing:
            raise DataError(
                f"Expected a mask for every image, got none for {_count(missing, 'image')} in {folder}.",
                "Add the masks (an empty one where there is nothing to find) or remove the images.",
            )
        orphans = sorted(set(found) - stems)
        if orphans:
            raise DataError(
                f"Expected an image for every mask, got none for {_count(orphans, 'mask')} of {folder}.",
                "Add the images or remove the masks.",
            )


def _count(stems: list[str], noun: str) -> str:
    more = f" and {len(stems) - 1} more" if len(stems) > 1 else ""
    return f"{noun} {stems[0]}{more}"


def _read_mask(path: Path, size: tuple[int, ...]) -> NDArray[np.uint8]:
    mask = read_image(path)
    if mask.shape != size:
        raise DataError(
            f"Expected the mask {path} to have its image's size {size[1]}x{size[0]}, "
            f"got {mask.shape[1]}x{mask.shape[0]}.",
            "Export the mask again at the image's size.",
        )
    return (mask > 0).astype(np.uint8)


def _read_groups(root: Path) -> dict[str, str]:
    path = root / "groups.csv"
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if rows and not {"stem", "group"} <= set(rows[0]):
        raise DataError(
            f"Expected the columns stem and group in {path}, got {', '.join(rows[0])}.",
            "Name the group (patient, exam or clip) that each image belongs to.",
        )
    return {row["stem"]: row["group"] for row in rows}
