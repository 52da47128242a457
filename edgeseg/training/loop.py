"""The training loop: optimizer, learning-rate schedule, early stopping and the steps themselves.

Rate and early stopping are functions of the history, which is on disk, so a continued training has no further state to
restore (docs/decisions/0013 says why this is no Keras `fit`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np

from edgeseg.core.errors import TrainingError
from edgeseg.core.progress import progress_bar
from edgeseg.model.keras import keras, tf
from edgeseg.training.ema import WeightEma
from edgeseg.training.loading import Feed, Part, build_pipeline
from edgeseg.training.resume import Checkpoint
from edgeseg.training.semisupervised import FrameSteps
from edgeseg.training.strategy import distribute_batches
from edgeseg.training.validation import EpochCost, EpochEvaluator, EpochResult, best_result

# Epochs without a better validation Dice after which the plateau schedule lowers the rate.
STALL = 8
# The plateau schedule's factor at every stall, and the smallest share of the rate that it goes down to.
FACTOR, LOWEST = 0.5, 2**-6
# Share of the epochs over which the validation Dice is averaged to find the best one.
STEADY_SHARE = 0.1
# Of the plateau schedule.
WARM_UP_EPOCHS = 3
# Share of the steps in which the cosine schedule warms up.
WARM_UP_SHARE = 0.1
# The warm-up starts at this fraction of the rate.
WARM_UP_START = 20
WEIGHT_DECAY = 0.02


@dataclass(frozen=True)
class TrainingSchedule:
    """How long to train, at which learning rate, and when to stop early."""

    epochs: int
    learning_rate: float
    schedule: str = "cosine"
    patience: int | None = None
    """Epochs without a better validation Dice after which training stops early; None trains all epochs."""

    @property
    def window(self) -> int:
        """Epochs over which the validation Dice is averaged that decides which epoch is best."""
        return max(1, round(self.epochs * STEADY_SHARE))

    def stops_early(self, history: Sequence[EpochResult]) -> bool:
        """Early stopping: say whether the validation Dice has not improved for `patience` epochs."""
        return bool(history) and self.patience is not None and count_stalled(history) >= self.patience

    def plateau_rate(self, history: Sequence[EpochResult]) -> float:
        """Compute the plateau schedule's rate for the next epoch: a short warm-up, then halved at every stall."""
        warm_up = min(1.0, (len(history) + 1) / WARM_UP_EPOCHS)
        return self.learning_rate * warm_up * max(LOWEST, FACTOR ** count_reductions(history))


def count_stalled(history: Sequence[EpochResult]) -> int:
    """Count the epochs since the best one."""
    return history[-1].epoch - best_result(history).epoch


def count_reductions(history: Sequence[EpochResult]) -> int:
    """Count how often the validation Dice stalled; the count of epochs restarts after each stall."""
    best, stalled, reductions = -1.0, 0, 0
    for row in history:
        stalled = 0 if row.validation_dice > best else stalled + 1
        best = max(best, row.validation_dice)
        if stalled == STALL:
            reductions, stalled = reductions + 1, 0
    return reductions


def build_optimizer(training_schedule: TrainingSchedule, steps_per_epoch: int) -> Any:
    """Build AdamW with warm-up and cosine decay to zero, or with a rate that is set before every epoch."""
    steps = training_schedule.epochs * steps_per_epoch
    warm_up = max(1, int(steps * WARM_UP_SHARE))
    cosine = keras.optimizers.schedules.CosineDecay(
        training_schedule.learning_rate / WARM_UP_START,
        steps - warm_up,
        warmup_target=training_schedule.learning_rate,
        warmup_steps=warm_up,
    )
    rate = cosine if training_schedule.schedule == "cosine" else training_schedule.learning_rate
    # weight decay apart from the gradient: Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization"
    return keras.optimizers.AdamW(rate, weight_decay=WEIGHT_DECAY)


def _unchanged(pipeline: Any) -> Any:
    return pipeline


def _ignore(result: EpochResult) -> None:
    """Drop an epoch's result."""


def fit_model(
    model: Any,
    feed: Feed,
    evaluator: EpochEvaluator,
    training_schedule: TrainingSchedule,
    transform: Callable[[Any], Any] = _unchanged,
    checkpoint: Checkpoint | None = None,
    on_result: Callable[[EpochResult], None] = _ignore,
    frame_steps: FrameSteps | None = None,
    take_step: Callable[[Any], Any] | None = None,
) -> EpochResult:
    """Train a compiled model and leave the evaluator's model with the EMA weights of the best epoch.

    Args:
        model: The model.
        feed: The training cases.
        evaluator: Evaluates every epoch and keeps the best one.
        training_schedule: How long, and at which rate.
        transform: Changes the input pipeline; distillation adds the teacher's masks with it.
        checkpoint: Saved after every epoch, and restored first where an interrupted training left one.
        on_result: Called with the result of every epoch.
        frame_steps: Takes the steps where unlabelled frames are trained on, too.
        take_step: Takes the steps where there are none; None is the model's own step.
    """
    first = checkpoint.restore() if checkpoint is not None else 0
    if first:
        evaluator.resume(first)

    def build_batches(part: Part) -> Any:
        batches = transform(build_pipeline(feed, training_schedule.epochs, first, part))
        return frame_steps.add_frames(batches, first * feed.steps) if frame_steps is not None else batches

    batches = distribute_batches(model, build_batches)
    steps = Steps(model, evaluator.ema, batches, feed.steps, frame_steps.take_step if frame_steps else take_step)
    with progress_bar(evaluator.title, (training_schedule.epochs - first) * feed.steps) as advance:
        for epoch in range(first + 1, training_schedule.epochs + 1):
            if training_schedule.stops_early(evaluator.history):
                break
            if training_schedule.schedule == "plateau":
                model.optimizer.learning_rate = training_schedule.plateau_rate(evaluator.history)
            note = f"epoch {epoch} of {training_schedule.epochs}  {evaluator.note}"
            on_result(evaluator.evaluate(epoch, steps.run_epoch(epoch, partial(advance, note))))
            if checkpoint is not None:
                # after the evaluation, so that history and best weights are never behind the checkpoint
                checkpoint.save(epoch)
    return evaluator.restore_best()


class Steps:
    """The training steps of a compiled model over its batches."""

    def __init__(
        self,
        model: Any,
        ema: WeightEma,
        batches: Any,
        per_epoch: int,
        take_step: Callable[[Any], Any] | None = None,
    ) -> None:
        """Prepare the steps.

        Args:
            model: The compiled model.
            ema: Updated after every step.
            batches: The distributed pipeline of all remaining epochs.
            per_epoch: Batches of an epoch.
            take_step: Learns from a batch and returns the loss; None is the model's own step.
        """
        self._learn = take_step or (lambda batch: model.train_step(batch)["loss"])
        self._model, self._ema, self._per_epoch = model, ema, per_epoch
        self._batches = iter(batches)
        # one trace for all batches, the shorter last one included
        self._run = tf.function(self._run_everywhere, input_signature=[batches.element_spec])

    def run_epoch(self, epoch: int, on_step: Callable[[], None]) -> EpochCost:
        """Run all steps of an epoch; a loss that is not finite ends the training.

        Args:
            epoch: Its number, for messages.
            on_step: Called after every step.
        """
        start, waited, loss = perf_counter(), 0.0, math.nan
        self._model.reset_metrics()
        for number in range(1, self._per_epoch + 1):
            requested = perf_counter()
            batch = next(self._batches)
            waited += perf_counter() - requested
            # reading the loss waits for the step, so `waited` holds nothing but the input pipeline
            loss = float(self._run(batch))
            if not math.isfinite(loss):
                raise diverged(f"loss {loss}", number, epoch)
            on_step()
        # once an epoch: the last step may leave a finite loss and weights that are not
        if not all(np.isfinite(weight.numpy()).all() for weight in self._model.trainable_variables):
            raise diverged("weights that are no numbers", self._per_epoch, epoch)
        return EpochCost(loss, float(self._model.optimizer.learning_rate.numpy()), perf_counter() - start, waited)

    def _run_everywhere(self, batch: Any) -> Any:
        strategy = self._model.distribute_strategy
        return strategy.experimental_local_results(strategy.run(self._take_step, args=(batch,)))[0]

    def _take_step(self, batch: Any) -> Any:
        loss = self._learn(batch)
        self._ema.update()
        return loss


def diverged(what: str, batch: int, epoch: int) -> TrainingError:
    """Build the error of a training whose loss or weights are no longer finite."""
    return TrainingError(
        f"Expected a finite loss and finite weights, got {what} in batch {batch} of epoch {epoch}.",
        "Begin again with a lower --learning-rate (learning_rate in a recipe), and look for odd images with: edgeseg "
        f"data check DATA --sheet s.png. What epoch {epoch - 1} left is kept.",
    )
