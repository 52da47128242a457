"""Fine-tuning of a trained network: magnitude sparsification, quantisation-aware training (QAT), recovery of pruning.

All of it distils from a teacher (`context.DistillationData`). Sparsity comes before QAT, whose scheme then keeps it
(docs/decisions/0017).
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.compression.context import BATCH, DistillationData
from edgeseg.compression.recipe import PruneStep, QatStep, SparsifyStep
from edgeseg.core.errors import RecipeError
from edgeseg.core.process import quiet_native_output
from edgeseg.core.progress import progress_bar
from edgeseg.model.keras import keras, tf
from edgeseg.model.unet import HEAD, DepthToSpace, SpaceToDepth
from edgeseg.training.grids import to_reals
from edgeseg.training.loading import build_pipeline
from edgeseg.training.loop import TrainingSchedule, build_optimizer, fit_model
from edgeseg.training.memory import check_further_training
from edgeseg.training.validation import EpochCost, EpochEvaluator

with quiet_native_output():
    import tensorflow_model_optimization as tfmot

# Share of the steps in which sparsity rises to its target, and in about how many updates.
RAMP_SHARE, SPARSITY_UPDATES = 0.6, 20
# Sparsity that may be missing: rounding to whole weights costs it in layers of a few dozen.
TOLERANCE = 0.01
_CALIBRATION_IMAGES = 64
# Layers that tfmot's schemes do not list: the image, and what is folded into the convolution before it.
_FOLDED = (keras.layers.InputLayer, keras.layers.BatchNormalization)
_HINT = (
    "Use Conv2D, BatchNormalization, ReLU, MaxPool2D, bilinear UpSampling2D, Add or Concatenate, "
    "or take the recipe int8-ptq."
)


class _MovesOnly(tfmot.quantization.keras.QuantizeConfig):  # type: ignore[misc]
    """What tfmot is told of layers that only move pixels: they keep the range of what they get."""

    def get_weights_and_quantizers(self, layer: Any) -> list[Any]:  # noqa: ARG002 - tfmot's interface
        return []

    def get_activations_and_quantizers(self, layer: Any) -> list[Any]:  # noqa: ARG002
        return []

    def set_quantize_weights(self, layer: Any, quantize_weights: list[Any]) -> None:
        pass

    def set_quantize_activations(self, layer: Any, quantize_activations: list[Any]) -> None:
        pass

    def get_output_quantizers(self, layer: Any) -> list[Any]:  # noqa: ARG002
        return []

    def get_config(self) -> dict[str, Any]:
        return {}


_OWN_LAYERS = {kind.__name__: kind for kind in (SpaceToDepth, DepthToSpace, _MovesOnly)}


def fine_tune(
    title: str,
    pair: tuple[Any, Any],
    distillation: DistillationData,
    step: QatStep | PruneStep,
    epochs: int,
    keep_initial: bool = True,
) -> None:
    """Train a model further, and leave its best EMA weights in a second model of the same layers.

    Args:
        title: The progress bar's title.
        pair: The model, which is changed, and the model for the EMA weights.
        distillation: The cases and the teacher.
        step: Learning rate and the teacher's share of the loss.
        epochs: How long.
        keep_initial: Whether the initial weights count, too, so that the result is never worse on validation cases.
    """
    model, ema_model = pair
    check_further_training(model, BATCH, isinstance(step, QatStep))
    feed = distillation.feed(model)
    training_schedule = TrainingSchedule(epochs, step.learning_rate)
    distillation.compile(model, build_optimizer(training_schedule, feed.steps), step.distillation)
    with tempfile.TemporaryDirectory() as folder:
        evaluator = EpochEvaluator(title, model, ema_model, distillation.validation, Path(folder) / "best.h5")
        if keep_initial:
            # epoch 0: the initial weights, which have no training loss
            evaluator.evaluate(0, EpochCost(loss=float("nan")))
        fit_model(model, feed, evaluator, training_schedule, distillation.add_teacher)


def train_quantised(parent: Any, step: QatStep, distillation: DistillationData, keep_sparsity: bool = False) -> Any:
    """Run QAT on a copy of a float model; the result is never worse on validation cases than the untrained copy.

    Args:
        parent: The float model; it stays as it is.
        step: Epochs, learning rate and the teacher's share of the loss.
        distillation: The cases and the teacher.
        keep_sparsity: Whether weights that are zero stay zero.
    """
    model, ema_model = quantise_model(parent, keep_sparsity), quantise_model(parent, keep_sparsity)
    set_ranges(model, parent, to_reals(distillation.train.images[:_CALIBRATION_IMAGES]))
    fine_tune("Training for int8", (model, ema_model), distillation, step, step.epochs)
    return ema_model


def quantise_model(parent: Any, keep_sparsity: bool = False) -> Any:
    """Copy a float model with its layers wrapped in fake quantisation.

    Args:
        parent: The float model; it stays as it is.
        keep_sparsity: Whether weights that are zero stay zero.
    """
    # a copy: whatever tfmot does to layers, the parent stays as it is
    copy = keras.models.clone_model(parent, clone_function=_copy_for_quantisation)
    copy.set_weights(parent.get_weights())
    quantisation = tfmot.quantization.keras
    try:
        annotated = quantisation.quantize_annotate_model(copy)
        with quantisation.quantize_scope(_OWN_LAYERS):
            return quantisation.quantize_apply(annotated, _choose_scheme(keep_sparsity))
    except (ValueError, RuntimeError) as error:
        raise RecipeError(f"Expected layers that tfmot can quantise, got its refusal: {error}.", _HINT) from error


def _copy_for_quantisation(layer: Any) -> Any:
    """Copy a layer; one that only moves pixels keeps the range of what it gets, and tfmot does not know it."""
    copy = layer.__class__.from_config(layer.get_config())
    if isinstance(layer, SpaceToDepth):
        return tfmot.quantization.keras.quantize_annotate_layer(copy, _MovesOnly())
    return copy


def check_layers(model: Any, keep_sparsity: bool) -> None:
    """Refuse layers that tfmot cannot quantise, before any training."""
    registry = _choose_scheme(keep_sparsity).get_quantize_registry()
    for layer in model.layers:
        if not isinstance(layer, (*_FOLDED, SpaceToDepth)) and not registry.supports(layer):
            kept = " and keep zeros in" if keep_sparsity else ""
            raise RecipeError(
                f"Expected layers that tfmot can quantise{kept}, got {layer.name}, a {type(layer).__name__}.", _HINT
            )


def _choose_scheme(keep_sparsity: bool) -> Any:
    if keep_sparsity:
        return tfmot.experimental.combine.Default8BitPrunePreserveQuantizeScheme()
    return tfmot.quantization.keras.default_8bit.Default8BitQuantizeScheme()


def set_ranges(model: Any, parent: Any, images: NDArray[np.float32]) -> None:
    """Set the initial range of every quantiser to the float model's weights and activations.

    tfmot starts at -6 to 6 and moves by a thousandth per step: a short training would end before the ranges arrive
    (docs/decisions/0009).
    """
    ranges = measure_ranges(parent, images)
    for layer in model.layers:
        weights = {weight.name.rsplit("/", 1)[-1].split(":")[0]: weight for weight in layer.weights}
        source = "image" if layer.name.startswith("quantize_layer") else layer.name.removeprefix("quant_")
        for name, weight in weights.items():
            # tfmot names a range after its tensor: kernel_min, post_activation_max
            subject, end = name[:-4], name[-4:]
            if end not in ("_min", "_max"):
                continue
            if subject in weights:
                largest = _find_largest(weights[subject], weight.shape)
                weight.assign(largest if end == "_max" else -largest)
            elif source in ranges:
                weight.assign(ranges[source][end == "_max"])


def _find_largest(kernel: Any, shape: Any) -> Any:
    """Find a kernel's largest weight, per channel or for all channels, as the range's shape says."""
    per_channel = tf.reduce_max(tf.abs(kernel), axis=(0, 1, 2))
    return per_channel if shape.rank else tf.reduce_max(per_channel)


def measure_ranges(parent: Any, images: NDArray[np.float32]) -> dict[str, tuple[float, float]]:
    """Measure each layer's smallest and largest output; the image itself always spans 0 to 1."""
    inner = [layer for layer in parent.layers if not isinstance(layer, keras.layers.InputLayer)]
    outputs = keras.Model(parent.input, [layer.output for layer in inner]).predict(images, batch_size=8, verbose=0)
    ranges = {
        # an affine int8 range must contain zero
        layer.name: (min(float(output.min()), 0.0), float(output.max()))
        for layer, output in zip(inner, outputs, strict=True)
    }
    return ranges | {"image": (0.0, 1.0)}


def sparsify_model(parent: Any, step: SparsifyStep, distillation: DistillationData) -> Any:
    """Train a copy of a float model in which a share of every convolution's weights is zero.

    No EMA here: an average of weights from before and after they became zero is not zero.

    Args:
        parent: The float model; it stays as it is.
        step: Target sparsity, epochs, learning rate and the teacher's share of the loss.
        distillation: The cases and the teacher.
    """
    check_further_training(parent, BATCH, quantised=False)
    feed = distillation.feed(parent)
    steps = step.epochs * feed.steps
    model = wrap_convolutions(parent, plan_sparsity(step.target, steps))
    training_schedule = TrainingSchedule(step.epochs, step.learning_rate)
    distillation.compile(model, build_optimizer(training_schedule, feed.steps), step.distillation)
    with progress_bar("Setting weights to zero", step.epochs) as advance:
        progress = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: advance(f"loss {logs['loss']:.3f}")  # noqa: ARG005 - Keras names them
        )
        # Keras' own loop: UpdatePruningStep is a callback, and there is no EMA to keep
        model.fit(
            distillation.add_teacher(build_pipeline(feed, step.epochs)),
            epochs=step.epochs,
            steps_per_epoch=feed.steps,
            verbose=0,
            callbacks=[tfmot.sparsity.keras.UpdatePruningStep(), progress],
        )
    sparse = unwrap_model(model)
    check_sparsity(measure_kernel_sparsity(sparse), step.target)
    return sparse


def plan_sparsity(target: float, steps: int) -> Any:
    """Plan the rise of sparsity (Zhu and Gupta 2017, "To prune, or not to prune").

    tfmot's own update frequency of 100 steps would leave a short training without a single zero.
    """
    frequency = max(1, int(steps * RAMP_SHARE) // SPARSITY_UPDATES)
    last = max(1, int(steps * RAMP_SHARE) // frequency) * frequency
    return tfmot.sparsity.keras.PolynomialDecay(0.0, target, 0, last, frequency=frequency)


def wrap_convolutions(parent: Any, schedule: Any) -> Any:
    """Copy a model with every convolution but the one of the masks wrapped for tfmot's magnitude pruning.

    That one has few weights: if only its negative ones were left, every mask would be empty for good, since zero
    weights stay zero.
    """
    sparsified = _list_sparsified(parent)

    def wrap(layer: Any) -> Any:
        copy = layer.__class__.from_config(layer.get_config())
        if layer in sparsified:
            return tfmot.sparsity.keras.prune_low_magnitude(copy, pruning_schedule=schedule)
        return copy

    model = keras.models.clone_model(parent, clone_function=wrap)
    for source, copy in zip(parent.layers, model.layers, strict=True):
        getattr(copy, "layer", copy).set_weights(source.get_weights())
    return model


def unwrap_model(model: Any) -> Any:
    """Copy a wrapped model without its wrappers; stripped layers alone would still belong to the wrapped model."""
    stripped = tfmot.sparsity.keras.strip_pruning(model)
    sparse = keras.models.clone_model(stripped)
    sparse.set_weights(stripped.get_weights())
    return sparse


def measure_kernel_sparsity(model: Any) -> float:
    """Measure the share of zeros among the convolutions' weights."""
    kernels = [layer.kernel.numpy() for layer in _list_convolutions(model)]
    return float(sum(np.count_nonzero(kernel == 0) for kernel in kernels) / sum(kernel.size for kernel in kernels))


def _list_convolutions(model: Any) -> list[Any]:
    return [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]


def _list_sparsified(model: Any) -> list[Any]:
    return [layer for layer in _list_convolutions(model) if layer.name != HEAD]


def check_reachable_sparsity(model: Any, target: float) -> None:
    """Refuse a target that no training reaches, since too many weights are in layers that tfmot does not sparsify."""
    sparsified = _list_sparsified(model)
    left = {
        layer.name: _count_weights(layer)
        for layer in model.layers
        if layer not in sparsified and isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D))
    }
    weights = sum(map(_count_weights, sparsified))
    share = weights / (weights + sum(left.values()))
    if target * share < target - TOLERANCE:
        largest = max(left, key=lambda name: left[name])
        raise RecipeError(
            f"Expected a network of which {target:.0%} of the weights can be zero, got one that reaches "
            f"{target * share:.1%}: {len(left)} of its layers stay as they are, of which {largest} is the largest.",
            "Train with --convolution plain, or take a recipe without [sparsify], such as int8-qat.",
        )


def _count_weights(layer: Any) -> int:
    """Count a kernel's weights; biases are not sparsified."""
    return max(int(np.prod(weight.shape)) for weight in layer.weights)


def check_sparsity(reached: float, target: float) -> None:
    """Refuse a network with fewer zeros than the recipe demands."""
    if reached < target - TOLERANCE:
        raise RecipeError(
            f"Expected {target:.0%} of the weights to be zero, got {reached:.1%}.",
            "Give the recipe's [sparsify] more epochs, or a lower target.",
        )
