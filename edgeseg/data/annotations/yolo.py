"""YOLO: data.yaml, and beside images/ a folder labels/ with one text file for each image.

A line is the number of a class and the points of one outline through pixels, or the centre, width and height of a box,
divided by the image's width and height.
A hole is joined to its outline by a seam, there and back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from edgeseg.core.errors import DataError
from edgeseg.core.files import write_text
from edgeseg.core.limits import TABLE_BYTES, read_regular
from edgeseg.data.annotations.journal import LabelFiles, check_name, open_journal
from edgeseg.data.annotations.labelled import ImageLabels, LabelSet
from edgeseg.data.annotations.outlines import outline_mask, trace_touched
from edgeseg.data.annotations.problems import Problems, is_outside
from edgeseg.data.annotations.shapes import AREA, BOX, AnnotatedImage, Points, Shape, crop_shape
from edgeseg.frame.images import as_data_error

LIST, NAMES = "data.yaml", ("classes.txt", "obj.names")
# A line with a box has a class, a centre and a size.
_BOX = 5
# Far beyond 1 a coordinate counts pixels.
_HIGHEST = 2.0
_DIGITS = 10
# No two parts of a pattern can take the same spaces: long lines would take the square of their length.
_ENTRY = re.compile(r"\s*(?:-|(\d+)\s*:)(.*)", re.DOTALL)
_KEY = re.compile(r"(\w+)\s*:(.*)", re.DOTALL)
# A name with or without quotation marks, and its number.
_NUMBER = re.compile(r"(\d+)\s*:\s*")
_ITEM = re.compile(r"""("(?:[^"\\]|\\.)*"\s*|'(?:[^']|'')*'\s*|[^,'"\[\]{}\s][^,\[\]{}]*)(?:,\s*|$)""")


def read_class_names(path: Path) -> tuple[str, ...]:
    """Read the names of the classes from data.yaml, as a list or numbered, or from a text file with one a line."""
    text = _read_text(path)
    if path.suffix.lower() not in (".yaml", ".yml"):
        return tuple(line.strip() for line in text.splitlines() if line.strip())
    lines = [line for line in map(_strip_comment, text.splitlines()) if line.strip()]
    for number, line in enumerate(lines):
        found = _KEY.match(line)
        if found and found[1] == "names":
            try:
                text = found[2].strip()
                return _order_names(_split_items(text) if text else _list_items(lines[number + 1 :]))
            except ValueError as error:
                raise _refuse_names(path, str(error)) from error
    raise _refuse_names(path, "no names")


def _refuse_names(path: Path, reason: str) -> DataError:
    return DataError(
        f"Expected the names of the classes in {path}, as names: [a, b] or numbered from 0, got {reason}.",
        "Write them like that, or one on each line of classes.txt.",
    )


def _list_items(lines: Sequence[str]) -> list[tuple[str | None, str]]:
    items = []
    for line in lines:
        found = _ENTRY.match(line)
        if not found or (_KEY.match(line) and not line[0].isdigit()):
            break
        items.append((found[1], _unquote(found[2].strip())))
    return items


def _split_items(text: str) -> list[tuple[str | None, str]]:
    """Split a list or table on one line."""
    if (text[:1], text[-1:]) not in (("[", "]"), ("{", "}")):
        raise ValueError(text[:80])
    items, place, inner = [], 0, text[1:-1].strip()
    while place < len(inner):
        number = _NUMBER.match(inner, place)
        found = _ITEM.match(inner, number.end() if number else place)
        if not found:
            raise ValueError(text[:80])
        items.append((number[1] if number else None, _unquote(found[1].strip())))
        place = found.end()
    return items


def _order_names(items: Sequence[tuple[str | None, str]]) -> tuple[str, ...]:
    """Order names by their numbers, which must be 0, 1, ... where there are any."""
    names = {int(number) if number is not None else place: name for place, (number, name) in enumerate(items)}
    if not names or sorted(names) != list(range(len(items))) or not all(names.values()):
        raise ValueError("no names, empty ones, or numbers with gaps")
    return tuple(names[number] for number in range(len(names)))


def _unquote(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'")
    if len(text) > 1 and text[0] == text[-1] == '"':
        try:
            return str(json.loads(text))
        except ValueError:
            return text[1:-1]
    return text


def _strip_comment(line: str) -> str:
    marks = [place for place, letter in enumerate(line) if letter in "'\""]
    quoted = bool(marks) and "#" in line[marks[0] : marks[-1]]
    return line if quoted else re.split(r"(?:^|\s)#", line, maxsplit=1)[0]


def read_yolo(files: Iterable[tuple[Path, Path | None, str]], classes: Sequence[str], problems: Problems) -> LabelSet:
    """Read YOLO files, one for each image.

    Args:
        files: For each image its file, its file of labels (None where there is none: nothing is to be found), and its
            part.
        classes: Names of the classes in the order of their numbers.
        problems: Where to count what is wrong with single files.
    """
    images: list[ImageLabels] = []
    used: set[str] = set()
    for image, labels, part in files:
        if labels is None:
            problems.note("no-label-file", image.name)
            images.append(ImageLabels(image.name, image, partial(_show_nothing, image.name), part, image))
            continue
        try:
            outlines = _read_outlines(labels, classes, problems, labels.name)
        except (DataError, ValueError) as error:
            reason = error.message if isinstance(error, DataError) else str(error)
            kind = "unknown-class" if isinstance(error, _UnknownClassError) else "unreadable-labels"
            problems.note(kind, labels.name, reason)
            continue
        found = frozenset(name for name, _, _ in outlines)
        used.update(found)
        kinds = frozenset(kind for _, _, kind in outlines)
        load = partial(_load, labels, tuple(classes))
        images.append(ImageLabels(image.name, labels, load, part, image, kinds=kinds, classes=found))
    return LabelSet(tuple(classes), tuple(images), frozenset(used))


def find_highest_class(path: Path) -> int:
    """Find the highest number of a class in a file; -1 without any."""
    numbers = (line.split()[0] for line in _read_text(path).splitlines() if line.strip())
    return max(
        (int(number) for number in numbers if number.isascii() and number.isdigit() and len(number) < 4), default=-1
    )


class _UnknownClassError(ValueError):
    """A line names a class by a number that has no name."""


def _show_nothing(name: str, size: tuple[int, int]) -> AnnotatedImage:
    return AnnotatedImage(name, size[1], size[0], ())


def _load(path: Path, classes: tuple[str, ...], size: tuple[int, int]) -> AnnotatedImage:
    height, width = size
    try:
        outlines = _read_outlines(path, classes, Problems(), path.name)
    except ValueError as error:
        raise DataError(f"Expected readable labels in {path}, got others: {error}.", "Export them again.") from error
    shapes: list[Shape] = []
    for name, points, kind in outlines:
        scaled = points * (width, height)
        shapes += [Shape(name, (scaled,), kind=BOX)] if kind == BOX else trace_touched(scaled, name, size)
    return AnnotatedImage(path.name, width, height, tuple(shapes))


def _read_outlines(path: Path, classes: Sequence[str], problems: Problems, image: str) -> list[tuple[str, Points, str]]:
    """Read the classes, points and kinds (outline or box) of a file, in shares of width and height."""
    found: list[tuple[str, Points, str]] = []
    for number, line in enumerate(_read_text(path).splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        try:
            # NumPy parses no faster, and takes words such as 1_0
            values = [float(word) for word in words]
        except ValueError as error:
            raise ValueError(f"line {number} holds {line.strip()[:40]!r}") from error
        place = int(values[0]) if values[0].is_integer() else -1  # NaN and infinity are none
        if not 0 <= place < len(classes):
            raise _UnknownClassError(f"line {number} has the class {words[0][:20]}")
        kind = BOX if len(values) == _BOX else AREA
        try:
            points = _read_box(values, number, problems, image) if kind == BOX else problems.outline(values[1:], image)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from error
        if points is None:
            continue
        if kind == BOX and any(
            known == BOX and name == classes[place] and np.array_equal(points, box) for name, box, known in found
        ):
            problems.note("repeated-box", image)
            continue
        if np.any(np.abs(points) > _HIGHEST):
            raise ValueError(f"line {number} holds pixels instead of shares from 0 to 1")
        if np.any((points < -_TOLERANCE) | (points > 1 + _TOLERANCE)):
            problems.note("outside-image", image)
        found.append((classes[place], points, kind))
    return found


def _read_box(values: Sequence[float], line: int, problems: Problems, image: str) -> Points | None:
    """Read a box from its class, centre, width and height; what leaves the image is cut off."""
    _, x, y, width, height = values
    if not all(abs(value) <= _HIGHEST for value in values[1:]):  # NaN fails, too
        raise ValueError("it holds pixels, or no numbers, instead of shares from 0 to 1")
    low, high = (x - width / 2, y - height / 2), (x + width / 2, y + height / 2)
    corners = [low, (high[0], low[1]), high, (low[0], high[1])]
    points = problems.box(corners, image, f"the box in line {line}", None)
    if points is None:
        return None
    if is_outside(points, (1, 1)):
        problems.note("bad-mark", image, f"the box in line {line} lies outside the image")
        return None
    if np.any((points < -_TOLERANCE) | (points > 1 + _TOLERANCE)):
        problems.note("outside-image", image)
    return np.clip(points, 0.0, 1.0)


# Beyond this share of a side an outline leaves its image; less is rounding.
_TOLERANCE = 0.002


def _read_text(path: Path) -> str:
    try:
        return as_data_error(read_regular, path, TABLE_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"Expected UTF-8 in {path}, got other bytes.", "Export the labels again.") from error


class YoloWriter:
    """Writes labels/PART/NAME.txt for images/PART/NAME.png, and data.yaml; without parts everything is in train.

    Args:
        folder: Where to write.
        classes: Names of all classes, the numbers 0, 1, ...
        resume: Whether to go on after an interruption.
    """

    def __init__(self, folder: Path, classes: Sequence[str], resume: bool = False) -> None:
        self._folder, self._classes = folder, tuple(classes)
        self._list = folder / LIST
        self._journal = open_journal(folder, "yolo", classes, resume, [self._list] if self._list.exists() else [])
        self._files = LabelFiles(self._journal, ".txt")

    @property
    def added(self) -> frozenset[str]:
        """Names of the images added so far."""
        return self._journal.names

    def place(self, name: str, part: str = "") -> Path:
        """Return where the tool looks for an image: in images/ as its labels in labels/."""
        path = check_name(name)
        return self._folder / "images" / (part or "train") / f"{self._files.choose(path)}{path.suffix}"

    def add(self, image: AnnotatedImage, part: str = "") -> None:
        """Write the labels of an image."""
        path = self._files.note(check_name(image.name), self._folder / "labels" / (part or "train"), part)
        write_text(path, "".join(self._to_lines(shape, image) for shape in image.shapes))

    def close(self) -> None:
        """Write data.yaml, which names classes and parts."""
        parts = {entry["part"] or "train" for entry in self._journal.entries()} or {"train"}
        train = "train" if "train" in parts else sorted(parts)[0]
        # YOLO asks for both; without a division it validates on what it trains on
        folders = {"train": train, "val": "val" if "val" in parts else train}
        folders |= {"test": "test"} if "test" in parts else {}
        # JSON's quotation marks are YAML's, too
        names = [f"  {number}: {json.dumps(name)}" for number, name in enumerate(self._classes)]
        text = "\n".join([*(f"{key}: images/{name}" for key, name in folders.items()), "names:", *names])
        write_text(self._list, f"# written by edgeseg\n{text}\n")
        self._journal.remove()

    def _to_lines(self, shape: Shape, image: AnnotatedImage) -> str:
        left, top, mask = crop_shape(shape, (image.height, image.width))
        lines = []
        for points in outline_mask(mask):
            shares = (points + np.asarray([left, top])) / (image.width, image.height)
            numbers = " ".join(f"{value:.{_DIGITS}g}" for value in shares.ravel())
            lines.append(f"{self._classes.index(shape.class_name)} {numbers}\n")
        return "".join(lines)
