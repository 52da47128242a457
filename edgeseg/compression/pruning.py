"""Structured pruning: whole channels go, step by step, and the network recovers after every step.

The smaller network is an ordinary one with a spec of its own, so it is faster on every machine.
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.compression.channels import (
    Group,
    Keep,
    Meter,
    Network,
    Numbers,
    Wiring,
    choose_meter,
    count_costs,
    cut_network,
    wire_network,
)
from edgeseg.compression.context import BATCH, DistillationData
from edgeseg.compression.finetune import fine_tune
from edgeseg.compression.recipe import PruneStep
from edgeseg.compression.resume import StepStore
from edgeseg.core.errors import RecipeError
from edgeseg.core.progress import progress_bar
from edgeseg.model.keras import keras, tf
from edgeseg.model.losses import find_loss
from edgeseg.model.spec import UNetSpec

SCORED_CASES = 128
Scores = NDArray[np.float64]
"""For every channel's number, how much it matters; those of channels that are added are added up."""
BLOCK = 8
"""Widths are multiples of it where the network's were, and never less: kernels compute on so many channels at once."""
SCALE_PENALTY = 1e-3
"""What the sum of all scales adds to the loss, per unit."""
SAVED = {"parameters": "parameters", "macs": "work", "latency": "work"}
"""What a removed block is to save much of, for each budget: a time is measured of whole networks, not of blocks."""
SHOWN = "macs"
"""What the progress bar tells, since it is counted at once."""


def score_taylor(network: Network, distillation: DistillationData) -> Scores:
    """Estimate what the loss would change by without each channel: |activation x gradient|, averaged over cases."""
    model, makers = network.model, _list_makers(network)
    watched = keras.Model(model.input, [*(_find_gate(model, maker).output for maker in makers), model.output])
    changes = [np.zeros(_find_gate(model, maker).output.shape[-1]) for maker in makers]
    loss = find_loss("bce-dice", distillation.activation)
    for images, masks in _list_batches(model, distillation):
        with tf.GradientTape() as tape:
            *activations, drawn = watched(images, training=False)
            wrong = tf.reduce_sum(loss(masks, drawn))
        for change, given, slope in zip(changes, activations, tape.gradient(wrong, activations), strict=True):
            change += np.abs(tf.reduce_sum(given * slope, axis=(1, 2)).numpy()).sum(axis=0)
    return _add_up(network, dict(zip(makers, changes, strict=True)))


def score_norm(network: Network, distillation: DistillationData) -> Scores:  # noqa: ARG001 - measures are called alike
    """Take the scales of the batch normalisations, after a training that lowers those that matter little.

    A transposed convolution has none; the length of its filters stands in.
    """
    model = network.model
    return _add_up(network, {maker: _measure_scale(model, maker) for maker in _list_makers(network)})


MEASURES: dict[str, Callable[[Network, DistillationData], Scores]] = {"taylor": score_taylor, "norm": score_norm}


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


def _list_batches(
    model: Any, distillation: DistillationData
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Give training cases as they are, without variation."""
    feed = dataclasses.replace(distillation.feed(model.input_shape[1] // model.output_shape[1]), augment=None)
    count = len(distillation.train)
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


def plan_removals(wiring: Wiring, scores: Scores, cost: str, start: Keep) -> list[Keep]:
    """Plan every removal there can be, one block at a time; the first entry is the start, the last keeps the least.

    Args:
        wiring: The network's channels.
        scores: How much every channel matters.
        cost: What a removal is to save, "parameters" or "work".
        start: The channels there still are.
    """
    plans = [start]
    while blocks := list(_list_blocks(wiring.groups, scores, plans[-1])):
        before = getattr(count_costs(wiring, plans[-1]), cost)
        left = [_remove(plans[-1], block) for block in blocks]
        prices = [
            scores[block].sum() / (before - getattr(count_costs(wiring, keep), cost))
            for block, keep in zip(blocks, left, strict=True)
        ]
        plans.append(left[int(np.argmin(prices))])
    return plans


def keep_least(wiring: Wiring) -> Keep:
    """Keep no more channels than every group must keep."""
    keep = wiring.keep_all()
    for group in wiring.groups:
        keep[group.channels[BLOCK:]] = False
    return keep


def find_removal(network: Network, plans: Sequence[Keep], meter: Meter, share: float) -> Keep:
    """Find the first plan that costs no more than a share; the last one where none does."""
    index = bisect_left(range(len(plans) - 1), True, key=lambda number: meter(network, plans[number]) <= share)
    return plans[index]


def _list_blocks(groups: Sequence[Group], scores: Scores, keep: Keep) -> Iterator[Numbers]:
    """List the weakest channels of every group that can spare some, so many that a multiple of eight is left."""
    for group in groups:
        left = group.channels[keep[group.channels]]
        count = len(left) % BLOCK or BLOCK
        if len(left) - count >= BLOCK:
            yield left[np.argsort(scores[left], kind="stable")[:count]]


def _remove(keep: Keep, block: Numbers) -> Keep:
    left = keep.copy()
    left[block] = False
    return left


def prune_network(
    spec: UNetSpec, model: Any, step: PruneStep, distillation: DistillationData, store: StepStore
) -> Network:
    """Remove channels until every budget holds, and train what is left.

    Whether they can hold, `check_pruning` says beforehand: a time that is measured twice is not the same twice.

    Args:
        spec: What the model was built from.
        model: The float model; it stays as it is.
        step: The budgets, in how many steps, and how long to recover.
        distillation: What it learns from.
        store: Where finished steps are kept; what an interruption left there is used.
    """
    parent = wire_network(spec, model)
    meters = {budget: choose_meter(budget, parent) for budget in (*step.budgets, SHOWN)}
    done, network = store.load() or (0, parent)
    with progress_bar("Pruning", step.steps + 1 - done) as advance:
        for number in range(done + 1, step.steps + 2):
            if number <= step.steps:
                network = _take_step(network, step, distillation, meters, number / step.steps)
            else:
                network = recover(network, distillation, step, step.recovery_epochs)
            store.save(number, network.spec, network.model)
            advance(f"{meters[SHOWN](network, network.wiring.keep_all()):.0%} of the {SHOWN} left")
    return network


def check_pruning(spec: UNetSpec, model: Any, step: PruneStep) -> None:
    """Refuse a budget that even the narrowest network would not keep."""
    network = wire_network(spec, model)
    for budget, share in step.budgets.items():
        least = choose_meter(budget, network)(network, keep_least(network.wiring))
        if least > share:
            raise RecipeError(
                f"Expected a network that can be pruned to {share:.0%} of its {budget}, got one that keeps "
                f"{least:.0%} when every convolution has as few channels as it may.",
                f"Ask for [prune] {budget} = {least + 0.01:.2f} or more, or train a wider network.",
            )


def _take_step(
    network: Network, step: PruneStep, distillation: DistillationData, meters: Mapping[str, Meter], part: float
) -> Network:
    """Go a part of the way to every budget; scales are trained towards zero before, activations recover afterwards."""
    if step.importance == "norm":
        network = lower_scales(network, distillation, step)
    scores = MEASURES[step.importance](network, distillation)
    keep = network.wiring.keep_all()
    for budget, share in step.budgets.items():
        plans = plan_removals(network.wiring, scores, SAVED[budget], keep)
        keep = find_removal(network, plans, meters[budget], share**part)
    network = cut_network(network, keep)
    return recover(network, distillation, step, step.epochs) if step.importance == "taylor" else network


def recover(network: Network, distillation: DistillationData, step: PruneStep, epochs: int) -> Network:
    """Train what is left of a network."""
    twin = keras.models.clone_model(network.model)
    fine_tune("Recovering from pruning", (network.model, twin), distillation, step, epochs)
    return dataclasses.replace(network, model=twin)


def lower_scales(network: Network, distillation: DistillationData, step: PruneStep) -> Network:
    """Train a copy so that the scales of its batch normalisations fall where they matter little."""
    model, twin = penalise_scales(network.model), keras.models.clone_model(network.model)
    fine_tune("Lowering what matters little", (model, twin), distillation, step, step.epochs, may_stay=False)
    return dataclasses.replace(network, model=twin)


def penalise_scales(model: Any) -> Any:
    """Copy a model so that large scales add to its loss."""

    def copy_layer(layer: Any) -> Any:
        copy = layer.__class__.from_config(layer.get_config())
        if isinstance(layer, keras.layers.BatchNormalization):
            copy.gamma_regularizer = keras.regularizers.L1(SCALE_PENALTY)
        return copy

    copy = keras.models.clone_model(model, clone_function=copy_layer)
    copy.set_weights(model.get_weights())
    return copy
