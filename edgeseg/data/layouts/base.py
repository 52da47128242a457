"""The interface of a layout, and the pairing of images with masks by name that layouts share."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from edgeseg.core.errors import DataError
from edgeseg.data.defects import DataWarning, DefectError, as_defect, missing_images, missing_masks, repeated_names
from edgeseg.data.layouts.tree import list_bases, reduce_name
from edgeseg.data.reading import Case
from edgeseg.frame.images import list_images

T = TypeVar("T")
# The class of a folder masks/, which names none.
UNNAMED_CLASS = "target"


@dataclass(frozen=True)
class Found:
    """The cases and classes of a folder; a case with a defect in the listing is left out of `cases`."""

    cases: tuple[Case, ...]
    classes: tuple[str, ...]
    defects: tuple[DefectError, ...] = ()
    warnings: tuple[DataWarning, ...] = ()


class Layout(Protocol):
    """One way to store labelled images on disk."""

    name: str
    expects: str
    """The expected files, for the message that lists the layouts."""

    def fits(self, root: Path) -> bool:
        """Say from the names alone whether a folder has this layout."""

    def find(self, root: Path) -> Found:
        """Find the cases of a folder."""


@dataclass(frozen=True)
class NamedFiles:
    """The files of one folder by name without ending, and names that several files share."""

    files: dict[str, Path]
    defects: tuple[DefectError, ...]


def index_by_stem(folder: Path, files: Iterable[Path]) -> NamedFiles:
    """Index files by their names without ending (stems)."""
    named: dict[str, Path] = {}
    repeated = []
    for path in files:
        if path.stem in named:
            repeated.append(path.stem)
        named.setdefault(path.stem, path)
    return NamedFiles(named, (repeated_names(folder, repeated),) if repeated else ())


def match_names(masks: NamedFiles, images: NamedFiles) -> NamedFiles:
    """Name masks as their images where no name agrees, but all but a word such as _mask does."""
    if not masks.files or masks.files.keys() & images.files.keys():
        return masks
    named: dict[str, Path] = {}
    reduced = {reduce_name(stem): stem for stem in images.files}
    for stem, path in masks.files.items():
        bases = [base for base in list_bases(stem) if base in images.files]
        named.setdefault(bases[0] if bases else reduced.get(reduce_name(stem), stem), path)
    several = len(named) < len(masks.files) or len(reduced) < len(images.files)
    return masks if several else NamedFiles(named, masks.defects)


def compare_names(images: Collection[str], masks: Collection[str], folder: Path) -> tuple[DefectError, ...]:
    """Find images without a mask in a folder, and masks without an image."""
    missing, orphans = sorted(set(images) - set(masks)), sorted(set(masks) - set(images))
    defects = [missing_masks(folder, missing)] if missing else []
    return (*defects, missing_images(folder, orphans)) if orphans else tuple(defects)


def collect_cases(cases: Iterable[Case], complete: Callable[[Case], Case]) -> tuple[list[Case], list[DefectError]]:
    """Complete cases from their files, and collect the defects of unreadable ones."""
    tried = [or_defect(complete, case) for case in cases]
    done = [result for result in tried if not isinstance(result, DefectError)]
    return done, [result for result in tried if isinstance(result, DefectError)]


def or_defect(act: Callable[[Case], T], case: Case) -> T | DefectError:
    """Call a function on a case, and return its DataError as a defect."""
    try:
        return act(case)
    except DataError as error:
        return as_defect(error, case.stem)


def mask_folders(root: Path) -> list[Path]:
    """List masks/ and masks_CLASS/ of a folder."""
    return [p for p in sorted(root.iterdir()) if p.is_dir() and (p.name == "masks" or p.name.startswith("masks_"))]


def _refuse_same_class(root: Path, folders: Sequence[Path]) -> None:
    """Refuse two folders of masks for one class, which differ in case alone or are masks/ and masks_target/."""
    first: dict[str, Path] = {}
    for folder in folders:
        name = class_name(folder)
        # file systems of macOS and Windows would merge names that differ in case or Unicode form
        other = first.setdefault(unicodedata.normalize("NFC", name).casefold(), folder)
        if other != folder or not name.strip():
            raise DataError(
                f"Expected each class of {root} by a name of its own, got {other.name}/ and {folder.name}/."
                if other != folder
                else f"Expected the name of a class in {root}, got the folder {folder.name}/.",
                "Rename one of them, or put their files together: masks_CLASS/.",
            )


def pair_files(root: Path, images: NamedFiles) -> Found:
    """Pair images with the files of the same names in masks/ and masks_CLASS/."""
    folders = mask_folders(root)
    if not folders:
        raise DataError(f"Expected a folder masks/ in {root}, got none.", "Several classes: masks_CLASS/ for each.")
    _refuse_same_class(root, folders)
    masks = [match_names(index_by_stem(folder, list_images(folder)), images) for folder in folders]
    defects = list(images.defects)
    for folder, named in zip(folders, masks, strict=True):
        defects += (*named.defects, *compare_names(images.files, named.files, folder))
    cases = tuple(
        Case(stem, path, tuple(named.files[stem] for named in masks), stem)
        for stem, path in images.files.items()
        if all(stem in named.files for named in masks)
    )
    return Found(cases, tuple(class_name(folder) for folder in folders), tuple(defects))


def list_folder(root: Path, name: str) -> list[Path]:
    """List the images of a folder, which must exist and not be empty."""
    folder = root / name
    if not folder.is_dir():
        raise DataError(f"Expected a folder {name}/ in {root}, got none.", "Name another folder or another layout.")
    images = list_images(folder)
    if not images:
        raise DataError(f"Expected images in {folder}, got an empty folder.", "Name another folder or another layout.")
    return images


def class_name(folder: Path) -> str:
    """Return the class of a folder of masks."""
    return folder.name.removeprefix("masks_") if folder.name != "masks" else UNNAMED_CLASS


def class_folder(name: str) -> str:
    """Return the folder of masks for a class."""
    return f"masks_{name}" if name != UNNAMED_CLASS else "masks"


def number_classes(count: int) -> tuple[str, ...]:
    """Name classes that have only numbers, with leading zeros so that they sort in order."""
    return tuple(f"class_{number:0{len(str(count))}d}" for number in range(1, count + 1))
