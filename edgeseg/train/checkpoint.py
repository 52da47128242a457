"""Remember where a training was after every epoch, so that a killed one goes on from there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from edgeseg.model.keras import keras, tf
from edgeseg.train.average import WeightAverage

FOLDER = "checkpoint"


class Checkpoint:
    """Weights, their average, the optimizer's state and the epoch; TensorFlow swaps in a new one when it is whole."""

    def __init__(self, folder: Path, model: Any, average: WeightAverage) -> None:
        """Prepare to remember a compiled model's training in a run folder."""
        self._folder = folder / FOLDER
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
        if self._manager.latest_checkpoint is None:
            return 0
        self._state.restore(self._manager.latest_checkpoint).assert_existing_objects_matched()
        return int(self._epoch.numpy())

    def as_callback(self) -> Any:
        """Give the callback for Keras that remembers after every epoch."""
        return keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: self._save(epoch + 1))  # noqa: ARG005

    def _save(self, epochs: int) -> None:
        self._epoch.assign(epochs)
        self._manager.save()

    def forget(self) -> None:
        """Remove what was remembered, when the training is finished."""
        shutil.rmtree(self._folder, ignore_errors=True)
