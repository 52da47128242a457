"""The history of a training: one line per epoch in history.csv, its picture, and logs for TensorBoard."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeseg.core.errors import RunError
from edgeseg.core.files import write_rows
from edgeseg.core.limits import TABLE_BYTES, read_regular
from edgeseg.frame.images import ACCENT, INK
from edgeseg.model.keras import tf
from edgeseg.training.run import HISTORY, Timing

CURVE = "curve.png"
FOLDER = "logs"
SHOWN = ("loss", "validation_dice", "learning_rate", "waiting_share")


@dataclass(frozen=True)
class EpochCost:
    """Loss, last learning rate and time of an epoch's training steps."""

    loss: float
    learning_rate: float = 0.0
    seconds: float = 0.0
    waiting_seconds: float = 0.0


@dataclass(frozen=True)
class EpochResult:
    """One line of history.csv."""

    epoch: int
    loss: float
    validation_dice: float
    learning_rate: float = 0.0
    seconds: float = 0.0
    waiting_share: float = 0.0
    """Share of the epoch's seconds in which the steps waited for their batches."""


COLUMNS = tuple(field.name for field in dataclasses.fields(EpochResult))


def make_result(epoch: int, cost: EpochCost, dice: float, validation_seconds: float) -> EpochResult:
    """Round an epoch's figures as the file does, so that a continued training decides as an uninterrupted one."""
    seconds = cost.seconds + validation_seconds
    share = cost.waiting_seconds / seconds if seconds else 0.0
    # four significant digits: the cosine schedule ends close to zero
    rate = float(f"{cost.learning_rate:.4g}")
    return EpochResult(epoch, round(cost.loss, 5), round(dice, 5), rate, round(seconds, 3), round(share, 4))


def write_history(folder: Path, history: Sequence[EpochResult]) -> None:
    """Write the history of a run."""
    write_rows(folder / HISTORY, COLUMNS, [dataclasses.astuple(row) for row in history])


def read_history(folder: Path) -> list[EpochResult]:
    """Read the history of a run; columns that older versions did not write are 0."""
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
    """Find the epoch with the best validation Dice; the first of equal ones.

    Args:
        history: The epochs so far.
        window: Over how many epochs, up to the one in question, the Dice is averaged: a single peak may be chance.
    """

    def steady_dice(number: int) -> float:
        rows = history[max(0, number - window + 1) : number + 1]
        return sum(row.validation_dice for row in rows) / len(rows)

    return history[max(range(len(history)), key=steady_dice)]


def summarise_timing(history: Sequence[EpochResult], peak_memory_mb: float) -> Timing:
    """Sum up the time of a training and its share of waiting."""
    seconds = sum(row.seconds for row in history)
    waited = sum(row.seconds * row.waiting_share for row in history)
    share = round(waited / seconds, 4) if seconds else 0.0
    return Timing(round(seconds, 1), round(seconds / len(history), 3), share, peak_memory_mb)


def paint_history(figure: Any, history: Sequence[EpochResult], best: EpochResult) -> None:
    """Draw loss and validation Dice into a figure, and mark the best epoch."""
    left = figure.subplots()
    epochs = [row.epoch for row in history]
    left.plot(epochs, [row.loss for row in history], color=INK)
    left.set(xlabel="epoch", ylabel="training loss")
    right = left.twinx()
    right.plot(epochs, [row.validation_dice for row in history], color=ACCENT)
    right.plot(best.epoch, best.validation_dice, "o", color=ACCENT)
    right.annotate(f"best: {best.epoch}", (best.epoch, best.validation_dice), (0, -16), textcoords="offset points")
    right.set(ylim=(0, 1))
    right.set_ylabel("validation Dice", color=ACCENT)


def draw_curve(folder: Path, history: Sequence[EpochResult], best: EpochResult) -> None:
    """Write the history's picture into the run folder."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    paint_history(figure, history, best)
    figure.savefig(folder / CURVE, dpi=120)


class RunLog:
    """Writes a run's logs for TensorBoard; a continued training adds a file."""

    def __init__(self, folder: Path) -> None:
        """Open the log in a run folder."""
        self._folder = folder / FOLDER
        self._writer = tf.summary.create_file_writer(str(self._folder))

    def write(self, result: EpochResult) -> None:
        """Write one epoch."""
        try:
            with self._writer.as_default():
                for name in SHOWN:
                    tf.summary.write(name, tf.constant(getattr(result, name)), step=result.epoch, metadata=_scalar())
                self._writer.flush()
        except tf.errors.OpError as error:
            raise OSError(None, error.message, str(self._folder)) from error


def _scalar() -> Any:
    """Build the metadata of a curve; tf.summary.scalar would need TensorBoard itself to be installed."""
    data = tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars")
    return tf.compat.v1.SummaryMetadata(plugin_data=data)
