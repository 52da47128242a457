"""Postprocessing: from the output tensor to a label map at the frame's size, and ellipses fitted to masks.

Training, calibration, evaluation and the device all call this file, so they cannot differ.

    tensor ─ dequantise ─ calibrate ─> scores (1/256) ─ drop small regions ─ cut padding ─ resize ─ threshold ─ shape
    ─> labels
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.spec import OutputSpec, Quantisation, Region
from edgeseg.frame.preprocess import Pixels, Placement

_FEWEST_POINTS = 5
# An ellipse so many times as large as its region: the outline is none, and the least-squares fit ran away.
_LARGEST_EXCESS = 1.5
# Different weights times cells, up to which a part of the scores is resized as in the whole.
_FEW_WEIGHTS = 2048
# The score of probability 1; scores are stored in 8 bits, so the highest is 255.
SCORE_ONE = 256


def tensor_to_scores(tensor: NDArray[Any], quantisation: Quantisation, temperatures: tuple[float, ...] = ()) -> Pixels:
    """Dequantise the output tensor (1, height, width, channels) into scores in 1/256, and calibrate them.

    Temperatures act on scores of 8 bits in every format, so that a float file and its int8 copy are calibrated alike.

    Args:
        tensor: The network's output.
        quantisation: Its quantisation.
        temperatures: One for every channel, or none.
    """
    output = tensor[0]
    if quantisation.dtype in ("int8", "uint8"):
        table = _score_table(quantisation, temperatures)
        return np.asarray(cv2.LUT(output.view(np.uint8), table), dtype=np.uint8).reshape(output.shape)
    scores = _probability_to_score(
        output if quantisation.dtype.startswith("float") else dequantise(output, quantisation)
    )
    if not temperatures:
        return scores
    return np.asarray(cv2.LUT(scores, calibration_table(temperatures)), dtype=np.uint8).reshape(scores.shape)


def dequantise(tensor: NDArray[Any], quantisation: Quantisation) -> NDArray[np.float64]:
    """Dequantise a tensor into real numbers; floats stay."""
    if tensor.dtype.kind == "f":
        return tensor.astype(np.float64)
    return quantisation.scale * (tensor.astype(np.float64) - quantisation.zero_point)


@lru_cache(maxsize=16)
def _score_table(quantisation: Quantisation, temperatures: tuple[float, ...]) -> Pixels:
    """Build the lookup table from each 8-bit output number, its bits read as an unsigned byte, to its score."""
    numbers = np.arange(256, dtype=np.uint8).view(quantisation.dtype)
    scores = _probability_to_score(dequantise(numbers, quantisation))
    return calibration_table(temperatures)[:, scores] if temperatures else scores


@lru_cache(maxsize=16)
def calibration_table(temperatures: tuple[float, ...]) -> Pixels:
    """Build the lookup table (1, 256, channels) from each score to the calibrated one.

    One half stays where it is, whatever rounding does, so that no score of a class changes sides at that threshold.
    Softmax channels with one temperature keep their order, and two of them keep the sum of 1.
    """
    scores = np.arange(256)
    columns = [_probability_to_score(calibrate(scores / SCORE_ONE, value)) for value in temperatures]
    half = SCORE_ONE // 2
    kept = [np.where(scores > half, np.maximum(column, half + 1), np.minimum(column, half)) for column in columns]
    return np.asarray(np.stack(kept, axis=-1), np.uint8)[None]


def calibrate(probability: NDArray[Any], temperature: float | NDArray[Any]) -> NDArray[np.float64]:
    """Calibrate probabilities by temperature: sigmoid(logit(p) / T)."""
    # Guo et al., "On calibration of modern neural networks", ICML 2017; written with powers, since logit(0) is infinite
    power = 1.0 / np.asarray(temperature, np.float64)
    high = np.power(np.clip(probability, 0.0, 1.0), power)
    low = np.power(1.0 - np.clip(probability, 0.0, 1.0), power)
    return np.asarray(high / (high + low), np.float64)


def _probability_to_score(probability: NDArray[Any]) -> Pixels:
    return np.clip(np.floor(probability * SCORE_ONE + 0.5), 0, 255).astype(np.uint8)


def scores_to_labels(scores: Pixels, placement: Placement, size: tuple[int, int], spec: OutputSpec) -> Pixels:
    """Upsample scores to the frame's size and threshold them into labels: 0 is background, k the k-th class.

    Args:
        scores: The network's scores (height, width, channels), at any integer output stride.
        placement: The letterbox: where the frame lies on the input's grid.
        size: Height and width of that grid.
        spec: Classes, threshold, smallest region and shape.

    Returns:
        Labels of the frame's region in the placement.
    """
    region = placement.region
    patch = grid_to_patch(clean_scores(scores, placement, size, spec), placement, spec)
    return paste_labels(patch, region.height, region.width, (region.x, region.y))


def clean_scores(scores: Pixels, placement: Placement, size: tuple[int, int], spec: OutputSpec) -> Pixels:
    """Drop small regions and cut the letterbox's padding; the network's grid stays. Arguments: `scores_to_labels`."""
    if spec.smallest_region > 0:
        scores = _drop_small_regions(scores, spec, (size[0] // scores.shape[0]) ** 2)
    return _cut_padding(scores, placement, size)


class LabelPatch(NamedTuple):
    """The labels of a part of the frame, which holds all masks: what lies outside of it is background."""

    labels: Pixels
    x: int
    """Of its first pixel in the frame."""
    y: int


def grid_to_patch(scores: Pixels, placement: Placement, spec: OutputSpec) -> LabelPatch:
    """Resize the clean scores around the masks to the frame and decide their labels; of no mask the patch is empty."""
    is_ellipse = spec.shape == "ellipse"
    # a fitted ellipse may be larger than what it is fitted to
    full, x, y = resize_around(scores, decide_labels(scores, spec), placement.region, all_around=is_ellipse)
    if not full.size:
        return LabelPatch(full[:, :, 0], x, y)
    labels = decide_labels(full, spec, in_place=True)
    return LabelPatch(draw_ellipses(labels, len(spec.classes)) if is_ellipse else labels, x, y)


def resize_around(scores: Pixels, marked: Pixels, region: Region, all_around: bool = False) -> tuple[Pixels, int, int]:
    """Resize the part of the scores to the frame in which a threshold behind the interpolation can find anything.

    Scores are resized and labels are not, which keeps outlines smooth. An interpolated score is no higher than the
    highest of its four neighbours, so one more cell around those that are marked holds every pixel above the threshold.

    Args:
        scores: Of the whole region (height, width, channels).
        marked: Not 0 where they are above the threshold.
        region: What they cover of the frame.
        all_around: Whether to resize all scores if any is marked.

    Returns:
        The resized part, empty where nothing is marked, and x and y of its first pixel in the frame.
    """
    rows, columns, channels = scores.shape
    x, y, width, height = cv2.boundingRect(marked)
    if not width:
        return np.empty((0, 0, channels), np.uint8), region.x, region.y
    left, right = (0, columns) if all_around else _align(x - 1, x + width + 1, columns, region.width)
    top, bottom = (0, rows) if all_around else _align(y - 1, y + height + 1, rows, region.height)
    first = left * region.width // columns, top * region.height // rows
    size = right * region.width // columns - first[0], bottom * region.height // rows - first[1]
    full = cv2.resize(scores[top:bottom, left:right], size, interpolation=cv2.INTER_LINEAR)
    resized = np.asarray(full, dtype=np.uint8).reshape(size[1], size[0], channels)
    return resized, region.x + first[0], region.y + first[1]


def _align(begin: int, end: int, cells: int, pixels: int) -> tuple[int, int]:
    """Widen a range of cells so far that its pixels are the same whether it or the whole is resized.

    Args:
        begin: The first cell.
        end: The cell after the last.
        cells: Of the whole.
        pixels: Of the whole.
    """
    step = cells // math.gcd(cells, pixels)
    # OpenCV rounds the weights to 1/2048, from positions in 32-bit floats. Exact ones are whole multiples of
    # step/pixels apart, so with few of them none comes so near to a half that it is rounded by its place
    if pixels * step > _FEW_WEIGHTS:
        return 0, cells
    return max(0, begin // step * step), min(cells, -(-end // step) * step)


def paste_labels(patch: LabelPatch, height: int, width: int, corner: tuple[int, int] = (0, 0)) -> Pixels:
    """Put the labels of a patch into a label map of this size, whose first pixel is at a corner in the frame."""
    rows, columns = patch.labels.shape
    if (rows, columns) == (height, width):
        return patch.labels
    full = np.zeros((height, width), np.uint8)
    x, y = patch.x - corner[0], patch.y - corner[1]
    full[y : y + rows, x : x + columns] = patch.labels
    return full


def _cut_padding(scores: Pixels, placement: Placement, size: tuple[int, int]) -> Pixels:
    stride = size[0] // scores.shape[0]
    y, x = placement.y // stride, placement.x // stride
    return scores[y : y + placement.height // stride, x : x + placement.width // stride]


def decide_labels(scores: Pixels, spec: OutputSpec, in_place: bool = False) -> Pixels:
    """Label every pixel: argmax for softmax, else the highest score above the threshold; the first class wins a tie.

    In place, the scores may be overwritten: fresh memory for a camera frame costs more than the threshold itself.
    """
    if spec.activation == "softmax":
        return _argmax(scores, 0)[0]
    limit = int(spec.threshold * SCORE_ONE + 0.5)
    if scores.shape[2] == 1:
        only = scores[:, :, 0]
        labels = cv2.threshold(only, limit, 1, cv2.THRESH_BINARY, dst=only if in_place else None)[1]
        return np.asarray(labels, dtype=np.uint8)
    labels, highest = _argmax(scores, 1)
    marked = cv2.threshold(highest, limit, 255, cv2.THRESH_BINARY)[1]
    return np.asarray(cv2.bitwise_and(labels, marked), dtype=np.uint8)


def _argmax(scores: Pixels, first: int) -> tuple[Pixels, Pixels]:
    """Find the channel with the highest score at every pixel, counted from `first`, and that score."""
    # Sixty times faster than numpy's argmax and max over the last axis, which would cost more than the network.
    highest, *others = (np.asarray(plane, dtype=np.uint8) for plane in cv2.split(scores))
    labels: Pixels = np.full(highest.shape, first, np.uint8)
    for number, plane in enumerate(others, first + 1):
        higher = cv2.threshold(cv2.subtract(plane, highest), 0, number, cv2.THRESH_BINARY)[1]
        labels = np.asarray(cv2.max(labels, higher), dtype=np.uint8)
        highest = np.asarray(cv2.max(highest, plane), dtype=np.uint8)
    return labels, highest


def _drop_small_regions(scores: Pixels, spec: OutputSpec, input_pixels: int) -> Pixels:
    """Set the scores of small connected regions to 0; one score covers `input_pixels` pixels of the input."""
    labels = decide_labels(scores, spec)
    kept = scores.copy()
    first = spec.channels - len(spec.classes)
    for channel in range(len(spec.classes)):
        _, parts, stats, _ = cv2.connectedComponentsWithStats((labels == channel + 1).astype(np.uint8))
        small = stats[:, cv2.CC_STAT_AREA] * input_pixels < spec.smallest_region
        small[0] = False  # the first component is the background
        kept[:, :, first + channel][small[parts]] = 0
    return kept


class Ellipse(NamedTuple):
    """Centre, full axes and angle in degrees, as cv2.fitEllipse returns them."""

    centre: tuple[float, float]
    axes: tuple[float, float]
    angle: float


def fit_ellipse(mask: Pixels) -> Ellipse | None:
    """Fit an ellipse to the contour of a mask's largest region; None where no ellipse fits."""
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    contour = max(contours, key=cv2.contourArea, default=None)
    if contour is None or len(contour) < _FEWEST_POINTS:
        return None
    (x, y), (width, height), angle = cv2.fitEllipse(contour)
    fits = math.pi / 4 * width * height <= _LARGEST_EXCESS * cv2.contourArea(contour)
    return Ellipse((x, y), (width, height), angle) if fits else None


def draw_ellipses(labels: Pixels, classes: int) -> Pixels:
    """Replace each class by the ellipse of its largest region; a class that no ellipse fits stays as it is."""
    drawn = np.zeros_like(labels)
    for number in range(1, classes + 1):
        mask = labels if classes == 1 else np.asarray(cv2.inRange(labels, number, number), dtype=np.uint8)
        ellipse = fit_ellipse(mask)
        if ellipse is not None:
            cv2.ellipse(drawn, ellipse, number, cv2.FILLED)
        else:
            drawn[mask > 0] = number
    return drawn
