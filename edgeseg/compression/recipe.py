"""Recipes: the compression steps of a trained network, read from TOML files (quantize/README.md)."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeseg.core.errors import RecipeError
from edgeseg.core.limits import EPOCHS, PRUNING_STEPS
from edgeseg.core.schema import from_plain, to_plain
from edgeseg.core.spec import check_choice
from edgeseg.machine.boards import find_recipe, read_toml

PRECISIONS = ("float16", "dynamic-int8", "int8", "int16x8")
# Precisions with integer activations, whose ranges come from calibration images.
CALIBRATED = ("int8", "int16x8")
BUDGETS = ("macs", "parameters", "latency")
IMPORTANCES = ("taylor", "norm")
# The name of the float parent's file; no recipe may have it.
PARENT = "float32"

_NAME = re.compile(r"\w[\w .+-]*")


@dataclass(frozen=True)
class QatStep:
    """Quantisation-aware training (QAT)."""

    epochs: int
    learning_rate: float
    distillation: float
    """Share of the loss that compares with the teacher's masks (the float parent's by default), not the true ones."""

    def __post_init__(self) -> None:
        _check_training(self.epochs, self.learning_rate, self.distillation)


@dataclass(frozen=True)
class PruneStep:
    """Structured pruning: removal of whole channels until every given budget holds."""

    epochs: int
    """Epochs of training after each step."""
    recovery_epochs: int
    """Epochs after the last step."""
    learning_rate: float
    distillation: float
    steps: int = 4
    importance: str = "taylor"
    macs: float | None = None
    parameters: float | None = None
    latency: float | None = None
    """The budgets: shares of the whole network's cost that may be left."""

    def __post_init__(self) -> None:
        for epochs in (self.epochs, self.recovery_epochs):
            _check_training(epochs, self.learning_rate, self.distillation)
        if not self.budgets:
            raise ValueError(f"expected one or more of {', '.join(BUDGETS)} in [prune], got none")
        for name, share in self.budgets.items():
            if not 0.0 < share < 1.0:
                raise ValueError(f"expected {name} between 0 and 1, got {share}")
        if not 1 <= self.steps <= PRUNING_STEPS:
            raise ValueError(f"expected 1 to {PRUNING_STEPS} steps, got {self.steps}")
        check_choice("importance", self.importance, IMPORTANCES)

    @property
    def budgets(self) -> dict[str, float]:
        """The given budgets by name."""
        return {name: float(getattr(self, name)) for name in BUDGETS if getattr(self, name) is not None}


@dataclass(frozen=True)
class SparsifyStep:
    """Magnitude sparsification: training that sets the smallest weights to zero, a few more at a time."""

    target: float
    """Final sparsity of every convolution but the last."""
    epochs: int
    learning_rate: float
    distillation: float

    def __post_init__(self) -> None:
        _check_training(self.epochs, self.learning_rate, self.distillation)
        if not 0.0 < self.target < 1.0:
            raise ValueError(f"expected a target between 0 and 1, got {self.target}")


@dataclass(frozen=True)
class Recipe:
    """The content of a recipe file, and its name."""

    name: str
    summary: str
    precision: str
    calibration_images: int = 128
    keep_float: tuple[str, ...] = ()
    """Layers that stay float inside an int8 file, named as in the report."""
    prune: PruneStep | None = None
    sparsify: SparsifyStep | None = None
    qat: QatStep | None = None

    def __post_init__(self) -> None:
        if _NAME.fullmatch(self.name) is None:
            raise ValueError(f"expected a name that can be a file's, got {self.name!r}")
        if self.name == PARENT:
            raise ValueError(f"expected another name than {PARENT}, which is the float parent's")
        check_choice("precision", self.precision, PRECISIONS)
        if self.qat is not None and self.precision != "int8":
            raise ValueError(f"expected precision int8 beside [qat], got {self.precision!r}")
        if self.keep_float and (self.precision != "int8" or self.qat is not None):
            raise ValueError(
                "expected precision int8 without [qat] beside keep_float, since ranges then come from calibration, "
                f"got {self.precision!r}{' with [qat]' if self.qat is not None else ''}"
            )
        if self.calibration_images < 1:
            raise ValueError(f"expected at least 1 calibration image, got {self.calibration_images}")

    @property
    def trains(self) -> bool:
        """Whether the recipe trains the network."""
        return any(step is not None for step in (self.prune, self.sparsify, self.qat))

    @property
    def is_plain_int8(self) -> bool:
        """Whether this is int8 throughout without training: the baseline that QAT has to beat."""
        return self.precision == "int8" and not self.trains and not self.keep_float


def _check_training(epochs: int, learning_rate: float, distillation: float) -> None:
    if not 1 <= epochs <= EPOCHS or not 0.0 < learning_rate < float("inf"):
        raise ValueError(f"expected 1 to {EPOCHS} epochs and a learning_rate above 0, got {epochs} and {learning_rate}")
    if not 0.0 <= distillation <= 1.0:
        raise ValueError(f"expected distillation from 0 to 1, got {distillation}")


def load_recipe(name: str) -> Recipe:
    """Read a recipe by name or path; unknown keys are refused."""
    path = find_recipe(name)
    table: dict[str, Any] = {"name": path.stem, **read_toml(path)}
    try:
        return from_plain(Recipe, table)
    except ValueError as error:
        raise RecipeError(
            f"Expected a valid recipe in {path}, got: {error}.", "quantize/README.md explains every key."
        ) from error


def check_names(recipes: Sequence[Recipe]) -> None:
    """Refuse recipes of equal names, whose files would overwrite one another."""
    for name, count in Counter(recipe.name for recipe in recipes).items():
        if count > 1:
            raise RecipeError(
                f"Expected recipes of different names, got {count} that are called {name}.",
                "Rename a recipe's file. Beside recipes that train for int8, int8-ptq is made, too.",
            )


def add_plain_recipe(recipes: tuple[Recipe, ...]) -> tuple[Recipe, ...]:
    """Put plain int8 before recipes with QAT, to show whether the training gained anything."""
    trained = any(recipe.qat is not None for recipe in recipes)
    if not trained or any(recipe.is_plain_int8 for recipe in recipes):
        return recipes
    # before the others: it takes seconds, and shows at once whether int8 works at all
    return (load_recipe("int8-ptq"), *recipes)


def format_recipe(recipe: Recipe) -> str:
    """Write a recipe as TOML, with the defaults of the keys that were left out."""
    table = {key: value for key, value in to_plain(recipe).items() if key != "name" and value is not None}
    lines = [f"{key} = {json.dumps(value)}" for key, value in table.items() if not isinstance(value, Mapping)]
    for key, inner in table.items():
        if isinstance(inner, Mapping):
            given = {name: value for name, value in inner.items() if value is not None}
            lines += ["", f"[{key}]", *(f"{name} = {json.dumps(value)}" for name, value in given.items())]
    return "\n".join(lines) + "\n"
