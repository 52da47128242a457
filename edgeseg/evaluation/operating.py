"""What confidences are worth: figures at the operating point, the risk-coverage curve, rank correlation and AUC.

A case counts once for each class, as the device decides it: found, doubtful or nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.decision import FOUND
from edgeseg.core.stats import (
    Estimate,
    Weights,
    area_under_curve,
    estimate_any,
    estimate_band,
    estimate_mean,
    estimate_statistic,
    rank_correlation,
)

# Points of the risk-coverage curve: every twentieth of the cases.
CURVE_STEPS = 20
POINT_FIGURES = ("sensitivity", "coverage", "false_alarm_rate", "dice_shown")


@dataclass(frozen=True)
class Outcome:
    """What came of one class in one case."""

    name: str
    group: str
    dice: float | None
    """Of the mask, shown or not; None where the truth does not have the class."""
    state: str
    confidence: float
    """As the device decides by it; 0 where nothing is marked."""
    mask_confidence: float = 0.0
    """Of the mask alone, without the finding probability."""
    probability: float | None = None
    """Of the class's presence; None without a finding output."""

    @property
    def present(self) -> bool:
        """Say whether the truth has the class."""
        return self.dice is not None

    @property
    def found(self) -> bool:
        """Say whether its mask counts."""
        return self.state == FOUND


@dataclass(frozen=True)
class PointFigures:
    """Figures of the cases at an operating point."""

    threshold: float | None
    """None where classes, or folds, have different ones."""
    sensitivity: Estimate | None
    """Share of the cases that show the class in which it is found, at least in part at its true place."""
    false_alarm_rate: Estimate | None
    """Share of the cases without the class in which it is found; None where there are no such cases."""
    coverage: Estimate | None
    """Share of the cases that show the class in which a mask is found, wherever."""
    dice_shown: Estimate | None
    """Mean Dice of those masks."""
    per_class: Mapping[str, PointFigures] = field(default_factory=dict)
    """The same for each class where there are several; the figures above then count every class of every case."""


@dataclass(frozen=True)
class ConfidenceFigures:
    """What the confidence says of the masks, whatever the operating point."""

    rank_correlation: Estimate | None
    """Spearman's, between confidence and Dice, over the cases that show the class."""
    risk_coverage: tuple[tuple[float, float], ...]
    """Points [coverage, dice]: the mean Dice of the most confident share of the cases that show the class."""
    risk_coverage_ci95: tuple[tuple[float, float] | None, ...] = ()
    """The interval of each point's Dice."""
    auc: Estimate | None = None
    """Of the confidence, between cases with and without the class; None where one of them is missing."""
    per_class: Mapping[str, ConfidenceFigures] = field(default_factory=dict)


@dataclass(frozen=True)
class FrameClassFigures:
    """How well the frame's class is told."""

    accuracy: Estimate
    auc: Mapping[str, Estimate | None]
    """Of each class against the others."""
    confusion: Mapping[str, Mapping[str, int]]
    """For each true class how often each class was the most probable."""


@dataclass(frozen=True)
class FindingFigures:
    """What the finding output says of the presence of classes, and of the frame's class."""

    auc: Estimate | None
    """Of the presence probability, between cases with and without the class, over all classes."""
    per_class: Mapping[str, Estimate | None] = field(default_factory=dict)
    frame_classes: FrameClassFigures | None = None


def measure_point(outcomes: Sequence[Outcome], thresholds: Mapping[str, float | None]) -> PointFigures | None:
    """Measure the figures at the operating point; None where no class has one.

    Args:
        outcomes: Of all classes in all cases.
        thresholds: Of each class that has an operating point; None where it differs between cases.
    """
    names = [name for name in dict.fromkeys(one.name for one in outcomes) if name in thresholds]
    if not names:
        return None
    classes = {name: measure_class([one for one in outcomes if one.name == name], thresholds[name]) for name in names}
    if len({one.name for one in outcomes}) == 1:
        return classes[names[0]]
    different = {thresholds[name] for name in names}
    shared = different.pop() if len(different) == 1 else None
    together = measure_class([one for one in outcomes if one.name in names], shared)
    return PointFigures(**{**vars(together), "per_class": classes})


def measure_class(outcomes: Sequence[Outcome], threshold: float | None) -> PointFigures:
    """Measure the figures of one class's outcomes, which were decided by this threshold."""
    shown = [one for one in outcomes if one.present]
    absent = [one for one in outcomes if not one.present]
    found = [one for one in shown if one.found]
    return PointFigures(
        threshold,
        sensitivity=_estimate_share(shown, [one.found and bool(one.dice) for one in shown]),
        false_alarm_rate=_estimate_share(absent, [one.found for one in absent]),
        coverage=_estimate_share(shown, [one.found for one in shown]),
        dice_shown=estimate_any([one.dice or 0.0 for one in found], [one.group for one in found]),
    )


def _estimate_share(outcomes: Sequence[Outcome], counted: Sequence[bool]) -> Estimate | None:
    return estimate_any([float(one) for one in counted], [one.group for one in outcomes])


def measure_confidence(outcomes: Sequence[Outcome]) -> ConfidenceFigures | None:
    """Measure what confidences say of the Dice; None where no case shows anything."""
    if not any(one.present for one in outcomes):
        return None
    names = list(dict.fromkeys(one.name for one in outcomes))
    together = _rank_outcomes(outcomes)
    if len(names) == 1:
        return together
    classes = {name: measure_confidence([one for one in outcomes if one.name == name]) for name in names}
    return ConfidenceFigures(**{**vars(together), "per_class": {n: one for n, one in classes.items() if one}})


def _rank_outcomes(outcomes: Sequence[Outcome]) -> ConfidenceFigures:
    shown = [one for one in outcomes if one.present]
    groups = [one.group for one in shown]
    confidences, dice = [one.confidence for one in shown], [one.dice or 0.0 for one in shown]
    curve = estimate_band(_CurveTracer(confidences, dice), groups)
    # without a mask there is nothing to show, so the curve ends where no confidence is left
    most = sum(confidence > 0.0 for confidence in confidences) / len(shown)
    kept = [number for number in range(CURVE_STEPS) if (number + 1) / CURVE_STEPS <= most + 0.5 / CURVE_STEPS]
    return ConfidenceFigures(
        rank_correlation=estimate_statistic(rank_correlation(confidences, dice), groups),
        risk_coverage=tuple(((number + 1) / CURVE_STEPS, curve.values[number]) for number in kept),
        risk_coverage_ci95=tuple(curve.ci95[number] for number in kept),
        auc=estimate_auc([one.confidence for one in outcomes], [one.present for one in outcomes], outcomes),
    )


class _CurveTracer:
    """The mean Dice of the most confident share of weighted cases, for all points of the curve."""

    def __init__(self, confidences: Sequence[float], dice: Sequence[float]) -> None:
        # equally confident masks cannot be told apart: the worse ones come first
        self._order = np.lexsort((np.asarray(dice), -np.asarray(confidences)))
        self._dice = np.asarray(dice, dtype=np.float64)[self._order]
        self._wanted = np.arange(1, CURVE_STEPS + 1) / CURVE_STEPS

    def __call__(self, weights: Weights) -> NDArray[np.float64]:
        taken = np.concatenate([[0.0], np.cumsum(weights[self._order])])
        sums = np.concatenate([[0.0], np.cumsum(weights[self._order] * self._dice)])
        share = self._wanted * taken[-1]
        # the last case of a share counts in part
        return np.asarray(np.interp(share, taken, sums) / share, dtype=np.float64)


def estimate_auc(scores: Sequence[float], positive: Sequence[bool], outcomes: Sequence[Outcome]) -> Estimate | None:
    """Estimate an AUC with an interval over the groups of its cases."""
    return estimate_statistic(area_under_curve(scores, positive), [one.group for one in outcomes])


def measure_finding(
    outcomes: Sequence[Outcome], frames: Sequence[tuple[str, Mapping[str, float], str]]
) -> FindingFigures | None:
    """Measure the finding output; None where the model has none.

    Args:
        outcomes: Of all classes in all cases.
        frames: Of each case its true class of the frame, the probability of every one, and its group.
    """
    known = [one for one in outcomes if one.probability is not None]
    frame_classes = measure_frame_classes(frames)
    if not known and frame_classes is None:
        return None
    names = list(dict.fromkeys(one.name for one in known))
    classes = {name: _estimate_presence([one for one in known if one.name == name]) for name in names}
    return FindingFigures(_estimate_presence(known), classes if len(names) > 1 else {}, frame_classes)


def _estimate_presence(outcomes: Sequence[Outcome]) -> Estimate | None:
    return estimate_auc([one.probability or 0.0 for one in outcomes], [one.present for one in outcomes], outcomes)


def measure_frame_classes(frames: Sequence[tuple[str, Mapping[str, float], str]]) -> FrameClassFigures | None:
    """Measure how well the frame's class is told; None where no case has both truth and probabilities."""
    known = [(truth, given, group) for truth, given, group in frames if truth in given]
    if not known:
        return None
    groups, truths = [group for _, _, group in known], [truth for truth, _, _ in known]
    named = [max(given, key=lambda name: given[name]) for _, given, _ in known]
    counts, names = Counter(zip(truths, named, strict=True)), list(known[0][1])
    return FrameClassFigures(
        estimate_mean([float(truth == name) for truth, name in zip(truths, named, strict=True)], groups),
        {
            name: estimate_statistic(
                area_under_curve([given[name] for _, given, _ in known], [truth == name for truth in truths]), groups
            )
            for name in names
        },
        {truth: {name: counts[truth, name] for name in names} for truth in names},
    )
