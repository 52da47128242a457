"""Recipes and boards are found by name or path, and a wrong name gets the list and the nearest one."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeseg.compression.recipe import load_recipe
from edgeseg.core.errors import LimitError, RecipeError, UnknownNameError
from edgeseg.machine.boards import find_board, find_recipe, list_recipes

VALID = 'summary = "mine"\nprecision = "int8"\n'


@pytest.mark.parametrize("name", sorted(list_recipes()))
def test_every_recipe_that_comes_along_is_valid(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.summary.endswith(".")


def test_recipe_is_found_by_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(VALID, encoding="utf-8")
    assert load_recipe(str(path)).name == "mine"


def test_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="recipe, got 'int8-qta'") as caught:
        find_recipe("int8-qta")
    assert "int8-qat?" in caught.value.hint
    assert "float16" in caught.value.hint


def test_unknown_board_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError) as caught:
        find_board("generic-x86")
    assert "generic-x86_64?" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (VALID + "epochs = 3\n", "epochs"),
        ('summary = "no precision"\n', "precision"),
        ('summary = "odd"\nprecision = "int4"\n', "got 'int4'"),
        (VALID + "calibration_images = 0\n", "1 calibration image"),
        (VALID + "[qat]\nepochs = 0\nlearning_rate = 1e-4\ndistillation = 0.5\n", "1 to 100000 epochs"),
        ('summary = "odd"\nprecision = "float16"\n[qat]\nepochs = 1\nlearning_rate = 1\ndistillation = 0\n', "beside"),
        ("precision = ", "parse"),
        ("precision = " + "[" * 10_000, "parse"),
        ("precision = " + "9" * 10_000, "parse"),
    ],
)
def test_wrong_recipe_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match=sentence):
        load_recipe(str(path))


def test_a_recipe_far_longer_than_any_is_not_parsed(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(VALID + ".".join("a" * 20_000) + " = 1\n", encoding="utf-8")  # 40 kB that would take 1.6 GB
    with pytest.raises(LimitError, match=r"mine\.toml"):
        load_recipe(str(path))
