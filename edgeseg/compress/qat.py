"""Quantisation-aware training: the network learns to live with int8 before it is converted."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.compress.follow import train_follower
from edgeseg.compress.lesson import Lesson
from edgeseg.compress.recipe import QatStep
from edgeseg.core.errors import RecipeError
from edgeseg.core.quiet import quiet_native_output
from edgeseg.model.keras import keras, tf
from edgeseg.train.arrays import to_reals

with quiet_native_output():
    import tensorflow_model_optimization as tfmot

_CALIBRATION_IMAGES = 64
_FOLDED = (keras.layers.InputLayer, keras.layers.BatchNormalization)
"""Layers that the schemes do not list: one is the image, the other becomes part of the convolution before it."""
_HINT = (
    "Use Conv2D, BatchNormalization, ReLU, MaxPool2D, bilinear UpSampling2D, Add or Concatenate, "
    "or take the recipe int8-ptq."
)


def train_quantised(parent: Any, step: QatStep, lesson: Lesson, keep_zeros: bool = False) -> Any:
    """Train a quantisation-aware copy of a float model.

    The untrained copy takes part in the judgement, so the result is never worse than it on validation cases.

    Args:
        parent: The float model; it stays as it is.
        step: How long, how fast, and how much of the loss follows the lesson's guide.
        lesson: What it learns from.
        keep_zeros: Whether weights that are zero stay zero.
    """
    model, twin = quantise_model(parent, keep_zeros), quantise_model(parent, keep_zeros)
    set_ranges(model, parent, to_reals(lesson.train.images[:_CALIBRATION_IMAGES]))
    train_follower("Training for int8", (model, twin), lesson, step, step.epochs)
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
