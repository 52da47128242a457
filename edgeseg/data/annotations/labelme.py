"""LabelMe: one JSON file beside each image, with polygons, circles and masks, rectangles, points and lines.

Outlines run through pixels, as LabelMe draws them; a mask lies between its first and its last pixel.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import DataError
from edgeseg.core.files import write_json
from edgeseg.core.limits import IMAGE_BYTES
from edgeseg.core.schema import SchemaError
from edgeseg.data.annotations.journal import LabelFiles, check_name, open_journal
from edgeseg.data.annotations.labelled import ImageLabels, LabelSet, check_labelled_size, read_labels_table
from edgeseg.data.annotations.outlines import outline_mask, trace_touched
from edgeseg.data.annotations.problems import Problems, to_points, trace_ellipse, turn_rectangle
from edgeseg.data.annotations.shapes import (
    BACKGROUND,
    BOX,
    LINE,
    POINT,
    AnnotatedImage,
    Points,
    Shape,
    crop_shape,
    trace_mask,
)
from edgeseg.frame.images import decode_image, encode_png

# The release whose files these are; LabelMe refuses none, and warns of an older major number.
_VERSION = "5.5.0"
_MARKS = {"point": POINT, "points": POINT, "line": LINE, "linestrip": LINE}
# What LabelMe writes where nobody chose a class.
_NO_CLASS = ("", "__ignore__", "_background_")
_FEWEST_CORNERS, _CORNERS = 2, 4


def read_labelme(files: Iterable[Path], listed: Sequence[str], problems: Problems) -> LabelSet:
    """Read LabelMe files, one for each image.

    Args:
        files: The files.
        listed: Names of classes in the order of labels.txt; further ones follow by name.
        problems: Where to count what is wrong with single files.
    """
    images: list[ImageLabels] = []
    used: set[str] = set()
    for path in files:
        try:
            table = read_labels_table(path)
            annotated = _read_image(table, path, None, problems)
        except (DataError, ValueError) as error:
            problems.note("unreadable-labels", path.name, error.message if isinstance(error, DataError) else str(error))
            continue
        used.update({shape.class_name for shape in annotated.shapes} - set(BACKGROUND))
        embedded = isinstance(table.get("imageData"), str)
        kinds = frozenset(shape.kind for shape in annotated.shapes)
        found = frozenset(shape.class_name for shape in annotated.shapes)
        load = partial(_load, path)
        images.append(ImageLabels(annotated.name, path, load, embedded=embedded, kinds=kinds, classes=found))
    classes = [*(name for name in listed if name not in _NO_CLASS), *sorted(used - set(listed))]
    return LabelSet(tuple(dict.fromkeys(classes)), tuple(images), frozenset(used))


def read_embedded(path: Path, colour: bool) -> NDArray[Any]:
    """Read the image that a LabelMe file holds."""
    text = read_labels_table(path).get("imageData")
    try:
        data = base64.b64decode(text if isinstance(text, str) else "", validate=True)
    except (binascii.Error, ValueError) as error:
        raise DataError(
            f"Expected an image as base64 in {path}, got another text.", "Put the image beside it."
        ) from error
    return decode_image(data, str(path), colour)


def _load(path: Path, size: tuple[int, int]) -> AnnotatedImage:
    try:
        return _read_image(read_labels_table(path), path, size, Problems())
    except ValueError as error:
        raise DataError(f"Expected readable labels in {path}, got others: {error}.", "Export them again.") from error


def _read_image(
    table: Mapping[str, Any], path: Path, given: tuple[int, int] | None, problems: Problems
) -> AnnotatedImage:
    """Read the labels of an image.

    Args:
        table: The file's content.
        path: The file.
        given: The image's height and width, if it was read.
        problems: Where to count what is left out.
    """
    entries, name = table.get("shapes"), table.get("imagePath")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("expected a list of tables as shapes")
    height, width = table.get("imageHeight"), table.get("imageWidth")
    said = (height, width) if type(height) is int and type(width) is int else None
    # without a path the image has the name of its labels
    name = name if isinstance(name, str) and name.strip() else f"{path.stem}.png"
    if given is not None:
        check_labelled_size(name, path, said, given)
    size = given or said
    read = [
        shape
        for number, entry in enumerate(entries, start=1)
        for shape in _read_shape(entry, (path.name, number), size, problems, given is not None)
    ]
    shapes = problems.drop_repeated(read, path.name)
    height, width = size or (0, 0)
    return AnnotatedImage(name, width, height, tuple(shapes))


def _read_shape(
    entry: Mapping[str, Any],
    where: tuple[str, int],
    size: tuple[int, int] | None,
    problems: Problems,
    draw: bool,
) -> tuple[Shape, ...]:
    image, number = where
    label, kind = entry.get("label"), entry.get("shape_type") or "polygon"
    if not isinstance(label, str) or not isinstance(kind, str):
        raise SchemaError("expected texts as label and shape_type")
    if kind in _MARKS and label.strip() not in _NO_CLASS[:2]:
        marks = problems.marks(entry.get("points") or [], image, f"the {kind} {number}", size)
        return () if marks is None else (Shape(label.strip(), (marks,), kind=_MARKS[kind]),)
    if label.strip() in (*_NO_CLASS, *BACKGROUND):
        return ()
    if kind == "mask":
        return _read_mask(entry, label.strip(), size)
    drawn = to_points(entry.get("points") or [])
    if kind == "rectangle" and len(drawn) not in (_FEWEST_CORNERS, _CORNERS):
        # left out, its image would count as one that shows nothing
        problems.note("bad-mark", image, f"the rectangle {number} has {len(drawn)} corners in place of 2 or 4")
        return ()
    if kind == "rectangle":
        # a rectangle covers the pixels of both its corners
        corners = turn_rectangle(np.floor(drawn.min(axis=0)).tolist(), (np.floor(drawn.max(axis=0)) + 1).tolist())
        box = (
            None if np.ptp(drawn, axis=0).min() <= 0 else problems.box(corners, image, f"the rectangle {number}", size)
        )
        if box is None and not np.ptp(drawn, axis=0).min() > 0:
            problems.note("bad-mark", image, f"the rectangle {number} has no width or no height")
        return () if box is None else (Shape(label.strip(), (box,), kind=BOX),)
    points = _find_outline(kind, drawn)
    checked = problems.outline(points, image, size)
    if checked is None:
        return ()
    return trace_touched(checked, label.strip(), size) if draw and size else (Shape(label.strip(), (checked,)),)


def _find_outline(kind: str, points: Points) -> Points:
    """Return the outline of a shape; too few points stay as they are."""
    if kind == "circle" and len(points) == _FEWEST_CORNERS:
        # a centre, and a point on the circle
        radius = float(np.hypot(*(points[1] - points[0])))
        return trace_ellipse(points[0].tolist(), (radius, radius))
    return points if kind != "circle" or len(points) > _FEWEST_CORNERS else points[:1]


def _read_mask(entry: Mapping[str, Any], label: str, size: tuple[int, int] | None) -> tuple[Shape, ...]:
    text, points = entry.get("mask"), to_points(entry.get("points") or [])
    if not isinstance(text, str) or len(text) > IMAGE_BYTES or len(points) != _FEWEST_CORNERS:
        raise ValueError("expected a mask with two corners")
    try:
        mask = decode_image(base64.b64decode(text, validate=True), "a mask", False)
    except (binascii.Error, DataError) as error:
        raise ValueError("expected a mask as PNG in base64") from error
    if size is not None and (mask.shape[0] > size[0] or mask.shape[1] > size[1]):
        raise ValueError(f"expected a mask within the image, got {mask.shape[1]}x{mask.shape[0]}")
    corner = np.floor(points.min(axis=0))
    shapes = trace_mask(mask, label)
    return tuple(Shape(label, tuple(one + corner for one in shape.polygons)) for shape in shapes)


class LabelMeWriter:
    """Writes NAME.json where LabelMe looks for it, beside NAME.png; a shape with holes is a mask, the others polygons.

    Args:
        folder: Where to write.
        classes: Names of all classes.
        resume: Whether to go on after an interruption.
    """

    def __init__(self, folder: Path, classes: Sequence[str], resume: bool = False) -> None:
        self._folder = folder
        self._journal = open_journal(folder, "labelme", classes, resume, ())
        self._files = LabelFiles(self._journal, ".json")

    @property
    def added(self) -> frozenset[str]:
        """Names of the images added so far."""
        return self._journal.names

    def place(self, name: str, part: str = "") -> Path:  # noqa: ARG002 - LabelMe knows no parts
        """Return where the tool looks for an image: beside its labels."""
        return self._folder / check_name(name)

    def add(self, image: AnnotatedImage, part: str = "") -> None:  # noqa: ARG002 - LabelMe knows no parts
        """Write the labels of an image; LabelMe has no place for parts."""
        name = check_name(image.name)
        write_json(self._files.note(name, self._folder), _to_table(image, name.name))

    def close(self) -> None:
        """End: nothing belongs to all images."""
        self._journal.remove()


def _to_table(image: AnnotatedImage, file_name: str) -> dict[str, Any]:
    return {
        "version": _VERSION,
        "flags": {},
        "shapes": [_to_shape(shape, (image.height, image.width)) for shape in image.shapes],
        "imagePath": file_name,
        "imageData": None,
        "imageHeight": image.height,
        "imageWidth": image.width,
    }


def _to_shape(shape: Shape, size: tuple[int, int]) -> dict[str, Any]:
    table: dict[str, Any] = {"label": shape.class_name, "group_id": None, "description": "", "flags": {}}
    if shape.score is not None:
        table["score"] = round(shape.score, 4)
    x, y, mask = crop_shape(shape, size)
    if len(shape.polygons) == 1:
        outlines = outline_mask(mask)
        if len(outlines) == 1:
            points = (outlines[0] + np.asarray([x, y])).tolist()
            return {**table, "points": points, "shape_type": "polygon", "mask": None}
    # the second corner is the last pixel itself
    points = [[x, y], [x + mask.shape[1] - 1, y + mask.shape[0] - 1]]
    png = encode_png(mask * np.uint8(255))
    return {**table, "points": points, "shape_type": "mask", "mask": base64.b64encode(png).decode()}
