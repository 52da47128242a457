"""Remember where a training was after every epoch, so that a killed one goes on from there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from edgeseg.model.keras import tf
from edgeseg.train.average import WeightAverage

FOLDER = "checkpoint"


class Checkpoint:
    """Weights, their average, the optimizer's state and the epoch; TensorFlow swaps in a new one when it is whole."""

    def __init__(self, folder: Path, source: Path, model: Any, average: WeightAverage) -> None:
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
