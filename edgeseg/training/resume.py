"""Continue interrupted work: what a partial result folder holds, what it was to become, and where its training was.

Every result grows as OUT.partial (core/files). In there
- run.json says that it is a training, and checkpoint/ holds its last epoch;
- plan.json says what a cross-validation or a compression is to make. Work is only continued where the plan and the
  fingerprints of runs and data are still the same: otherwise the result would be made of two halves.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeseg.core.errors import RunError
from edgeseg.core.files import partial_path, write_json
from edgeseg.core.modelfile import PRETRAINING
from edgeseg.core.schema import SchemaError, read_json_table
from edgeseg.model.keras import tf
from edgeseg.training.ema import WeightEma
from edgeseg.training.run import RECORD, rename_options

_LOG = logging.getLogger(__name__)
PLAN, CHECKPOINT = "plan.json", "checkpoint"
INTERRUPTED_TRAINING, FOLDS, COMPRESSION, NOTHING = "training", "cross-validation", "compression", ""
INTERRUPTED_PRETRAINING = "pretraining"
_COMMANDS = {
    INTERRUPTED_TRAINING: "edgeseg train DATA --out {} --resume",
    FOLDS: "edgeseg train DATA --out {} --resume",
    COMPRESSION: "edgeseg compress RUN --out {} --resume",
    INTERRUPTED_PRETRAINING: "edgeseg pretrain FRAMES --out {} --resume",
}


@dataclass(frozen=True)
class Partial:
    """The partial folder of an interrupted result."""

    kind: str
    """NOTHING where the interruption came before anything was written down."""
    out: Path

    def expect(self, *kinds: str) -> bool:
        """Return whether there is something of these kinds to continue; something of another kind is refused."""
        if self.kind == NOTHING:
            _LOG.warning("%s holds nothing to go on with; it begins anew.", partial_path(self.out))
            return False
        if self.kind not in kinds:
            raise RunError(
                f"Expected an interrupted {kinds[0]} at {partial_path(self.out)}, got an interrupted {self.kind}.",
                f"Continue that with: {_COMMANDS[self.kind].format(self.out)}, or name another --out.",
            )
        return True


def find_partial(out: Path, what: str) -> Partial:
    """Find the partial folder of a result, and refuse where there is none.

    Args:
        out: The final folder.
        what: What is to be continued, for the message.
    """
    folder = partial_path(out)
    if not folder.is_dir():
        raise RunError(f"Expected an interrupted {what} at {folder}, got none.", "Leave out --resume.")
    return Partial(_find_kind(folder), out)


def _find_kind(folder: Path) -> str:
    if (folder / RECORD).is_file():
        return INTERRUPTED_TRAINING
    if (folder / PRETRAINING).is_file():
        return INTERRUPTED_PRETRAINING
    if not (folder / PLAN).is_file():
        return NOTHING
    return FOLDS if "folds" in read_plan(folder) else COMPRESSION


def begin_plan(folder: Path, plan: Mapping[str, Any]) -> None:
    """Write the plan of a result, or refuse one that differs from the plan of the interrupted work in the folder."""
    path = folder / PLAN
    if not path.is_file():
        write_json(path, plan)
        return
    before = read_plan(folder)
    changed = [key for key in sorted({*plan, *before}) if before.get(key) != plan.get(key)]
    if changed:
        raise RunError(
            f"Expected the same {' and '.join(changed)} as the interrupted {_find_kind(folder)} in {folder}, "
            "got another.",
            "Give what it was begun with, or begin again with --overwrite.",
        )


def read_plan(folder: Path) -> dict[str, Any]:
    """Read the plan of an interrupted result."""
    try:
        table = read_json_table(folder / PLAN)
    except SchemaError as error:
        raise RunError(
            f"Expected what was to be made in {folder / PLAN}, got a damaged file: {error}.",
            "Begin again with --overwrite.",
        ) from error
    rename_options(table)
    return table


class Checkpoint:
    """TensorFlow's checkpoint of a training: weights, their EMA, the optimizer's state and the epoch."""

    def __init__(self, folder: Path, source: Path, model: Any, ema: WeightEma) -> None:
        """Prepare checkpoints of a compiled model.

        Args:
            folder: The run folder to write to.
            source: The run folder to restore from; the chief's, where several workers train.
            model: The compiled model.
            ema: The moving average of its weights.
        """
        self._folder, self._source = folder / CHECKPOINT, source / CHECKPOINT
        with model.distribute_strategy.scope():
            self._epoch = tf.Variable(0, dtype=tf.int64, trainable=False)
            # the optimizer's variables must exist before a checkpoint can be restored into them
            model.optimizer.build(model.trainable_variables)
        # "average" is the name under which checkpoints of earlier versions hold the EMA
        state = tf.train.Checkpoint(model=model, average=ema.state, epoch=self._epoch, optimizer=model.optimizer)
        self._manager = tf.train.CheckpointManager(state, str(self._folder), max_to_keep=1)
        self._state = state

    def restore(self) -> int:
        """Restore the last checkpoint.

        Returns:
            How many epochs are done; 0 where there is no checkpoint.
        """
        latest = tf.train.latest_checkpoint(str(self._source))
        if latest is None:
            return 0
        self._state.restore(latest).assert_existing_objects_matched()
        return int(self._epoch.numpy())

    def save(self, epochs: int) -> None:
        """Save a checkpoint; where that fails, the one before stays whole."""
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


def has_checkpoint(folder: Path) -> bool:
    """Say whether a run folder has a checkpoint to continue from."""
    return tf.train.latest_checkpoint(str(folder / CHECKPOINT)) is not None


def remove_checkpoint(folder: Path) -> None:
    """Remove the checkpoint of a finished run: it is several times as large as the weights."""
    shutil.rmtree(folder / CHECKPOINT, ignore_errors=True)
