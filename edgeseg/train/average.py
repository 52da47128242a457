"""Average the weights over the last steps of training: steadier than any single step, and free on the device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from edgeseg.model.keras import tf

MOMENTUM = 0.998


class WeightAverage:
    """A moving average of all weights, batch normalisation's statistics included; counters stay as they are."""

    def __init__(self, model: Any) -> None:
        self._weights = [weight for weight in model.weights if weight.dtype.is_floating]
        self._average = [tf.Variable(weight, trainable=False) for weight in self._weights]
        self._steps = tf.Variable(0.0, trainable=False)
        self.state = tf.train.Checkpoint(average=self._average, steps=self._steps)
        self._update = tf.function(self._take_step)

    def update(self) -> None:
        """Take the weights of one more step in; the first steps count more, so that the start is soon forgotten."""
        self._update()

    def _take_step(self) -> None:
        self._steps.assign_add(1.0)
        momentum = tf.minimum(MOMENTUM, self._steps / (self._steps + 10.0))
        for average, weight in zip(self._average, self._weights, strict=True):
            average.assign(momentum * average + (1.0 - momentum) * weight)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the model have the averaged weights within the block."""
        kept = [weight.numpy() for weight in self._weights]
        self._assign(self._average)
        try:
            yield
        finally:
            self._assign(kept)

    def _assign(self, values: Any) -> None:
        for weight, value in zip(self._weights, values, strict=True):
            weight.assign(value)
