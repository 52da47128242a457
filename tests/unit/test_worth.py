"""Masks that are worth nothing are called so, and what no case can tell is not a figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeseg.cli.evaluation_tables import print_evaluation
from edgeseg.core.schema import to_plain
from edgeseg.core.spec import ClassSpec
from edgeseg.data.dataset import Case, LabelledImage
from edgeseg.evaluation.metrics import measure_baseline, shrink_truth
from edgeseg.evaluation.score import Evaluation, score_labels, summarise_cases

SIDE = 64
CLASSES = (ClassSpec("lesion"), ClassSpec("vessel"))
Mask = NDArray[np.uint8]


def draw(left: int, top: int = 20, size: int = 16) -> Mask:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[top : top + size, left : left + size] = 1
    return mask


EMPTY, FULL = np.zeros((SIDE, SIDE), np.uint8), np.ones((SIDE, SIDE), np.uint8)


def judge(pairs: list[tuple[Mask, tuple[Mask, ...]]], groups: int = 100) -> Evaluation:
    """Judge label maps against true masks; the groups take turns."""
    scored = [
        score_labels(
            labels,
            LabelledImage(Case(str(number), Path(), (), str(number % groups)), EMPTY, truth),
            CLASSES[: len(truth)],
        )
        for number, (labels, truth) in enumerate(pairs)
    ]
    return summarise_cases(scored, CLASSES[: len(pairs[0][1])])


def scatter(count: int = 12) -> list[Mask]:
    """Draw a structure at another place in every case."""
    return [draw(4 * number, 3 * number) for number in range(count)]


def test_good_masks_are_told_nothing_about() -> None:
    evaluation = judge([(mask, (mask,)) for mask in scatter()])
    assert (evaluation.useless, evaluation.notices) == (False, ())


@pytest.mark.parametrize(
    ("marked", "said"),
    [
        ([EMPTY] * 12, "12 cases"),
        ([FULL] * 12, "12 of 12"),
        ([np.roll(mask, 12, axis=1) for mask in scatter()], "Dice is 0.2"),
    ],
)
def test_masks_without_worth_are_told(marked: list[Mask], said: str) -> None:
    evaluation = judge([(labels, (mask,)) for labels, mask in zip(marked, scatter(), strict=True)])
    assert evaluation.useless
    assert any(said in notice for notice in evaluation.notices), evaluation.notices


def test_the_same_place_in_every_image_is_the_mark_to_beat() -> None:
    """A structure that hardly moves: 0.75 sounds good, and is less than what looks at no image reaches."""
    truth = [draw(20 + number % 2) for number in range(10)]
    evaluation = judge([(draw(24), (mask,)) for mask in truth])
    assert evaluation.dice is not None
    assert 0.7 < evaluation.dice.mean < 0.9
    assert evaluation.useless
    assert "0.9" in evaluation.notices[0]


def test_the_average_mask_knows_nothing_of_its_own_group() -> None:
    apart = [{"a": shrink_truth(mask)} for mask in (draw(0), draw(0), draw(40))]
    one = measure_baseline(apart[:1], ["x"])
    two = measure_baseline([apart[0], apart[2]], ["x", "y"])
    same = measure_baseline(apart[:2], ["x", "y"])
    assert one is not None
    assert two is not None
    assert same is not None
    assert (one.average, two.average) == (0.0, 0.0)
    assert same.average == pytest.approx(1.0)
    share = 16 * 16 / SIDE**2
    assert one.everything == pytest.approx(2 * share / (1 + share), abs=1e-4)
    assert measure_baseline([], []) is None


def test_a_class_that_no_case_shows_has_no_figure(capsys: pytest.CaptureFixture[str]) -> None:
    evaluation = judge([(mask, (mask, EMPTY)) for mask in scatter()])
    assert evaluation.dice is not None
    assert evaluation.dice.mean == 1.0
    assert set(evaluation.per_class["vessel"].values()) == {None}
    assert any("class vessel" in notice for notice in evaluation.notices)
    print_evaluation("Test", to_plain(evaluation))
    row = next(line.split() for line in capsys.readouterr().out.splitlines() if line.split()[:1] == ["vessel"])
    assert row == ["vessel", *["n/a"] * 5, "0%"]


def test_a_class_that_is_never_found_is_named() -> None:
    beside = [np.roll(mask, SIDE // 2, axis=1) for mask in scatter()]
    evaluation = judge([(one, (one, other)) for one, other in zip(scatter(), beside, strict=True)])
    assert any("class vessel" in notice and "12 cases" in notice for notice in evaluation.notices)


@pytest.mark.parametrize("groups", [1, 4])
def test_few_groups_have_a_mean_and_no_interval(
    groups: int, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    evaluation = judge([(mask, (mask,)) for mask in scatter()], groups)
    assert evaluation.dice is not None
    assert (evaluation.dice.mean, evaluation.dice.ci95) == (1.0, None)
    assert any(f"groups for an interval: {groups}," in notice for notice in evaluation.notices)
    print_evaluation("Test", to_plain(evaluation))
    said = capsys.readouterr()
    assert "n/a" in said.out
    assert "groups" in caplog.text


@pytest.mark.parametrize("labels", [EMPTY, FULL])
def test_nothing_to_find_anywhere_leaves_only_the_false_alarms(
    labels: Mask, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation = judge([(labels, (EMPTY, EMPTY))] * 6)
    assert (evaluation.cases, evaluation.dice, evaluation.baseline) == (0, None, None)
    assert evaluation.empty.false_positive_rate == float(labels.any())
    print_evaluation("Test", to_plain(evaluation))
    assert "nan" not in capsys.readouterr().out


def test_no_case_at_all_is_no_figure(capsys: pytest.CaptureFixture[str]) -> None:
    evaluation = summarise_cases([], CLASSES)
    assert (evaluation.cases, evaluation.dice, evaluation.empty.false_positive_rate) == (0, None, None)
    print_evaluation("Test", to_plain(evaluation))
    assert "nan" not in capsys.readouterr().out
