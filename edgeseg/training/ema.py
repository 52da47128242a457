"""Average the weights over the last steps of training: steadier than any single step, and free on the device."""

from __future__ import annotations

from typing import Any

from edgeseg.model.keras import tf


class WeightEma:
    """A moving average of all weights, batch normalisation's statistics included; counters stay as they are.

    Every replica averages what it holds itself; the replicas are brought together only when the average is read.
    """

    def __init__(self, model: Any, momentum: float) -> None:
        self._momentum = momentum
        self._weights = _list_weights(model)
        self._average = [_keep_apart(weight) for weight in self._weights]
        self._steps = _keep_apart(0.0)
        self.state = tf.train.Checkpoint(average=self._average, steps=self._steps)

    def take_step(self) -> None:
        """Take the weights of one more step in, where all are finite; the first steps count more and are forgotten."""
        self._steps.assign_add(1.0)
        momentum = tf.minimum(self._momentum, self._steps / (self._steps + 10.0))
        finite = tf.math.is_finite(tf.add_n([tf.reduce_sum(weight) for weight in self._weights]))
        for average, weight in zip(self._average, self._weights, strict=True):
            average.assign(tf.where(finite, momentum * average + (1.0 - momentum) * weight, average))

    def copy_to(self, twin: Any) -> None:
        """Give the averaged weights to another model of the same layers."""
        for weight, average in zip(_list_weights(twin), self._average, strict=True):
            weight.assign(average.numpy())


def _list_weights(model: Any) -> list[Any]:
    return [weight for weight in model.weights if weight.dtype.is_floating]


def _keep_apart(value: Any) -> Any:
    return tf.Variable(
        value,
        trainable=False,
        dtype=tf.float32,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.MEAN,
    )
