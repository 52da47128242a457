"""How much every channel matters to the masks; one small function for each measure."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.compress.cut import Network
from edgeseg.compress.lesson import BATCH, Lesson
from edgeseg.model.keras import keras, tf
from edgeseg.model.losses import find_loss

SCORED_CASES = 128

Scores = NDArray[np.float64]
"""For every channel's number, how much it matters; those of channels that are added are added up."""


def score_taylor(network: Network, lesson: Lesson) -> Scores:
    """Estimate what the loss would change by without each channel: |activation x gradient|, averaged over cases."""
    model, makers = network.model, _list_makers(network)
    watched = keras.Model(model.input, [*(_find_gate(model, maker).output for maker in makers), model.output])
    changes = [np.zeros(_find_gate(model, maker).output.shape[-1]) for maker in makers]
    loss = find_loss("bce-dice", lesson.activation)
    for images, masks in _list_batches(model, lesson):
        with tf.GradientTape() as tape:
            *activations, drawn = watched(images, training=False)
            wrong = tf.reduce_sum(loss(masks, drawn))
        for change, given, slope in zip(changes, activations, tape.gradient(wrong, activations), strict=True):
            change += np.abs(tf.reduce_sum(given * slope, axis=(1, 2)).numpy()).sum(axis=0)
    return _add_up(network, dict(zip(makers, changes, strict=True)))


def score_norm(network: Network, lesson: Lesson) -> Scores:  # noqa: ARG001 - measures are called alike
    """Take the scales of the batch normalisations, after a training that lowers those that matter little.

    A transposed convolution has none; the length of its filters stands in.
    """
    model = network.model
    return _add_up(network, {maker: _measure_scale(model, maker) for maker in _list_makers(network)})


MEASURES: dict[str, Callable[[Network, Lesson], Scores]] = {"taylor": score_taylor, "norm": score_norm}


def _list_makers(network: Network) -> list[str]:
    return [maker for group in network.wiring.groups for maker in group.makers]


def _find_layer(model: Any, name: str) -> Any:
    return next((layer for layer in model.layers if layer.name == name), None)


def _find_gate(model: Any, maker: str) -> Any:
    """Find the layer behind which a convolution's channels would be zero."""
    return _find_layer(model, f"{maker}_relu") or model.get_layer(maker)


def _measure_scale(model: Any, maker: str) -> Scores:
    norm = _find_layer(model, f"{maker}_norm")
    if norm is not None:
        return np.asarray(np.abs(norm.gamma.numpy()), np.float64)
    return np.asarray(np.sqrt(np.square(model.get_layer(maker).kernel.numpy()).sum(axis=(0, 1, 3))), np.float64)


def _list_batches(model: Any, lesson: Lesson) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Give training cases as they are, without variation."""
    feed = dataclasses.replace(lesson.feed(model.input_shape[1] // model.output_shape[1]), augment=None)
    count = len(lesson.train)
    picked = np.linspace(0, count - 1, min(SCORED_CASES, count)).astype(int)
    for start in range(0, len(picked), BATCH):
        images, masks = zip(*(feed.make_case(0, int(number)) for number in picked[start : start + BATCH]), strict=True)
        yield np.stack(images), np.stack(masks)


def _add_up(network: Network, by_maker: dict[str, Scores]) -> Scores:
    scores = np.zeros(network.wiring.total)
    for group in network.wiring.groups:
        for maker in group.makers:
            scores[group.channels] += by_maker[maker]
    return scores
