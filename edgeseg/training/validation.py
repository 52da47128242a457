"""Evaluate a Keras model on the validation cases, after every epoch, and keep the best weights.

This is quick and on the network's own grid; model files are scored by `evaluation.score`, through the device's runtime.
"""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.model.keras import read_weights, write_weights
from edgeseg.training.ema import WeightEma
from edgeseg.training.history import EpochCost, EpochResult, best_result, make_result, read_history, write_history
from edgeseg.training.loading import GridArrays, to_reals
from edgeseg.training.options import EMA
from edgeseg.training.pipeline import shrink_masks

MASK_THRESHOLD = 0.5


class Validator:
    """Measures the Dice of Keras models on cases that lie on the network's grid."""

    def __init__(self, cases: GridArrays, model: Any) -> None:
        """Prepare the cases once for all epochs.

        Args:
            cases: The cases.
            model: A model of the output size of those that will be evaluated.
        """
        self._images: NDArray[np.float32] = to_reals(cases.images)
        stride = cases.masks.shape[1] // model.output_shape[1]
        # on the network's output grid, where a pixel counts as marked if more than half of it is
        self._masks = (shrink_masks(cases.masks, stride) > MASK_THRESHOLD).astype(np.uint8)

    def dice(self, model: Any) -> float:
        """Average the Dice over the masks that are not empty."""
        return grid_dice(model.predict(self._images, verbose=0), self._masks)


def grid_dice(predicted: NDArray[np.float32], masks: NDArray[np.uint8], threshold: float = MASK_THRESHOLD) -> float:
    """Average the Dice of predicted probabilities over the masks that are not empty; 0 where all are."""
    found = _find_masks(predicted, masks.shape[-1], threshold)
    hit = np.asarray(np.sum(found & (masks > 0), axis=(1, 2)), dtype=np.float64)
    total = np.asarray(found.sum(axis=(1, 2)) + masks.sum(axis=(1, 2), dtype=np.int64), dtype=np.float64)
    filled = masks.any(axis=(1, 2))
    return float(np.mean(2 * hit[filled] / total[filled])) if filled.any() else 0.0


def _find_masks(predicted: NDArray[np.float32], classes: int, threshold: float) -> NDArray[np.bool_]:
    """Decide as the device does: by threshold, or by the largest where the background has a channel of its own."""
    if predicted.shape[-1] == classes:
        return predicted > threshold
    return np.asarray(predicted.argmax(axis=-1)[..., np.newaxis] == np.arange(1, classes + 1))


class EpochEvaluator:
    """Evaluates the EMA of the weights after every epoch, writes the history and keeps the best weights on disk."""

    def __init__(
        self,
        title: str,
        model: Any,
        ema_model: Any,
        validation: GridArrays,
        path: Path,
        ema_decay: float = EMA,
        window: int = 1,
    ) -> None:
        """Prepare to evaluate a model in training.

        Args:
            title: The progress bar's title.
            model: The model in training.
            ema_model: A model of the same layers for the averaged weights; it is evaluated and will be exported.
            validation: The cases to evaluate on.
            path: The file of the best weights.
            ema_decay: Decay of the weights' exponential moving average; 0 evaluates the weights as they are.
            window: Over how many epochs the Dice is averaged that decides which epoch is best.
        """
        self.title, self.path, self.ema_model, self._window = title, path, ema_model, window
        with model.distribute_strategy.scope():
            self.ema = WeightEma(model, ema_decay)
        self._validator = Validator(validation, ema_model)
        self.history: list[EpochResult] = []

    @property
    def best(self) -> EpochResult:
        """The best epoch so far."""
        return best_result(self.history, self._window)

    @property
    def note(self) -> str:
        """The last epoch's figures for a progress bar; empty before the first one."""
        if not self.history:
            return ""
        last = self.history[-1]
        loss = f"loss {last.loss:.3f}  " if last.epoch else ""
        return f"{loss}Dice {last.validation_dice:.3f}  best {self.best.validation_dice:.3f}"

    def evaluate(self, epoch: int, cost: EpochCost) -> EpochResult:
        """Evaluate the EMA as it is now, and keep its weights where they are the best so far."""
        start = perf_counter()
        self.ema.copy_to(self.ema_model)
        dice = self._validator.dice(self.ema_model)
        result = make_result(epoch, cost, dice, perf_counter() - start)
        self.history.append(result)
        # weights before history: a kill between the two leaves no history of weights that are lost
        if self.best is result:
            write_weights(self.path, self.ema_model)
        write_history(self.path.parent, self.history)
        return result

    def resume(self, epoch: int) -> None:
        """Read the history of an interrupted training up to the epoch of its checkpoint."""
        self.history = [row for row in read_history(self.path.parent) if row.epoch <= epoch]

    def restore_best(self) -> EpochResult:
        """Load the best weights into the EMA model."""
        read_weights(self.path, self.ema_model)
        return self.best
