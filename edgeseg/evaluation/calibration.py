"""Calibration: how well scores and finding probabilities say how often they are right, and temperatures for both.

Pixels are judged on the network's own grid, without the letterbox's padding: a pixel counts as true where more than
half of it is marked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.card import Card
from edgeseg.core.stats import Estimate, Weights, estimate_statistic
from edgeseg.data.dataset import LabelledImage
from edgeseg.frame.postprocess import SCORE_ONE, clean_scores
from edgeseg.frame.preprocess import place_frame

Pixels = NDArray[np.uint8]
# For each bin the number of predictions, the sum of their probabilities, and how many are true.
Bins = NDArray[np.float64]
Reals = NDArray[np.float64]
# How often each of the 256 scores lies on background and on the class.
ScoreCounts = NDArray[np.int64]
# Bins of equal width, as in Guo et al.; findings are few, and more bins would hold chance.
PIXEL_BINS, FINDING_BINS = 15, 10
# Temperatures that are tried: beyond them the scores say nothing of this network.
COOLEST, HOTTEST, _TRIED = 0.25, 4.0, 241
# Few findings give no temperature: at least so many cases with and without the class.
FEWEST_FINDINGS = 10
_SCORES = np.arange(SCORE_ONE, dtype=np.uint8)


@dataclass(frozen=True)
class CalibrationFigures:
    """How far probabilities are from how often they are right."""

    ece_pixels: Estimate | None
    """Expected calibration error of the scores: mean distance of probability and truth over bins, by their size."""
    ece_findings: Estimate | None
    """The same of the finding probabilities; None without a finding output."""
    pixels: tuple[tuple[float, float, int], ...] = ()
    """The reliability diagram: for each bin that is not empty its mean probability, true share and number."""
    findings: tuple[tuple[float, float, int], ...] = ()


def align_scores(scores: Pixels, image: LabelledImage, card: Card) -> tuple[Pixels, Pixels]:
    """Cut a frame's scores to the picture, and shrink its true masks to that grid.

    Returns:
        Scores (height, width, channels), and the truth of every channel as 0 and 1.
    """
    spec = card.input
    placement = place_frame(spec, *image.frame.shape[:2])
    inner = clean_scores(scores, placement, (spec.height, spec.width), card.output)
    region = placement.region
    size = inner.shape[1], inner.shape[0]
    masks = [
        cv2.resize(
            mask[region.y : region.y + region.height, region.x : region.x + region.width].astype(np.float32),
            size,
            interpolation=cv2.INTER_AREA,
        )
        > 0.5
        for mask in image.masks
    ]
    if card.output.draws_background:
        masks.insert(0, ~np.any(masks, axis=0))
    return inner, np.stack(masks, axis=-1).astype(np.uint8)


def bin_scores(scores: Pixels, truth: Pixels) -> Bins:
    """Sort the pixels of all channels into bins of their scores."""
    return _bin_counts(sum_counts(count_scores(scores, truth)))


def count_scores(scores: Pixels, truth: Pixels) -> ScoreCounts:
    """Count for every channel how often each score lies on background and on the class: (channels, 256, 2)."""
    places = scores.astype(np.intp) * 2 + truth
    return np.stack(
        [
            np.bincount(places[:, :, channel].ravel(), minlength=2 * SCORE_ONE).reshape(SCORE_ONE, 2)
            for channel in range(scores.shape[2])
        ]
    )


def sum_counts(counts: ScoreCounts) -> ScoreCounts:
    """Add up the counts of all channels."""
    return np.asarray(counts.sum(axis=0), dtype=np.int64)


def _bin_counts(counts: ScoreCounts) -> Bins:
    probability = _SCORES / SCORE_ONE
    reals = counts.astype(np.float64)
    return _add_up(probability, reals.sum(axis=1), reals[:, 1], PIXEL_BINS)


def bin_findings(probabilities: Sequence[float], truth: Sequence[bool]) -> Bins:
    """Sort finding probabilities into bins."""
    given = np.asarray(probabilities, dtype=np.float64)
    return _add_up(given, np.ones(given.size), np.asarray(truth, dtype=np.float64), FINDING_BINS)


def _add_up(probability: Reals, number: Reals, true: Reals, bins: int) -> Bins:
    places = np.minimum((probability * bins).astype(np.intp), bins - 1)
    return np.stack(
        [np.bincount(places, weights=weights, minlength=bins) for weights in (number, number * probability, true)],
        axis=-1,
    )


def measure_calibration(
    pixels: Sequence[Bins], findings: Sequence[Bins | None], groups: Sequence[str]
) -> CalibrationFigures | None:
    """Measure ECE and reliability, with intervals over groups; None where no case has scores.

    Args:
        pixels: The bins of each case's scores.
        findings: The bins of each case's finding probabilities; None where it has none.
        groups: The group of each case.
    """
    if not pixels:
        return None
    known = [(bins, group) for bins, group in zip(findings, groups, strict=True) if bins is not None]
    return CalibrationFigures(
        _estimate_error(pixels, groups),
        _estimate_error([bins for bins, _ in known], [group for _, group in known]),
        _list_reliability(pixels),
        _list_reliability([bins for bins, _ in known]),
    )


def _estimate_error(cases: Sequence[Bins], groups: Sequence[str]) -> Estimate | None:
    if not cases:
        return None
    stacked = np.stack(cases)

    def measure(weights: Weights) -> float:
        return expected_error(np.tensordot(weights, stacked, axes=1))

    return estimate_statistic(measure, groups)


def expected_error(bins: Bins) -> float:
    """Compute the expected calibration error (Naeini, Cooper and Hauskrecht, AAAI 2015) of bins."""
    total = bins[:, 0].sum()
    return float(np.abs(bins[:, 1] - bins[:, 2]).sum() / total) if total > 0 else float("nan")


def _list_reliability(cases: Sequence[Bins]) -> tuple[tuple[float, float, int], ...]:
    if not cases:
        return ()
    total = np.sum(cases, axis=0)
    return tuple(
        (round(float(probability / number), 5), round(float(true / number), 5), int(number))
        for number, probability, true in total
        if number > 0
    )


def find_temperature(counts: ScoreCounts) -> float:
    """Find the temperature that minimises the negative log likelihood of one channel's pixels.

    Args:
        counts: Of every score before calibration, on background and on the class.

    Returns:
        The temperature; 1 where one of the two is missing, which tells nothing.
    """
    # a score stands for probabilities up to half a step away, so 0 is not impossible
    probability = np.clip(_SCORES / SCORE_ONE, 0.5 / SCORE_ONE, 1.0 - 0.5 / SCORE_ONE)
    return _minimise(probability, *counts.astype(np.float64).T)


def find_finding_temperature(probabilities: Sequence[float], truth: Sequence[bool]) -> float:
    """Find the temperature of a finding channel, likewise; 1 where the cases are too few."""
    true = np.asarray(truth, dtype=np.float64)
    if min(true.sum(), true.size - true.sum()) < FEWEST_FINDINGS:
        return 1.0
    # int8 has 256 steps, and one certain error must not decide over all other cases
    given = np.clip(np.asarray(probabilities, dtype=np.float64), 0.5 / SCORE_ONE, 1.0 - 0.5 / SCORE_ONE)
    return _minimise(given, 1.0 - true, true)


def _minimise(probability: Reals, false: Reals, true: Reals) -> float:
    if min(false.sum(), true.sum()) == 0:
        return 1.0
    temperatures = np.geomspace(COOLEST, HOTTEST, _TRIED)
    logits = (np.log(probability) - np.log1p(-probability)) / temperatures[:, None]
    # -log sigmoid(x) = log(1 + exp(-x))
    loss = np.logaddexp(0.0, -logits) @ true + np.logaddexp(0.0, logits) @ false
    return round(float(temperatures[int(np.argmin(loss))]), 4)


def find_temperatures(counts: ScoreCounts, activation: str) -> tuple[float, ...]:
    """Find the temperature of every mask channel (Guo et al., ICML 2017).

    Softmax channels share one, which keeps the order of the classes in every pixel.

    Args:
        counts: Of all cases, for every channel.
        activation: Of the masks.
    """
    if activation == "softmax":
        return (find_temperature(sum_counts(counts)),) * len(counts)
    return tuple(find_temperature(channel) for channel in counts)
