"""How masks look in every picture: what a network drew is a solid line with a light fill, what a person drew is dashed.

Both have the colour of their class. Dashes have a dark edge, so that they stand out where both lines coincide.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Contour = NDArray[Any]
OPACITY = 0.30
# Pixels of a dash and of the gap after it, for each pixel of the line's thickness.
_DASH, _GAP = 6, 6
# Fewer dashes around a small outline would look like a solid line.
_FEWEST_DASHES = 4
# One pixel of line for so many of the picture's shorter side.
_PX_PER_LINE_PX = 256
_DARK = (0, 0, 0)
# OpenCV takes coordinates as integers in units of 1/16 pixel.
_SHIFT = 4
_HD_PERCENTILE = 95.0


def trace_contours(mask: NDArray[np.uint8]) -> tuple[Contour, ...]:
    """Trace the pixels along every edge of a mask, those of holes included, as arrays of [x, y]."""
    contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return tuple(contour.reshape(-1, 2) for contour in contours)


def scale_contours(contours: Sequence[Contour], factor: float, left: float = 0.0, top: float = 0.0) -> list[Contour]:
    """Move contours to where a picture scaled by a factor shows them; `left` and `top` are its first pixel."""
    # pixel centres, as cv2.resize has them
    return [(contour + 0.5) * factor - 0.5 + (left, top) for contour in contours]


def draw_prediction(
    canvas: NDArray[np.uint8], contours: Sequence[Contour], colour: tuple[int, ...], thickness: int | None = None
) -> None:
    """Draw closed contours as a solid line in an RGB colour."""
    _draw_lines(canvas, contours, colour[::-1], thickness or choose_thickness(canvas), closed=True)


def draw_truth(
    canvas: NDArray[np.uint8], contours: Sequence[Contour], colour: tuple[int, ...], thickness: int | None = None
) -> None:
    """Draw closed contours as dashes with a dark edge in an RGB colour."""
    thickness = thickness or choose_thickness(canvas)
    dashes = [dash for contour in contours for dash in _cut_dashes(contour, thickness)]
    _draw_lines(canvas, dashes, _DARK, thickness + 2)
    _draw_lines(canvas, dashes, colour[::-1], thickness)


def draw_doubtful(canvas: NDArray[np.uint8], contours: Sequence[Contour], colour: tuple[int, ...]) -> None:
    """Draw closed contours as plain dashes in an RGB colour: a live mask that does not count as found."""
    thickness = choose_thickness(canvas)
    dashes = [dash for contour in contours for dash in _cut_dashes(contour, thickness)]
    _draw_lines(canvas, dashes, colour[::-1], thickness)


def fill_mask(canvas: NDArray[np.uint8], mask: NDArray[np.uint8], colour: tuple[int, ...], opacity: float) -> None:
    """Tint the pixels of a mask with an RGB colour."""
    # blending the bounding box alone: the whole frame would cost milliseconds
    x, y, width, height = cv2.boundingRect(mask)
    part = canvas[y : y + height, x : x + width]
    tinted = cv2.addWeighted(part, 1.0 - opacity, np.full_like(part, colour[::-1]), opacity, 0.0)
    cv2.copyTo(tinted, mask[y : y + height, x : x + width], part)


def choose_thickness(canvas: NDArray[np.uint8]) -> int:
    """Choose the thickness of lines for a picture's size."""
    height, width = canvas.shape[:2]
    return max(1, round(int(min(height, width)) / _PX_PER_LINE_PX))


def _cut_dashes(contour: Contour, thickness: int) -> list[Contour]:
    """Cut a closed contour into dashes of equal length, as many as fit around it without a seam."""
    closed = np.concatenate([contour, contour[:1]]).astype(np.float64)
    places = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T))])
    length = float(places[-1])
    count = max(_FEWEST_DASHES, round(length / ((_DASH + _GAP) * thickness)))
    period, dash = length / count, length / count * _DASH / (_DASH + _GAP)
    # a point for every two pixels follows any curve that is seen
    steps = np.linspace(0.0, dash, max(2, round(dash / 2) + 1))
    starts = period * np.arange(count)
    along = starts[:, np.newaxis] + steps
    lines = np.stack([np.interp(along, places, closed[:, axis]) for axis in (0, 1)], axis=-1)
    return list(lines)


def _draw_lines(
    canvas: NDArray[np.uint8], lines: Sequence[Contour], colour: tuple[int, ...], thickness: int, closed: bool = False
) -> None:
    fixed = [np.rint(np.asarray(line) * (1 << _SHIFT)).astype(np.int32) for line in lines]
    cv2.polylines(canvas, fixed, closed, colour, thickness, cv2.LINE_AA, _SHIFT)


def surface_distance(
    predicted: NDArray[np.uint8], truth: NDArray[np.uint8], percentile: float = _HD_PERCENTILE
) -> float:
    """Measure the Hausdorff distance as a percentile, in pixels.

    The percentile is taken over the distances of both outlines together. Other tools take it for each direction and
    then the larger one, so their HD95 can differ.
    """
    first, second = _outline(predicted), _outline(truth)
    distances = np.concatenate([_distance_to(second)[first > 0], _distance_to(first)[second > 0]])
    return float(np.percentile(distances, percentile))


def _outline(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    # so that a mask at the image's border has an outline there
    padded = np.pad(mask, 1)
    # the outline is the inner border: pixels of the mask that a 3x3 erosion removes
    inner = cv2.erode(padded, np.ones((3, 3), np.uint8))
    return np.asarray((padded - inner)[1:-1, 1:-1], dtype=np.uint8)


def _distance_to(outline: NDArray[np.uint8]) -> NDArray[np.float32]:
    background = (outline == 0).astype(np.uint8)
    # exact Euclidean distances; the 3x3 and 5x5 approximations of OpenCV are off by some percent
    return np.asarray(cv2.distanceTransform(background, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), dtype=np.float32)
