"""CVAT for images 1.1: annotations.xml with polygons, ellipses and masks, boxes, points and polylines.

Coordinates are edges of pixels. XML is read by the standard library's expat, which never sees an entity: a document
with a type declaration is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from edgeseg.core.errors import DataError
from edgeseg.core.files import open_whole
from edgeseg.core.limits import ANNOTATION_BYTES, IMAGE_SIDE, read_regular
from edgeseg.core.schema import DEPTH
from edgeseg.data.annotations.journal import check_name, open_journal
from edgeseg.data.annotations.labelled import (
    ImageLabels,
    LabelSet,
    check_labelled_size,
    find_part,
    refuse_labels,
)
from edgeseg.data.annotations.outlines import trace_between
from edgeseg.data.annotations.problems import (
    Problems,
    check_runs,
    decode_runs,
    encode_runs,
    to_points,
    trace_ellipse,
    turn_rectangle,
)
from edgeseg.data.annotations.shapes import (
    AREA,
    BACKGROUND,
    BOX,
    FARTHEST,
    LINE,
    POINT,
    AnnotatedImage,
    Points,
    Shape,
    crop_shape,
    trace_mask,
)
from edgeseg.frame.images import as_data_error

FILE = "annotations.xml"
_LEFT_OUT = ("cuboid", "skeleton")
_KINDS = {"polygon": AREA, "ellipse": AREA, "mask": AREA, "box": BOX, "points": POINT, "polyline": LINE}
_LABEL_NAME = ("labels", "label", "name")


@dataclass(frozen=True)
class _Mask:
    """Runs in rows within a rectangle."""

    runs: tuple[int, ...]
    left: int
    top: int
    size: tuple[int, int]

    def to_shapes(self, label: str, size: tuple[int, int]) -> tuple[Shape, ...]:
        """Trace the mask, which is at most as large as its image."""
        if self.size[0] > size[0] or self.size[1] > size[1]:
            raise DataError(
                f"Expected a mask of {label} within its image of {size[1]}x{size[0]}, "
                f"got one of {self.size[1]}x{self.size[0]}.",
                "Export the labels again.",
            )
        traced = trace_mask(decode_runs(self.runs, self.size), label)
        return tuple(
            Shape(label, tuple(one + np.asarray([self.left, self.top]) for one in shape.polygons)) for shape in traced
        )


@dataclass
class _Image:
    name: str
    size: tuple[int, int] | None
    part: str
    elements: int = 0
    labelled: list[tuple[str, Points | _Mask, str]] = field(default_factory=list)


def read_cvat(files: Sequence[Path], problems: Problems) -> LabelSet:
    """Read CVAT files, one for each task; classes are those of their headers, or by name where they have none.

    Args:
        files: The files.
        problems: Where to count what is wrong with single images.
    """
    found = [_read_file(path, problems) for path in files]
    return LabelSet(
        tuple(dict.fromkeys(name for one in found for name in one.classes)),
        tuple(image for one in found for image in one.images),
        frozenset().union(*(one.used for one in found)),
    )


def _read_file(path: Path, problems: Problems) -> LabelSet:
    data = as_data_error(read_regular, path, ANNOTATION_BYTES)
    reader = _Reader(problems, find_part(path.stem) or find_part(path.parent.name))
    try:
        reader.parse(data)
    except (expat.ExpatError, ValueError) as error:
        raise refuse_labels(path, str(error), "XML of CVAT for images 1.1") from error
    used = {label for image in reader.images for label, _, kind in image.labelled} - set(BACKGROUND)
    classes = tuple(dict.fromkeys(reader.classes)) or tuple(sorted(used))
    for image in reader.images:
        unknown = sorted({label for label, _, _ in image.labelled} - {*classes, *BACKGROUND})
        if unknown:
            problems.note("unknown-class", image.name, ", ".join(unknown)[:80])
    images = tuple(
        ImageLabels(
            one.name,
            path,
            _Loader(one.name, path, one.size, tuple(one.labelled)),
            one.part,
            kinds=frozenset(kind for _, _, kind in one.labelled),
            classes=frozenset(label for label, _, _ in one.labelled),
        )
        for one in reader.images
    )
    return LabelSet(tuple(name for name in classes if name not in BACKGROUND), images, frozenset(used & set(classes)))


@dataclass(frozen=True)
class _Loader:
    """Turns the elements of an image into shapes."""

    name: str
    file: Path
    said: tuple[int, int] | None
    labelled: tuple[tuple[str, Points | _Mask, str], ...]

    def __call__(self, size: tuple[int, int]) -> AnnotatedImage:
        check_labelled_size(self.name, self.file, self.said, size)
        shapes = [shape for label, drawn, kind in self.labelled for shape in _to_shapes(label, drawn, kind, size)]
        return AnnotatedImage(self.name, size[1], size[0], tuple(shapes))


def _to_shapes(label: str, drawn: Points | _Mask, kind: str, size: tuple[int, int]) -> tuple[Shape, ...]:
    if isinstance(drawn, _Mask):
        return drawn.to_shapes(label, size)
    return trace_between(drawn, label, size) if kind == AREA else (Shape(label, (drawn,), kind=kind),)


class _Reader:
    """Reads the elements of CVAT's XML one after the other."""

    def __init__(self, problems: Problems, part: str) -> None:
        self.classes: list[str] = []
        self.images: list[_Image] = []
        self._problems = problems
        self._path: list[str] = []
        self._text: list[str] = []
        self._part = part

    def parse(self, data: bytes) -> None:
        """Parse a document.

        Raises:
            ValueError: It is none of CVAT for images.
            ExpatError: It is no XML.
        """
        parser = expat.ParserCreate()
        parser.StartDoctypeDeclHandler = _refuse_doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text.append
        parser.buffer_text = True
        parser.Parse(data, True)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._path.append(name)
        self._text.clear()
        if len(self._path) > DEPTH:
            raise ValueError(f"expected at most {DEPTH} levels")
        if self._path[0] != "annotations":
            raise ValueError(f"expected the element annotations, got {self._path[0][:40]}")
        if name == "track":
            raise ValueError("it is CVAT for video, export CVAT for images")
        if self._path == ["annotations", "image"]:
            self.images.append(_read_image(attributes, self._part))
        elif self._path[:-1] == ["annotations", "image"]:
            self._read_shape(name, attributes)

    def _end(self, name: str) -> None:
        text = "".join(self._text).strip()
        if self._path[1:2] == ["meta"] and tuple(self._path[-3:]) == _LABEL_NAME:
            self.classes.append(text)
        elif self._path[1:2] == ["meta"] and name == "subset":
            self._part = find_part(text) or self._part
        self._path.pop()
        self._text.clear()

    def _read_shape(self, kind: str, attributes: Mapping[str, str]) -> None:
        image = self.images[-1]
        if kind in _LEFT_OUT:
            self._problems.note("no-area", image.name)
        if kind not in _KINDS:
            return
        image.elements += 1
        try:
            label = _read_label(attributes)
            kept = self._check(_READERS[kind](attributes), kind, image)
        except ValueError as error:
            self._problems.note("unreadable-labels", image.name, str(error))
            return
        if kept is None:
            return
        if kind == "box" and any(
            known == BOX and name == label and np.array_equal(kept, box)
            for name, box, known in image.labelled
            if not isinstance(box, _Mask) and not isinstance(kept, _Mask)
        ):
            self._problems.note("repeated-box", image.name)
            return
        if _KINDS[kind] in (POINT, LINE) or label not in BACKGROUND:
            image.labelled.append((label, kept, _KINDS[kind]))

    def _check(self, drawn: Points | _Mask, kind: str, image: _Image) -> Points | _Mask | None:
        """Check what was drawn; None for what is left out or refused, which is counted."""
        if isinstance(drawn, _Mask):
            return drawn
        number = f"the {kind} in place {image.elements}"
        if kind == "box":
            return self._problems.box(drawn, image.name, number, image.size)
        if _KINDS[kind] in (POINT, LINE):
            return self._problems.marks(drawn, image.name, number, image.size)
        return self._problems.outline(drawn, image.name, image.size)


def _read_label(attributes: Mapping[str, str]) -> str:
    label = attributes.get("label", "").strip()
    if not label:
        raise ValueError("a shape without a label")
    return label


def _refuse_doctype(*_: Any) -> None:
    raise ValueError("a document type declaration, which CVAT never writes")


def _read_image(attributes: Mapping[str, str], subset: str) -> _Image:
    name = attributes.get("name", "").strip()
    if not name:
        raise ValueError("an image without a name")
    size = None
    if "height" in attributes and "width" in attributes:
        size = (_whole(attributes, "height"), _whole(attributes, "width"))
    return _Image(name, size, find_part(attributes.get("subset", "")) or subset)


def _read_polygon(attributes: Mapping[str, str]) -> Points:
    return to_points(
        [[float(value) for value in pair.split(",")] for pair in attributes.get("points", "").split(";") if pair]
    )


def _read_box(attributes: Mapping[str, str]) -> Points:
    low = [_number(attributes, key) for key in ("xtl", "ytl")]
    high = [_number(attributes, key) for key in ("xbr", "ybr")]
    return turn_rectangle(low, high, _number(attributes, "rotation", 0.0))


def _read_ellipse(attributes: Mapping[str, str]) -> Points:
    centre = [_number(attributes, key) for key in ("cx", "cy")]
    radii = [_number(attributes, key) for key in ("rx", "ry")]
    if min(radii) <= 0:
        raise ValueError("expected radii above 0")
    return trace_ellipse(centre, radii, _number(attributes, "rotation", 0.0))


def _read_mask(attributes: Mapping[str, str]) -> _Mask:
    left, top, width, height = (_whole(attributes, key) for key in ("left", "top", "width", "height"))
    if not (0 < width <= IMAGE_SIDE and 0 < height <= IMAGE_SIDE):
        raise ValueError(f"expected a mask of at most {IMAGE_SIDE} pixels a side, got {width}x{height}")
    runs = tuple(int(value) for value in attributes.get("rle", "").split(","))
    check_runs(runs, (height, width))
    return _Mask(runs, left, top, (height, width))


_READERS: dict[str, Callable[[Mapping[str, str]], Points | _Mask]] = {
    "polygon": _read_polygon,
    "points": _read_polygon,
    "polyline": _read_polygon,
    "box": _read_box,
    "ellipse": _read_ellipse,
    "mask": _read_mask,
}


def _number(attributes: Mapping[str, str], key: str, default: float | None = None) -> float:
    value = float(attributes[key]) if key in attributes else default
    if value is None or not abs(value) <= FARTHEST:  # NaN fails, too
        raise ValueError(f"expected a number as {key}, got {attributes.get(key, 'none')[:40]}")
    return value


def _whole(attributes: Mapping[str, str], key: str) -> int:
    value = _number(attributes, key)
    if value != np.floor(value):
        raise ValueError(f"expected a whole number as {key}, got {value:g}")
    return int(value)


class CvatWriter:
    """Writes annotations.xml, and nothing before all images were added; a shape with holes is a mask.

    Args:
        folder: Where to write.
        classes: Names of all classes.
        resume: Whether to go on after an interruption.
    """

    def __init__(self, folder: Path, classes: Sequence[str], resume: bool = False) -> None:
        self._folder, self._classes = folder, tuple(classes)
        self._file = folder / FILE
        self._journal = open_journal(folder, "cvat", classes, resume, [self._file] if self._file.exists() else [])

    @property
    def added(self) -> frozenset[str]:
        """Names of the images added so far."""
        return self._journal.names

    def place(self, name: str, part: str = "") -> Path:  # noqa: ARG002 - the file says which part it is
        """Return where the tool looks for an image: in images/."""
        return self._folder / "images" / check_name(name)

    def add(self, image: AnnotatedImage, part: str = "") -> None:
        """Note the labels of an image."""
        check_name(image.name)
        size = (image.height, image.width)
        shapes = [_to_element(shape, size) for shape in image.shapes]
        self._journal.add(image.name, {"part": part, "width": image.width, "height": image.height, "shapes": shapes})

    def close(self) -> None:
        """Write the file, image by image."""
        with open_whole(self._file) as file:
            for text in _write_file(self._classes, self._journal.entries()):
                file.write(text.encode())
        self._journal.remove()


def _to_element(shape: Shape, size: tuple[int, int]) -> str:
    source = "manual" if shape.score is None else "auto"
    start = f'label={quoteattr(shape.class_name)} source="{source}" occluded="0"'
    if len(shape.polygons) == 1:
        points = ";".join(f"{x:.10g},{y:.10g}" for x, y in shape.polygons[0])
        return f'<polygon {start} points="{points}" z_order="0"/>'
    left, top, mask = crop_shape(shape, size)
    runs, (height, width) = ", ".join(map(str, encode_runs(mask))), mask.shape
    place = f'left="{left}" top="{top}" width="{width}" height="{height}"'
    return f'<mask {start} rle="{runs}" {place} z_order="0"/>'


def _write_file(classes: Sequence[str], entries: Iterator[dict[str, Any]]) -> Iterator[str]:
    labels = "".join(f"<label><name>{escape(name)}</name><attributes></attributes></label>" for name in classes)
    yield '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n'
    yield f"<meta><task><labels>{labels}</labels></task></meta>\n"
    for number, entry in enumerate(entries):
        subset = f' subset="{entry["part"]}"' if entry["part"] else ""
        name, size = quoteattr(entry["name"]), f'width="{entry["width"]}" height="{entry["height"]}"'
        yield f'<image id="{number}" name={name}{subset} {size}>\n'
        yield "".join(f"{shape}\n" for shape in entry["shapes"])
        yield "</image>\n"
    yield "</annotations>\n"
