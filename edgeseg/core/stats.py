"""Percentiles of times, means with bootstrap confidence intervals, and the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
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


def rank_auc(scores: NDArray[np.floating[Any]], positive: NDArray[np.bool_]) -> float | None:
    """Compute the area under the ROC curve (Mann-Whitney): how often a positive scores higher than a negative.

    Equal scores count half. None unless there are both.
    """
    high, low = np.asarray(scores, np.float64)[positive], np.sort(np.asarray(scores, np.float64)[~positive])
    if not high.size or not low.size:
        return None
    below, up_to = np.searchsorted(low, high, "left"), np.searchsorted(low, high, "right")
    return float((below + up_to).mean() / 2 / low.size)


def dominates(one: Costs, other: Costs) -> bool:
    """Say whether one point Pareto-dominates the other: nowhere higher, and lower somewhere."""
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def pareto_front(rows: Sequence[tuple[Costs, Row]]) -> list[Row]:
    """Keep the rows that no other row dominates."""
    return [row for costs, row in rows if not any(dominates(other, costs) for other, _ in rows)]
