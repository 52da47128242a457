"""COCO: one JSON file for many images, with polygons or run lengths in the order of columns.

Coordinates are edges of pixels. A mask that pycocotools has encoded is decoded here: its own decoder leaves memory as
it was where the runs end too early.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.files import open_whole
from edgeseg.core.schema import SchemaError
from edgeseg.data.annotations.journal import check_name, open_journal
from edgeseg.data.annotations.labelled import (
    ImageLabels,
    LabelSet,
    check_labelled_size,
    find_part,
    read_labels_table,
    refuse_labels,
)
from edgeseg.data.annotations.outlines import trace_between
from edgeseg.data.annotations.problems import Problems, check_runs, decode_runs, encode_runs
from edgeseg.data.annotations.shapes import (
    AREA,
    BOX,
    AnnotatedImage,
    Points,
    Shape,
    crop_shape,
    fill_polygons,
    trace_mask,
)

_FOLDER, _DEFAULT = "annotations", "default"
# Bits of one letter of packed runs, and letters of one run: 2**60 pixels.
_BITS, _LETTERS = 5, 12
_FIRST_LETTER, _MORE, _VALUE, _NEGATIVE = 48, 0x20, 0x1F, 0x10


@dataclass(frozen=True)
class _Labelled:
    """One annotation: its polygons, or its runs as they are in the file."""

    class_name: str
    polygons: tuple[Points, ...] = ()
    runs: Any = None
    score: float | None = None
    box: Points | None = None

    def to_shapes(self, size: tuple[int, int]) -> tuple[Shape, ...]:
        """Convert it to shapes; COCO joins polygons, so each is a shape of its own."""
        if self.box is not None:
            return (Shape(self.class_name, (self.box,), self.score, BOX),)
        if self.runs is not None:
            return trace_mask(_decode(self.runs, size), self.class_name, self.score)
        traced = (trace_between(points, self.class_name, size, self.score) for points in self.polygons)
        return tuple(shape for shapes in traced for shape in shapes)


def read_coco(files: Sequence[Path], problems: Problems) -> LabelSet:
    """Read COCO files, each of which may hold one part of the images.

    Args:
        files: The files; a part is found in their names, else in their folders' names.
        problems: Where to count what is wrong with single images.
    """
    classes: dict[str, None] = {}
    used: set[str] = set()
    images: list[ImageLabels] = []
    for path in files:
        table = read_labels_table(path)
        names = _read_names(table, path)
        classes.update(dict.fromkeys(names.values()))
        part = find_part(path.stem) or find_part(path.parent.name)
        labelled = _collect(table, names, path, problems)
        for entry in _tables(table, "images", path):
            name, found = _text(entry, "file_name", path), tuple(labelled.pop(_key(entry), ()))
            used.update(one.class_name for one in found)
            kinds = frozenset(AREA if one.box is None else BOX for one in found)
            loader = _Loader(name, path, _read_size(entry), found)
            of_classes = frozenset(one.class_name for one in found)
            images.append(ImageLabels(name, path, loader, part, kinds=kinds, classes=of_classes))
    return LabelSet(tuple(classes), tuple(images), frozenset(used))


def _read_names(table: Mapping[str, Any], path: Path) -> dict[Any, str]:
    """Read the names of the classes by their ids."""
    names: dict[Any, str] = {}
    for entry in _tables(table, "categories", path):
        name = _text(entry, "name", path)
        if names.setdefault(_key(entry), name) != name:
            raise refuse_labels(path, "expected an id of its own for each category, got one twice")
    return names


@dataclass(frozen=True)
class _Loader:
    """Turns the annotations of an image into shapes."""

    name: str
    file: Path
    said: tuple[int, int] | None
    labelled: tuple[_Labelled, ...]

    def __call__(self, size: tuple[int, int]) -> AnnotatedImage:
        check_labelled_size(self.name, self.file, self.said, size)
        try:
            shapes = tuple(shape for one in self.labelled for shape in one.to_shapes(size))
        except ValueError as error:
            raise refuse_labels(self.file, f"{self.name}: {error}") from error
        return AnnotatedImage(self.name, size[1], size[0], shapes)


def _collect(
    table: Mapping[str, Any], names: Mapping[Any, str], path: Path, problems: Problems
) -> dict[Any, list[_Labelled]]:
    """Read the annotations by image; what is wrong with one is counted for its image."""
    images = {_key(entry): entry for entry in _tables(table, "images", path)}
    if len(images) < len(table["images"]):
        raise refuse_labels(path, "expected an id of its own for each image, got one twice")
    found: dict[Any, list[_Labelled]] = {}
    for entry in _tables(table, "annotations", path):
        key = _hashable(entry.get("image_id"))
        if key not in images:
            problems.note("labels-without-image", f"image_id {key}")
            continue
        image = str(images[key].get("file_name"))
        if _hashable(entry.get("category_id")) not in names:
            problems.note("unknown-class", image, f"category_id {str(entry.get('category_id'))[:40]}")
            continue
        try:
            labelled = _read_annotation(entry, names[entry["category_id"]], image, _read_size(images[key]), problems)
        except ValueError as error:
            problems.note("unreadable-labels", image, str(error))
            continue
        if labelled is None:
            continue
        same = [one.box for one in found.get(key, ()) if one.box is not None and one.class_name == labelled.class_name]
        if labelled.box is not None and any(np.array_equal(labelled.box, box) for box in same):
            problems.note("repeated-box", image)
            continue
        found.setdefault(key, []).append(labelled)
    return found


def _read_annotation(
    entry: Mapping[str, Any], class_name: str, image: str, size: tuple[int, int] | None, problems: Problems
) -> _Labelled | None:
    outline, score = entry.get("segmentation"), entry.get("score")
    score = float(score) if isinstance(score, (int, float)) and 0 <= score <= 1 else None
    if not outline:
        box = problems.box(_read_box(entry.get("bbox")), image, f"annotation {str(entry.get('id'))[:20]}", size)
        return None if box is None else _Labelled(class_name, score=score, box=box)
    if isinstance(outline, Mapping):
        height, width = _read_pair(outline.get("size"))
        if size is not None and size != (height, width):
            raise ValueError(f"expected a mask of {size[1]}x{size[0]}, got {width}x{height}")
        runs = outline.get("counts")
        counts = _unpack(runs, (height, width))
        return _Labelled(class_name, runs=runs if isinstance(runs, str) else counts, score=score)
    if not isinstance(outline, list):
        raise SchemaError("expected polygons or runs as segmentation")
    # some programs write one polygon without the list around it
    polygons = outline if isinstance(outline[0], list) else [outline]
    points = [problems.outline(one, image, size) for one in polygons]
    kept = tuple(one for one in points if one is not None)
    return _Labelled(class_name, kept, score=score) if kept else None


def _read_box(values: Any) -> list[list[float]]:
    """Read x, y, width and height as four corners."""
    numbers = values if isinstance(values, list) and len(values) == 4 else ()
    if not numbers or not all(type(value) in (int, float) for value in numbers):
        raise SchemaError("expected an outline as segmentation, or x, y, width and height as bbox")
    x, y, width, height = numbers
    return [[x, y], [x + width, y], [x + width, y + height], [x, y + height]]


def _decode(runs: Any, size: tuple[int, int]) -> NDArray[np.uint8]:
    return decode_runs(_unpack(runs, size), size[::-1]).T


def _unpack(runs: Any, size: tuple[int, int]) -> NDArray[np.int64]:
    """Read runs as a list or packed as a string, and check that they fill the image.

    Raises:
        ValueError: They do not.
    """
    return check_runs(_unpack_letters(runs) if isinstance(runs, str) else runs, size)


def _unpack_letters(text: str) -> NDArray[np.int64]:
    """Unpack runs as pycocotools packs them (maskApi.c, rleToString): six bits a letter, differences of every other."""
    letters = np.frombuffer(text.encode("ascii", "replace"), np.uint8).astype(np.int64) - _FIRST_LETTER
    if letters.size == 0 or np.any((letters < 0) | (letters >= 2 * _MORE)) or letters[-1] & _MORE:
        raise ValueError("expected packed counts, got other letters")
    last = np.flatnonzero((letters & _MORE) == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    lengths = last - first + 1
    if lengths.max() > _LETTERS:
        raise ValueError("expected packed counts, got a number that is too large")
    places = np.arange(letters.size) - np.repeat(first, lengths)
    values = np.add.reduceat((letters & _VALUE) << (_BITS * places), first)
    values -= np.where(letters[last] & _NEGATIVE, np.int64(1) << (_BITS * lengths), 0)
    values[1::2], values[2::2] = np.cumsum(values[1::2]), np.cumsum(values[2::2])
    return values


def _read_size(entry: Mapping[str, Any]) -> tuple[int, int] | None:
    """Read an image's height and width, if the file says so."""
    height, width = entry.get("height"), entry.get("width")
    return (height, width) if type(height) is int and type(width) is int else None


def _read_pair(value: Any) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2 or not all(type(side) is int for side in value):
        raise ValueError("expected a mask's height and width as size")
    return value[0], value[1]


def _tables(table: Mapping[str, Any], name: str, path: Path) -> list[Mapping[str, Any]]:
    entries = table.get(name, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise refuse_labels(path, f"expected a list of tables as {name}")
    return entries


def _text(entry: Mapping[str, Any], name: str, path: Path) -> str:
    value = entry.get(name)
    if not isinstance(value, str) or not value.strip():
        raise refuse_labels(path, f"expected a text as {name}, got {str(value)[:40]}")
    return value


def _key(entry: Mapping[str, Any]) -> Any:
    return _hashable(entry.get("id"))


def _hashable(value: Any) -> Any:
    return value if isinstance(value, (int, str)) else str(value)


class CocoWriter:
    """Writes annotations/instances_PART.json, and nothing before all images were added; shapes with holes are runs.

    Args:
        folder: Where to write.
        classes: Names of all classes, the categories 1, 2, ...
        resume: Whether to go on after an interruption.
    """

    def __init__(self, folder: Path, classes: Sequence[str], resume: bool = False) -> None:
        self._folder = folder
        self._categories = {name: number for number, name in enumerate(classes, start=1)}
        self._journal = open_journal(
            folder, "coco", classes, resume, sorted(folder.glob(f"{_FOLDER}/instances_*.json"))
        )

    @property
    def added(self) -> frozenset[str]:
        """Names of the images added so far."""
        return self._journal.names

    def place(self, name: str, part: str = "") -> Path:
        """Return where tools look for an image: in images/PART/."""
        return self._folder / "images" / part / check_name(name)

    def add(self, image: AnnotatedImage, part: str = "") -> None:
        """Note the labels of an image."""
        check_name(image.name)
        annotations = [self._to_annotation(shape, image) for shape in image.shapes]
        size = {"width": image.width, "height": image.height}
        self._journal.add(image.name, {"part": part, **size, "annotations": annotations})

    def close(self) -> None:
        """Write one file for each part."""
        parts = sorted({entry["part"] for entry in self._journal.entries()}) or [""]
        for part in parts:
            entries = partial(self._entries, part)
            path = self._folder / _FOLDER / f"instances_{part or _DEFAULT}.json"
            with open_whole(path) as file:
                for text in _write_file(self._categories, entries):
                    file.write(text.encode())
        self._journal.remove()

    def _entries(self, part: str) -> Iterator[tuple[int, dict[str, Any]]]:
        """Number the images of a part."""
        return enumerate((one for one in self._journal.entries() if one["part"] == part), start=1)

    def _to_annotation(self, shape: Shape, image: AnnotatedImage) -> dict[str, Any]:
        size = (image.height, image.width)
        if len(shape.polygons) == 1:
            outline: Any = [shape.polygons[0].ravel().tolist()]
        else:
            outline = {"size": list(size), "counts": encode_runs(fill_polygons(shape.polygons, size).T)}
        return {
            "category_id": self._categories[shape.class_name],
            "segmentation": outline,
            "area": int(crop_shape(shape, size)[2].sum()),
            "bbox": list(shape.box),
            "iscrowd": 0,
            **({} if shape.score is None else {"score": round(shape.score, 4)}),
        }


def _write_file(
    categories: Mapping[str, int], entries: Callable[[], Iterable[tuple[int, dict[str, Any]]]]
) -> Iterator[str]:
    """Write COCO's table piece by piece: no more than one image is in memory."""
    listed = [{"id": number, "name": name, "supercategory": ""} for name, number in categories.items()]
    yield f'{{"info": {{"description": "written by edgeseg"}}, "licenses": [], "categories": {json.dumps(listed)},\n'
    yield '"images": ['
    for number, entry in entries():
        image = {"id": number, "file_name": entry["name"], "width": entry["width"], "height": entry["height"]}
        yield ("" if number == 1 else ",") + "\n" + json.dumps(image)
    yield '],\n"annotations": ['
    count = 0
    for number, entry in entries():
        for annotation in entry["annotations"]:
            count += 1
            yield ("" if count == 1 else ",") + "\n" + json.dumps({"id": count, "image_id": number, **annotation})
    yield "]}\n"
