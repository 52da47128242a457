"""How well one mask covers another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.stats import Estimate
from edgeseg.frame.postprocess import fit_ellipse

Mask = NDArray[np.uint8]
Thumbnail = NDArray[np.float32]
"""A true mask on a small grid: the marked share of every cell."""
SIDE = 32
LEVELS = (0.1, 0.25, 0.5)
"""Shares of the other cases in which a cell must be marked to be marked in the average mask; the best level counts."""
LEAST_DICE = 0.3
"""Below it more than four pixels are wrong, missed or marked in vain, for every right one: 2 (1 - D) / D. What a file
loses against such masks says nothing."""


@dataclass(frozen=True)
class CaseScore:
    """One class of one case: overlap measures from 0 to 1, surface distance in pixels."""

    dice: float
    iou: float
    precision: float
    recall: float
    hd95_px: float


def score_mask(predicted: Mask, truth: Mask) -> CaseScore:
    """Compare a predicted mask with a true one that is not empty.

    A prediction with nothing in it scores 0 everywhere, and the image's diagonal as distance.
    """
    hit = float(np.count_nonzero(predicted & truth))
    found = float(np.count_nonzero(predicted))
    real = float(np.count_nonzero(truth))
    return CaseScore(
        dice=2 * hit / (found + real),
        iou=hit / (found + real - hit),
        precision=hit / found if found else 0.0,
        recall=hit / real,
        hd95_px=surface_distance(predicted, truth) if found else float(np.hypot(*truth.shape)),
    )


def surface_distance(predicted: Mask, truth: Mask, percentile: float = 95.0) -> float:
    """Measure the distance that 95% of both outlines stay within, in pixels."""
    first, second = _outline(predicted), _outline(truth)
    distances = np.concatenate([_distance_to(second)[first > 0], _distance_to(first)[second > 0]])
    return float(np.percentile(distances, percentile))


def _outline(mask: Mask) -> Mask:
    padded = np.pad(mask, 1)
    inner = cv2.erode(padded, np.ones((3, 3), np.uint8))
    return np.asarray((padded - inner)[1:-1, 1:-1], dtype=np.uint8)


def _distance_to(outline: Mask) -> NDArray[np.float32]:
    background = (outline == 0).astype(np.uint8)
    return np.asarray(cv2.distanceTransform(background, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), dtype=np.float32)


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


@dataclass(frozen=True)
class Baseline:
    """The mean Dice of two masks that look at no image."""

    everything: float
    """The whole image is marked."""
    average: float
    """The same place is marked in every image: where the other groups' masks lie. 0 with a single group."""

    @property
    def dice(self) -> float:
        """Give the better one."""
        return max(self.everything, self.average)


def shrink_truth(mask: NDArray[np.uint8]) -> Thumbnail:
    """Average a mask over the cells of a small grid, whatever its size."""
    small = cv2.resize((mask > 0).astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.float32)


def measure_baseline(truths: Sequence[Mapping[str, Thumbnail]], groups: Sequence[str]) -> Baseline | None:
    """Judge masks without a network on cases; None where there are none.

    Args:
        truths: For each case the classes that are there.
        groups: The group of each case; the average mask of a case is made from the other groups alone.
    """
    if not truths:
        return None
    everything = _average([{name: _measure_dice(truth, 1.0) for name, truth in case.items()} for case in truths])
    places = _find_places(truths, groups)
    average = [
        _average(
            [
                {name: _measure_dice(truth, (places[name, group] >= level)) for name, truth in case.items()}
                for case, group in zip(truths, groups, strict=True)
            ]
        )
        for level in LEVELS
    ]
    return Baseline(round(everything, 5), round(max(average), 5))


def _find_places(truths: Sequence[Mapping[str, Thumbnail]], groups: Sequence[str]) -> dict[tuple[str, str], Thumbnail]:
    """Average each class's masks over the cases of all groups but one; nothing is left of a class of one group."""
    sums: dict[tuple[str, str], Thumbnail] = {}
    counts: dict[tuple[str, str], int] = {}
    for case, group in zip(truths, groups, strict=True):
        for name, truth in case.items():
            sums[name, group] = sums.get((name, group), np.zeros_like(truth)) + truth
            counts[name, group] = counts.get((name, group), 0) + 1
    total = {name: np.sum([value for (other, _), value in sums.items() if other == name], axis=0) for name, _ in sums}
    count = {name: sum(value for (other, _), value in counts.items() if other == name) for name, _ in sums}
    return {
        (name, group): (total[name] - own) / max(1, count[name] - counts[name, group])
        for (name, group), own in sums.items()
    }


def _measure_dice(truth: Thumbnail, marked: NDArray[np.bool_] | float) -> float:
    mask = np.broadcast_to(np.asarray(marked, dtype=np.float32), truth.shape)
    return float(2 * (truth * mask).sum() / (truth.sum() + mask.sum()))


def _average(cases: Sequence[Mapping[str, float]]) -> float:
    return float(np.mean([np.mean(list(case.values())) for case in cases]))


def explain_useless(dice: Estimate | None, baseline: Baseline | None) -> str:
    """Say in a sentence why masks are useless; empty where they are not, or where nothing is known."""
    if dice is None or baseline is None:
        return ""
    if dice.mean < LEAST_DICE:
        return f"These masks are useless: their Dice is {dice.mean:.2f}, and below {LEAST_DICE} most pixels are wrong."
    if dice.mean <= baseline.dice:
        what = "the whole image" if baseline.everything >= baseline.average else "the same place"
        return (
            f"These masks are useless: their Dice is {dice.mean:.2f}, and marking {what} in every image "
            f"reaches {baseline.dice:.2f}."
        )
    return ""
