"""Draw frames with masks, scaled to a size, and arrange pictures in rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.spec import ClassSpec
from edgeseg.data.dataset import LabelledImage
from edgeseg.frame.images import to_bgr
from edgeseg.frame.outlines import draw_prediction, draw_truth, fill_mask, scale_contours, trace_contours

# Pixels of a tile's side, and of the gap between tiles.
TILE, GAP = 224, 4
# Up to this size, lines are drawn on a canvas that is FINER times as large.
FINE_SIDE, FINER = 320, 2
# One pixel of line for so many of a larger picture's side, and at least 2: narrow and wide ones look alike.
PX_PER_LINE_PX, THINNEST = 256, 2
# Opacity of a predicted mask, and the share of a pixel from which it is filled, of 255.
FILL, HALF = 0.2, 127
Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Mark:
    """A mask to draw, the RGB colour of its class, and whether it is a prediction; else it is truth."""

    mask: Picture
    colour: tuple[int, int, int]
    predicted: bool = False


def list_truth(image: LabelledImage, classes: Sequence[ClassSpec]) -> list[Mark]:
    """List the masks of a case to draw."""
    return [Mark(mask, spec.colour) for mask, spec in zip(image.masks, classes, strict=True)]


def draw_marks(frame: NDArray[Any], marks: Sequence[Mark], side: int, square: bool = False) -> Picture:
    """Draw a frame with masks.

    Args:
        frame: Grey or BGR; 16 bits are scaled to the brightest pixel.
        marks: The masks, of the frame's size.
        side: What its longer side is scaled to.
        square: Whether to put it into the middle of a black square.
    """
    if side > FINE_SIDE:
        return _draw_marks(frame, marks, side, square, max(THINNEST, round(side / PX_PER_LINE_PX)))
    # thin lines of a small picture need fractions of a pixel
    large = _draw_marks(frame, marks, side * FINER, square, FINER + 1)
    size = (side, side) if square else _fit(frame, side)
    return np.asarray(cv2.resize(large, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _draw_marks(frame: NDArray[Any], marks: Sequence[Mark], side: int, square: bool, thickness: int) -> Picture:
    picture = scale_frame(frame, side)
    size, factor = (picture.shape[1], picture.shape[0]), side / max(frame.shape[:2])
    binary = [np.asarray(mark.mask > 0, dtype=np.uint8) for mark in marks]
    for mark, mask in zip(marks, binary, strict=True):
        if mark.predicted:
            covered = cv2.resize(mask * np.uint8(255), size, interpolation=_choose_interpolation(factor))
            fill_mask(picture, np.asarray(covered > HALF, dtype=np.uint8), mark.colour, FILL)
    left, top = ((side - size[0]) // 2, (side - size[1]) // 2) if square else (0, 0)
    picture = pad_square(picture, side) if square else picture
    contours = [scale_contours(trace_contours(mask), factor, left, top) for mask in binary]
    for mark, lines in zip(marks, contours, strict=True):
        if mark.predicted:
            draw_prediction(picture, lines, mark.colour, thickness)
    # above all predictions, or a line that coincides would hide the dashes
    for mark, lines in zip(marks, contours, strict=True):
        if not mark.predicted:
            draw_truth(picture, lines, mark.colour, thickness)
    return picture


def scale_frame(frame: NDArray[Any], side: int) -> Picture:
    """Scale a frame's longer side to `side`, as BGR to draw on; 16 bits are scaled to the brightest pixel."""
    size = _fit(frame, side)
    interpolation = _choose_interpolation(side / max(frame.shape[:2]))
    return np.asarray(cv2.resize(to_bgr(_to_bytes(frame)), size, interpolation=interpolation), dtype=np.uint8)


def _choose_interpolation(factor: float) -> int:
    return cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR


def _fit(frame: NDArray[Any], side: int) -> tuple[int, int]:
    height, width = frame.shape[:2]
    factor = side / max(height, width)
    return max(1, round(width * factor)), max(1, round(height * factor))


def pad_square(picture: Picture, side: int) -> Picture:
    """Put a picture into the middle of a black square."""
    height, width = picture.shape[:2]
    top, left = (side - height) // 2, (side - width) // 2
    return np.pad(picture, ((top, side - height - top), (left, side - width - left), (0, 0)))


def lay_tiles(tiles: Sequence[Picture], columns: int) -> Picture:
    """Arrange tiles of one size in rows, with a gap between them."""
    height, width = tiles[0].shape[:2]
    rows = math.ceil(len(tiles) / columns)
    sheet = np.zeros((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), np.uint8)
    for number, tile in enumerate(tiles):
        top, left = number // columns * (height + GAP), number % columns * (width + GAP)
        sheet[top : top + height, left : left + width] = tile
    return sheet


def _to_bytes(frame: NDArray[Any]) -> Picture:
    if frame.dtype == np.uint8:
        return frame
    return np.asarray(frame * (255.0 / max(int(frame.max()), 1)), dtype=np.uint8)
