"""Percentiles and intervals are the figures everything else is judged by."""

from __future__ import annotations

import numpy as np
import pytest

from edgeseg.core.stats import estimate_mean, summarise_times


def test_percentiles_of_known_times() -> None:
    times = summarise_times(np.arange(1.0, 101.0))
    assert times.p50 == times.mean == 50.5
    assert times.p99 == pytest.approx(99.01)


def test_nothing_measured_is_zero() -> None:
    assert summarise_times([]).p99 == 0.0
    assert estimate_mean([]).ci95 == (0.0, 0.0)


def test_interval_holds_the_mean_and_narrows_with_more_cases() -> None:
    values = np.random.default_rng(0).normal(0.8, 0.1, 400).tolist()
    few, many = estimate_mean(values[:20]), estimate_mean(values)
    assert few.ci95[0] < few.mean < few.ci95[1]
    assert many.ci95[1] - many.ci95[0] < few.ci95[1] - few.ci95[0]


def test_cases_of_one_group_do_not_count_as_independent() -> None:
    values = np.repeat(np.random.default_rng(1).normal(0.8, 0.1, 10), 10).tolist()
    groups = [f"patient{number // 10}" for number in range(100)]
    alone, grouped = estimate_mean(values), estimate_mean(values, groups)
    assert grouped.ci95[1] - grouped.ci95[0] > 2 * (alone.ci95[1] - alone.ci95[0])


def test_interval_is_the_same_every_time() -> None:
    assert estimate_mean([0.1, 0.9, 0.5]) == estimate_mean([0.1, 0.9, 0.5])
