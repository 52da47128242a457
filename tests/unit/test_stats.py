"""Percentiles and intervals are the figures everything else is judged by."""

from __future__ import annotations

import numpy as np
import pytest

from edgeseg.core.stats import FEWEST_GROUPS, Estimate, estimate_any, estimate_mean, rank_auc, summarise_times


def test_percentiles_of_known_times() -> None:
    times = summarise_times(np.arange(1.0, 101.0))
    assert times.p50 == times.mean == 50.5
    assert times.p99 == pytest.approx(99.01)


def test_nothing_measured_is_zero() -> None:
    assert summarise_times([]).p99 == 0.0
    assert estimate_any([], []) is None
    with pytest.raises(ValueError, match="value"):
        estimate_mean([])


@pytest.mark.parametrize("groups", [1, 2, FEWEST_GROUPS - 1, FEWEST_GROUPS])
def test_too_few_groups_have_no_interval(groups: int) -> None:
    values = [0.1 * (number % 7) for number in range(20)]
    estimate = estimate_mean(values, [str(number % groups) for number in range(20)])
    assert (estimate.ci95 is None) == (groups < FEWEST_GROUPS)
    assert estimate.mean == pytest.approx(np.mean(values), abs=1e-4)
    assert estimate.high == (estimate.mean if estimate.ci95 is None else estimate.ci95[1])


def width(estimate: Estimate) -> float:
    assert estimate.ci95 is not None
    return estimate.ci95[1] - estimate.ci95[0]


def test_interval_holds_the_mean_and_narrows_with_more_cases() -> None:
    values = np.random.default_rng(0).normal(0.8, 0.1, 400).tolist()
    few, many = estimate_mean(values[:20]), estimate_mean(values)
    assert few.ci95 is not None
    assert few.ci95[0] < few.mean < few.ci95[1]
    assert width(many) < width(few)


def test_cases_of_one_group_do_not_count_as_independent() -> None:
    values = np.repeat(np.random.default_rng(1).normal(0.8, 0.1, 10), 10).tolist()
    groups = [f"patient{number // 10}" for number in range(100)]
    alone, grouped = estimate_mean(values), estimate_mean(values, groups)
    assert width(grouped) > 2 * width(alone)


def test_interval_is_the_same_every_time() -> None:
    assert estimate_mean([0.1, 0.9, 0.5]) == estimate_mean([0.1, 0.9, 0.5])


def test_auc_counts_pairs_and_halves_of_equals() -> None:
    scores, positive = np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, False, True, True])
    assert rank_auc(scores, positive) == 0.875
    assert rank_auc(-scores, positive) == 0.125
    assert rank_auc(scores, np.zeros(4, bool)) is None
    assert rank_auc(scores, np.ones(4, bool)) is None
