"""What came of the trials: a row for each, the front between Dice and work, and the pick."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeseg.core.front import keep_unbeaten
from edgeseg.trials.results import FINISHED


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

    @property
    def values(self) -> tuple[float, ...]:
        """Give what the journal remembers."""
        return self.validation_dice, self.macs

    @property
    def costs(self) -> tuple[float, ...]:
        """Give the same so that less is better everywhere."""
        return -self.validation_dice, self.macs


def find_front(rows: Sequence[TrialRow]) -> tuple[TrialRow, ...]:
    """Find the finished trials that no other one beats, those with least work first."""
    front = keep_unbeaten([(score.costs, row) for row in rows if (score := _read_score(row)) is not None])
    return tuple(sorted(front, key=lambda row: (row.macs or 0, row.number)))


def pick_trial(front: Sequence[TrialRow]) -> TrialRow | None:
    """Pick the trial with the highest validation Dice; of equal ones that with least work, then the first."""
    scored = [(score, row) for row in front if (score := _read_score(row)) is not None]
    return min(scored, key=lambda pair: (*pair[0].costs, pair[1].number))[1] if scored else None


def _read_score(row: TrialRow) -> Score | None:
    if row.state != FINISHED or row.validation_dice is None or row.macs is None:
        return None
    return Score(row.validation_dice, row.macs)
