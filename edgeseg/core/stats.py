"""The one definition of percentiles and of a confidence interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000


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
    ci95: tuple[float, float]


def summarise_times(milliseconds: Sequence[float] | NDArray[np.float64]) -> Percentiles:
    """Take the percentiles of measured times; zeros when nothing was measured."""
    values = np.asarray(milliseconds, dtype=np.float64)
    if values.size == 0:
        return Percentiles(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    p50, p90, p95, p99 = (round(float(p), 4) for p in np.percentile(values, [50, 90, 95, 99]))
    return Percentiles(p50, p90, p95, p99, round(float(values.mean()), 4), round(float(values.std()), 4))


def estimate_mean(values: Sequence[float], groups: Sequence[str] | None = None, seed: int = 0) -> Estimate:
    """Estimate a mean with a bootstrap interval over groups, since cases of one group are not independent."""
    data = np.asarray(values, dtype=np.float64)
    if data.size == 0:
        return Estimate(0.0, 0.0, (0.0, 0.0))
    means = _resample_means(data, list(groups) if groups is not None else None, seed)
    low, high = np.percentile(means, [2.5, 97.5])
    return Estimate(
        round(float(data.mean()), 5),
        round(float(np.median(data)), 5),
        (round(float(low), 5), round(float(high), 5)),
    )


def _resample_means(data: NDArray[np.float64], groups: list[str] | None, seed: int) -> NDArray[np.float64]:
    labels = np.arange(data.size) if groups is None else np.unique(groups, return_inverse=True)[1]
    sums = np.bincount(labels, weights=data)
    counts = np.bincount(labels).astype(np.float64)
    draws = np.random.default_rng(seed).integers(0, sums.size, size=(RESAMPLES, sums.size))
    means: NDArray[np.float64] = sums[draws].sum(axis=1) / counts[draws].sum(axis=1)
    return means
