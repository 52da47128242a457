"""What is known of every epoch: one line each, kept as CSV, from which a continued training knows what it knew."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeseg.core.errors import RunError
from edgeseg.core.files import write_rows
from edgeseg.core.limits import TABLE_BYTES, read_regular
from edgeseg.train.run import HISTORY, Timing


@dataclass(frozen=True)
class EpochCost:
    """What an epoch's steps came to: the loss, the rate they ended with, and where the time went."""

    loss: float
    learning_rate: float = 0.0
    seconds: float = 0.0
    waiting_seconds: float = 0.0


@dataclass(frozen=True)
class EpochResult:
    """One line of the history."""

    epoch: int
    loss: float
    validation_dice: float
    learning_rate: float = 0.0
    seconds: float = 0.0
    waiting_share: float = 0.0
    """Of the epoch's seconds, those in which the step waited for its batch."""


COLUMNS = tuple(field.name for field in dataclasses.fields(EpochResult))


def make_result(epoch: int, cost: EpochCost, dice: float, judging_seconds: float) -> EpochResult:
    """Round an epoch's figures to what the file keeps, so that a continued training decides as it would have."""
    seconds = cost.seconds + judging_seconds
    share = cost.waiting_seconds / seconds if seconds else 0.0
    rate = float(f"{cost.learning_rate:.4g}")
    return EpochResult(epoch, round(cost.loss, 5), round(dice, 5), rate, round(seconds, 3), round(share, 4))


def write_history(folder: Path, history: Sequence[EpochResult]) -> None:
    """Write the history of a run."""
    write_rows(folder / HISTORY, COLUMNS, [dataclasses.astuple(row) for row in history])


def read_history(folder: Path) -> list[EpochResult]:
    """Read the history of a run; columns that an older one does not have are 0."""
    path = folder / HISTORY
    try:
        text = read_regular(path, TABLE_BYTES).decode("utf-8")
        history = [
            EpochResult(int(row["epoch"]), *(float(row.get(name) or 0.0) for name in COLUMNS[1:]))
            for row in csv.DictReader(io.StringIO(text, newline=""))
        ]
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise RunError(
            f"Expected a line for each epoch in {path}, got a damaged file: {type(error).__name__} at {error}.",
            "Train again, with --overwrite.",
        ) from error
    if not history:
        raise RunError(f"Expected a line for each epoch in {path}, got none.", "Train again, with --overwrite.")
    return history


def best_result(history: Sequence[EpochResult], window: int = 1) -> EpochResult:
    """Find the epoch with the best validation Dice; of equal ones the first.

    Args:
        history: The epochs so far.
        window: Over how many epochs, up to the one in question, the Dice is averaged: a single peak is chance.
    """

    def steady_dice(number: int) -> float:
        rows = history[max(0, number - window + 1) : number + 1]
        return sum(row.validation_dice for row in rows) / len(rows)

    return history[max(range(len(history)), key=steady_dice)]


def summarise_timing(history: Sequence[EpochResult], peak_memory_mb: float) -> Timing:
    """Say where the time of a training went."""
    seconds = sum(row.seconds for row in history)
    waited = sum(row.seconds * row.waiting_share for row in history)
    share = round(waited / seconds, 4) if seconds else 0.0
    return Timing(round(seconds, 1), round(seconds / len(history), 3), share, peak_memory_mb)
