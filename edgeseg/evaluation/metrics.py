"""Segmentation metrics: Dice, IoU, precision, recall, 95th percentile Hausdorff distance, circumference.

`measure_baseline` gives the Dice of masks that look at no image, which a useful model must beat.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.stats import Estimate
from edgeseg.frame.outlines import surface_distance
from edgeseg.frame.postprocess import fit_ellipse

Mask = NDArray[np.uint8]
# A true mask on a grid of `THUMBNAIL_SIDE` cells a side: the covered share of every cell.
Thumbnail = NDArray[np.float32]
THUMBNAIL_SIDE = 32
# Thresholds of the average mask, as shares of the other cases; the best one counts.
LEVELS = (0.1, 0.25, 0.5)
LEAST_DICE = 0.3
"""Below it there are more than four false pixels for every true one: (FP + FN) / TP = 2 (1 - D) / D.

A drop of Dice between two such models says nothing.
"""


@dataclass(frozen=True)
class CaseScore:
    """The metrics of one class in one case: overlap from 0 to 1, Hausdorff distance (95%) in pixels."""

    dice: float
    iou: float
    precision: float
    recall: float
    hd95_px: float


def score_mask(predicted: Mask, truth: Mask) -> CaseScore:
    """Compare a predicted mask with a true one that is not empty.

    An empty prediction has no surface: its distance is set to the image's diagonal, its overlaps to 0.
    """
    true_positives = float(np.count_nonzero(predicted & truth))
    positives = float(np.count_nonzero(predicted))
    actual = float(np.count_nonzero(truth))
    return CaseScore(
        dice=2 * true_positives / (positives + actual),
        iou=true_positives / (positives + actual - true_positives),
        precision=true_positives / positives if positives else 0.0,
        recall=true_positives / actual,
        hd95_px=surface_distance(predicted, truth) if positives else float(np.hypot(*truth.shape)),
    )


def measure_circumference(mask: NDArray[np.uint8], pixel_size_mm: float) -> float:
    """Measure the circumference of the ellipse fitted to the largest region, in millimetres; 0 without a region."""
    ellipse = fit_ellipse(mask)
    if ellipse is None:
        return 0.0
    width, height = ellipse.axes
    return ellipse_circumference(width / 2, height / 2) * pixel_size_mm


def ellipse_circumference(first: float, second: float) -> float:
    """Compute the circumference of an ellipse from its half axes.

    Ramanujan's second approximation, pi (a + b) (1 + 3h / (10 + sqrt(4 - 3h))) with h = (a - b)^2 / (a + b)^2
    (Modular equations and approximations to pi, 1914).
    """
    total = first + second
    if total <= 0:
        return 0.0
    h = ((first - second) / total) ** 2
    return math.pi * total * (1 + 3 * h / (10 + math.sqrt(4 - 3 * h)))


@dataclass(frozen=True)
class Baseline:
    """The mean Dice of two predictions that look at no image."""

    everything: float
    """The whole image."""
    average: float
    """The same place in every image: the average mask of the other groups. 0 with a single group."""

    @property
    def dice(self) -> float:
        """The better one."""
        return max(self.everything, self.average)


def shrink_truth(mask: NDArray[np.uint8]) -> Thumbnail:
    """Reduce a mask of any size to a thumbnail."""
    small = cv2.resize((mask > 0).astype(np.float32), (THUMBNAIL_SIDE,) * 2, interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.float32)


def measure_baseline(truths: Sequence[Mapping[str, Thumbnail]], groups: Sequence[str]) -> Baseline | None:
    """Measure the baseline on cases; None where there are none.

    Args:
        truths: For each case its classes.
        groups: The group of each case; its average mask is made from the other groups (leave one group out).
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
    """Average each class's masks over all groups but one, for every group; 0 where no other group has the class."""
    sums: dict[tuple[str, str], Thumbnail] = {}
    counts: dict[tuple[str, str], int] = {}
    for case, group in zip(truths, groups, strict=True):
        for name, truth in case.items():
            sums[name, group] = sums.get((name, group), np.zeros_like(truth)) + truth
            counts[name, group] = counts.get((name, group), 0) + 1
    total = {name: np.sum([value for (other, _), value in sums.items() if other == name], axis=0) for name, _ in sums}
    # counted over all cases, the group's own are subtracted below
    count = {name: sum(value for (other, _), value in counts.items() if other == name) for name, _ in sums}
    return {
        # leave one group out: sums minus the group's own
        (name, group): (total[name] - own) / max(1, count[name] - counts[name, group])
        for (name, group), own in sums.items()
    }


def _measure_dice(truth: Thumbnail, marked: NDArray[np.bool_] | float) -> float:
    mask = np.broadcast_to(np.asarray(marked, dtype=np.float32), truth.shape)
    return float(2 * (truth * mask).sum() / (truth.sum() + mask.sum()))


def _average(cases: Sequence[Mapping[str, float]]) -> float:
    return float(np.mean([np.mean(list(case.values())) for case in cases]))


def explain_useless(dice: Estimate | None, baseline: Baseline | None) -> str:
    """Explain in a sentence why masks are useless; empty where they are not, or without figures."""
    if dice is None or baseline is None:
        return ""
    if dice.mean < LEAST_DICE:
        return f"These masks are useless: their Dice is {dice.mean:.2f}, and below {LEAST_DICE} most pixels are wrong."
    # a model that is no better than a fixed place has learned nothing of the images
    if dice.mean <= baseline.dice:
        what = "the whole image" if baseline.everything >= baseline.average else "the same place"
        return (
            f"These masks are useless: their Dice is {dice.mean:.2f}, and marking {what} in every image "
            f"reaches {baseline.dice:.2f}."
        )
    return ""
