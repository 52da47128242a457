"""Judge a model after every epoch, keep its best weights and its history."""

from __future__ import annotations

import shutil
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.model.keras import read_weights, tf, write_weights
from edgeseg.training.ema import WeightEma
from edgeseg.training.history import EpochCost, EpochResult, best_result, make_result, read_history, write_history
from edgeseg.training.loading import GridArrays, grid_dice, to_reals
from edgeseg.training.options import EMA
from edgeseg.training.pipeline import shrink_masks

MASK_THRESHOLD = 0.5
FOLDER = "checkpoint"


class Judge:
    """Judges the averaged weights on validation cases after every epoch and keeps the best ones on disk."""

    def __init__(
        self,
        title: str,
        model: Any,
        twin: Any,
        validation: GridArrays,
        path: Path,
        average: float = EMA,
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
            self.average = WeightEma(model, average)
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


class Checkpoint:
    """Weights, their average, the optimizer's state and the epoch; TensorFlow swaps in a new one when it is whole."""

    def __init__(self, folder: Path, source: Path, model: Any, average: WeightEma) -> None:
        """Prepare to remember a compiled model's training.

        Args:
            folder: The run folder to remember in.
            source: The run folder to go on from; the chief's, where several workers train.
            model: The compiled model.
            average: Its averaged weights.
        """
        self._folder, self._source = folder / FOLDER, source / FOLDER
        with model.distribute_strategy.scope():
            self._epoch = tf.Variable(0, dtype=tf.int64, trainable=False)
            model.optimizer.build(model.trainable_variables)
        state = tf.train.Checkpoint(model=model, average=average.state, epoch=self._epoch, optimizer=model.optimizer)
        self._manager = tf.train.CheckpointManager(state, str(self._folder), max_to_keep=1)
        self._state = state

    def restore(self) -> int:
        """Take up what was remembered.

        Returns:
            How many epochs are done; 0 when nothing was remembered.
        """
        latest = tf.train.latest_checkpoint(str(self._source))
        if latest is None:
            return 0
        self._state.restore(latest).assert_existing_objects_matched()
        return int(self._epoch.numpy())

    def save(self, epochs: int) -> None:
        """Remember an epoch; where that fails, what was remembered before stays whole."""
        self._epoch.assign(epochs)
        try:
            self._manager.save()
        except tf.errors.OpError as error:
            self._remove_unfinished()
            raise OSError(None, error.message, str(self._folder)) from error

    def _remove_unfinished(self) -> None:
        kept = Path(self._manager.latest_checkpoint or "none").name
        for path in self._folder.glob("ckpt-*"):
            if path.name.split(".")[0] != kept:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def is_remembered(folder: Path) -> bool:
    """Say whether a run folder remembers where its training was."""
    return tf.train.latest_checkpoint(str(folder / FOLDER)) is not None


def forget_checkpoint(folder: Path) -> None:
    """Remove what a run folder remembers, when the run is finished."""
    shutil.rmtree(folder / FOLDER, ignore_errors=True)
