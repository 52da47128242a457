"""Maps of what speaks for a mask from the gradients of a Keras network, and what each of its levels contributes.

They answer for the float network of a run. Its files are explained by covering parts of a frame
(`explanation.occlusion`), which needs no gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.spec import Quantisation
from edgeseg.explanation.explain import LevelEffect
from edgeseg.explanation.options import FINDING
from edgeseg.explanation.targets import Map, Probe, Target
from edgeseg.frame.postprocess import decide_labels, tensor_to_scores
from edgeseg.model.keras import keras, tf
from edgeseg.model.unet import FINDING_HEAD, find_logits, split_outputs

# Steps on the way from the blurred to the sharp frame; twice as many change no map visibly.
STEPS = 24
# Frames whose gradients are computed at once.
_BATCH = 8
# Deviation of the blur of a map of gradients, in cells: single pixels are noise.
_SMOOTH = 2.0
# The layers whose result is carried over or goes down last; they end both convolutions of a stage.
_STAGE = "down{}_b_relu"
# Where Seg-Grad-CAM looks by default; more faithful than the deepest stage (docs/decisions/0069).
_CAM = "up{}_b_relu"


def find_levels(model: Any) -> tuple[str, ...]:
    """Find the layers of a U-Net that hand features to its decoder: every skip from the finest on, then the deepest."""
    names = {layer.name for layer in model.layers}
    found: list[str] = []
    while _STAGE.format(len(found)) in names:
        found.append(_STAGE.format(len(found)))
    return tuple(found)


def seg_grad_cam(model: Any, probe: Probe, targets: Sequence[Target], layers: Sequence[str] = ()) -> list[Map]:
    """Weight a layer's channels by how the target depends on them (Seg-Grad-CAM: Vinogradova et al., AAAI 2020).

    Several layers are averaged, each scaled to the same spread. Negative values are kept: they speak against.

    Args:
        model: A U-Net.
        probe: The frame.
        targets: What to explain.
        layers: Names of the layers; the deepest stage of the decoder if left out.
    """
    names = tuple(layers) or (_CAM.format(len(find_levels(model)) - 2),)
    ends = [model.get_layer(name).output for name in names]
    whole = keras.Model(model.input, [*ends, *_list_logits(model)])
    image = tf.constant(_to_input(probe.grid))
    maps = []
    for target in targets:
        with tf.GradientTape() as tape:
            tape.watch(image)
            results = whole(image, training=False)
            features, value = results[: len(names)], _mean_logit(target, results[len(names) :], probe)
        gradients = tape.gradient(value, features, unconnected_gradients="zero")
        total = np.zeros(probe.shape, np.float32)
        for feature, gradient in zip(features, gradients, strict=True):
            weights = tf.reduce_mean(gradient, axis=(1, 2), keepdims=True)
            coarse = tf.reduce_sum(weights * feature, axis=-1)[0].numpy()
            total += _scale(probe.spread(_enlarge(coarse, probe)))
        maps.append(total)
    return maps


def integrate_gradients(model: Any, probe: Probe, targets: Sequence[Target], steps: int = STEPS) -> list[Map]:
    """Sum gradients on the way from the blurred to the sharp frame (Sundararajan, Taly and Yan, ICML 2017).

    The blurred frame in place of a black one, as in the other methods.
    """
    start, end = _to_input(probe.blurred), _to_input(probe.grid)
    shares = (np.arange(steps, dtype=np.float32) + np.float32(0.5))[:, None, None, None] / np.float32(steps)
    maps = []
    for target in targets:
        total = np.zeros_like(end)
        for first in range(0, steps, _BATCH):
            images = tf.constant(start + shares[first : first + _BATCH] * (end - start))
            with tf.GradientTape() as tape:
                tape.watch(images)
                outputs = _list(model(images, training=False))
                value = sum(_score(target, [one[n : n + 1] for one in outputs], probe) for n in range(len(images)))
            total += tape.gradient(value, images).numpy().sum(axis=0, keepdims=True)
        attributed = ((end - start) * total / steps).sum(axis=-1)[0]
        cells = probe.spread(attributed)
        maps.append(np.asarray(cv2.GaussianBlur(cells, (0, 0), _SMOOTH), np.float32))
    return maps


def _list(results: Any) -> list[Any]:
    return list(results) if isinstance(results, (list, tuple)) else [results]


def _to_input(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    return pixels[None].astype(np.float32) / np.float32(255)


def _score(target: Target, outputs: Sequence[Any], probe: Probe) -> Any:
    """Compute the target's score as `Probe.ask` does, differentiable and without calibration."""
    masks, findings = split_outputs(list(outputs) if len(outputs) > 1 else outputs[0])
    if target.of == FINDING and findings is not None:
        return findings[0, 0, 0, target.number]
    plane = probe.cut(masks[0])[:, :, probe.card.output.draws_background + target.number]
    mask = tf.constant(target.mask.astype(np.float32))
    return 2.0 * tf.reduce_sum(plane * mask) / (tf.reduce_sum(plane) + tf.reduce_sum(mask))


def _list_logits(model: Any) -> list[Any]:
    """List what goes into the last activation of every output: probabilities near 0 and 1 have no gradient left."""
    findings = [model.get_layer(FINDING_HEAD).output for _ in _list(model.output)[1:]]
    return [find_logits(model), *findings]


def _mean_logit(target: Target, logits: Sequence[Any], probe: Probe) -> Any:
    """Average the target's logits inside its mask, as Seg-Grad-CAM has it."""
    if target.of == FINDING:
        return logits[1][0, 0, 0, target.number]
    plane = probe.cut(logits[0][0])[:, :, probe.card.output.draws_background + target.number]
    mask = tf.constant(target.mask.astype(np.float32))
    return tf.reduce_sum(plane * mask) / tf.reduce_sum(mask)


def _enlarge(coarse: NDArray[np.float32], probe: Probe) -> NDArray[np.float32]:
    size = (probe.grid.shape[1], probe.grid.shape[0])
    return np.asarray(cv2.resize(coarse, size, interpolation=cv2.INTER_LINEAR), np.float32)


def _scale(found: Map) -> Map:
    spread = float(found.std())
    return found / np.float32(spread) if spread > 0 else found


def measure_levels(
    model: Any, averages: Sequence[NDArray[np.float32]], probe: Probe, targets: Sequence[Target]
) -> list[tuple[LevelEffect, ...]]:
    """Leave one level out at a time: at every position it only knows the average of each channel.

    Args:
        model: A U-Net.
        averages: Of every level's channels, as `average_levels` gives them.
        probe: The frame.
        targets: What is explained.

    Returns:
        For every target the effect of every level, from the finest on.
    """
    names = find_levels(model)
    ends = [model.get_layer(name).output for name in names]
    features = _list(keras.Model(model.input, ends)(_to_input(probe.grid), training=False))
    tail = keras.Model(ends, model.output)
    whole = _judge(tail, features, probe, targets)
    effects: list[list[LevelEffect]] = [[] for _ in targets]
    for number, (feature, average) in enumerate(zip(features, averages, strict=True)):
        changed = [*features[:number], tf.broadcast_to(average, feature.shape), *features[number + 1 :]]
        _, height, width, channels = feature.shape
        label = "deepest" if number == len(names) - 1 else f"skip {number + 1}"
        for effect, (score, mask), (old, old_mask) in zip(
            effects, _judge(tail, changed, probe, targets), whole, strict=True
        ):
            dice = round(_measure_dice(mask, old_mask), 5)
            effect.append(LevelEffect(label, height, width, channels, round(old - score, 5), dice))
    return [tuple(effect) for effect in effects]


def average_levels(model: Any, grids: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
    """Average the channels of every level over frames and positions.

    Args:
        model: A U-Net.
        grids: Preprocessed frames, as the network takes them.
    """
    ends = [model.get_layer(name).output for name in find_levels(model)]
    head = keras.Model(model.input, ends)
    sums = [np.zeros(end.shape[-1], np.float64) for end in ends]
    for grid in grids:
        for total, feature in zip(sums, _list(head(_to_input(grid), training=False)), strict=True):
            total += feature.numpy().mean(axis=(0, 1, 2))
    return [np.asarray(total / len(grids), np.float32) for total in sums]


def _judge(
    tail: Any, features: Sequence[Any], probe: Probe, targets: Sequence[Target]
) -> list[tuple[float, NDArray[np.bool_]]]:
    """Compute the score of every target, and its mask."""
    outputs = _list(tail(list(features), training=False))
    scores = tensor_to_scores(outputs[0].numpy(), Quantisation())
    labels = decide_labels(probe.cut(scores), probe.card.output)
    return [
        (float(_score(target, outputs, probe)), np.asarray(labels == target.number + 1, bool)) for target in targets
    ]


def _measure_dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    total = int(one.sum()) + int(other.sum())
    return 2.0 * int((one & other).sum()) / total if total else 1.0
