"""What a registration is worth: how alike images and masks are before and after, and how the field behaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.frame.outlines import surface_distance

# Grey levels of the joint histogram, and the fewest pixels that it is made of.
_BINS, _FEWEST_PIXELS = 32, 64


@dataclass(frozen=True)
class Change:
    """A figure before and after registration; None where it cannot be measured."""

    before: float | None
    after: float | None


@dataclass(frozen=True)
class MaskFit:
    """How well masks meet."""

    dice: Change
    hd95_px: Change
    """95th percentile of the distances between both outlines."""
    hd95_mm: Change | None = None


def mutual_information(one: NDArray[np.uint8], other: NDArray[np.uint8], where: NDArray[Any]) -> float | None:
    """Normalised mutual information of two 8-bit images, from 1 (independent) to 2 (one follows from the other).

    (H(A) + H(B)) / H(A, B): Studholme et al., Pattern Recognition 32(1), 1999.

    Args:
        one: An image.
        other: An image of the same size.
        where: The pixels that count.
    """
    chosen = np.asarray(where) > 0
    if np.count_nonzero(chosen) < _FEWEST_PIXELS:
        return None
    codes = (one[chosen].astype(np.intp) * _BINS // 256) * _BINS + other[chosen].astype(np.intp) * _BINS // 256
    joint = np.bincount(codes, minlength=_BINS * _BINS).reshape(_BINS, _BINS) / codes.size
    both = _entropy(joint.ravel())
    return (_entropy(joint.sum(axis=0)) + _entropy(joint.sum(axis=1))) / both if both > 0 else None


def _entropy(shares: NDArray[np.float64]) -> float:
    seen = shares[shares > 0]
    return float(-np.sum(seen * np.log(seen)))


def measure_dice(one: NDArray[Any], other: NDArray[Any]) -> float | None:
    """Dice of two masks; None where both are empty."""
    first, second = np.asarray(one) > 0, np.asarray(other) > 0
    total = int(np.count_nonzero(first)) + int(np.count_nonzero(second))
    return 2 * int(np.count_nonzero(first & second)) / total if total else None


def measure_distance(one: NDArray[np.uint8], other: NDArray[np.uint8], percentile: float = 95.0) -> float | None:
    """Distance of two masks' outlines in pixels; None where one is empty."""
    first, second = (np.asarray(mask > 0, dtype=np.uint8) for mask in (one, other))
    return surface_distance(first, second, percentile) if first.any() and second.any() else None


def compare_masks(
    fixed: NDArray[np.uint8], before: NDArray[np.uint8], after: NDArray[np.uint8], mm_per_px: float | None
) -> MaskFit:
    """Compare a fixed mask with the moving one, before and after it was moved."""
    distances = Change(measure_distance(fixed, before), measure_distance(fixed, after))
    scaled = None if mm_per_px is None else Change(*(_scale(one, mm_per_px) for one in vars(distances).values()))
    return MaskFit(Change(measure_dice(fixed, before), measure_dice(fixed, after)), distances, scaled)


def _scale(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def draw_checkerboard(one: NDArray[np.uint8], other: NDArray[np.uint8], fields: int = 8) -> NDArray[np.uint8]:
    """Lay two grey images over each other as a checkerboard: edges go on where they fit."""
    height, width = one.shape
    side = max(1, max(height, width) // fields)
    rows, columns = np.arange(height)[:, None] // side, np.arange(width) // side
    return np.asarray(np.where((rows + columns) % 2 == 0, one, other), dtype=np.uint8)


def draw_difference(fixed: NDArray[np.uint8], before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Draw the differences before and after registration side by side; black is equal."""
    gap = np.full((fixed.shape[0], 4), 255, np.uint8)
    return np.hstack([cv2.absdiff(fixed, before), gap, cv2.absdiff(fixed, after)])
