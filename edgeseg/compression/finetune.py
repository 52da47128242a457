"""Quantisation-aware training: the network learns to live with int8 before it is converted."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.compression.context import BATCH, DistillationData, distillation_loss
from edgeseg.compression.recipe import PruneStep, QatStep, SparsifyStep
from edgeseg.core.errors import RecipeError
from edgeseg.core.process import quiet_native_output
from edgeseg.core.progress import progress_bar
from edgeseg.model.keras import keras, tf
from edgeseg.training.checkpoint import Judge
from edgeseg.training.history import EpochCost
from edgeseg.training.loading import to_reals
from edgeseg.training.loop import TrainingSchedule, build_optimizer, fit_model
from edgeseg.training.memory import check_further_training
from edgeseg.training.pipeline import build_pipeline

THINNING_SHARE, THINNING_TIMES = 0.6, 20
TOLERANCE = 0.01
"""What rounding to whole weights may cost, on layers of a few dozen."""
_CALIBRATION_IMAGES = 64
_FOLDED = (keras.layers.InputLayer, keras.layers.BatchNormalization)
"""Layers that the schemes do not list: one is the image, the other becomes part of the convolution before it."""
_HINT = (
    "Use Conv2D, BatchNormalization, ReLU, MaxPool2D, bilinear UpSampling2D, Add or Concatenate, "
    "or take the recipe int8-ptq."
)


with quiet_native_output():
    import tensorflow_model_optimization as tfmot


def sparsify_model(parent: Any, step: SparsifyStep, distillation: DistillationData) -> Any:
    """Train a copy of a float model in which a share of every convolution's weights is zero.

    Args:
        parent: The float model; it stays as it is.
        step: How many zeros, how long, how fast.
        distillation: What it learns from.
    """
    check_further_training(parent, BATCH, quantised=False)
    feed = distillation.feed(parent.input_shape[1] // parent.output_shape[1])
    steps = step.epochs * feed.steps
    model = wrap_convolutions(parent, plan_schedule(step.target, steps))
    training_schedule = TrainingSchedule(step.epochs, step.learning_rate)
    model.compile(
        build_optimizer(training_schedule, feed.steps), distillation_loss(step.distillation, distillation.activation)
    )
    with progress_bar("Setting weights to zero", step.epochs) as advance:
        told = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: advance(f"loss {logs['loss']:.3f}")  # noqa: ARG005 - Keras names them
        )
        model.fit(
            distillation.follow(build_pipeline(feed, step.epochs)),
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


def fine_tune(
    title: str,
    pair: tuple[Any, Any],
    distillation: DistillationData,
    step: QatStep | PruneStep,
    epochs: int,
    may_stay: bool = True,
) -> None:
    """Train a model further, and leave its twin with the best weights.

    Args:
        title: What the progress bar says.
        pair: The model, which is changed, and its twin, a model of the same layers.
        distillation: What it learns from.
        step: How fast, and how much of the loss follows the lesson's guide.
        epochs: How long.
        may_stay: Whether the best weights may be those it came with.
    """
    model, twin = pair
    check_further_training(model, BATCH, isinstance(step, QatStep))
    feed = distillation.feed(model.input_shape[1] // model.output_shape[1])
    training_schedule = TrainingSchedule(epochs, step.learning_rate)
    model.compile(
        build_optimizer(training_schedule, feed.steps), distillation_loss(step.distillation, distillation.activation)
    )
    with tempfile.TemporaryDirectory() as folder:
        judge = Judge(title, model, twin, distillation.validation, Path(folder) / "best.h5")
        if may_stay:
            judge.judge(0, EpochCost(loss=float("nan")))
        fit_model(model, feed, judge, training_schedule, distillation.follow)


with quiet_native_output():
    import tensorflow_model_optimization as tfmot


def train_quantised(parent: Any, step: QatStep, distillation: DistillationData, keep_zeros: bool = False) -> Any:
    """Train a quantisation-aware copy of a float model.

    The untrained copy takes part in the judgement, so the result is never worse than it on validation cases.

    Args:
        parent: The float model; it stays as it is.
        step: How long, how fast, and how much of the loss follows the lesson's guide.
        distillation: What it learns from.
        keep_zeros: Whether weights that are zero stay zero.
    """
    model, twin = quantise_model(parent, keep_zeros), quantise_model(parent, keep_zeros)
    set_ranges(model, parent, to_reals(distillation.train.images[:_CALIBRATION_IMAGES]))
    fine_tune("Training for int8", (model, twin), distillation, step, step.epochs)
    return twin


def quantise_model(parent: Any, keep_zeros: bool = False) -> Any:
    """Wrap a float model's layers with fake quantisation; the weights are copied.

    Args:
        parent: The float model; it stays as it is.
        keep_zeros: Whether weights that are zero stay zero.
    """
    copy = keras.models.clone_model(parent)
    copy.set_weights(parent.get_weights())
    quantisation = tfmot.quantization.keras
    try:
        annotated = quantisation.quantize_annotate_model(copy)
        return quantisation.quantize_apply(annotated, _choose_scheme(keep_zeros))
    except (ValueError, RuntimeError) as error:
        raise RecipeError(f"Expected layers that tfmot can quantise, got its refusal: {error}.", _HINT) from error


def check_layers(model: Any, keep_zeros: bool) -> None:
    """Refuse layers that tfmot cannot quantise before any training."""
    registry = _choose_scheme(keep_zeros).get_quantize_registry()
    for layer in model.layers:
        if not isinstance(layer, _FOLDED) and not registry.supports(layer):
            kept = " and keep zeros in" if keep_zeros else ""
            raise RecipeError(
                f"Expected layers that tfmot can quantise{kept}, got {layer.name}, a {type(layer).__name__}.", _HINT
            )


def _choose_scheme(keep_zeros: bool) -> Any:
    if keep_zeros:
        return tfmot.experimental.combine.Default8BitPrunePreserveQuantizeScheme()
    return tfmot.quantization.keras.default_8bit.Default8BitQuantizeScheme()


def set_ranges(model: Any, parent: Any, images: NDArray[np.float32]) -> None:
    """Start every range where the float model's weights and activations lie.

    tfmot starts at -6 to 6 and moves by a thousandth per step: in a short training the ranges would never arrive.
    """
    ranges = measure_ranges(parent, images)
    for layer in model.layers:
        weights = {weight.name.rsplit("/", 1)[-1].split(":")[0]: weight for weight in layer.weights}
        source = "image" if layer.name.startswith("quantize_layer") else layer.name.removeprefix("quant_")
        for name, weight in weights.items():
            subject, end = name[:-4], name[-4:]
            if end not in ("_min", "_max"):
                continue
            if subject in weights:
                largest = _find_largest(weights[subject], weight.shape)
                weight.assign(largest if end == "_max" else -largest)
            elif source in ranges:
                weight.assign(ranges[source][end == "_max"])


def _find_largest(kernel: Any, shape: Any) -> Any:
    """Find a kernel's largest weight, for each channel or for all, as its range is shaped."""
    per_channel = tf.reduce_max(tf.abs(kernel), axis=(0, 1, 2))
    return per_channel if shape.rank else tf.reduce_max(per_channel)


def measure_ranges(parent: Any, images: NDArray[np.float32]) -> dict[str, tuple[float, float]]:
    """Measure each layer's smallest and largest output; the image itself always spans 0 to 1."""
    inner = [layer for layer in parent.layers if not isinstance(layer, keras.layers.InputLayer)]
    outputs = keras.Model(parent.input, [layer.output for layer in inner]).predict(images, batch_size=8, verbose=0)
    ranges = {
        layer.name: (min(float(output.min()), 0.0), float(output.max()))
        for layer, output in zip(inner, outputs, strict=True)
    }
    return ranges | {"image": (0.0, 1.0)}
