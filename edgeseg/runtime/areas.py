"""How large what was marked is: the one definition of a class's area."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.spec import ClassSpec

LARGEST_PIXEL_MM = 100.0


@dataclass(frozen=True)
class ClassArea:
    """The area of one class in one mask; in square millimetres where the size of a pixel is known."""

    name: str
    area_px: int
    area_mm2: float | None


def check_pixel_size(mm_per_px: float) -> None:
    """Refuse what can be no size of a pixel.

    Raises:
        ValueError: So it is.
    """
    if not 0.0 < mm_per_px < LARGEST_PIXEL_MM:
        raise ValueError(f"expected a pixel's size above 0 and below {LARGEST_PIXEL_MM:g} mm, got {mm_per_px}")


def measure_areas(
    labels: NDArray[np.uint8], classes: Sequence[ClassSpec], mm_per_px: float | None = None
) -> tuple[ClassArea, ...]:
    """Measure every class of a mask."""
    pixels = np.bincount(labels.ravel(), minlength=len(classes) + 1)
    square = None if mm_per_px is None else mm_per_px**2
    return tuple(
        ClassArea(spec.name, int(count), None if square is None else round(float(count) * square, 3))
        for spec, count in zip(classes, pixels[1:], strict=False)
    )
