"""Structured pruning: whole channels go, step by step, and the network recovers after every step.

The smaller network is an ordinary one with a spec of its own, so it is faster on every machine.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from edgeseg.compress.costs import Meter, choose_meter
from edgeseg.compress.cut import Network, cut_network, wire_network
from edgeseg.compress.follow import train_follower
from edgeseg.compress.importance import MEASURES
from edgeseg.compress.lesson import Lesson
from edgeseg.compress.recipe import PruneStep
from edgeseg.compress.removal import find_removal, keep_least, plan_removals
from edgeseg.core.errors import RecipeError
from edgeseg.model.keras import keras
from edgeseg.model.spec import UNetSpec

SCALE_PENALTY = 1e-3
"""What the sum of all scales adds to the loss, per unit."""


def prune_network(spec: UNetSpec, model: Any, step: PruneStep, lesson: Lesson) -> Network:
    """Remove channels until the budgets hold, and train what is left.

    Args:
        spec: What the model was built from.
        model: The float model; it stays as it is.
        step: The budgets, in how many steps, and how long to recover.
        lesson: What it learns from.
    """
    network, meters = plan_pruning(spec, model, step)
    for number in range(1, step.steps + 1):
        shares = {name: share ** (number / step.steps) for name, share in step.budgets.items()}
        network = _take_step(network, step, lesson, meters, shares)
    return recover(network, lesson, step, step.recovery_epochs)


def plan_pruning(spec: UNetSpec, model: Any, step: PruneStep) -> tuple[Network, dict[str, Meter]]:
    """Wire a model and choose how its costs are measured; a budget that it cannot keep is refused."""
    network = wire_network(spec, model)
    meters = {name: choose_meter(name, network) for name in step.budgets}
    for name, share in step.budgets.items():
        check_budget(name, share, meters[name](network, keep_least(network.wiring)))
    return network, meters


def check_budget(name: str, share: float, least: float) -> None:
    """Refuse a budget that the narrowest network would not keep."""
    if least > share:
        raise RecipeError(
            f"Expected a network that can be pruned to {share:.0%} of its {name}, got one that keeps {least:.0%} when "
            "every convolution has as few channels as it may.",
            f"Ask for [prune] {name} = {least + 0.01:.2f} or more, or train a wider network.",
        )


def _take_step(
    network: Network, step: PruneStep, lesson: Lesson, meters: Mapping[str, Meter], shares: Mapping[str, float]
) -> Network:
    """Remove channels once; scales are trained towards zero before, activations recover afterwards."""
    if step.importance == "norm":
        network = lower_scales(network, lesson, step)
    scores = MEASURES[step.importance](network, lesson)
    plans = plan_removals(network.wiring, scores, "parameters" if [*shares] == ["parameters"] else "macs")
    kept = find_removal(plans, lambda keep: all(meters[name](network, keep) <= shares[name] for name in shares))
    network = cut_network(network, kept)
    return recover(network, lesson, step, step.epochs) if step.importance == "taylor" else network


def recover(network: Network, lesson: Lesson, step: PruneStep, epochs: int) -> Network:
    """Train what is left of a network."""
    twin = keras.models.clone_model(network.model)
    train_follower("Recovering from pruning", (network.model, twin), lesson, step, epochs)
    return dataclasses.replace(network, model=twin)


def lower_scales(network: Network, lesson: Lesson, step: PruneStep) -> Network:
    """Train a copy so that the scales of its batch normalisations fall where they matter little."""
    model, twin = penalise_scales(network.model), keras.models.clone_model(network.model)
    train_follower("Lowering what matters little", (model, twin), lesson, step, step.epochs, may_stay=False)
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
