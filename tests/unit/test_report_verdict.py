"""The verdict of a report: it promises what the lower end of the interval holds, and names what nobody has tested."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from edgeseg.report.cases import BEST, LOST, MEDIAN, ONLY, WORST, name_case, pick_kinds
from edgeseg.report.page import BAD, CAUTION, GOOD, Verdict, count, join_names, show_path, write_command
from edgeseg.report.verdict import (
    UNKNOWN,
    USELESS,
    Judged,
    explain_few,
    find_grade,
    list_fit,
    list_unfit,
    make_finding,
    make_quality,
)
from tests.pages import judge, make_tested, useless

MANY = 60


def test_the_lower_end_of_the_interval_decides_and_not_the_mean() -> None:
    sure, spread = make_tested([0.92] * MANY), make_tested([0.99, 0.85] * 3)
    assert find_grade(sure).pill.word == "Close outlines"
    assert spread.evaluation is not None
    assert spread.evaluation.dice is not None
    assert spread.evaluation.dice.mean == pytest.approx(0.92)
    assert find_grade(spread).pill.word == "Usable outlines"


@pytest.mark.parametrize(
    ("dice", "word", "level"),
    [
        (0.95, "Close outlines", GOOD),
        (0.8, "Usable outlines", GOOD),
        (0.6, "Rough outlines", CAUTION),
        (0.4, "Poor outlines", CAUTION),
    ],
)
def test_grades(dice: float, word: str, level: str) -> None:
    pill = find_grade(make_tested([dice] * MANY)).pill
    assert (pill.word, pill.level) == (word, level)


def test_a_useless_model_is_fit_for_nothing_and_not_praised_for_anything() -> None:
    tested = make_tested([0.99] * MANY, empty=20)
    assert tested.evaluation is not None
    tested = dataclasses.replace(tested, evaluation=useless(tested.evaluation))
    assert find_grade(tested) is USELESS
    verdict = judge(tested)
    assert verdict.level == BAD
    assert verdict.fit == ()
    assert verdict.unfit == ("Any use of the masks.",)
    assert make_quality(tested).level == BAD


def test_without_test_cases_nothing_is_known() -> None:
    for tested in (Judged(None, ("lesion",)), make_tested([], empty=3)):
        assert find_grade(tested) is UNKNOWN
        assert list_fit(tested) == []
        assert explain_few(tested) == ""
        assert make_quality(tested).value == "unknown"


def test_few_cases_are_said_with_their_number_and_interval() -> None:
    few = explain_few(make_tested([0.5, 0.6, 0.7, 0.8, 0.9, 0.9, 0.9, 0.9, 0.9]))
    assert few.startswith("Judged on 9 cases.")
    assert " to " in few
    assert explain_few(make_tested([0.8] * MANY)) == ""


def test_many_cases_of_few_groups_are_few() -> None:
    assert "60 cases in 8 groups" in explain_few(make_tested([0.8] * MANY, groups=8))
    assert "too few for an interval" in explain_few(make_tested([0.8] * MANY, groups=3))


def test_a_single_case_has_no_interval() -> None:
    assert "1 case." in explain_few(make_tested([0.8]))
    assert "no interval" in make_quality(make_tested([0.8])).note


def test_false_alarms_forbid_to_say_that_nothing_is_there() -> None:
    silent, loud = make_tested([0.95] * MANY, empty=60), make_tested([0.95] * MANY, empty=60, alarms=30)
    assert make_finding(silent.evaluation).level == GOOD
    assert list_unfit(silent) == []
    assert make_finding(loud.evaluation).level == CAUTION
    (sentence,) = list_unfit(loud)
    assert "50%" in sentence


def test_what_was_not_tested_is_not_promised() -> None:
    assert "false alarms are unknown" in list_unfit(make_tested([0.95] * MANY))[0]
    undecided = make_tested([0.95] * MANY, empty=20, point=False)
    assert "no operating point" in list_unfit(undecided)[0]
    assert make_finding(undecided.evaluation).value == "not decided"


def test_bad_cases_and_near_duplicates_are_counted() -> None:
    tested = dataclasses.replace(make_tested([0.95] * MANY + [0.1, 0.2], empty=60), near_duplicates=3)
    said = " ".join(list_unfit(tested))
    assert "2 of 62" in said
    assert "3 pairs" in said


def test_the_worst_pill_colours_the_card() -> None:
    assert judge(make_tested([0.95] * MANY)).level == CAUTION
    assert Verdict((find_grade(make_tested([0.95] * MANY)).pill,), "", (), (), ()).level == GOOD


def test_no_case_is_shown_twice_and_the_worst_comes_first() -> None:
    dice = {f"c{number}": number / 10 for number in range(10)}
    kinds = dict(pick_kinds(dice))
    assert kinds == {WORST: ("c0", "c1"), MEDIAN: ("c4", "c5"), BEST: ("c9", "c8")}
    lost = dict(pick_kinds(dice, {**dict.fromkeys(dice, 0.0), "c7": 0.3}, each=1))
    assert lost == {WORST: ("c0",), LOST: ("c7",), MEDIAN: ("c4",), BEST: ("c9",)}
    assert pick_kinds({"a": 0.5}) == [(ONLY, ("a",))]
    assert pick_kinds({"a": 0.5, "b": 0.6}, each=1) == [(WORST, ("a",)), (BEST, ("b",))]
    assert pick_kinds({}) == []


def test_cases_are_named_without_folders() -> None:
    assert name_case("doe, jane/exam 3/frame_07") == "frame_07"


def test_paths_in_commands_name_no_more_folders_than_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home, work = tmp_path / "jane", tmp_path / "work"
    for folder in (home, work):
        folder.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(work)
    assert show_path(work / "runs" / "first") == "runs/first"
    assert show_path(Path("runs/first/../other")) == "runs/other"
    assert show_path(home / "my runs" / "a") == "~/'my runs/a'"
    assert show_path(Path("/srv/runs")) == "/srv/runs"
    assert write_command("edgeseg", "x y", work / "$(id)") == "edgeseg 'x y' '$(id)'"


def test_counts_and_lists_are_read_as_sentences() -> None:
    assert [count(1, "case"), count(1200, "case")] == ["1 case", "1,200 cases"]
    assert join_names(["a", "b", "c"]) == "a, b and c"
    assert join_names([str(number) for number in range(127)]) == "0, 1, 2, 3 and 123 more"
    assert len(join_names(["n" * 255])) == 40
    assert join_names([]) == ""
