"""What a folder's trials look for, and one of them in work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from optuna.trial import Trial

Options = TypeVar("Options")
Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True)
class Task(Generic[Options]):
    """What a folder's trials look for."""

    plan: Mapping[str, Any]
    """What makes two searches the same one, by name; a folder that was begun with another plan is refused."""
    seed: int
    """Leads the proposals."""
    directions: tuple[Direction, ...]
    parameters: frozenset[str]
    propose: Callable[[Trial], Options]
    """Lets Optuna choose these parameters, and makes of them what a trial tries."""
    first: tuple[dict[str, Any], ...] = ()
    """Parameters to try before any are proposed."""


@dataclass(frozen=True)
class Claim(Generic[Options]):
    """A trial that this process runs."""

    trial: Trial
    options: Options
    folder: Path
