"""The one definition of a frame: how it becomes the input tensor, and how the output tensor becomes a mask.

Training, calibration, evaluation and the device all call this file, so they cannot differ.

    frame ─ crop region ─ grey or RGB, 8 bit ─ resize ─ pad ─ denoise ─> pixels ─ table ─> tensor
    tensor ─ table ─> scores (1/256) ─ cut padding ─ resize ─ threshold ─ shape ─> labels at the frame's size
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.spec import OutputSpec, Quantisation
from edgeseg.frame.preprocess import Bytes, Placement

_POINTS_OF_AN_ELLIPSE = 5
# An ellipse so many times as large as its region was fitted to an outline that has not the shape of one.
_RUNAWAY = 1.5
SCORE_ONE = 256


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


@lru_cache(maxsize=16)
def _score_table(quantisation: Quantisation) -> Bytes:
    """List the score of each 8-bit output number, in the order of its bits as an unsigned byte."""
    numbers = np.arange(256, dtype=np.uint8).view(quantisation.dtype)
    return _probability_to_score(quantisation.scale * (numbers.astype(np.float64) - quantisation.zero_point))


def _probability_to_score(probability: NDArray[Any]) -> Bytes:
    return np.clip(np.floor(probability * SCORE_ONE + 0.5), 0, 255).astype(np.uint8)


def dequantise(tensor: NDArray[Any], quantisation: Quantisation) -> NDArray[np.float64]:
    """Turn a tensor's numbers into the real ones they stand for."""
    if tensor.dtype.kind == "f":
        return tensor.astype(np.float64)
    return quantisation.scale * (tensor.astype(np.float64) - quantisation.zero_point)


def tensor_to_scores(tensor: NDArray[Any], quantisation: Quantisation) -> Bytes:
    """Turn the output tensor (1, height, width, channels) into scores in 1/256."""
    output = tensor[0]
    if quantisation.dtype in ("int8", "uint8"):
        return np.asarray(cv2.LUT(output.view(np.uint8), _score_table(quantisation))).reshape(output.shape)
    if quantisation.dtype.startswith("float"):
        return _probability_to_score(output)
    return _probability_to_score(quantisation.scale * (output.astype(np.float64) - quantisation.zero_point))


def scores_to_labels(scores: Bytes, placement: Placement, size: tuple[int, int], spec: OutputSpec) -> Bytes:
    """Draw the mask at the frame's own size: 0 is background, k the k-th class.

    Args:
        scores: The network's scores (height, width, channels); any integer fraction of the input's size.
        placement: Where the frame lies on the input's grid.
        size: Height and width of the input grid that `placement` speaks of.
        spec: Classes, threshold, smallest region and shape.

    Returns:
        Labels of the whole region of the frame that the placement names.
    """
    if spec.smallest_region > 0:
        scores = _drop_small_regions(scores, spec, (size[0] // scores.shape[0]) ** 2)
    region = placement.region
    inner = _cut_padding(scores, placement, size)
    full = cv2.resize(inner, (region.width, region.height), interpolation=cv2.INTER_LINEAR)
    full = np.asarray(full, dtype=np.uint8).reshape(region.height, region.width, -1)
    labels = decide_labels(full, spec, in_place=True)
    return draw_ellipses(labels, len(spec.classes)) if spec.shape == "ellipse" else labels


def _cut_padding(scores: Bytes, placement: Placement, size: tuple[int, int]) -> Bytes:
    factor = size[0] // scores.shape[0]
    y, x = placement.y // factor, placement.x // factor
    return scores[y : y + placement.height // factor, x : x + placement.width // factor]


def decide_labels(scores: Bytes, spec: OutputSpec, in_place: bool = False) -> Bytes:
    """Give every pixel the class that its scores speak for, the first of equals; 0 is the background.

    In place, the scores may be written over: fresh memory for a camera's frame costs more than the threshold itself.
    """
    if spec.activation == "softmax":
        return _number_highest(scores, 0)[0]
    limit = int(spec.threshold * SCORE_ONE + 0.5)
    if scores.shape[2] == 1:
        only = scores[:, :, 0]
        labels = cv2.threshold(only, limit, 1, cv2.THRESH_BINARY, dst=only if in_place else None)[1]
        return np.asarray(labels, dtype=np.uint8)
    labels, highest = _number_highest(scores, 1)
    marked = cv2.threshold(highest, limit, 255, cv2.THRESH_BINARY)[1]
    return np.asarray(cv2.bitwise_and(labels, marked), dtype=np.uint8)


def _number_highest(scores: Bytes, first: int) -> tuple[Bytes, Bytes]:
    """Find the highest score at every pixel and its channel, counted from `first`.

    Sixty times faster than numpy's argmax and max over the last axis, which would cost more than the network.
    """
    highest, *others = (np.asarray(plane, dtype=np.uint8) for plane in cv2.split(scores))
    labels: Bytes = np.full(highest.shape, first, np.uint8)
    for number, plane in enumerate(others, first + 1):
        higher = cv2.threshold(cv2.subtract(plane, highest), 0, number, cv2.THRESH_BINARY)[1]
        labels = np.asarray(cv2.max(labels, higher), dtype=np.uint8)
        highest = np.asarray(cv2.max(highest, plane), dtype=np.uint8)
    return labels, highest


def _drop_small_regions(scores: Bytes, spec: OutputSpec, input_pixels: int) -> Bytes:
    """Drop what is too small; each score stands for so many pixels of the input, since masks are drawn coarser."""
    labels = decide_labels(scores, spec)
    kept = scores.copy()
    first = spec.channels - len(spec.classes)
    for channel in range(len(spec.classes)):
        _, parts, stats, _ = cv2.connectedComponentsWithStats((labels == channel + 1).astype(np.uint8))
        small = stats[:, cv2.CC_STAT_AREA] * input_pixels < spec.smallest_region
        small[0] = False
        kept[:, :, first + channel][small[parts]] = 0
    return kept


def labels_on_frame(labels: Bytes, placement: Placement, height: int, width: int) -> Bytes:
    """Lay a region's labels onto a frame of the given size."""
    region = placement.region
    if (region.height, region.width) == (height, width):
        return labels
    full = np.zeros((height, width), np.uint8)
    full[region.y : region.y + region.height, region.x : region.x + region.width] = labels
    return full
