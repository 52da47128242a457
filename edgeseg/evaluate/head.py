"""Measure a fetal head's circumference in a mask, as a physical check for a segmentation."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.ellipse import fit_ellipse


def measure_circumference(mask: NDArray[np.uint8], pixel_size_mm: float) -> float:
    """Fit an ellipse to the largest region's outline and take its circumference in millimetres; 0 without one."""
    ellipse = fit_ellipse(mask)
    if ellipse is None:
        return 0.0
    width, height = ellipse.axes
    return ellipse_circumference(width / 2, height / 2) * pixel_size_mm


def ellipse_circumference(first: float, second: float) -> float:
    """Take the circumference of an ellipse from its half axes (Ramanujan's second formula)."""
    total = first + second
    if total <= 0:
        return 0.0
    h = ((first - second) / total) ** 2
    return math.pi * total * (1 + 3 * h / (10 + math.sqrt(4 - 3 * h)))
