"""Pictures of telling cases: which are picked, and that no name stands in them."""

from __future__ import annotations

from edgeseg.evaluation.metrics import CaseScore
from edgeseg.evaluation.overlays import BEST, FALSE, MEDIAN, WORST, describe_score, pick_notable_cases, rank_cases
from edgeseg.evaluation.score import ScoredCase


def make_scored(dice: float | None, marked: bool = False) -> ScoredCase:
    scores = {} if dice is None else {"a": CaseScore(dice, dice, dice, dice, 0.0)}
    return ScoredCase("Jane Doe", "g", scores, ("a",) if marked else (), empty=dice is None)


def test_worst_median_best_and_false_positives_are_picked_once_each() -> None:
    scored = [make_scored(dice) for dice in (0.5, 0.9, 0.1, 0.7)] + [make_scored(None), make_scored(None, marked=True)]
    picked = [(one.kind, one.rank, one.number) for one in pick_notable_cases(scored, shown=3)]
    assert picked == [(WORST, 1, 2), (WORST, 2, 0), (MEDIAN, 1, 3), (BEST, 1, 1), (FALSE, 1, 5)]


def test_median_cases_come_from_the_middle() -> None:
    scored = [make_scored(number / 100) for number in range(100)]
    picked = [one.number for one in pick_notable_cases(scored, shown=4) if one.kind == MEDIAN]
    assert picked == [48, 49, 50, 51]


def test_of_two_cases_one_is_the_worst_and_one_the_best() -> None:
    assert [one.kind for one in pick_notable_cases([make_scored(0.5), make_scored(0.4)])] == [WORST, BEST]
    assert [one.kind for one in pick_notable_cases([make_scored(0.5)])] == [WORST]


def test_no_more_than_asked_for() -> None:
    scored = [make_scored(number / 40) for number in range(40)] + [make_scored(None, marked=True)] * 9
    assert [one.kind for one in pick_notable_cases(scored, shown=2)] == [
        *(WORST, WORST), *(MEDIAN, MEDIAN), *(BEST, BEST), *(FALSE, FALSE),
    ]  # fmt: skip


def test_captions_say_dice_and_no_name() -> None:
    first, *_, last = pick_notable_cases([make_scored(0.25), make_scored(0.5), make_scored(None, marked=True)])
    assert (first.caption, first.file) == ("worst 1   Dice 0.250", "worst-1.png")
    assert (last.caption, last.file) == ("false positive 1", "false-positive-1.png")


def test_all_cases_are_ranked_from_false_positives_to_empty_ones() -> None:
    scored = [make_scored(0.9), make_scored(None), make_scored(0.1), make_scored(None, marked=True)]
    assert rank_cases(scored) == [3, 2, 0, 1]
    assert [describe_score(scored[number]) for number in rank_cases(scored)] == [
        "false positive", "Dice 0.100", "Dice 0.900", "empty, nothing marked",
    ]  # fmt: skip


def test_nothing_to_show() -> None:
    assert pick_notable_cases([]) == []
