"""Draw a mask onto its frame: a light fill and a clear outline in each class's colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.images import to_bgr
from edgeseg.core.spec import ClassSpec

OPACITY = 0.30


def draw_overlay(
    frame: NDArray[Any], labels: NDArray[np.uint8], classes: Sequence[ClassSpec], opacity: float = OPACITY
) -> NDArray[np.uint8]:
    """Draw labels onto a frame.

    Args:
        frame: Grey or BGR, 8 or 16 bit.
        labels: 0 background, k the k-th class, of the frame's size.
        classes: Whose colours are used.
        opacity: How strong the fill is; the outline is always drawn.

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
    """Draw onto the canvas; only what the mask covers is mixed, since the rest of a frame costs milliseconds."""
    x, y, width, height = cv2.boundingRect(mask)
    part = canvas[y : y + height, x : x + width]
    tinted = cv2.addWeighted(part, 1.0 - opacity, np.full_like(part, colour), opacity, 0.0)
    cv2.copyTo(tinted, mask[y : y + height, x : x + width], part)
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    thickness = max(1, round(min(canvas.shape[:2]) / 256))
    cv2.drawContours(canvas, outlines, -1, colour, thickness, cv2.LINE_AA)
