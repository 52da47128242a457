"""A search for a recipe: its grid, the Pareto front, the pick, and the files it writes."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from edgeseg.compression.gate import Gate
from edgeseg.compression.recipe import Recipe, format_recipe, load_recipe
from edgeseg.search.recipes import (
    FILES,
    PRECISIONS,
    UNPRUNED,
    FileScore,
    RecipeChoice,
    RecipeTrial,
    explain_late,
    summarise_search,
)
from edgeseg.search.results import (
    FAILED,
    FINISHED,
    FRONT,
    PICTURE,
    RUNNING,
    TABLE,
    Trial,
    find_front,
    list_front,
    list_outcomes,
    pick_trial,
    write_report,
)
from tests.commands import assert_says


def make_row(number: int, dice: float, ms: float, size: int = 1000) -> RecipeTrial:
    return Trial(number, FINISHED, RecipeChoice(50, "int8-ptq"), FileScore(dice, ms / 2, size, 2.0, ms))


def make_unscored(number: int, state: str, sentence: str = "") -> RecipeTrial:
    return Trial(number, state, RecipeChoice(20, "float16"), sentence=sentence)


def pick_number(rows: list[RecipeTrial], budget_ms: float) -> int | None:
    pick = summarise_search("run", 1, rows, Gate(budget_ms=budget_ms)).pick
    return None if pick is None else pick.number


def reload_recipe(recipe: Recipe, folder: Path) -> Recipe:
    path = folder / f"{recipe.name}.toml"
    path.write_text(format_recipe(recipe), encoding="utf-8")
    return load_recipe(str(path))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("left", [20, 90, UNPRUNED])
def test_recipe_of_a_trial_can_be_read_again(precision: str, left: int, tmp_path: Path) -> None:
    recipe = RecipeChoice(left, precision).recipe
    assert reload_recipe(recipe, tmp_path) == recipe
    assert (recipe.prune is None) == (left == UNPRUNED)


def test_recipe_is_named_after_what_is_left() -> None:
    recipe = RecipeChoice(40, "int8-qat").recipe
    assert (recipe.name, recipe.precision) == ("keep40-int8-qat", "int8")
    assert recipe.prune is not None
    assert recipe.prune.macs == 0.4
    assert RecipeChoice(UNPRUNED, "int8-qat").recipe == load_recipe("int8-qat")


def test_front_counts_dice_time_and_size() -> None:
    rows = [
        make_row(0, 0.90, 3.0, 900),
        make_row(1, 0.85, 1.0, 900),
        make_row(2, 0.85, 1.0, 950),
        make_row(3, 0.84, 2.0, 400),
        make_unscored(4, FAILED, "Expected more."),
        make_unscored(5, RUNNING),
    ]
    assert [row.number for row in find_front(rows, FILES.objectives)] == [1, 3, 0]


def test_pick_is_the_best_within_the_budget() -> None:
    rows = [make_row(0, 0.90, 3.0), make_row(1, 0.85, 1.0), make_row(2, 0.80, 0.5)]
    assert [pick_number(rows, budget) for budget in (3.0, 2.9, 0.4)] == [0, 1, None]


def test_pick_of_equal_dice_is_the_fastest() -> None:
    assert pick_trial([make_row(0, 0.9, 2.0), make_row(1, 0.9, 1.0)], FILES.objectives) == make_row(1, 0.9, 1.0)


def test_fastest_is_named_where_none_is_fast_enough() -> None:
    said = explain_late(make_row(7, 0.9, 2.0), Gate(budget_ms=1.5))
    assert_says(said, "1.5 ms", "trial 7", "keep50-int8-ptq", "2.00 ms")


@pytest.mark.parametrize(("budget", "drop", "said"), [(0.0, 0.01, "--budget-ms above 0"), (1.0, 2.0, "--max-drop")])
def test_gates_that_nothing_can_hold(budget: float, drop: float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Gate(drop, budget)


def test_files_say_the_same(tmp_path: Path) -> None:
    rows = [make_row(0, 0.90, 3.0), make_row(1, 0.85, 1.0), make_unscored(2, FAILED, "No.")]
    report = summarise_search("run", 1, rows, Gate(budget_ms=2.0))
    write_report(tmp_path, report, FILES, 2.0)
    saved = json.loads((tmp_path / FILES.file).read_text(encoding="utf-8"))
    assert [row["number"] for row in saved["trials"]] == [0, 1, 2]
    assert saved["pick"] == {
        "number": 1,
        "state": "finished",
        "choice": {"left": 50, "precision": "int8-ptq"},
        "score": {"validation_dice": 0.85, "relative": 0.5, "bytes": 1000},
        "ms": 1.0,
        "seconds": None,
        "sentence": "",
    }
    assert saved["gate"] == {"budget_ms": 2.0, "max_drop": 0.01, "held": False}
    assert (saved["trials"][2]["sentence"], saved["trials"][2]["score"]) == ("No.", None)
    page = (tmp_path / FRONT).read_text(encoding="utf-8")
    assert f"| {' | '.join(list_front(report, FILES)[0])} |" in page
    assert len((tmp_path / TABLE).read_text(encoding="utf-8").splitlines()) == 4
    assert list_outcomes(report, FILES) == ["Trial 2 (keep20-float16) failed: No.", "2 finished, 1 failed, 0 running"]
    assert cv2.imread(str(tmp_path / PICTURE)) is not None
