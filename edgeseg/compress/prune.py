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
from edgeseg.compress.steps import StepStore
from edgeseg.core.errors import RecipeError
from edgeseg.core.progress import progress_bar
from edgeseg.model.keras import keras
from edgeseg.model.spec import UNetSpec

SCALE_PENALTY = 1e-3
"""What the sum of all scales adds to the loss, per unit."""
SAVED = {"parameters": "parameters", "macs": "work", "latency": "work"}
"""What a removed block is to save much of, for each budget: a time is measured of whole networks, not of blocks."""
SHOWN = "macs"
"""What the progress bar tells, since it is counted at once."""


def prune_network(spec: UNetSpec, model: Any, step: PruneStep, lesson: Lesson, store: StepStore) -> Network:
    """Remove channels until every budget holds, and train what is left.

    Whether they can hold, `check_pruning` says beforehand: a time that is measured twice is not the same twice.

    Args:
        spec: What the model was built from.
        model: The float model; it stays as it is.
        step: The budgets, in how many steps, and how long to recover.
        lesson: What it learns from.
        store: Where finished steps are kept; what an interruption left there is used.
    """
    parent = wire_network(spec, model)
    meters = {budget: choose_meter(budget, parent) for budget in (*step.budgets, SHOWN)}
    done, network = store.load() or (0, parent)
    with progress_bar("Pruning", step.steps + 1 - done) as advance:
        for number in range(done + 1, step.steps + 2):
            if number <= step.steps:
                network = _take_step(network, step, lesson, meters, number / step.steps)
            else:
                network = recover(network, lesson, step, step.recovery_epochs)
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


def _take_step(network: Network, step: PruneStep, lesson: Lesson, meters: Mapping[str, Meter], part: float) -> Network:
    """Go a part of the way to every budget; scales are trained towards zero before, activations recover afterwards."""
    if step.importance == "norm":
        network = lower_scales(network, lesson, step)
    scores = MEASURES[step.importance](network, lesson)
    keep = network.wiring.keep_all()
    for budget, share in step.budgets.items():
        plans = plan_removals(network.wiring, scores, SAVED[budget], keep)
        keep = find_removal(network, plans, meters[budget], share**part)
    network = cut_network(network, keep)
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
