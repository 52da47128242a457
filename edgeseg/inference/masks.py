"""Operations on label maps: temporal smoothing, hole filling, areas, uncertain outlines and the overlay on a frame."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.decision import FOUND, NOTHING
from edgeseg.core.spec import ClassSpec, Region
from edgeseg.frame.images import to_bgr
from edgeseg.frame.outlines import OPACITY, draw_doubtful, draw_prediction, fill_mask, trace_contours
from edgeseg.frame.postprocess import LabelPatch, paste_labels, resize_around
from edgeseg.inference.confidence import ClassFinding

Bytes = NDArray[np.uint8]
NEWEST_WEIGHT = 2 / 3
MAX_PIXEL_MM = 100.0
# Scores in 1/256 at which the band around an outline begins and ends.
BAND_LEVELS = (64, 192)
# A pass over the mask for each of so many classes is faster than one histogram.
_FEW_CLASSES = 8


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


class FrameMask:
    """The mask of one frame: the part that holds it, and the label map of the whole frame once somebody asks for it."""

    def __init__(self, patch: LabelPatch, size: tuple[int, int]) -> None:
        """Take a patch of a frame of this height and width."""
        self.patch, self.size = patch, size

    @cached_property
    def labels(self) -> Bytes:
        """The label map of the frame's size."""
        return paste_labels(self.patch, *self.size)


def as_mask(labels: Bytes) -> FrameMask:
    """Take the label map of a frame as its mask."""
    return FrameMask(LabelPatch(labels, 0, 0), (labels.shape[0], labels.shape[1]))


def measure_areas(
    labels: NDArray[np.uint8], classes: Sequence[ClassSpec], mm_per_px: float | None = None
) -> tuple[ClassArea, ...]:
    """Measure the area of every class in a mask."""
    square = None if mm_per_px is None else mm_per_px**2
    return tuple(
        ClassArea(spec.name, count, None if square is None else round(count * square, 3))
        for spec, count in zip(classes, count_pixels(labels, len(classes)), strict=True)
    )


def count_pixels(labels: NDArray[np.uint8], classes: int) -> list[int]:
    """Count the pixels of every class."""
    if not labels.size:
        return classes * [0]
    if classes > _FEW_CLASSES:
        return [int(count) for count in np.bincount(labels.ravel(), minlength=classes + 1)[1 : classes + 1]]
    # three times as fast as countNonZero; inRange() marks with 255
    sums = (cv2.sumElems(cv2.inRange(labels, number, number))[0] for number in range(1, classes + 1))
    return [round(total / 255) for total in sums]


@dataclass(frozen=True)
class ClassBand:
    """Where the score of one class crosses 1/4 and 3/4, as contours of [x, y] in the frame's pixels."""

    outer: tuple[NDArray[np.int32], ...]
    inner: tuple[NDArray[np.int32], ...]


def trace_bands(grid: Bytes, region: Region | None, classes: int) -> tuple[ClassBand, ...]:
    """Trace the band of every class around its outline, in which the network is not sure.

    Args:
        grid: Clean scores (height, width, channels); the background's channel, if there is one, comes first.
        region: The part of the frame that they cover.
        classes: Their number.
    """
    if region is None or not grid.size:
        return ()
    planes = [np.ascontiguousarray(grid[:, :, [place]]) for place in range(grid.shape[2] - classes, grid.shape[2])]
    return tuple(ClassBand(*(_trace(plane, level, region) for level in BAND_LEVELS)) for plane in planes)


def _trace(plane: Bytes, level: int, region: Region) -> tuple[NDArray[np.int32], ...]:
    marked = np.asarray(cv2.threshold(plane, level, 1, cv2.THRESH_BINARY)[1], np.uint8)
    full, x, y = resize_around(plane, marked, region)
    if not full.size:
        return ()
    above = cv2.threshold(full[:, :, 0], level, 1, cv2.THRESH_BINARY)[1]
    outlines, _ = cv2.findContours(above, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE, offset=(x, y))
    return tuple(np.asarray(outline, dtype=np.int32).reshape(-1, 2) for outline in outlines)


def choose_labels(
    labels: NDArray[np.uint8], findings: Sequence[ClassFinding], shown: Collection[str]
) -> NDArray[np.uint8]:
    """Keep the labels of the classes whose state is among the shown ones; without findings all stay."""
    hidden = [number for number, finding in enumerate(findings, start=1) if finding.state not in shown]
    if not hidden:
        return labels
    table = np.arange(256, dtype=np.uint8)
    table[hidden] = 0
    return np.asarray(cv2.LUT(labels, table), dtype=np.uint8)


def draw_overlay(
    frame: NDArray[Any],
    labels: NDArray[np.uint8],
    classes: Sequence[ClassSpec],
    opacity: float = OPACITY,
    findings: Sequence[ClassFinding] = (),
) -> NDArray[np.uint8]:
    """Draw labels onto a copy of a frame.

    Args:
        frame: Grey or BGR, 8 or 16 bit.
        labels: 0 background, k the k-th class, of the frame's size.
        classes: The classes, with their colours.
        opacity: Of the fill, 0 to 1; the outline is always drawn.
        findings: Of the classes, as a `Segmentation` has them: a doubtful mask gets a dashed outline and no fill, and
            one whose state is nothing is not drawn.

    Returns:
        A BGR image.
    """
    canvas = to_bgr(frame)
    states = [finding.state for finding in findings] or len(classes) * [FOUND]
    marked = count_pixels(labels, len(classes))
    for number, (spec, state, pixels) in enumerate(zip(classes, states, marked, strict=True), start=1):
        if state == NOTHING or not pixels:
            continue
        mask = np.asarray(cv2.inRange(labels, number, number), dtype=np.uint8)
        contours = trace_contours(mask)
        if state == FOUND:
            fill_mask(canvas, mask, spec.colour, opacity)
            draw_prediction(canvas, contours, spec.colour)
        else:
            draw_doubtful(canvas, contours, spec.colour)
    return canvas
