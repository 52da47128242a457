"""What a labelling tool's files say: the classes, the labels of each image, and where that image lies."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from edgeseg.core.errors import DataError
from edgeseg.core.limits import ANNOTATION_BYTES, CASES, read_regular
from edgeseg.core.schema import parse_json
from edgeseg.data.annotations.shapes import AnnotatedImage
from edgeseg.data.defects import DefectError
from edgeseg.frame.images import SUFFIXES, as_data_error

# Names of the parts in folders, files and tables of labelling tools.
PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_WORDS = re.compile("[a-z]+")


@dataclass(frozen=True)
class ImageLabels:
    """The labels of one image, which are read again whenever they are needed."""

    name: str
    """The image's name as the file has it, with slashes; it may lead anywhere."""
    file: Path
    """The file with the labels."""
    load: Callable[[tuple[int, int]], AnnotatedImage]
    """Reads the labels, given the image's height and width."""
    part: str = ""
    image: Path | None = None
    """The image, where it does not have to be found by its name."""
    embedded: bool = False
    """Whether the file holds the image, too."""
    kinds: frozenset[str] = frozenset()
    """The kinds of its shapes."""
    classes: frozenset[str] = frozenset()
    """The classes of its shapes."""

    @property
    def path(self) -> PurePosixPath:
        """The name as a path, also where it was written on Windows."""
        return PurePosixPath(self.name.replace("\\", "/"))

    @property
    def file_name(self) -> str:
        """The image's name without folders, as file systems compare it."""
        return self.path.name.casefold()


@dataclass(frozen=True)
class LabelSet:
    """The labels of a data folder, and the classes in the order of the tool's list."""

    classes: tuple[str, ...]
    images: tuple[ImageLabels, ...]
    used: frozenset[str]
    """The classes of which something is drawn."""


def read_labels_table(path: Path) -> dict[str, Any]:
    """Read the JSON table of a labelling tool."""
    try:
        table = parse_json(as_data_error(read_regular, path, ANNOTATION_BYTES).decode("utf-8-sig"))
    except ValueError as error:
        raise refuse_labels(path, str(error)) from error
    if not isinstance(table, dict):
        raise refuse_labels(path, f"expected a table, got {type(table).__name__}")
    return table


def refuse_labels(path: Path, reason: str, kind: str = "JSON") -> DataError:
    """Refuse a whole file of labels."""
    return DataError(
        f"Expected labels as {kind} in {path}, got an unreadable file: {reason}.", "Export the labels again."
    )


def check_labelled_size(name: str, file: Path, said: tuple[int, int] | None, size: tuple[int, int]) -> None:
    """Refuse labels that were drawn on an image of another size.

    Args:
        name: The image's name.
        file: The file of its labels.
        said: Height and width as the labels say, if they do.
        size: Height and width of the image.
    """
    if said is not None and said != size:
        raise DefectError(
            "labels-size",
            f"Expected labels of {name} in {file} for its size {size[1]}x{size[0]}, got {said[1]}x{said[0]}.",
            "Export the labels again for the images as they are here.",
            (name,),
        )


def find_part(text: str) -> str:
    """Find the part that a name speaks of, such as instances_val2017; empty if none or several do."""
    found = {PARTS[word] for word in _WORDS.findall(text.lower()) if word in PARTS}
    return found.pop() if len(found) == 1 else ""


def walk_files(root: Path, endings: Sequence[str]) -> list[Path]:
    """List the files with one of the endings, in subfolders as well; hidden ones and links to folders are left out."""
    found: list[Path] = []
    for place, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(place, n) for n in sorted(files) if n.lower().endswith(tuple(endings)) and not n.startswith(".")]
        if len(found) > CASES:
            raise DataError(f"Expected at most {CASES} files in {root}, got more.", "Name a smaller folder.")
    return found


def leaves_folder(path: Path, root: Path) -> bool:
    """Say whether a link leads out of the folder."""
    return path.is_symlink() and _lies_outside(path, root)


def _lies_outside(path: Path, root: Path) -> bool:
    # unlike Path.resolve() it raises nothing where links lead in a circle
    return not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


class ImageFinder:
    """Finds the image that a label file names among the images of a data folder, and never outside of it.

    Files are moved between tools: the name may hold a folder, a drive or an address that is not here. What counts is
    the file's own name, then as many of its folders as agree, then the folder of the labels, then the part.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._found: dict[str, list[Path]] = {}
        for path in walk_files(root, SUFFIXES):
            self._found.setdefault(path.name.casefold(), []).append(path)

    @property
    def images(self) -> Iterable[Path]:
        """List all images of the folder."""
        return (path for paths in self._found.values() for path in paths)

    def find(self, labels: ImageLabels, alone: bool = True) -> list[Path]:
        """Find the images that the name in a file of labels may mean; the best ones only.

        Args:
            labels: The labels.
            alone: Whether no other labels name a file like it; else its folder or part must agree, too.
        """
        found = self._found.get(labels.file_name, [])
        exact = Path(os.path.normpath(labels.file.parent / labels.path))
        if exact in found:
            return [exact]
        ranks = {path: self._rank(path, labels) for path in found}
        sure = [path for path in found if alone or ranks[path] > (1, False, False)]
        return [path for path in sure if ranks[path] == max(ranks[other] for other in sure)]

    def _rank(self, path: Path, labels: ImageLabels) -> tuple[int, bool, bool]:
        """Rank an image by the folders that agree with its name, the folder of its labels, and its part."""
        below = labels.file.parent != self.root and path.is_relative_to(labels.file.parent)
        folders = path.relative_to(self.root).parts
        shows = bool(labels.part) and any(find_part(name) == labels.part for name in folders[:-1])
        return _count_common(folders, labels.path.parts), below, shows

    def leaves(self, labels: ImageLabels) -> bool:
        """Say whether the name leads to a file outside the folder."""
        path = Path(os.path.normpath(labels.file.parent / labels.path))
        # nothing lies anywhere under a name with a NUL
        return "\0" not in labels.name and _lies_outside(path, self.root)


def _count_common(path: Sequence[str], wanted: Sequence[str]) -> int:
    """Count the parts at the end that two paths share."""
    count = 0
    for one, other in zip(reversed(path), reversed(wanted), strict=False):
        if one.casefold() != other.casefold():
            break
        count += 1
    return count
