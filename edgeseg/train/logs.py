"""Write what TensorBoard shows: loss, validation Dice, learning rate and waiting, epoch by epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeseg.model.keras import tf
from edgeseg.train.history import EpochResult

FOLDER = "logs"
SHOWN = ("loss", "validation_dice", "learning_rate", "waiting_share")


class RunLog:
    """The logs of a run; a continued training adds a file to them."""

    def __init__(self, folder: Path) -> None:
        """Prepare to write into a run folder."""
        self._folder = folder / FOLDER
        self._writer = tf.summary.create_file_writer(str(self._folder))

    def write(self, result: EpochResult) -> None:
        """Write an epoch's figures."""
        try:
            with self._writer.as_default():
                for name in SHOWN:
                    tf.summary.write(name, tf.constant(getattr(result, name)), step=result.epoch, metadata=_scalar())
                self._writer.flush()
        except tf.errors.OpError as error:
            raise OSError(None, error.message, str(self._folder)) from error


def _scalar() -> Any:
    """Say that a figure is drawn as a curve; tf.summary.scalar would need TensorBoard itself to be installed."""
    data = tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars")
    return tf.compat.v1.SummaryMetadata(plugin_data=data)
