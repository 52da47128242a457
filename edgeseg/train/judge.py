"""Judge a model after every epoch, keep its best weights and its history."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import TrainingError
from edgeseg.core.files import write_text
from edgeseg.core.progress import Advance, ignore
from edgeseg.model.keras import keras
from edgeseg.train.arrays import GridArrays, grid_dice, to_reals
from edgeseg.train.average import WeightAverage
from edgeseg.train.pipeline import shrink_masks
from edgeseg.train.run import HISTORY

MASK_THRESHOLD = 0.5


@dataclass(frozen=True)
class EpochResult:
    """One line of the history."""

    epoch: int
    loss: float
    validation_dice: float


class Judge:
    """Judges the averaged weights on validation cases after every epoch and keeps the best ones on disk."""

    def __init__(self, title: str, model: Any, validation: GridArrays, path: Path) -> None:
        """Prepare to judge a model.

        Args:
            title: What the progress bar says.
            model: The model in training.
            validation: The cases to judge it on.
            path: Where the best weights are kept.
        """
        self.title, self.path = title, path
        self._model, self.average = model, WeightAverage(model)
        self._images: NDArray[np.float32] = to_reals(validation.images)
        shrink = validation.masks.shape[1] // model.output_shape[1]
        self._masks = (shrink_masks(validation.masks, shrink) > MASK_THRESHOLD).astype(np.uint8)
        self.on_epoch: Advance = ignore
        self.history: list[EpochResult] = []
        self.best = EpochResult(0, float("inf"), -1.0)

    def as_callback(self) -> Any:
        """Give the callback for Keras."""
        return keras.callbacks.LambdaCallback(
            on_batch_end=lambda batch, logs: self.average.update(),  # noqa: ARG005 - Keras names them
            on_epoch_end=lambda epoch, logs: self.judge(epoch + 1, logs["loss"]),
        )

    def judge(self, epoch: int, loss: float) -> None:
        """Judge the averaged weights as they are now, and keep them when they are the best so far."""
        if not math.isfinite(loss):
            raise TrainingError(
                f"Expected a finite loss, got loss {loss} in epoch {epoch}.",
                "Begin again with a lower --learning-rate, or with another --loss.",
            )
        with self.average.applied():
            dice = grid_dice(self._model.predict(self._images, verbose=0), self._masks)
            result = EpochResult(epoch, float(loss), dice)
            self.history.append(result)
            if dice > self.best.validation_dice:
                self.best = result
                self._keep_weights()
        write_history(self.path.parent, self.history)
        self.on_epoch(f"loss {result.loss:.3f}  Dice {dice:.3f}  best {self.best.validation_dice:.3f}")

    def resume(self, epoch: int) -> None:
        """Take up the history of an interrupted training up to an epoch."""
        self.history = [row for row in read_history(self.path.parent) if row.epoch <= epoch]
        self.best = max(self.history, key=lambda row: row.validation_dice)

    def _keep_weights(self) -> None:
        fresh = self.path.with_name(f"new-{self.path.name}")
        self._model.save_weights(fresh)
        fresh.replace(self.path)


def write_history(folder: Path, history: Sequence[EpochResult]) -> None:
    """Write the history of a run."""
    lines = ["epoch,loss,validation_dice"]
    lines += [f"{row.epoch},{row.loss:.5f},{row.validation_dice:.5f}" for row in history]
    write_text(folder / HISTORY, "\n".join(lines) + "\n")


def read_history(folder: Path) -> list[EpochResult]:
    """Read the history of a run."""
    with (folder / HISTORY).open(newline="", encoding="utf-8") as file:
        return [
            EpochResult(int(row["epoch"]), float(row["loss"]), float(row["validation_dice"]))
            for row in csv.DictReader(file)
        ]
