"""What came of a trial, and the states it can be in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

FINISHED, FAILED, RUNNING, INTERRUPTED = "finished", "failed", "running", "interrupted"


class Score(Protocol):
    """What a finished trial is judged by."""

    @property
    def values(self) -> tuple[float, ...]:
        """Give what the journal remembers, in the order of its directions."""


class Stated(Protocol):
    """A trial as far as its state goes."""

    @property
    def state(self) -> str:
        """Name the state."""


@dataclass(frozen=True)
class TrialResult:
    """What a trial found, or why it failed."""

    seconds: float
    score: Score | None = None
    sentence: str = ""
    notes: Mapping[str, float] = field(default_factory=dict)
    """What else the journal is to remember of it."""


def count_state(rows: Sequence[Stated], *states: str) -> int:
    """Count the trials in any of these states."""
    return sum(row.state in states for row in rows)
