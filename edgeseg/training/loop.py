"""The training loop: the steps run, the judge picks the epoch, the checkpoint remembers where it was."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from edgeseg.core.errors import TrainingError
from edgeseg.core.progress import progress_bar
from edgeseg.model.keras import keras, tf
from edgeseg.training.checkpoint import Checkpoint, Judge
from edgeseg.training.ema import WeightEma
from edgeseg.training.history import EpochCost, EpochResult, best_result
from edgeseg.training.pipeline import Feed, build_pipeline
from edgeseg.training.strategy import distribute_batches

STALL = 8
"""Epochs without a better validation Dice after which the plateau schedule lowers the rate."""
FACTOR, LOWEST = 0.5, 2**-6
STEADY_SHARE = 0.1
STEPS, FEWEST_EPOCHS, MOST_EPOCHS = 14_530, 50, 400
"""What is trained where nobody said; so every folder of images takes about as long."""
WARM_UP_EPOCHS = 3
WARM_UP_SHARE = 0.1
WEIGHT_DECAY = 0.02
CPU_FLAGS = ("avx512_bf16", "amx_bf16")
LEAST_COMPUTE = (7, 0)
"""The compute capability from which a GPU has tensor cores."""


class Steps:
    """The training steps of a compiled model over its batches."""

    def __init__(self, model: Any, average: WeightEma, batches: Any, per_epoch: int) -> None:
        """Prepare the steps.

        Args:
            model: The compiled model.
            average: Takes every step's weights in.
            batches: The distributed pipeline of all epochs that are to come.
            per_epoch: How many batches an epoch has.
        """
        self._model, self._average, self._per_epoch = model, average, per_epoch
        self._batches = iter(batches)
        self._run = tf.function(self._run_everywhere, input_signature=[batches.element_spec])

    def run_epoch(self, epoch: int, on_step: Callable[[], None]) -> EpochCost:
        """Run all steps of an epoch; a loss that is not finite ends the training.

        Args:
            epoch: Its number, for messages.
            on_step: Told when a step is done.
        """
        start, waited, loss = perf_counter(), 0.0, math.nan
        self._model.reset_metrics()
        for number in range(1, self._per_epoch + 1):
            asked = perf_counter()
            batch = next(self._batches)
            waited += perf_counter() - asked
            loss = float(self._run(batch))
            if not math.isfinite(loss):
                raise diverged(f"loss {loss}", number, epoch)
            on_step()
        if not all(np.isfinite(weight.numpy()).all() for weight in self._model.trainable_variables):
            raise diverged("weights that are no numbers", self._per_epoch, epoch)
        return EpochCost(loss, float(self._model.optimizer.learning_rate.numpy()), perf_counter() - start, waited)

    def _run_everywhere(self, batch: Any) -> Any:
        strategy = self._model.distribute_strategy
        return strategy.experimental_local_results(strategy.run(self._take_step, args=(batch,)))[0]

    def _take_step(self, batch: Any) -> Any:
        loss = self._model.train_step(batch)["loss"]
        self._average.take_step()
        return loss


def diverged(what: str, batch: int, epoch: int) -> TrainingError:
    """Say where a training left the numbers, and what to do."""
    return TrainingError(
        f"Expected a finite loss and finite weights, got {what} in batch {batch} of epoch {epoch}.",
        "Begin again with a lower --learning-rate (learning_rate in a recipe), and look for odd images with: edgeseg "
        f"data check DATA --sheet s.png. What epoch {epoch - 1} left is kept.",
    )


@dataclass(frozen=True)
class TrainingSchedule:
    """The epochs, the rate and its schedule, and the patience."""

    epochs: int
    learning_rate: float
    schedule: str = "cosine"
    patience: int | None = None

    @property
    def window(self) -> int:
        """Say over how many epochs the validation Dice is averaged that decides which one is best."""
        return max(1, round(self.epochs * STEADY_SHARE))

    def is_over(self, history: Sequence[EpochResult]) -> bool:
        """Say whether patience has run out."""
        return bool(history) and self.patience is not None and count_stalled(history) >= self.patience

    def plateau_rate(self, history: Sequence[EpochResult]) -> float:
        """Find the plateau schedule's rate of the next epoch: a short warm-up, then halved at every stall."""
        warm_up = min(1.0, (len(history) + 1) / WARM_UP_EPOCHS)
        return self.learning_rate * warm_up * max(LOWEST, FACTOR ** count_reductions(history))


def plan_epochs(images: int, batch: int) -> int:
    """Plan how many epochs to train where nobody said: the fewer the images, the more, for about as many steps."""
    return min(MOST_EPOCHS, max(FEWEST_EPOCHS, math.ceil(STEPS / math.ceil(images / batch))))


def count_stalled(history: Sequence[EpochResult]) -> int:
    """Count the epochs since the best one."""
    return history[-1].epoch - best_result(history).epoch


def count_reductions(history: Sequence[EpochResult]) -> int:
    """Count how often the validation Dice stalled; each time the waiting begins anew."""
    best, stalled, reductions = -1.0, 0, 0
    for row in history:
        stalled = 0 if row.validation_dice > best else stalled + 1
        best = max(best, row.validation_dice)
        if stalled == STALL:
            reductions, stalled = reductions + 1, 0
    return reductions


def build_optimizer(training_schedule: TrainingSchedule, steps_per_epoch: int) -> Any:
    """Build AdamW with a warm-up and a cosine that ends at zero, or with a rate that is set for every epoch."""
    steps = training_schedule.epochs * steps_per_epoch
    warm_up = max(1, int(steps * WARM_UP_SHARE))
    cosine = keras.optimizers.schedules.CosineDecay(
        training_schedule.learning_rate / 20,
        steps - warm_up,
        warmup_target=training_schedule.learning_rate,
        warmup_steps=warm_up,
    )
    rate = cosine if training_schedule.schedule == "cosine" else training_schedule.learning_rate
    return keras.optimizers.AdamW(rate, weight_decay=WEIGHT_DECAY)


def _as_it_is(pipeline: Any) -> Any:
    return pipeline


def _ignore(result: EpochResult) -> None:
    """Take an epoch's result that nobody asked for."""


def fit_model(
    model: Any,
    feed: Feed,
    judge: Judge,
    training_schedule: TrainingSchedule,
    follow: Callable[[Any], Any] = _as_it_is,
    checkpoint: Checkpoint | None = None,
    on_result: Callable[[EpochResult], None] = _ignore,
) -> EpochResult:
    """Train a compiled model and leave the judge's twin with the averaged weights of its best epoch.

    Args:
        model: The model.
        feed: What it is trained on.
        judge: Decides which epoch is best.
        training_schedule: How long, and at which rate.
        follow: Changes the pipeline, for a model that follows another one.
        checkpoint: Where an interrupted training is continued from.
        on_result: Told the result of every epoch.
    """
    first = checkpoint.restore() if checkpoint is not None else 0
    if first:
        judge.resume(first)
    batches = distribute_batches(
        model, lambda part: follow(build_pipeline(feed, training_schedule.epochs, first, part))
    )
    steps = Steps(model, judge.average, batches, feed.steps)
    with progress_bar(judge.title, (training_schedule.epochs - first) * feed.steps) as advance:
        for epoch in range(first + 1, training_schedule.epochs + 1):
            if training_schedule.is_over(judge.history):
                break
            if training_schedule.schedule == "plateau":
                model.optimizer.learning_rate = training_schedule.plateau_rate(judge.history)
            note = f"epoch {epoch} of {training_schedule.epochs}  {judge.note}"
            on_result(judge.judge(epoch, steps.run_epoch(epoch, partial(advance, note))))
            if checkpoint is not None:
                checkpoint.save(epoch)
    return judge.take_best()


@contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """Let the models that are built and compiled within the block compute in a precision; weights are float32."""
    policy = "float32" if precision == "float32" else find_mixed_policy(_read_cpu_flags(), _read_gpus())
    keras.mixed_precision.set_global_policy(policy)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy("float32")


def find_mixed_policy(flags: frozenset[str], gpus: tuple[tuple[int, int], ...]) -> str:
    """Find the 16-bit format that this hardware computes with.

    Args:
        flags: What the CPU can do, as Linux names it.
        gpus: The compute capability of every GPU.
    """
    if gpus and min(gpus) >= LEAST_COMPUTE:
        return "mixed_float16"
    if not gpus and flags & set(CPU_FLAGS):
        return "mixed_bfloat16"
    raise TrainingError(
        f"Expected a GPU of compute capability 7 or a CPU with {' or '.join(CPU_FLAGS)} for --precision mixed, "
        "got hardware without.",
        "Train with --precision float32.",
    )


def _read_cpu_flags() -> frozenset[str]:
    path = Path("/proc/cpuinfo")
    return frozenset(path.read_text(encoding="utf-8").split()) if path.is_file() else frozenset()


def _read_gpus() -> tuple[tuple[int, int], ...]:
    details = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    return tuple(detail.get("compute_capability", (0, 0)) for detail in details)
