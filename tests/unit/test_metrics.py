"""Measures of masks, against cases that can be worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeseg.core.spec import ClassSpec
from edgeseg.data.dataset import Case, LabelledImage
from edgeseg.evaluate.metrics import score_mask
from edgeseg.evaluate.score import estimate_drop, score_labels, summarise_cases

CLASSES = (ClassSpec("a"), ClassSpec("b"))


def draw_square(left: int, size: int = 20) -> NDArray[np.uint8]:
    mask = np.zeros((60, 60), np.uint8)
    mask[20 : 20 + size, left : left + size] = 1
    return mask


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
    assert evaluation.dice.mean == 1.0
    assert (evaluation.empty.cases, evaluation.empty.false_positive_rate) == (2, 0.5)


def test_each_class_is_told() -> None:
    labels = np.zeros((60, 60), np.uint8)
    labels[draw_square(10) > 0] = 1
    scored = [score_labels(labels, make_image("x", draw_square(10), draw_square(35)), CLASSES)]
    evaluation = summarise_cases(scored, CLASSES)
    assert evaluation.per_class["a"]["dice"].mean == 1.0
    assert evaluation.per_class["b"]["dice"].mean == 0.0
    assert evaluation.dice.mean == 0.5


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
    assert drop.ci95[1] - drop.ci95[0] < 0.01
