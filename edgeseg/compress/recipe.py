"""A recipe: what is done to a trained network, read from a TOML file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgeseg.core.catalog import find_recipe, read_toml
from edgeseg.core.errors import RecipeError
from edgeseg.core.schema import from_plain

PRECISIONS = ("float16", "int8")


@dataclass(frozen=True)
class QatStep:
    """Quantisation-aware training after the float one."""

    epochs: int
    learning_rate: float
    distillation: float
    """Share of the loss that pulls towards the float parent's masks instead of the true ones."""

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.learning_rate <= 0:
            raise ValueError(f"expected epochs >= 1 and a learning_rate above 0, got {self}")
        if not 0.0 <= self.distillation <= 1.0:
            raise ValueError(f"expected distillation from 0 to 1, got {self.distillation}")


@dataclass(frozen=True)
class Recipe:
    """The content of a recipe file, and the name it is known by."""

    name: str
    summary: str
    precision: str
    calibration_images: int = 128
    qat: QatStep | None = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"expected precision to be one of {', '.join(PRECISIONS)}, got {self.precision!r}")
        if self.qat is not None and self.precision != "int8":
            raise ValueError(f"expected precision int8 beside [qat], got {self.precision!r}")
        if self.calibration_images < 1:
            raise ValueError(f"expected at least 1 calibration image, got {self.calibration_images}")


def load_recipe(name: str) -> Recipe:
    """Read a recipe by its name or by the path of a TOML file; unknown keys are refused."""
    path = find_recipe(name)
    table: dict[str, Any] = {"name": path.stem, **read_toml(path)}
    try:
        return from_plain(Recipe, table)
    except ValueError as error:
        raise RecipeError(
            f"Expected a valid recipe in {path}, got: {error}.", "quantize/README.md explains every key."
        ) from error
