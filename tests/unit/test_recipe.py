"""Recipes say what they mean, come back as they were written, and plain int8 stands beside trained ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgeseg.compression.recipe import Recipe, add_plain_recipe, check_names, format_recipe, load_recipe
from edgeseg.core.errors import RecipeError
from edgeseg.machine.boards import list_recipes

PRUNE = "epochs = 1\nrecovery_epochs = 1\nlearning_rate = 1e-3\ndistillation = 0.5\n"
STEP = "target = 0.5\nepochs = 2\nlearning_rate = 1e-3\ndistillation = 0.5\n"


@pytest.mark.parametrize("name", sorted(list_recipes()))
def test_recipe_comes_back_as_it_was_written(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    path = tmp_path / f"{name}.toml"
    path.write_text(format_recipe(recipe), encoding="utf-8")
    assert load_recipe(str(path)) == recipe


def test_layers_kept_in_float_come_back_as_they_were_written(tmp_path: Path) -> None:
    recipe = Recipe("mine", "mine", "int8", keep_float=("head", "up0_a"))
    (tmp_path / "mine.toml").write_text(format_recipe(recipe), encoding="utf-8")
    assert load_recipe(str(tmp_path / "mine.toml")) == recipe


def test_plain_int8_is_made_beside_recipes_that_train_for_int8() -> None:
    qat, plain, half = (load_recipe(name) for name in ("int8-qat", "int8-ptq", "float16"))
    assert [recipe.name for recipe in add_plain_recipe((qat,))] == ["int8-ptq", "int8-qat"]
    assert add_plain_recipe((qat, plain)) == (qat, plain)
    assert add_plain_recipe((half,)) == (half,)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('precision = "int4"', "precision.*int4"),
        ('precision = "int8"\nspeed = 3', r"\bspeed\b"),
        ('precision = "int8"\n[sparsify]\n' + STEP.replace("0.5", "1.5", 1), "target.*0 and 1"),
        ('precision = "int8"\n[sparsify]\n' + STEP.replace("2", "0", 1), "100000 epochs"),
        (
            'precision = "int8"\n[prune]\n' + PRUNE,
            "macs, parameters, latency in .prune.",
        ),
        ('precision = "int8"\n[prune]\nmacs = 0.5\nlatency = 0\n' + PRUNE, "latency.*0 and 1"),
        ('precision = "int8"\n[prune]\nmacs = 1.5\n' + PRUNE, "macs.*0 and 1"),
        ('precision = "int8"\n[prune]\nmacs = 0.5\nsteps = 0\n' + PRUNE, "1000 steps"),
        ('precision = "int8"\n[prune]\nmacs = 0.5\nimportance = "size"\n' + PRUNE, "taylor, norm"),
        (
            'precision = "int16x8"\n[qat]\nepochs = 1\nlearning_rate = 1e-3\ndistillation = 0.0',
            "expected precision int8",
        ),
        ('precision = "float16"\nkeep_float = ["head"]', "expected precision int8 without .qat. beside keep_float"),
        (
            'precision = "int8"\nkeep_float = ["head"]\n[qat]\nepochs = 1\nlearning_rate = 1e-3\ndistillation = 0.0',
            "got 'int8' with .qat.",
        ),
        ('precision = "int8"\nkeep_float = "head"', "list.*keep_float"),
        ('precision = "int8"\nname = "../../evil"', "name.*../../evil"),
        ('precision = "int8"\nname = "float32"', "name.*float32"),
    ],
)
def test_recipe_that_cannot_be_is_refused(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'summary = "mine"\n{text}\n', encoding="utf-8")
    with pytest.raises(RecipeError, match=reason):
        load_recipe(str(path))


def test_recipes_of_one_name_are_refused() -> None:
    qat, mine = load_recipe("int8-qat"), Recipe("int8-ptq", "mine", "int8", keep_float=("head",))
    check_names(add_plain_recipe((qat, load_recipe("int8-ptq"))))
    with pytest.raises(RecipeError, match=r"\b2\b.*int8-ptq"):
        check_names(add_plain_recipe((qat, mine)))
    with pytest.raises(RecipeError, match=r"\b2\b.*int8-qat"):
        check_names((qat, qat))


@pytest.mark.parametrize(
    ("field", "expected"), [({}, True), ({"precision": "int16x8"}, False), ({"keep_float": ("head",)}, False)]
)
def test_plain_int8_is_known(field: dict[str, Any], expected: bool) -> None:
    assert Recipe(**({"name": "a", "summary": "b", "precision": "int8"} | field)).is_plain_int8 is expected
