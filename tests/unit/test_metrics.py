"""Measures of masks, against cases that can be worked out by hand."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgeseg.cli.evaluation_tables import print_evaluation
from edgeseg.core.schema import to_plain
from edgeseg.core.spec import ClassSpec
from edgeseg.core.stats import Estimate
from edgeseg.data.dataset import Case, LabelledImage
from edgeseg.evaluation.metrics import ellipse_circumference, measure_circumference, score_mask
from edgeseg.evaluation.score import MEASURES, estimate_drop, score_labels, summarise_cases, write_cases
from tests.commands import assert_says

CLASSES = (ClassSpec("a"), ClassSpec("b"))


def draw_square(left: int, size: int = 20) -> NDArray[np.uint8]:
    mask = np.zeros((60, 60), np.uint8)
    mask[20 : 20 + size, left : left + size] = 1
    return mask


def get_mean(estimate: Estimate | None) -> float:
    assert estimate is not None
    return estimate.mean


def make_image(stem: str, *masks: NDArray[np.uint8]) -> LabelledImage:
    return LabelledImage(Case(stem, Path(stem), (), stem), np.zeros((60, 60), np.uint8), masks)


def test_equal_masks() -> None:
    score = score_mask(draw_square(10), draw_square(10))
    assert (score.dice, score.iou, score.precision, score.recall, score.hd95_px) == (1, 1, 1, 1, 0)


def test_half_shifted_square() -> None:
    score = score_mask(draw_square(20), draw_square(10))
    assert score.dice == pytest.approx(0.5)
    assert score.iou == pytest.approx(1 / 3)
    assert score.hd95_px == pytest.approx(10)


def test_small_prediction_is_precise_and_incomplete() -> None:
    score = score_mask(draw_square(10, 10), draw_square(10, 20))
    assert (score.precision, score.recall) == (1.0, 0.25)


def test_nothing_predicted_is_the_worst() -> None:
    score = score_mask(np.zeros((60, 60), np.uint8), draw_square(10))
    assert (score.dice, score.precision) == (0.0, 0.0)
    assert score.hd95_px == pytest.approx(np.hypot(60, 60))


def test_empty_cases_stand_apart() -> None:
    empty, full = np.zeros((60, 60), np.uint8), draw_square(10)
    scored = [
        score_labels(full, make_image("hit", full, empty), CLASSES),
        score_labels(full, make_image("false alarm", empty, empty), CLASSES),
        score_labels(empty, make_image("quiet", empty, empty), CLASSES),
    ]
    evaluation = summarise_cases(scored, CLASSES)
    assert evaluation.cases == 1
    assert get_mean(evaluation.dice) == 1.0
    assert (evaluation.empty.cases, evaluation.empty.false_positive_rate) == (2, 0.5)
    assert evaluation.empty.ci95 is None
    assert {name: rate.cases for name, rate in evaluation.absent.items()} == {"a": 2, "b": 3}
    assert [evaluation.absent[name].false_positive_rate for name in "ab"] == [0.5, 0.0]


def test_each_class_is_told() -> None:
    labels = np.zeros((60, 60), np.uint8)
    labels[draw_square(10) > 0] = 1
    scored = [score_labels(labels, make_image("x", draw_square(10), draw_square(35)), CLASSES)]
    evaluation = summarise_cases(scored, CLASSES)
    assert get_mean(evaluation.per_class["a"]["dice"]) == 1.0
    assert get_mean(evaluation.per_class["b"]["dice"]) == 0.0
    assert get_mean(evaluation.dice) == 0.5


def test_drop_is_paired() -> None:
    rng = np.random.default_rng(0)
    parent, child = [], []
    for number in range(30):
        truth = draw_square(10)
        shift = int(rng.integers(0, 15))
        parent.append(score_labels(draw_square(10 + shift), make_image(str(number), truth), CLASSES[:1]))
        child.append(score_labels(draw_square(11 + shift), make_image(str(number), truth), CLASSES[:1]))
    drop = estimate_drop(parent, child)
    assert drop.mean == pytest.approx(0.05, abs=0.01)
    assert drop.ci95 is not None
    assert drop.ci95[1] - drop.ci95[0] < 0.01


def test_circumference_of_a_drawn_ellipse() -> None:
    mask = np.zeros((300, 400), np.uint8)
    cv2.ellipse(mask, (200, 150), (120, 80), 25, 0, 360, 1, -1)
    assert measure_circumference(mask, 0.5) == pytest.approx(0.5 * ellipse_circumference(120, 80), rel=0.01)
    assert measure_circumference(np.zeros((30, 30), np.uint8), 0.5) == 0.0


def test_circumference_of_a_circle_and_of_a_line() -> None:
    assert ellipse_circumference(10, 10) == pytest.approx(2 * np.pi * 10)
    assert ellipse_circumference(10, 0) == pytest.approx(40, rel=0.01)


def test_millimetres_come_where_the_pixel_size_is_known() -> None:
    truth = draw_square(10)
    case = Case("head", Path("head"), (), "g", pixel_size_mm=0.5, head_circumference_mm=40.0)
    image = LabelledImage(case, np.zeros((60, 60), np.uint8), (truth,))
    scored = [score_labels(draw_square(20), image, CLASSES[:1])]
    evaluation = summarise_cases(scored, CLASSES[:1])
    assert evaluation.hd95_mm is not None
    assert evaluation.hd95_mm.mean == pytest.approx(get_mean(evaluation.hd95_px) * 0.5)
    assert evaluation.per_class["a"]["hd95_mm"] == evaluation.hd95_mm
    assert evaluation.circumference_error_mm is not None
    assert evaluation.circumference_error_mm.mean < 15


def test_no_millimetres_without_a_pixel_size() -> None:
    scored = [score_labels(draw_square(10), make_image("x", draw_square(10)), CLASSES[:1])]
    evaluation = summarise_cases(scored, CLASSES[:1])
    assert evaluation.hd95_mm is None
    assert set(evaluation.per_class["a"]) == set(MEASURES)
    assert evaluation.circumference_error_mm is None


def test_every_case_gets_its_line(tmp_path: Path) -> None:
    empty, full = np.zeros((60, 60), np.uint8), draw_square(10)
    scored = [score_labels(full, make_image("hit", full, empty), CLASSES)]
    scored.append(score_labels(full, make_image("false alarm", empty, empty), CLASSES))
    scored.append(score_labels(empty, make_image("lost, alas", full, empty), CLASSES))
    write_cases(tmp_path / "cases.csv", scored, CLASSES)
    with (tmp_path / "cases.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["stem"], row["class"], row["outcome"], row["dice"]) for row in rows] == [
        ("hit", "a", "found", "1.00000"),
        ("hit", "b", "nothing there", ""),
        ("false alarm", "a", "false positive", ""),
        ("false alarm", "b", "nothing there", ""),
        ("lost, alas", "a", "missed", "0.00000"),
        ("lost, alas", "b", "nothing there", ""),
    ]
    assert rows[0]["hd95_mm"] == rows[0]["circumference_error_mm"] == ""


def test_intervals_are_over_groups_and_not_over_cases() -> None:
    truth = draw_square(10)
    shifts = [0] * 20 + [10] * 20

    def interval_width(groups: list[str]) -> float:
        cases = [Case("x", Path("x"), (), group) for group in groups]
        scored = [
            score_labels(draw_square(10 + shift), LabelledImage(case, truth, (truth,)), CLASSES[:1])
            for shift, case in zip(shifts, cases, strict=True)
        ]
        dice = summarise_cases(scored, CLASSES[:1]).dice
        assert dice is not None
        assert dice.ci95 is not None
        return dice.ci95[1] - dice.ci95[0]

    alone = interval_width([str(number) for number in range(40)])
    together = interval_width([str(number // 8) for number in range(40)])
    assert together > 1.5 * alone


def test_several_classes_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    labels = draw_square(10)
    scored = [
        score_labels(labels, make_image("both", draw_square(10), draw_square(35)), CLASSES),
        score_labels(labels, make_image("none", 0 * labels, 0 * labels), CLASSES),
    ]
    print_evaluation("Test", to_plain(summarise_cases(scored, CLASSES)))
    said = capsys.readouterr().out
    assert_says(said, "1 cases", "100%")
    row = next(line.split() for line in said.splitlines() if line.split()[:1] == ["a"])
    assert (row[1], row[-1]) == ("1.0000", "100%")
