"""The ellipse in a mask: what a fetal head is drawn as and measured by."""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

_POINTS_OF_AN_ELLIPSE = 5
_RUNAWAY = 1.5
"""An ellipse so many times as large as its region was fitted to an outline that has not the shape of one."""


class Ellipse(NamedTuple):
    """Centre, full axes and angle in degrees, as OpenCV counts them."""

    centre: tuple[float, float]
    axes: tuple[float, float]
    angle: float


def fit_ellipse(mask: Bytes) -> Ellipse | None:
    """Fit an ellipse to the outline of a mask's largest region; None where no ellipse fits."""
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = max(outlines, key=cv2.contourArea, default=None)
    if outline is None or len(outline) < _POINTS_OF_AN_ELLIPSE:
        return None
    (x, y), (width, height), angle = cv2.fitEllipse(outline)
    fits = math.pi / 4 * width * height <= _RUNAWAY * cv2.contourArea(outline)
    return Ellipse((x, y), (width, height), angle) if fits else None


def draw_ellipses(labels: Bytes, classes: int) -> Bytes:
    """Draw each class as the ellipse in its largest region; a class that none fits stays as it is."""
    drawn = np.zeros_like(labels)
    for number in range(1, classes + 1):
        mask = labels if classes == 1 else np.asarray(cv2.inRange(labels, number, number), dtype=np.uint8)
        ellipse = fit_ellipse(mask)
        if ellipse is not None:
            cv2.ellipse(drawn, ellipse, number, cv2.FILLED)
        else:
            drawn[mask > 0] = number
    return drawn
