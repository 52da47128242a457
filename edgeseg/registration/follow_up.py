"""Two exams of one finding: what has changed, and how sure the registration lets us be.

The second exam is brought onto the first one. Then the registration is repeated many times on parts of the image from
other starts; the spread of its results is the interval. Only the registration's uncertainty is in it: what two people
would draw differently, and what another plane of section shows, come on top.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import DataError
from edgeseg.frame.images import to_bgr
from edgeseg.frame.outlines import draw_prediction, draw_truth, trace_contours
from edgeseg.registration.deformable import fit_deformable
from edgeseg.registration.displacement import (
    Field,
    Matrix,
    find_inside,
    jacobian_determinant,
    matrix_to_field,
    warp_labels,
)
from edgeseg.registration.linear import refine
from edgeseg.registration.preparation import Prepared
from edgeseg.registration.quality import measure_dice, measure_distance
from edgeseg.registration.register import Kind, Registration, prepare_pair, register_frames, rescale

REPEATS = 30
_SEED = 0
# Of the image's blocks, the share that is left out at each repetition; blocks along a side.
_LEFT_OUT, _BLOCKS = 0.5, 8
# How far a start is moved: pixels of an image of 256 pixels, and degrees.
_START_PX, _START_DEG = 3.0, 2.0
_REFERENCE_PX = 256.0
_INTERVAL = (2.5, 97.5)
Mask = NDArray[np.uint8]
_BEFORE, _AFTER = (60, 180, 75), (30, 80, 230)


@dataclass(frozen=True)
class Range:
    """A figure with the interval in which it lies in 95% of the repetitions."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Size:
    """The size of a finding, in mm where the pixel size is known, else in pixels."""

    area: float
    long: float
    short: float


@dataclass(frozen=True, eq=False)
class FollowUp:
    """A finding in two exams.

    Args:
        unit: mm or px.
        first: Its size in the first exam.
        second: Its size in the second.
        area_change: Area of the second, moved onto the first, over that of the first, less one.
        long_change: The same of the long diameter.
        short_change: The same of the short one.
        tissue_change: What the tissue within the first outline did by a deformable registration; None for linear ones.
        dice: How well both outlines meet after alignment.
        hausdorff: The 95th percentile of their distances.
        outline_share: How much of the area lies within half a pixel of the outline: smaller changes are not clear.
        cut_off: Whether the finding reaches the border of an image, or of what both show: a part of it may be missing.
        registration: How the exams were brought together.
    """

    unit: str
    first: Size
    second: Size
    area_change: Range
    long_change: Range
    short_change: Range
    tissue_change: Range | None
    dice: Range
    hausdorff: Range
    outline_share: float
    cut_off: bool
    registration: Registration
    mask: NDArray[np.uint8]
    """Of the first exam."""

    def describe(self) -> str:
        """Say in a sentence what has changed."""
        square = f"{self.unit}2"
        sizes = (
            f"The finding has {self.second.area:.1f} {square} after {self.first.area:.1f} {square}, "
            f"and its long diameter is {self.second.long:.1f} {self.unit} after {self.first.long:.1f} {self.unit}."
        )
        if not self.registration.converged:
            return f"{sizes} The exams could not be aligned, so nothing can be said of a change."
        if self.cut_off:
            return f"{sizes} It reaches the border of what both exams show, so nothing can be said of a change."
        change = self.area_change
        clear = (change.low > 0 or change.high < 0) and abs(change.value) > self.outline_share
        way = "larger" if change.value > 0 else "smaller"
        what = f"{abs(change.value):.0%} {way}" if clear else "no clear change of area"
        return (
            f"{sizes} Aligned, that is {what} ({change.low:+.1%} to {change.high:+.1%} by the registration alone), "
            f"and the outlines meet with a Dice of {self.dice.value:.2f} ({self.dice.low:.2f} to {self.dice.high:.2f})."
        )


def compare_exams(
    first: NDArray[Any],
    second: NDArray[Any],
    masks: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    kind: Kind = "rigid",
    mm_per_px: tuple[float | None, float | None] = (None, None),
    drive: str = "auto",
) -> FollowUp:
    """Compare a finding in two exams.

    Args:
        first: The first exam.
        second: The second exam.
        masks: The finding in both.
        kind: How they are brought together; rigid keeps sizes.
        mm_per_px: The pixel size of both. Where they differ, the second exam is brought to that of the first.
        drive: What is matched, as in `register`.

    Raises:
        DataError: A mask is empty, or one pixel size alone is known.
    """
    one, other = (np.asarray(mask > 0, dtype=np.uint8) for mask in masks)
    if not one.any() or not other.any():
        raise DataError("Expected a finding in both masks, got an empty one.", "Compare exams that show the finding.")
    known = _choose_pixel_size(mm_per_px)
    if known is not None and mm_per_px[1] is not None and mm_per_px[0] is not None:
        factor = mm_per_px[1] / mm_per_px[0]
        second, other = _rescale(second, factor), _rescale(other, factor, labels=True)
    registration = register_frames(first, second, kind, "auto", (one, other), drive, known)
    fields = [registration.displacement, *_repeat(first, second, (one, other), registration, drive)]
    scale, unit = (1.0, "px") if known is None else (known, "mm")
    before, after = measure_size(one, scale), measure_size(other, scale)
    moved = [warp_labels(other, field) for field in fields]
    sizes = [measure_size(mask, scale) for mask in moved]
    return FollowUp(
        unit=unit,
        first=before,
        second=after,
        area_change=_range([size.area / before.area - 1 for size in sizes]),
        long_change=_range([size.long / before.long - 1 for size in sizes]),
        short_change=_range([size.short / before.short - 1 for size in sizes]),
        tissue_change=_range([_measure_tissue(one, field) for field in fields]) if kind == "deformable" else None,
        dice=_range([measure_dice(one, mask) or 0.0 for mask in moved]),
        hausdorff=_range([scale * (measure_distance(one, mask) or float(np.hypot(*one.shape))) for mask in moved]),
        outline_share=0.5 * np.count_nonzero(_find_margin(one)) / np.count_nonzero(one),
        cut_off=_is_cut_off(one, other, moved[0], registration.displacement),
        registration=registration,
        mask=one,
    )


def _is_cut_off(one: Mask, other: Mask, moved: Mask, field: Field) -> bool:
    touches = any(edge.any() for mask in (one, other, moved) for edge in (mask[0], mask[-1], mask[:, 0], mask[:, -1]))
    return touches or bool((one.astype(bool) & ~find_inside(field, (other.shape[0], other.shape[1]))).any())


def _choose_pixel_size(sizes: tuple[float | None, float | None]) -> float | None:
    if (sizes[0] is None) != (sizes[1] is None):
        raise DataError(
            "Expected the pixel size of both exams or of none, got one.", "Give it with --mm-per-px for both."
        )
    return sizes[0]


def _rescale(image: NDArray[Any], factor: float, labels: bool = False) -> NDArray[Any]:
    return image if abs(factor - 1) < 1e-3 else rescale(image, factor, labels)


def measure_size(mask: NDArray[np.uint8], scale: float) -> Size:
    """Measure area, long diameter, and the widest extent across it, of all regions of a mask together."""
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return Size(0.0, 0.0, 0.0)
    hull = cv2.convexHull(np.concatenate(contours))[:, 0].astype(np.float64)
    between = hull[:, None] - hull[None]
    lengths = np.hypot(between[..., 0], between[..., 1])
    way = between[np.unravel_index(int(lengths.argmax()), lengths.shape)]
    longest = float(lengths.max())
    across = hull @ (np.array([-way[1], way[0]]) / longest) if longest > 0 else np.zeros(1)
    # a region of one pixel is a pixel wide
    return Size(float(np.count_nonzero(mask)) * scale**2, (longest + 1) * scale, (float(np.ptp(across)) + 1) * scale)


def _find_margin(mask: NDArray[np.uint8]) -> NDArray[np.bool_]:
    inner = cv2.erode(np.pad(mask, 1), np.ones((3, 3), np.uint8))[1:-1, 1:-1]
    return np.asarray((mask > 0) & (np.asarray(inner) == 0), dtype=np.bool_)


def _measure_tissue(mask: NDArray[np.uint8], field: Field) -> float:
    return float(jacobian_determinant(field)[mask[:-1, :-1] > 0].mean()) - 1


def _range(values: list[float]) -> Range:
    """The first value, with the interval of all."""
    low, high = np.percentile(values, _INTERVAL)
    return Range(values[0], min(values[0], float(low)), max(values[0], float(high)))


def _repeat(
    first: NDArray[Any],
    second: NDArray[Any],
    masks: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    found: Registration,
    drive: str,
) -> Iterator[Field]:
    """Register again, on half of the image and from starts near the one that was found."""
    rng = np.random.default_rng(_SEED)
    fixed, moving = prepare_pair(first, second, masks, drive)
    for _ in range(REPEATS):
        part = replace(fixed, valid=fixed.valid * _draw_blocks(rng, fixed.size))
        part = replace(part, pixels=part.pixels * part.valid, wide=part.wide * part.valid)
        start = _draw_start(rng, found.matrix, fixed.size)
        yield _register_part(part, moving, start, found.kind)


def _register_part(fixed: Prepared, moving: Prepared, start: Matrix, kind: Kind) -> Field:
    matrix = refine(fixed, moving, start, "affine" if kind == "deformable" else kind)
    return fit_deformable(fixed, moving, matrix) if kind == "deformable" else matrix_to_field(matrix, fixed.size)


def _draw_blocks(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.uint8]:
    kept = (rng.random((_BLOCKS, _BLOCKS)) >= _LEFT_OUT).astype(np.uint8)
    return np.asarray(cv2.resize(kept, size[::-1], interpolation=cv2.INTER_NEAREST), dtype=np.uint8)


def _draw_start(rng: np.random.Generator, matrix: Matrix, size: tuple[int, int]) -> Matrix:
    turn = np.radians(rng.uniform(-_START_DEG, _START_DEG))
    middle = np.array([size[1] / 2, size[0] / 2])
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    shift = rng.uniform(-_START_PX, _START_PX, 2) * max(size) / _REFERENCE_PX
    before = np.column_stack([rotation, middle - rotation @ middle + shift])
    return np.column_stack([matrix[:, :2] @ before[:, :2], matrix[:, :2] @ before[:, 2] + matrix[:, 2]])


def draw_follow_up(first: NDArray[Any], compared: FollowUp) -> NDArray[np.uint8]:
    """Draw both exams side by side, aligned: the first one's outline dashed, the second one's as a line."""
    moved = compared.registration.moved_mask
    assert moved is not None
    pictures = []
    for image in (first, compared.registration.moved):
        canvas = to_bgr(image)
        draw_truth(canvas, trace_contours(compared.mask), _BEFORE)
        draw_prediction(canvas, trace_contours(np.asarray(moved > 0, dtype=np.uint8)), _AFTER)
        pictures.append(canvas)
    return np.hstack(pictures)
