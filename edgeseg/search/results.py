"""The trials of a study: what each one tried and scored, the Pareto front among them, and the pick."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from edgeseg.core.errors import RunError
from edgeseg.core.stats import Costs, pareto_front

ChoiceT = TypeVar("ChoiceT")
"""A dataclass with the values that one trial tries."""
ScoreT = TypeVar("ScoreT")
"""A dataclass with the values that a finished trial is compared by."""
FINISHED, FAILED, RUNNING, INTERRUPTED = "finished", "failed", "running", "interrupted"


@dataclass(frozen=True)
class Trial(Generic[ChoiceT, ScoreT]):
    """One trial of a study."""

    number: int
    state: str
    choice: ChoiceT
    score: ScoreT | None = None
    """None until it is finished, as are the seconds."""
    seconds: float | None = None
    sentence: str = ""
    """Why it failed."""


TrialT = TypeVar("TrialT", bound=Trial[Any, Any])


@dataclass(frozen=True)
class Objective:
    """A field of the score that a search optimises."""

    name: str
    maximize: bool = False

    def cost(self, score: Any) -> float:
        """Give the value, negated where more is better."""
        value = float(getattr(score, self.name))
        return -value if self.maximize else value


def find_front(trials: Sequence[TrialT], objectives: Sequence[Objective]) -> tuple[TrialT, ...]:
    """Find the Pareto front of the finished trials, sorted by the second objective: work or time."""
    # equal trials stay on the front together: none of them dominates the other
    scored = [(_costs(trial, objectives), trial) for trial in trials if trial.score is not None]
    return tuple(sorted(pareto_front(scored), key=lambda trial: (_costs(trial, objectives)[1], trial.number)))


def pick_trial(front: Sequence[TrialT], objectives: Sequence[Objective]) -> TrialT | None:
    """Pick the best in the first objective; the other objectives, then the number, decide between equal ones."""
    return min(front, key=lambda trial: (*_costs(trial, objectives), trial.number), default=None)


def count_state(trials: Sequence[Trial[Any, Any]], *states: str) -> int:
    """Count the trials in any of these states."""
    return sum(trial.state in states for trial in trials)


def refuse_no_result(out: Path, trials: Sequence[Trial[Any, Any]], hint: str) -> None:
    """Raise an error where no trial was finished and none is running."""
    if count_state(trials, FINISHED, RUNNING):
        return
    sentence = next((trial.sentence for trial in trials if trial.sentence), "every one was interrupted.")
    raise RunError(f"Expected at least one trial of {out} to be finished, got none: {sentence}", hint)


def _costs(trial: Trial[Any, Any], objectives: Sequence[Objective]) -> Costs:
    return tuple(objective.cost(trial.score) for objective in objectives)
