"""EMA: the exponential moving average of the weights over the training steps.

It is steadier than the weights of any single step and costs nothing on the device: only the EMA is evaluated, kept and
exported. The decay ramps up as in TensorFlow's ExponentialMovingAverage.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.model.keras import tf


class WeightEma:
    """An EMA of all floating-point weights, batch normalisation's statistics included.

    Every replica averages its own weights; they are only merged when the EMA is read.
    """

    def __init__(self, model: Any, decay: float) -> None:
        self._decay = decay
        self._weights = _list_weights(model)
        self._average = [_create_variable(weight) for weight in self._weights]
        self._steps = _create_variable(0.0)
        self.state = tf.train.Checkpoint(average=self._average, steps=self._steps)

    def update(self) -> None:
        """Add the weights of one more step, if all are finite."""
        self._steps.assign_add(1.0)
        # ramps the decay up from 1/11, so that the initial weights are soon forgotten
        decay = tf.minimum(self._decay, self._steps / (self._steps + 10.0))
        finite = tf.math.is_finite(tf.add_n([tf.reduce_sum(weight) for weight in self._weights]))
        for average, weight in zip(self._average, self._weights, strict=True):
            average.assign(tf.where(finite, decay * average + (1.0 - decay) * weight, average))

    def restart(self, values: Sequence[NDArray[np.float32]], steps: int) -> None:
        """Go on from an average that was computed elsewhere, over so many steps."""
        for average, value in zip(self._average, values, strict=True):
            average.assign(value)
        self._steps.assign(float(steps))

    def copy_to(self, model: Any) -> None:
        """Copy the averaged weights into another model of the same layers."""
        for weight, average in zip(_list_weights(model), self._average, strict=True):
            weight.assign(average.numpy())

    def assign_to(self, model: Any) -> None:
        """Assign the averaged weights within a training step; with several replicas use `copy_to`."""
        for weight, average in zip(_list_weights(model), self._average, strict=True):
            weight.assign(average)


def _list_weights(model: Any) -> list[Any]:
    return [weight for weight in model.weights if weight.dtype.is_floating]


def _create_variable(value: Any) -> Any:
    return tf.Variable(
        value,
        trainable=False,
        dtype=tf.float32,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.MEAN,
    )
