"""Pictures of telling cases: which are picked, and that no name stands in them."""

from __future__ import annotations

import numpy as np

from edgeseg.evaluation.metrics import CaseScore
from edgeseg.evaluation.overlays import (
    BEST,
    FALSE,
    PREDICTION,
    TRUTH,
    WORST,
    add_caption,
    add_legend,
    pick_notable_cases,
)
from edgeseg.evaluation.score import ScoredCase


def make_scored(dice: float | None, marked: bool = False) -> ScoredCase:
    scores = {} if dice is None else {"a": CaseScore(dice, dice, dice, dice, 0.0)}
    return ScoredCase("Jane Doe", "g", scores, ("a",) if marked else (), empty=dice is None)


def test_worst_best_and_false_positives_are_picked_once_each() -> None:
    scored = [make_scored(dice) for dice in (0.5, 0.9, 0.1, 0.7)] + [make_scored(None), make_scored(None, marked=True)]
    picked = [(one.kind, one.rank, one.number) for one in pick_notable_cases(scored, shown=3)]
    assert picked == [(WORST, 1, 2), (WORST, 2, 0), (BEST, 1, 1), (BEST, 2, 3), (FALSE, 1, 5)]


def test_no_more_than_asked_for() -> None:
    scored = [make_scored(number / 40) for number in range(40)] + [make_scored(None, marked=True)] * 9
    assert [one.kind for one in pick_notable_cases(scored, shown=2)] == [WORST, WORST, BEST, BEST, FALSE, FALSE]


def test_captions_say_dice_and_no_name() -> None:
    first, *_, last = pick_notable_cases([make_scored(0.25), make_scored(0.5), make_scored(None, marked=True)])
    assert (first.caption, first.file) == ("worst 1   Dice 0.250", "worst-1.png")
    assert (last.caption, last.file) == ("false positive 1", "false-positive-1.png")


def test_nothing_to_show() -> None:
    assert pick_notable_cases([]) == []


def test_caption_and_legend_stand_above_the_picture() -> None:
    picture = np.full((40, 200, 3), 7, np.uint8)
    captioned = add_caption(picture, "worst 1")
    assert np.array_equal(captioned[-40:], picture)
    assert captioned[:-40].max() > 200
    strip = add_legend(picture)[:-40]
    for colour in (TRUTH, PREDICTION):
        assert np.all(np.abs(strip.astype(int) - colour[::-1]) < 60, axis=2).any()
