"""Calibration: expected error of probabilities, and temperatures that mend it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeseg.core.stats import (
    area_under_curve,
    estimate_band,
    estimate_mean,
    estimate_statistic,
    rank_correlation,
)
from edgeseg.data.dataset import Case, LabelledImage
from edgeseg.evaluation.calibration import (
    COOLEST,
    FEWEST_FINDINGS,
    HOTTEST,
    align_scores,
    bin_findings,
    bin_scores,
    count_scores,
    expected_error,
    find_finding_temperature,
    find_temperature,
    find_temperatures,
    measure_calibration,
)
from edgeseg.frame.postprocess import calibrate
from tests.networks import SIDE, describe_network

GROUPS = [f"g{number}" for number in range(40)]


def draw_counts(temperature: float, seed: int = 0) -> np.ndarray:
    """Draw pixels whose stated probability is the true one, made surer by a factor."""
    rng = np.random.default_rng(seed)
    true = rng.uniform(0.02, 0.98, 200_000)
    stated = calibrate(true, 1 / temperature)
    scores = np.clip(np.floor(stated * 256 + 0.5), 0, 255).astype(np.uint8)[None, :, None]
    return count_scores(scores, (rng.uniform(size=true.size) < true).astype(np.uint8)[None, :, None])


@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.5, 2.5])
def test_the_temperature_of_overconfident_scores_is_found(temperature: float) -> None:
    assert find_temperature(draw_counts(temperature)[0]) == pytest.approx(temperature, rel=0.06)


def test_the_temperature_lowers_the_expected_error() -> None:
    scores = np.repeat(np.array([250, 6], np.uint8), 5000)[None, :, None]
    truth = np.concatenate([np.arange(5000) % 10 < 8, np.arange(5000) % 10 < 2]).astype(np.uint8)[None, :, None]
    before = expected_error(bin_scores(scores, truth))
    temperature = find_temperature(count_scores(scores, truth)[0])
    calm = np.round(256 * calibrate(scores / 256, temperature)).astype(np.uint8)
    assert temperature > 1
    assert expected_error(bin_scores(calm, truth)) < before / 4


def test_pixels_of_one_kind_give_no_temperature() -> None:
    counts = np.zeros((2, 256, 2), np.int64)
    counts[0, 200, 1] = 1000
    assert find_temperatures(counts, "sigmoid") == (1.0, 1.0)


def test_temperatures_stay_in_bounds() -> None:
    counts = np.zeros((256, 2), np.int64)
    counts[130, 1], counts[120, 0] = 1000, 1000
    assert find_temperature(counts) == pytest.approx(COOLEST)
    counts[:] = 0
    counts[250] = counts[5] = 500
    assert find_temperature(counts) == pytest.approx(HOTTEST)


def test_softmax_channels_share_a_temperature() -> None:
    temperatures = find_temperatures(np.concatenate([draw_counts(2.0), draw_counts(1.0)]), "softmax")
    assert temperatures[0] == temperatures[1]


def test_few_findings_keep_their_probabilities() -> None:
    some = [0.99] * (FEWEST_FINDINGS - 1)
    assert find_finding_temperature([*some, *[0.5] * 50], [True] * len(some) + [False] * 50) == 1.0
    many = [0.99] * 40
    assert find_finding_temperature([*many, *many], [True] * 40 + [False] * 40) > 1.0
    assert find_finding_temperature([], []) == 1.0


def test_a_perfect_forecast_has_no_error() -> None:
    bins = bin_findings([0.2] * 10, [True] * 2 + [False] * 8)
    assert expected_error(bins) == pytest.approx(0.0)
    assert expected_error(bin_findings([1.0, 0.0], [False, True])) == pytest.approx(1.0)


def test_calibration_figures_have_intervals_over_groups() -> None:
    cases = [bin_findings([0.9], [number % 2 == 0]) for number in range(40)]
    figures = measure_calibration(cases, [None] * 40, GROUPS)
    assert figures is not None
    assert figures.ece_pixels is not None
    assert figures.ece_pixels.mean == pytest.approx(0.4)
    assert figures.ece_pixels.ci95 is not None
    assert figures.ece_findings is None
    assert figures.pixels == ((0.9, 0.5, 40),)
    assert measure_calibration([], [], []) is None


def test_scores_are_aligned_with_the_picture_without_its_padding() -> None:
    truth = np.zeros((16, 32), np.uint8)
    truth[:, 16:] = 1
    image = LabelledImage(Case("x", Path("x.png"), (), "x"), np.zeros((16, 32), np.uint8), (truth,))
    scores = np.zeros((SIDE, SIDE, 1), np.uint8)
    scores[:, 8:] = 200
    inner, marked = align_scores(scores, image, describe_network({}))
    assert inner.shape == marked.shape == (8, 16, 1)
    assert np.array_equal(inner > 128, marked > 0)


def test_rank_correlation_and_auc_agree_with_their_definitions() -> None:
    ones = np.ones(4)
    assert rank_correlation([1, 2, 3, 4], [10, 20, 30, 40])(ones) == pytest.approx(1.0)
    assert rank_correlation([1, 2, 3, 4], [4, 3, 2, 1])(ones) == pytest.approx(-1.0)
    assert rank_correlation([1, 1, 2, 2], [1, 1, 2, 2])(ones) == pytest.approx(1.0)
    assert np.isnan(rank_correlation([1, 1, 1, 1], [1, 2, 3, 4])(ones))
    assert area_under_curve([0.1, 0.4, 0.35, 0.8], [False, False, True, True])(ones) == pytest.approx(0.75)
    assert area_under_curve([0.5, 0.5], [True, False])(np.ones(2)) == pytest.approx(0.5)
    assert np.isnan(area_under_curve([0.5, 0.6], [True, True])(np.ones(2)))


def test_weights_count_as_repeated_cases() -> None:
    first, second = [1.0, 5.0, 2.0, 8.0, 3.0], [2.0, 1.0, 3.0, 4.0, 9.0]
    weights = np.array([1.0, 2.0, 0.0, 1.0, 3.0])
    repeated = [np.repeat(values, weights.astype(int)).tolist() for values in (first, second)]
    assert rank_correlation(first, second)(weights) == pytest.approx(rank_correlation(*repeated)(np.ones(7)))
    positive = [True, False, True, False, True]
    again = np.repeat(positive, weights.astype(int)).tolist()
    assert area_under_curve(first, positive)(weights) == pytest.approx(area_under_curve(repeated[0], again)(np.ones(7)))


def test_the_interval_of_a_mean_is_the_same_either_way() -> None:
    values = np.random.default_rng(1).uniform(size=40)

    def average(weights: np.ndarray) -> float:
        return float((weights * values).sum() / weights.sum())

    groups = [f"g{number // 2}" for number in range(40)]
    one, other = estimate_statistic(average, groups), estimate_mean(values.tolist(), groups)
    assert one is not None
    assert one.ci95 is not None
    assert other.ci95 is not None
    assert one.ci95 == pytest.approx(other.ci95, abs=0.01)


def test_no_interval_for_few_groups_or_where_draws_lack_the_figure() -> None:
    assert estimate_band(lambda _: 1.0, ["a", "b", "c"]).ci95 == (None,)
    lone = estimate_statistic(area_under_curve([0.9, *[0.5] * 9], [True] + [False] * 9), GROUPS[:10])
    assert lone is not None
    assert lone.mean == 1.0
    assert lone.ci95 is None
    assert estimate_statistic(area_under_curve([0.9, 0.8], [True, True]), GROUPS[:2]) is None
