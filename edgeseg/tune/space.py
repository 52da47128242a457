"""What a search varies, and what stays the same in all of its trials."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from edgeseg.core.card import SplitSpec
from edgeseg.core.errors import DataError
from edgeseg.core.limits import EPOCHS
from edgeseg.model.spec import find_size
from edgeseg.train.run import TrainOptions

Number = TypeVar("Number", int, float)
CHOICES = ("models", "sizes", "stems", "losses")


@dataclass(frozen=True)
class SearchSpace:
    """The values that trials choose from; learning rates are a span, searched on a logarithmic scale."""

    models: tuple[str, ...] = ("nano", "micro", "small")
    sizes: tuple[int, ...] = (128, 192, 256)
    stems: tuple[str, ...] = ("quarter",)
    losses: tuple[str, ...] = ("bce-dice",)
    learning_rates: tuple[float, float] = (5e-4, 8e-3)

    def __post_init__(self) -> None:
        for name in CHOICES:
            _refuse_repeats(name, getattr(self, name))
        low, high = self.learning_rates
        if not 0.0 < low <= high < float("inf"):
            raise ValueError(f"expected learning rates LO,HI with 0 < LO <= HI, got {low:g},{high:g}")
        for model in self.models:
            find_size(model)
        for size in self.sizes:
            for stem in self.stems:
                TrainOptions(size=size, stem=stem)


@dataclass(frozen=True)
class StudyPlan:
    """What makes two searches the same one, so that a study can be continued and shared between processes."""

    space: SearchSpace
    split: SplitSpec
    epochs: int = 30

    def __post_init__(self) -> None:
        if not 1 <= self.epochs <= EPOCHS:
            raise ValueError(f"expected 1 to {EPOCHS} epochs, got {self.epochs}")

    @property
    def seed(self) -> int:
        """Give the seed that divides the cases, starts the networks and the search."""
        return self.split.seed


def refuse_changed_data(data: Path, begun: str, found: str) -> None:
    """Refuse data whose fingerprint is not the one that the study was begun on."""
    if found != begun:
        raise DataError(
            f"Expected the data that the study was begun on, got a changed folder {data}.",
            "Restore the folder, or begin a new study with another --out.",
        )


def parse_space(models: str, sizes: str, stems: str, losses: str, learning_rates: str) -> SearchSpace:
    """Read a search space from lists with commas, as they stand on the command line."""
    rates = tuple(_to_number(part, float, "learning rates") for part in _split_list(learning_rates))
    if len(rates) != 2:
        raise ValueError(f"expected two learning rates LO,HI, got {learning_rates!r}")
    return SearchSpace(
        models=_split_list(models),
        sizes=tuple(_to_number(part, int, "sizes") for part in _split_list(sizes)),
        stems=_split_list(stems),
        losses=_split_list(losses),
        learning_rates=(rates[0], rates[1]),
    )


def _split_list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


def _to_number(text: str, kind: Callable[[str], Number], name: str) -> Number:
    try:
        return kind(text)
    except ValueError as error:
        raise ValueError(f"expected {name} as numbers with commas between them, got {text!r}") from error


def _refuse_repeats(name: str, values: Sequence[object]) -> None:
    if not values or len(set(values)) < len(values):
        raise ValueError(f"expected {name} that differ, at least one, got {', '.join(map(str, values)) or 'none'}")
