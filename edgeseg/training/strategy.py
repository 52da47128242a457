"""Distribution: one device, all devices of this machine (mirrored), or several machines (multi-worker)."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeseg.core.errors import TrainingError
from edgeseg.model.keras import tf
from edgeseg.training.loading import Part
from edgeseg.training.run import HISTORY, WEIGHTS

MULTI_WORKER = "multi-worker"
# What TensorFlow raises in the steps of the other workers, depending on what they wait for.
LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError)
CONFIG = "TF_CONFIG"
EXAMPLE = """{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, "task": {"type": "worker", "index": 0}}"""


@dataclass(frozen=True)
class WorkerRole:
    """This process's role in a distributed training; only the chief writes the run folder."""

    kind: str = "worker"
    index: int = 0
    chief: bool = True


@dataclass(frozen=True)
class RunPaths:
    """The folder that this worker writes to, the one to continue from, and the worker's role."""

    folder: Path
    source: Path
    role: WorkerRole

    def follow_chief(self) -> None:
        """Take over the chief's history and best weights into the empty folder of a worker that continues.

        The history decides on the learning rate and on early stopping: with another one, a worker would train at
        another rate, and wait for the others after they have stopped.
        """
        if self.folder == self.source:
            return
        for name in (HISTORY, WEIGHTS):
            if (self.source / name).is_file():
                shutil.copy(self.source / name, self.folder / name)


@contextmanager
def explained_loss(strategy: str) -> Iterator[None]:
    """Say in a sentence that another worker was lost; every step needs all of them."""
    try:
        yield
    except LOST as error:
        if strategy != MULTI_WORKER:
            raise
        raise TrainingError(
            f"Expected all workers to go on, got one that was lost ({type(error).__name__}).",
            "Start all of them again with --resume: they go on after the last finished epoch.",
        ) from error


def find_role(strategy: str) -> WorkerRole:
    """Read this worker's role from TF_CONFIG; without the multi-worker strategy it is the chief."""
    if strategy != MULTI_WORKER:
        return WorkerRole()
    text = os.environ.get(CONFIG)
    if not text:
        raise _wrong_config("the variable is not set")
    try:
        config = json.loads(text)
        cluster, task = config["cluster"], config["task"]
        kind, index = str(task["type"]), int(task["index"])
        addresses = cluster[kind]
    except (ValueError, KeyError, TypeError) as error:
        raise _wrong_config(f"{type(error).__name__} at {error}") from error
    if kind not in ("chief", "worker") or not isinstance(addresses, list) or not 0 <= index < len(addresses):
        raise _wrong_config(f"the task {kind} {index}, which is not in the cluster")
    return WorkerRole(kind, index, kind == "chief" or (index == 0 and "chief" not in cluster))


def _wrong_config(what: str) -> TrainingError:
    return TrainingError(
        f"Expected a cluster and this worker's place in it in {CONFIG}, got a wrong one: {what}.",
        f"Set it on every worker, each with its own index, as in: export {CONFIG}='{EXAMPLE}'",
    )


def open_strategy(name: str, batch: int) -> Any:
    """Open TensorFlow's strategy of a name; with several workers this waits for all of them.

    Args:
        name: one, mirrored or multi-worker.
        batch: The global batch, which the replicas share.
    """
    if name == "one":
        return tf.distribute.get_strategy()
    if name == MULTI_WORKER:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    else:
        strategy = tf.distribute.MirroredStrategy(_list_devices())
    replicas = strategy.num_replicas_in_sync
    # unequal shares would weigh the images of smaller ones more
    if batch % replicas:
        raise TrainingError(
            f"Expected a batch that the {replicas} replicas can share evenly, got {batch}.",
            f"Choose a --batch that {replicas} divides.",
        )
    return strategy


def _list_devices() -> list[str]:
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(devices) < 2:
        raise TrainingError(
            f"Expected at least 2 devices to mirror the training on, got {len(devices)}.",
            "Train with --strategy one.",
        )
    return [device.name for device in devices]


@contextmanager
def worker_folder() -> Iterator[Path]:
    """Give a worker that is not the chief a temporary folder to write to: every worker must run the same program."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def distribute_batches(model: Any, build: Callable[[Part], Any]) -> Any:
    """Build each worker's input pipeline, with its replicas' part of every batch.

    Args:
        model: The model, whose strategy has the replicas.
        build: Builds the pipeline of a part.
    """

    def build_for_worker(context: Any) -> Any:
        total, workers = context.num_replicas_in_sync, context.num_input_pipelines
        # every worker has the same number of replicas
        own = total // workers
        return build(Part(context.input_pipeline_id * own, own, total))

    return model.distribute_strategy.distribute_datasets_from_function(build_for_worker)
