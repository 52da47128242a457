"""What came of the trials: a row for each, the front of Dice, time and size, and the pick."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeseg.core.front import keep_unbeaten
from edgeseg.search.space import Choice


@dataclass(frozen=True)
class FileScore:
    """What a trial's file is judged by."""

    validation_dice: float
    relative: float
    """Its median time as a share of that of the run's int8 file, which was timed in turn with it."""
    bytes: int

    @property
    def values(self) -> tuple[float, ...]:
        """Give what the journal remembers."""
        return self.validation_dice, self.relative, self.bytes

    @property
    def costs(self) -> tuple[float, ...]:
        """Give the same so that less is better everywhere."""
        return -self.validation_dice, self.relative, self.bytes


@dataclass(frozen=True)
class SearchRow:
    """One trial."""

    number: int
    state: str
    choice: Choice
    score: FileScore | None = None
    """None, as is the time, until it is finished."""
    ms: float | None = None
    """Its share of the int8 file's time, in milliseconds of that file."""
    seconds: float | None = None
    sentence: str = ""
    """Why it failed."""

    @property
    def name(self) -> str:
        """Name the recipe of the trial's file."""
        return self.choice.name


def find_front(rows: Sequence[SearchRow]) -> tuple[SearchRow, ...]:
    """Find the finished trials that no other one beats, the fastest first."""
    front = keep_unbeaten([(score.costs, (score, row)) for row in rows if (score := row.score) is not None])
    return tuple(row for score, row in sorted(front, key=lambda pair: (pair[0].relative, pair[1].number)))


def pick_trial(front: Sequence[SearchRow], budget_ms: float) -> SearchRow | None:
    """Pick the highest validation Dice within the budget; None where none is fast enough.

    Of equal ones the fastest is picked, then the smallest, then the first.
    """
    scored = [
        ((*score.costs, row.number), row)
        for row in front
        if (score := row.score) is not None and row.ms is not None and row.ms <= budget_ms
    ]
    return min(scored, key=lambda pair: pair[0])[1] if scored else None
