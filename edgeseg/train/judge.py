"""Judge a model after every epoch, keep its best weights and its history."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.model.weightfile import read_weights, write_weights
from edgeseg.train.arrays import GridArrays, grid_dice, to_reals
from edgeseg.train.average import WeightAverage
from edgeseg.train.history import EpochCost, EpochResult, best_result, make_result, read_history, write_history
from edgeseg.train.pipeline import shrink_masks
from edgeseg.train.run import AVERAGE

MASK_THRESHOLD = 0.5


class Judge:
    """Judges the averaged weights on validation cases after every epoch and keeps the best ones on disk."""

    def __init__(
        self,
        title: str,
        model: Any,
        twin: Any,
        validation: GridArrays,
        path: Path,
        average: float = AVERAGE,
        window: int = 1,
    ) -> None:
        """Prepare to judge a model.

        Args:
            title: What the progress bar says.
            model: The model in training.
            twin: A model of the same layers that takes the averaged weights and is judged, as it will be exported.
            validation: The cases to judge it on.
            path: Where the best weights are kept.
            average: How much of the moving average stays at every step; 0 judges the weights as they are.
            window: Over how many epochs the Dice that decides is averaged.
        """
        self.title, self.path, self.twin, self._window = title, path, twin, window
        with model.distribute_strategy.scope():
            self.average = WeightAverage(model, average)
        self._images: NDArray[np.float32] = to_reals(validation.images)
        shrink = validation.masks.shape[1] // twin.output_shape[1]
        self._masks = (shrink_masks(validation.masks, shrink) > MASK_THRESHOLD).astype(np.uint8)
        self.history: list[EpochResult] = []

    @property
    def best(self) -> EpochResult:
        """Give the best epoch so far."""
        return best_result(self.history, self._window)

    @property
    def note(self) -> str:
        """Say how the last epoch went, for a progress bar; nothing before the first one."""
        if not self.history:
            return ""
        last = self.history[-1]
        loss = f"loss {last.loss:.3f}  " if last.epoch else ""
        return f"{loss}Dice {last.validation_dice:.3f}  best {self.best.validation_dice:.3f}"

    def judge(self, epoch: int, cost: EpochCost) -> EpochResult:
        """Judge the averaged weights as they are now, and keep them when they are the best so far."""
        start = perf_counter()
        self.average.copy_to(self.twin)
        dice = grid_dice(self.twin.predict(self._images, verbose=0), self._masks)
        result = make_result(epoch, cost, dice, perf_counter() - start)
        self.history.append(result)
        if self.best is result:
            write_weights(self.path, self.twin)
        write_history(self.path.parent, self.history)
        return result

    def resume(self, epoch: int) -> None:
        """Take up the history of an interrupted training up to an epoch."""
        self.history = [row for row in read_history(self.path.parent) if row.epoch <= epoch]

    def take_best(self) -> EpochResult:
        """Give the twin the best weights."""
        read_weights(self.path, self.twin)
        return self.best
