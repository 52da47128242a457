"""Run the steps of an epoch, watch the loss, and measure how long the steps wait for their batches."""

from __future__ import annotations

import math
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np

from edgeseg.core.errors import TrainingError
from edgeseg.model.keras import tf
from edgeseg.train.average import WeightAverage
from edgeseg.train.history import EpochCost


class Steps:
    """The training steps of a compiled model over its batches."""

    def __init__(self, model: Any, average: WeightAverage, batches: Any, per_epoch: int) -> None:
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
