"""What came of the trials: a row for each, the front between Dice and work, and the pick."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FINISHED, FAILED, RUNNING, INTERRUPTED = "finished", "failed", "running", "interrupted"


@dataclass(frozen=True)
class TrialRow:
    """One trial; what is measured stays None until it is finished."""

    number: int
    state: str
    model: str
    size: int
    stem: str
    loss: str
    learning_rate: float
    validation_dice: float | None = None
    macs: int | None = None
    seconds: float | None = None
    sentence: str = ""
    """Why it failed."""

    @property
    def label(self) -> str:
        """Name the trial's network in few words."""
        return f"{self.model} {self.size} {self.stem}"


@dataclass(frozen=True)
class Score:
    """What a finished trial is judged by."""

    validation_dice: float
    macs: int

    def beats(self, other: Score) -> bool:
        """Say whether this is at least as good in both respects and better in one."""
        return self != other and self.validation_dice >= other.validation_dice and self.macs <= other.macs


@dataclass(frozen=True)
class TrialResult:
    """What a trial found, or why it failed."""

    seconds: float
    score: Score | None = None
    sentence: str = ""


def find_front(rows: Sequence[TrialRow]) -> tuple[TrialRow, ...]:
    """Find the finished trials that no other one beats, those with least work first."""
    scored = [(score, row) for row in rows if (score := _read_score(row)) is not None]
    front = [(score, row) for score, row in scored if not any(other.beats(score) for other, _ in scored)]
    return tuple(row for _, row in sorted(front, key=lambda pair: (pair[0].macs, pair[1].number)))


def pick_trial(front: Sequence[TrialRow]) -> TrialRow | None:
    """Pick the trial with the highest validation Dice; of equal ones that with least work."""
    scored = [(score, row) for row in front if (score := _read_score(row)) is not None]
    return max(scored, key=lambda pair: (pair[0].validation_dice, -pair[0].macs))[1] if scored else None


def count_state(rows: Sequence[TrialRow], *states: str) -> int:
    """Count the trials in any of these states."""
    return sum(row.state in states for row in rows)


def _read_score(row: TrialRow) -> Score | None:
    if row.state != FINISHED or row.validation_dice is None or row.macs is None:
        return None
    return Score(row.validation_dice, row.macs)
