"""What folds.py reads off the cases of a recipe, and how much that differs from another recipe.

Every figure is computed from the weights of the cases, so that one bootstrap over groups gives the intervals of figures
and of differences alike. Several seeds of a recipe are averaged, figure by figure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.stats import Estimate, Statistic, Weights, area_under_curve, estimate_band, rank_correlation
from edgeseg.evaluation.operating import Outcome

# A Dice below this is a gross miss.
MISSED = 0.5
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """One case, judged by the network of the fold that has not seen its group."""

    stem: str
    group: str
    marked: bool
    """Whether anything is marked, sure or not."""
    outcomes: tuple[Outcome, ...]
    decided: bool = False
    """Whether the file has an operating point."""
    frame_class: str = ""
    frame_classes: Mapping[str, float] = field(default_factory=dict)

    @property
    def dice(self) -> float:
        """Average the Dice over the classes of the truth; nan where there are none."""
        known = [outcome.dice for outcome in self.outcomes if outcome.dice is not None]
        return float(np.mean(known)) if known else math.nan


@dataclass(frozen=True)
class Figures:
    """The figures of one recipe, as functions of its cases' weights."""

    stems: tuple[str, ...]
    groups: tuple[str, ...]
    statistics: Mapping[str, Statistic]

    def estimate(self) -> dict[str, Estimate]:
        """Estimate every figure."""
        return self._estimate(dict(self.statistics))

    def compare(self, first: Figures) -> dict[str, Estimate]:
        """Estimate the differences to another recipe that has judged the same cases; above 0 is more than there."""
        if self.stems != first.stems:
            raise SystemExit(f"expected {len(first.stems)} cases as for the first recipe, got {len(self.stems)} others")
        shared = [name for name in self.statistics if name in first.statistics]
        return self._estimate({name: _subtract(self.statistics[name], first.statistics[name]) for name in shared})

    def _estimate(self, statistics: Mapping[str, Statistic]) -> dict[str, Estimate]:
        band = estimate_band(lambda weights: np.array([one(weights) for one in statistics.values()]), self.groups)
        return {
            name: Estimate(value, value, interval)
            for name, value, interval in zip(statistics, band.values, band.ci95, strict=True)
            if not math.isnan(value)
        }


def _subtract(one: Statistic, other: Statistic) -> Statistic:
    return lambda weights: one(weights) - other(weights)


def measure_figures(seeds: Sequence[Sequence[Judged]]) -> Figures:
    """Measure a recipe whose seeds have all judged the same cases."""
    ordered = [sorted(cases, key=lambda case: case.stem) for cases in seeds]
    stems = tuple(case.stem for case in ordered[0])
    if any(tuple(case.stem for case in cases) != stems for cases in ordered):
        raise SystemExit("expected all seeds of a recipe to judge the same cases, got others")
    each = [list_statistics(cases) for cases in ordered]
    shared = [name for name in each[0] if all(name in one for one in each)]
    averaged = {name: _average([one[name] for one in each]) for name in shared}
    return Figures(stems, tuple(case.group for case in ordered[0]), averaged)


def _average(statistics: Sequence[Statistic]) -> Statistic:
    return lambda weights: float(np.mean([statistic(weights) for statistic in statistics]))


def list_statistics(cases: Sequence[Judged]) -> dict[str, Statistic]:
    """List the figures that one seed of a recipe has."""
    dice = np.array([case.dice for case in cases])
    empty = np.isnan(dice)
    marked = np.array([float(case.marked) for case in cases])
    statistics = {
        "dice": mean_of(dice),
        "missed": mean_of(np.where(empty, math.nan, dice < MISSED)),
        "marked_empty": mean_of(np.where(empty, marked, math.nan)),
    }
    return statistics | _list_of_outcomes(cases) | _list_of_frame_classes(cases)


def mean_of(values: Numbers) -> Statistic:
    """Build the mean of the values that are there; nan marks the others."""
    known = ~np.isnan(values)
    filled = np.where(known, values, 0.0)

    def average(weights: Weights) -> float:
        total = (weights * known).sum()
        return float((weights * filled).sum() / total) if total > 0 else math.nan

    return average


def _list_of_outcomes(cases: Sequence[Judged]) -> dict[str, Statistic]:
    """List what states, confidences and findings give, where every class of every case counts."""
    outcomes = [outcome for case in cases for outcome in case.outcomes]
    if not outcomes:
        return {}
    place = np.array([number for number, case in enumerate(cases) for _ in case.outcomes])
    present = np.array([outcome.present for outcome in outcomes])
    dice = np.array([outcome.dice or 0.0 for outcome in outcomes])
    confidence = np.array([outcome.confidence for outcome in outcomes])
    mask = np.where(present)[0]
    ranked: dict[str, Statistic] = {
        "false_alarms_at_80": false_alarms_at(0.8, confidence, dice, present),
        "false_alarms_at_90": false_alarms_at(0.9, confidence, dice, present),
        "dice_at_80": average_surest(0.8, confidence, dice, present),
        "rank_correlation": _take(rank_correlation(confidence[mask].tolist(), dice[mask].tolist()), mask),
        "auc_confidence": area_under_curve(confidence.tolist(), present.tolist()),
    }
    if all(outcome.probability is not None for outcome in outcomes):
        probability = [outcome.probability or 0.0 for outcome in outcomes]
        ranked["auc_finding"] = area_under_curve(probability, present.tolist())
    if all(case.decided for case in cases):
        found = np.array([outcome.found for outcome in outcomes])
        ranked |= {
            "sensitivity": mean_of(np.where(present, found & (dice > 0.0), math.nan)),
            "false_alarm_rate": mean_of(np.where(present, math.nan, found)),
            "dice_shown": mean_of(np.where(present & found, dice, math.nan)),
        }
    return {name: _take(statistic, place) for name, statistic in ranked.items()}


def _take(statistic: Statistic, place: NDArray[np.intp]) -> Statistic:
    """Give the statistic the weights at these places."""
    return lambda weights: statistic(weights[place])


def false_alarms_at(share: float, confidence: Numbers, dice: Numbers, present: NDArray[np.bool_]) -> Statistic:
    """Build the share of false alarms at the highest threshold that finds so many of the classes that are present."""
    order = np.argsort(-confidence, kind="stable")
    confidence, hit, there = confidence[order], (present & (dice > 0.0))[order], present[order]
    # equal confidences stand or fall together
    last = np.searchsorted(-confidence, -confidence, side="right") - 1
    shown = np.searchsorted(-confidence, 0.0, side="left")

    def measure(weights: Weights) -> float:
        weights = weights[order]
        absent = weights * ~there
        wanted = share * (weights * there).sum()
        if absent.sum() == 0 or wanted == 0:
            return math.nan
        reached = np.flatnonzero(np.cumsum(weights * hit)[:shown] >= wanted - 1e-9)
        # where no threshold finds so many, every mask is shown
        end = last[reached[0]] + 1 if len(reached) else shown
        return float(absent[: min(end, shown)].sum() / absent.sum())

    return measure


def average_surest(share: float, confidence: Numbers, dice: Numbers, present: NDArray[np.bool_]) -> Statistic:
    """Build the mean Dice of so many of the classes that are present: those with the highest confidence."""
    # equally confident masks cannot be told apart: the worse ones come first
    order = np.lexsort((dice, -confidence))
    order = order[present[order]]
    sorted_dice = dice[order]

    def measure(weights: Weights) -> float:
        weights = weights[order]
        wanted = share * weights.sum()
        # the last one counts in part
        taken = np.clip(wanted - (np.cumsum(weights) - weights), 0.0, weights)
        return float((taken * sorted_dice).sum() / wanted) if wanted > 0 else math.nan

    return measure


def _list_of_frame_classes(cases: Sequence[Judged]) -> dict[str, Statistic]:
    """List how well each two frame classes are told apart by the share of the one in both probabilities."""
    if not all(case.frame_classes for case in cases):
        return {}
    return {
        f"auc_{one}_{other}": _tell_apart(cases, one, other)
        for one, other in combinations(sorted(cases[0].frame_classes), 2)
    }


def _tell_apart(cases: Sequence[Judged], one: str, other: str) -> Statistic:
    place = np.array([number for number, case in enumerate(cases) if case.frame_class in (one, other)], dtype=np.intp)
    chosen = [cases[number] for number in place]
    if not chosen:
        return lambda _: math.nan
    shares = [_share(case.frame_classes[one], case.frame_classes[other]) for case in chosen]
    return _take(area_under_curve(shares, [case.frame_class == one for case in chosen]), place)


def _share(one: float, other: float) -> float:
    return one / (one + other) if one + other > 0.0 else 0.5
