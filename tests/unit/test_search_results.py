"""A search over files: what it varies, which trials stand on the front, what is picked and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from edgeseg.compression.recipe import Recipe, format_recipe, load_recipe
from edgeseg.search.compressions import FIRST, PRECISIONS, WHOLE, Choice, FileScore, SearchRow, find_front, pick_trial
from edgeseg.search.report import (
    FRONT,
    PICTURE,
    SEARCH,
    Promise,
    explain_late,
    list_front,
    summarise_search,
    write_report,
)
from edgeseg.search.trials import FAILED, FINISHED, RUNNING
from tests.commands import assert_says


def make_row(number: int, dice: float, ms: float, size: int = 1000, left: int = 50) -> SearchRow:
    return SearchRow(number, FINISHED, Choice(left, "int8-ptq"), FileScore(dice, ms / 2, size), ms)


def reload_recipe(recipe: Recipe, folder: Path) -> Recipe:
    path = folder / f"{recipe.name}.toml"
    path.write_text(format_recipe(recipe), encoding="utf-8")
    return load_recipe(str(path))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("left", [20, 90, WHOLE])
def test_recipe_of_a_trial_can_be_read_again(precision: str, left: int, tmp_path: Path) -> None:
    recipe = Choice(left, precision).recipe
    assert reload_recipe(recipe, tmp_path) == recipe
    assert (recipe.prune is None) == (left == WHOLE)


def test_recipes_tell_what_is_left() -> None:
    recipe = Choice(40, "int8-qat").recipe
    assert (recipe.name, recipe.precision) == ("keep40-int8-qat", "int8")
    assert recipe.prune is not None
    assert recipe.prune.macs == 0.4
    assert Choice(WHOLE, "int8-qat").recipe == load_recipe("int8-qat")


def test_nothing_is_pruned_at_first() -> None:
    assert [choice.name for choice in FIRST] == list(PRECISIONS)


def test_front_counts_dice_time_and_size() -> None:
    rows = [
        make_row(0, 0.90, 3.0, 900),
        make_row(1, 0.85, 1.0, 900),
        make_row(2, 0.85, 1.0, 950),
        make_row(3, 0.84, 2.0, 400),
        SearchRow(4, FAILED, Choice(20, "float16"), sentence="Expected more."),
        SearchRow(5, RUNNING, Choice(30, "float16")),
    ]
    assert [row.number for row in find_front(rows)] == [1, 3, 0]


def test_pick_is_the_best_within_the_budget() -> None:
    rows = [make_row(0, 0.90, 3.0), make_row(1, 0.85, 1.0), make_row(2, 0.80, 0.5)]
    assert pick_trial(rows, 3.0) == rows[0]
    assert pick_trial(rows, 2.9) == rows[1]
    assert pick_trial(rows, 0.4) is None


def test_pick_of_equal_dice_is_the_fastest() -> None:
    assert pick_trial([make_row(0, 0.9, 2.0), make_row(1, 0.9, 1.0)], 3.0) == make_row(1, 0.9, 1.0)


def test_fastest_is_named_where_none_is_fast_enough() -> None:
    said = explain_late(make_row(7, 0.9, 2.0), Promise(1.5))
    assert_says(said, "1.5 ms", "trial 7", "keep50-int8-ptq", "2.00 ms")


@pytest.mark.parametrize(("budget", "drop", "said"), [(0.0, 0.01, "--budget-ms above 0"), (1.0, 2.0, "--max-drop")])
def test_promises_that_nobody_can_keep(budget: float, drop: float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Promise(budget, drop)


def test_files_say_the_same(tmp_path: Path) -> None:
    rows = [make_row(0, 0.90, 3.0), make_row(1, 0.85, 1.0), SearchRow(2, FAILED, Choice(20, "float16"), sentence="No.")]
    report = summarise_search("run", 1, rows, Promise(2.0))
    write_report(tmp_path, report)
    saved = json.loads((tmp_path / SEARCH).read_text(encoding="utf-8"))
    assert [row["number"] for row in saved["trials"]] == [0, 1, 2]
    assert (saved["pick"]["number"], saved["gate"]["held"]) == (1, False)
    assert (saved["trials"][2]["sentence"], saved["trials"][2]["score"]) == ("No.", None)
    page = (tmp_path / FRONT).read_text(encoding="utf-8")
    assert f"| {' | '.join(list_front(report.front, report.pick)[0])} |" in page
    assert cv2.imread(str(tmp_path / PICTURE)) is not None
