"""What came of a trial, the states it can be in, and which trials no other one beats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

FINISHED, FAILED, RUNNING, INTERRUPTED = "finished", "failed", "running", "interrupted"


class Score(Protocol):
    """What a finished trial is judged by."""

    @property
    def values(self) -> tuple[float, ...]:
        """Give what the journal remembers, in the order of its directions."""

    @property
    def costs(self) -> tuple[float, ...]:
        """Give the same so that less is better everywhere."""


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


Row = TypeVar("Row")


def count_state(rows: Sequence[Stated], *states: str) -> int:
    """Count the trials in any of these states."""
    return sum(row.state in states for row in rows)


def beats(one: Score, other: Score) -> bool:
    """Say whether a score is at least as good in every respect and better in one."""
    return one.costs != other.costs and all(a <= b for a, b in zip(one.costs, other.costs, strict=True))


def keep_unbeaten(scored: Sequence[tuple[Score, Row]]) -> list[Row]:
    """Keep the rows whose score no other one beats."""
    return [row for score, row in scored if not any(beats(other, score) for other, _ in scored)]
