"""Set the smallest weights to zero while training goes on: a smaller download, the same operators."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeseg.compress.lesson import BATCH, Lesson, distillation_loss
from edgeseg.compress.recipe import SparsifyStep
from edgeseg.core.errors import RecipeError
from edgeseg.core.progress import progress_bar
from edgeseg.core.quiet import quiet_native_output
from edgeseg.model.keras import keras
from edgeseg.train.course import Course
from edgeseg.train.fit import build_optimizer
from edgeseg.train.memory import check_further_training
from edgeseg.train.pipeline import build_pipeline

with quiet_native_output():
    import tensorflow_model_optimization as tfmot

THINNING_SHARE, THINNING_TIMES = 0.6, 20
TOLERANCE = 0.01
"""What rounding to whole weights may cost, on layers of a few dozen."""


def sparsify_model(parent: Any, step: SparsifyStep, lesson: Lesson) -> Any:
    """Train a copy of a float model in which a share of every convolution's weights is zero.

    Args:
        parent: The float model; it stays as it is.
        step: How many zeros, how long, how fast.
        lesson: What it learns from.
    """
    check_further_training(parent, BATCH, quantised=False)
    feed = lesson.feed(parent.input_shape[1] // parent.output_shape[1])
    steps = step.epochs * feed.steps
    model = wrap_convolutions(parent, plan_schedule(step.target, steps))
    course = Course(step.epochs, step.learning_rate)
    model.compile(build_optimizer(course, feed.steps), distillation_loss(step.distillation, lesson.activation))
    with progress_bar("Setting weights to zero", step.epochs) as advance:
        told = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: advance(f"loss {logs['loss']:.3f}")  # noqa: ARG005 - Keras names them
        )
        model.fit(
            lesson.follow(build_pipeline(feed, step.epochs)),
            epochs=step.epochs,
            steps_per_epoch=feed.steps,
            verbose=0,
            callbacks=[tfmot.sparsity.keras.UpdatePruningStep(), told],
        )
    sparse = unwrap_model(model)
    check_sparsity(measure_zeros(sparse), step.target)
    return sparse


def plan_schedule(target: float, steps: int) -> Any:
    """Plan when weights are set to zero: often enough that even a training of a few steps gets there.

    tfmot's own frequency of 100 steps would leave a short training without a single zero.
    """
    frequency = max(1, int(steps * THINNING_SHARE) // THINNING_TIMES)
    last = max(1, int(steps * THINNING_SHARE) // frequency) * frequency
    return tfmot.sparsity.keras.PolynomialDecay(0.0, target, 0, last, frequency=frequency)


def wrap_convolutions(parent: Any, schedule: Any) -> Any:
    """Copy a model with every convolution but the last wrapped for pruning; the weights are copied.

    The last one, which draws the masks, has few weights: if only those against a mask were left, none would be drawn
    again, since what is zero stays zero.
    """
    thinned = _list_convolutions(parent)[:-1]

    def wrap(layer: Any) -> Any:
        copy = layer.__class__.from_config(layer.get_config())
        if layer in thinned:
            return tfmot.sparsity.keras.prune_low_magnitude(copy, pruning_schedule=schedule)
        return copy

    model = keras.models.clone_model(parent, clone_function=wrap)
    for source, copy in zip(parent.layers, model.layers, strict=True):
        getattr(copy, "layer", copy).set_weights(source.get_weights())
    return model


def unwrap_model(model: Any) -> Any:
    """Take the wraps off; the layers are built anew, since the old ones still belong to the wrapped model."""
    stripped = tfmot.sparsity.keras.strip_pruning(model)
    sparse = keras.models.clone_model(stripped)
    sparse.set_weights(stripped.get_weights())
    return sparse


def measure_zeros(model: Any) -> float:
    """Measure the share of zeros among the convolutions' weights."""
    kernels = [layer.kernel.numpy() for layer in _list_convolutions(model)]
    return float(sum(np.count_nonzero(kernel == 0) for kernel in kernels) / sum(kernel.size for kernel in kernels))


def _list_convolutions(model: Any) -> list[Any]:
    return [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]


def check_reach(model: Any, target: float) -> None:
    """Refuse a target that no training reaches, since too many weights are in layers that tfmot leaves as they are."""
    thinned = _list_convolutions(model)[:-1]
    left = {
        layer.name: _count_weights(layer)
        for layer in model.layers
        if layer not in thinned and isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D))
    }
    weights = sum(map(_count_weights, thinned))
    share = weights / (weights + sum(left.values()))
    if target * share < target - TOLERANCE:
        largest = max(left, key=lambda name: left[name])
        raise RecipeError(
            f"Expected a network of which {target:.0%} of the weights can be zero, got one that reaches "
            f"{target * share:.1%}: {len(left)} of its layers stay as they are, of which {largest} is the largest.",
            "Train with --convolution plain, or take a recipe without [sparsify], such as int8-qat.",
        )


def _count_weights(layer: Any) -> int:
    """Count a kernel's weights; biases are no part of what is thinned out."""
    return max(int(np.prod(weight.shape)) for weight in layer.weights)


def check_sparsity(reached: float, target: float) -> None:
    """Refuse fewer zeros than the recipe asked for."""
    if reached < target - TOLERANCE:
        raise RecipeError(
            f"Expected {target:.0%} of the weights to be zero, got {reached:.1%}.",
            "Give the recipe's [sparsify] more epochs, or a lower target.",
        )
