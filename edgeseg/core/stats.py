"""The one definition of percentiles and of a confidence interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
FEWEST_GROUPS = 5
"""Groups that an interval needs. A bootstrap over few groups is too narrow: said to be 95%, it holds the true mean in
half of all draws with 2 groups, in 74% with 3, 80% with 4, 83% with 5 and 90% with 10 (docs/decisions/0043)."""
Costs = tuple[float, ...]
"""What something is judged by, so that less is better everywhere."""
Row = TypeVar("Row")


@dataclass(frozen=True)
class Percentiles:
    """How a measured time spreads."""

    p50: float
    p90: float
    p95: float
    p99: float
    mean: float
    std: float


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95% interval, and the median beside it."""

    mean: float
    median: float
    ci95: tuple[float, float] | None
    """None where fewer than `FEWEST_GROUPS` groups are behind the mean."""

    @property
    def high(self) -> float:
        """Give the interval's upper end, or the mean where there is no interval."""
        return self.mean if self.ci95 is None else self.ci95[1]


def show_interval(interval: Sequence[float] | None, form: str = ".4f", none: str = "n/a") -> str:
    """Write an interval as people read it, and a word where there is none."""
    if interval is None:
        return none
    low, high = interval
    return f"{low:{form}} to {high:{form}}"


def summarise_times(milliseconds: Sequence[float] | NDArray[np.float64]) -> Percentiles:
    """Take the percentiles of measured times; zeros when nothing was measured."""
    values = np.asarray(milliseconds, dtype=np.float64)
    if values.size == 0:
        return Percentiles(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    p50, p90, p95, p99 = (round(float(p), 4) for p in np.percentile(values, [50, 90, 95, 99]))
    return Percentiles(p50, p90, p95, p99, round(float(values.mean()), 4), round(float(values.std()), 4))


def estimate_mean(values: Sequence[float], groups: Sequence[str] | None = None, seed: int = 0) -> Estimate:
    """Estimate a mean with a bootstrap interval over groups, since cases of one group are not independent.

    Args:
        values: At least one.
        groups: The group of each; None: each is its own.
        seed: Draws the resamples.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.size == 0:
        raise ValueError("expected at least one value to average, got none")
    labels = np.arange(data.size) if groups is None else np.unique(list(groups), return_inverse=True)[1]
    interval = _find_interval(data, labels, seed) if labels.max() + 1 >= FEWEST_GROUPS else None
    return Estimate(round(float(data.mean()), 5), round(float(np.median(data)), 5), interval)


def estimate_any(values: Sequence[float], groups: Sequence[str]) -> Estimate | None:
    """Estimate a mean as `estimate_mean` does; None where there is nothing to average."""
    return estimate_mean(values, groups) if values else None


def _find_interval(data: NDArray[np.float64], labels: NDArray[np.intp], seed: int) -> tuple[float, float]:
    sums = np.bincount(labels, weights=data)
    counts = np.bincount(labels).astype(np.float64)
    draws = np.random.default_rng(seed).integers(0, sums.size, size=(RESAMPLES, sums.size))
    low, high = np.percentile(sums[draws].sum(axis=1) / counts[draws].sum(axis=1), [2.5, 97.5])
    return round(float(low), 5), round(float(high), 5)


def dominates(one: Costs, other: Costs) -> bool:
    """Say whether costs are at least as low in every respect and lower in one."""
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def pareto_front(rows: Sequence[tuple[Costs, Row]]) -> list[Row]:
    """Keep the rows that no other row dominates, equal ones together."""
    return [row for costs, row in rows if not any(dominates(other, costs) for other, _ in rows)]
