"""Operations on label maps: temporal smoothing, hole filling, class areas and the overlay on a frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.spec import ClassSpec
from edgeseg.frame.images import to_bgr

Bytes = NDArray[np.uint8]
NEWEST_WEIGHT = 2 / 3
MAX_PIXEL_MM = 100.0
OPACITY = 0.30
# one pixel of outline for every so many of the frame's shorter side
_PX_PER_OUTLINE_PX = 256


@dataclass(frozen=True)
class MaskOptions:
    """Post-processing of masks beyond what the card says."""

    smooth: bool = False
    """Average each frame's scores with those of the frame before: less flicker, a lag of a third of a frame."""
    fill_holes: bool = False


DEFAULT_MASK_OPTIONS = MaskOptions()


class ScoreSmoother:
    """Weighted average of the scores of the newest two frames.

    Unlike exponential smoothing it forgets everything older, so the mask never lags by more than one frame.
    """

    def __init__(self) -> None:
        self._last: Bytes | None = None

    def smooth(self, scores: Bytes) -> Bytes:
        """Average the newest scores with the last ones; the first are returned unchanged."""
        last, self._last = self._last, scores
        if last is None or last.shape != scores.shape:
            return scores
        # on the 8-bit scores before the threshold: averaging labels could not move an outline by a fraction
        mixed = cv2.addWeighted(scores, NEWEST_WEIGHT, last, 1.0 - NEWEST_WEIGHT, 0.0)
        return np.asarray(mixed, dtype=np.uint8).reshape(scores.shape)

    def reset(self) -> None:
        """Forget the last scores, before the first frame of another stream."""
        self._last = None


def fill_holes(labels: Bytes, classes: int) -> Bytes:
    """Label background that a class encloses as that class; other classes inside it stay."""
    filled = labels.copy()
    for number in range(1, classes + 1):
        mask = (labels == number).astype(np.uint8)
        # RETR_EXTERNAL leaves the contours of holes out, so filling the rest closes them
        outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(mask, outlines, -1, 1, cv2.FILLED)
        filled[(mask > 0) & (filled == 0)] = number
    return filled


@dataclass(frozen=True)
class ClassArea:
    """The area of one class in one mask; `area_mm2` is None where the pixel size is unknown."""

    name: str
    area_px: int
    area_mm2: float | None


def check_pixel_size(mm_per_px: float) -> None:
    """Check that a pixel size is plausible.

    Raises:
        ValueError: It is not.
    """
    if not 0.0 < mm_per_px < MAX_PIXEL_MM:
        raise ValueError(f"expected a pixel size above 0 and below {MAX_PIXEL_MM:g} mm, got {mm_per_px}")


def measure_areas(
    labels: NDArray[np.uint8], classes: Sequence[ClassSpec], mm_per_px: float | None = None
) -> tuple[ClassArea, ...]:
    """Measure the area of every class in a mask."""
    # one pass over the mask, whatever the number of classes
    pixels = np.bincount(labels.ravel(), minlength=len(classes) + 1)
    square = None if mm_per_px is None else mm_per_px**2
    return tuple(
        ClassArea(spec.name, int(count), None if square is None else round(float(count) * square, 3))
        for spec, count in zip(classes, pixels[1:], strict=False)
    )


def draw_overlay(
    frame: NDArray[Any], labels: NDArray[np.uint8], classes: Sequence[ClassSpec], opacity: float = OPACITY
) -> NDArray[np.uint8]:
    """Draw labels onto a copy of a frame.

    Args:
        frame: Grey or BGR, 8 or 16 bit.
        labels: 0 background, k the k-th class, of the frame's size.
        classes: The classes, with their colours.
        opacity: Of the fill, 0 to 1; the outline is always drawn.

    Returns:
        A BGR image.
    """
    canvas = to_bgr(frame)
    for number, spec in enumerate(classes, start=1):
        mask = (labels == number).astype(np.uint8)
        if mask.any():
            _draw_class(canvas, mask, spec.colour[::-1], opacity)
    return canvas


def _draw_class(canvas: NDArray[np.uint8], mask: NDArray[np.uint8], colour: tuple[int, ...], opacity: float) -> None:
    # blending the bounding box alone: the whole frame would cost milliseconds
    x, y, width, height = cv2.boundingRect(mask)
    part = canvas[y : y + height, x : x + width]
    tinted = cv2.addWeighted(part, 1.0 - opacity, np.full_like(part, colour), opacity, 0.0)
    cv2.copyTo(tinted, mask[y : y + height, x : x + width], part)
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    thickness = max(1, round(min(canvas.shape[:2]) / _PX_PER_OUTLINE_PX))
    cv2.drawContours(canvas, outlines, -1, colour, thickness, cv2.LINE_AA)
