"""LabelMe: one JSON file beside each image, with polygons, rectangles, circles and masks."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeseg.core.errors import OutputError
from edgeseg.core.files import write_json
from edgeseg.data.annotations.journal import FileNames, Journal, check_name
from edgeseg.data.annotations.shapes import AnnotatedImage, Shape, crop_shape
from edgeseg.frame.images import encode_png

# The release whose files these are; LabelMe refuses none, and warns of an older major number.
_VERSION = "5.5.0"


class LabelMeWriter:
    """Writes NAME.json where LabelMe looks for it, beside NAME.png; a shape with holes is a mask, the others polygons.

    Args:
        folder: Where to write.
        classes: Names of all classes.
        resume: Whether to go on after an interruption.
    """

    def __init__(self, folder: Path, classes: Sequence[str], resume: bool = False) -> None:
        self._folder = folder
        self._journal = Journal(folder / ".labelme.jsonl", {"format": "labelme", "classes": list(classes)}, resume)
        self._names = FileNames([(entry["name"], entry["stem"]) for entry in self._journal.entries()])

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
        stem = self._names.choose(name)
        path = self._folder / f"{stem}.json"
        if image.name not in self._journal:
            if path.exists():
                raise OutputError(
                    f"Expected no labels at {path}, got a file that was there before.",
                    "Move it away, or name another --out.",
                )
            # noted first: a file that is written but not noted would be taken for somebody else's later
            self._journal.add(image.name, {"stem": str(stem)})
        write_json(path, _to_table(image, name.name))

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
    if len(shape.polygons) == 1:
        return {**table, "points": shape.polygons[0].tolist(), "shape_type": "polygon", "mask": None}
    x, y, mask = crop_shape(shape, size)
    # the second corner is the last pixel itself
    points = [[x, y], [x + mask.shape[1] - 1, y + mask.shape[0] - 1]]
    png = encode_png(mask * np.uint8(255))
    return {**table, "points": points, "shape_type": "mask", "mask": base64.b64encode(png).decode()}
