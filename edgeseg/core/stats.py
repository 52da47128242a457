"""Percentiles of times, means and rank statistics with bootstrap confidence intervals, and the Pareto front."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
# Groups that an interval needs. A bootstrap over few groups is too narrow: said to be 95%, it holds the true mean in
# half of all draws with 2 groups, in 74% with 3, 80% with 4, 83% with 5 and 90% with 10 (docs/decisions/0043).
FEWEST_GROUPS = 5
# Objectives of which each is better the lower it is.
Costs = tuple[float, ...]
Row = TypeVar("Row")
# How often each case is drawn; all ones for the cases as they are.
Weights = NDArray[np.float64]
# A figure of weighted cases, or several; nan where those cases do not have it.
Statistic = Callable[[Weights], "float | NDArray[np.float64]"]
# Draws that may be without the figure, such as an AUC without a negative case, before there is no interval.
_MOST_UNDEFINED = 0.05


@dataclass(frozen=True)
class Percentiles:
    """The distribution of a measured time, in milliseconds."""

    p50: float
    p90: float
    p95: float
    p99: float
    mean: float
    std: float


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95% bootstrap confidence interval, and the median."""

    mean: float
    median: float
    ci95: tuple[float, float] | None
    """None for fewer than `FEWEST_GROUPS` groups."""

    @property
    def high(self) -> float:
        """Return the upper end of the interval, or the mean if there is none."""
        return self.mean if self.ci95 is None else self.ci95[1]


def show_interval(interval: Sequence[float] | None, form: str = ".4f", none: str = "n/a") -> str:
    """Format an interval; `none` if there is none."""
    if interval is None:
        return none
    low, high = interval
    return f"{low:{form}} to {high:{form}}"


def summarise_times(milliseconds: Sequence[float] | NDArray[np.float64]) -> Percentiles:
    """Compute the percentiles of measured times; zeros if nothing was measured."""
    values = np.asarray(milliseconds, dtype=np.float64)
    if values.size == 0:
        return Percentiles(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    p50, p90, p95, p99 = (round(float(p), 4) for p in np.percentile(values, [50, 90, 95, 99]))
    return Percentiles(p50, p90, p95, p99, round(float(values.mean()), 4), round(float(values.std()), 4))


def estimate_mean(values: Sequence[float], groups: Sequence[str] | None = None, seed: int = 0) -> Estimate:
    """Estimate a mean with a cluster bootstrap interval: groups are resampled, since their cases are not independent.

    Args:
        values: At least one.
        groups: The group of each; None: each is its own.
        seed: Of the resampling.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.size == 0:
        raise ValueError("expected at least one value to average, got none")
    labels = np.arange(data.size) if groups is None else np.unique(list(groups), return_inverse=True)[1]
    interval = _bootstrap_interval(data, labels, seed) if labels.max() + 1 >= FEWEST_GROUPS else None
    return Estimate(round(float(data.mean()), 5), round(float(np.median(data)), 5), interval)


def estimate_any(values: Sequence[float], groups: Sequence[str]) -> Estimate | None:
    """Estimate a mean as `estimate_mean` does; None without values."""
    return estimate_mean(values, groups) if values else None


def _bootstrap_interval(data: NDArray[np.float64], labels: NDArray[np.intp], seed: int) -> tuple[float, float]:
    # Percentile bootstrap (Efron, Annals of Statistics 1979) of a ratio: the sum of the drawn groups over their cases.
    sums = np.bincount(labels, weights=data)
    counts = np.bincount(labels).astype(np.float64)
    draws = np.random.default_rng(seed).integers(0, sums.size, size=(RESAMPLES, sums.size))
    low, high = np.percentile(sums[draws].sum(axis=1) / counts[draws].sum(axis=1), [2.5, 97.5])
    return round(float(low), 5), round(float(high), 5)


@dataclass(frozen=True)
class Band:
    """Figures of the same cases, such as the points of a curve, with their 95% bootstrap confidence intervals."""

    values: tuple[float, ...]
    ci95: tuple[tuple[float, float] | None, ...]


def estimate_statistic(statistic: Statistic, groups: Sequence[str], seed: int = 0) -> Estimate | None:
    """Estimate a figure that is no mean, with a cluster bootstrap interval as `estimate_mean` has it.

    Args:
        statistic: Computes the figure from the weight of every case.
        groups: The group of each case.
        seed: Of the resampling.

    Returns:
        The estimate, whose median is the figure itself; None where the cases do not have the figure.
    """
    band = estimate_band(statistic, groups, seed)
    value, interval = band.values[0], band.ci95[0]
    return None if np.isnan(value) else Estimate(value, value, interval)


def estimate_band(statistic: Statistic, groups: Sequence[str], seed: int = 0) -> Band:
    """Estimate several figures of the same cases at once; nan where the cases do not have one."""
    values = np.atleast_1d(np.asarray(statistic(np.ones(len(groups))), dtype=np.float64))
    labels = np.unique(list(groups), return_inverse=True)[1] if groups else np.zeros(0, np.intp)
    count = int(labels.max()) + 1 if groups else 0
    if count < FEWEST_GROUPS:
        return Band(_round_all(values), (None,) * values.size)
    generator = np.random.default_rng(seed)
    drawn = np.empty((RESAMPLES, values.size))
    for row in drawn:
        times = np.bincount(generator.integers(0, count, count), minlength=count)
        row[:] = statistic(times[labels].astype(np.float64))
    return Band(_round_all(values), tuple(_find_interval(column) for column in drawn.T))


def _round_all(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(round(float(value), 5) for value in values)


def _find_interval(drawn: NDArray[np.float64]) -> tuple[float, float] | None:
    defined = drawn[~np.isnan(drawn)]
    if defined.size < (1.0 - _MOST_UNDEFINED) * drawn.size:
        return None
    low, high = np.percentile(defined, [2.5, 97.5])
    return round(float(low), 5), round(float(high), 5)


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> Statistic:
    """Build Spearman's rank correlation of two figures of each case; equal figures share their mean rank."""
    places = [np.unique(list(values), return_inverse=True)[1] for values in (first, second)]

    def correlate(weights: Weights) -> float:
        one, other = (_rank(place, weights) for place in places)
        total = weights.sum()
        if total == 0:
            return float("nan")
        one, other = (ranks - (weights * ranks).sum() / total for ranks in (one, other))
        spread = np.sqrt((weights * one**2).sum() * (weights * other**2).sum())
        return float((weights * one * other).sum() / spread) if spread > 0 else float("nan")

    return correlate


def _rank(places: NDArray[np.intp], weights: Weights) -> NDArray[np.float64]:
    """Rank weighted cases whose values are given by their place among the different values."""
    totals = np.bincount(places, weights=weights)
    return np.asarray((np.cumsum(totals) - totals / 2)[places], dtype=np.float64)


def area_under_curve(scores: Sequence[float], positive: Sequence[bool]) -> Statistic:
    """Build the area under the ROC curve: the share of pairs in which the positive case scores higher, ties half.

    This is Mann and Whitney's statistic (Hanley and McNeil, Radiology 1982).
    """
    places = np.unique(list(scores), return_inverse=True)[1]
    wanted = np.asarray(positive, dtype=bool)

    def measure(weights: Weights) -> float:
        hits = np.bincount(places, weights=weights * wanted)
        others = np.bincount(places, weights=weights * ~wanted)
        pairs = hits.sum() * others.sum()
        lower = np.cumsum(others) - others / 2
        return float((hits * lower).sum() / pairs) if pairs > 0 else float("nan")

    return measure


def rank_auc(scores: NDArray[np.floating[Any]], positive: NDArray[np.bool_]) -> float | None:
    """Compute the area under the ROC curve (Mann-Whitney): how often a positive scores higher than a negative.

    Equal scores count half. None unless there are both.
    """
    value = area_under_curve(scores.tolist(), positive.tolist())(np.ones(scores.size))
    return None if np.isnan(value) else float(value)


def dominates(one: Costs, other: Costs) -> bool:
    """Say whether one point Pareto-dominates the other: nowhere higher, and lower somewhere."""
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def pareto_front(rows: Sequence[tuple[Costs, Row]]) -> list[Row]:
    """Keep the rows that no other row dominates."""
    return [row for costs, row in rows if not any(dominates(other, costs) for other, _ in rows)]
