"""Structured pruning: remove whole channels step by step, and train what is left after every step.

The smaller network is an ordinary dense one with a spec of its own, so it is faster on every machine
(docs/decisions/0020). Finished steps are stored, so that an interrupted pruning continues behind the last one.
"""

from __future__ import annotations

import dataclasses
import json
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.compression.channels import (
    ChannelIds,
    Group,
    Keep,
    Meter,
    Network,
    Wiring,
    choose_meter,
    count_costs,
    cut_network,
    wire_network,
)
from edgeseg.compression.context import BATCH, DistillationData
from edgeseg.compression.finetune import fine_tune
from edgeseg.compression.gate import KeptChannels
from edgeseg.compression.recipe import PruneStep
from edgeseg.core.errors import RecipeError, RunError
from edgeseg.core.files import write_json
from edgeseg.core.progress import progress_bar
from edgeseg.core.schema import from_plain, read_json_table, to_plain
from edgeseg.model.keras import keras, read_weights, tf, write_weights
from edgeseg.model.spec import OWN, UNetSpec
from edgeseg.model.unet import build_unet

# The importance of every channel; that of channels that are added is the sum of theirs.
Scores = NDArray[np.float64]
# Training cases that the Taylor importance is averaged over.
SCORED_CASES = 128
# Channels are removed down to multiples of it, and never to fewer: kernels read so many channels at once
# (docs/decisions/0039).
BLOCK = 8
# Weight of the L1 norm of all scales in the loss.
SCALE_PENALTY = 1e-3
# The cost by which blocks are compared, for each budget: a latency is measured of whole networks, not of blocks
# (docs/decisions/0039).
SAVED = {"parameters": "parameters", "macs": "work", "latency": "work"}
# The cost that the progress bar shows: it is counted, not measured, and so at hand at once.
SHOWN = "macs"
STEP_RECORD, NETWORKS = "step.json", "networks"


def prune_network(
    spec: UNetSpec, model: Any, step: PruneStep, distillation: DistillationData, store: StepStore
) -> Network:
    """Remove channels until every budget holds, and train what is left.

    `check_pruning` refuses budgets that cannot hold beforehand, not here: a latency that is measured twice differs.

    Args:
        spec: The spec of the model.
        model: The float model; it stays as it is.
        step: The budgets, the number of steps, and how long to recover.
        distillation: The cases and the teacher.
        store: Where finished steps are stored; an interrupted pruning continues from there.
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
            # only whole steps are stored: half a training could not be continued in the same way
            store.save(number, network.spec, network.model)
            advance(f"{meters[SHOWN](network, network.wiring.keep_all()):.0%} of the {SHOWN} left")
    return network


def check_pruning(spec: UNetSpec, model: Any, step: PruneStep) -> None:
    """Refuse a budget that even the narrowest network exceeds, and an encoder whose widths are not its spec's."""
    if spec.encoder != OWN:
        raise RecipeError(
            f"Expected a network to prune that was trained with --encoder {OWN}, got one with {spec.encoder}.",
            "Take a recipe without [prune], such as int8-qat, or let a small network learn from this one: "
            "edgeseg train DATA --out NEW --teacher RUN",
        )
    network = wire_network(spec, model)
    for budget, share in step.budgets.items():
        # measured on the narrowest network that `plan_removals` can reach
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
    """Go a part of the way to every budget.

    With "norm" the training with the penalty comes before the removal; with "taylor" the recovery comes after it.
    """
    if step.importance == "norm":
        network = lower_scales(network, distillation, step)
    scores = MEASURES[step.importance](network, distillation)
    keep = network.wiring.keep_all()
    for budget, share in step.budgets.items():
        # share ** part: every step removes the same share of what the one before left; budgets are met in turn
        plans = plan_removals(network.wiring, scores, SAVED[budget], keep)
        keep = find_removal(network, plans, meters[budget], share**part)
    network = cut_network(network, keep)
    return recover(network, distillation, step, step.epochs) if step.importance == "taylor" else network


def recover(network: Network, distillation: DistillationData, step: PruneStep, epochs: int) -> Network:
    """Train a pruned network further; its recovery needs the full learning rate (docs/decisions/0042)."""
    trained = keras.models.clone_model(network.model)
    fine_tune("Recovering from pruning", (network.model, trained), distillation, step, epochs)
    return dataclasses.replace(network, model=trained)


def lower_scales(network: Network, distillation: DistillationData, step: PruneStep) -> Network:
    """Train a copy with an L1 penalty on the scales of batch normalisation: unimportant ones fall towards zero."""
    model, trained = penalise_scales(network.model), keras.models.clone_model(network.model)
    fine_tune(
        "Lowering scales of batch normalisation", (model, trained), distillation, step, step.epochs, keep_initial=False
    )
    return dataclasses.replace(network, model=trained)


def penalise_scales(model: Any) -> Any:
    """Copy a model with an L1 penalty on the scales of batch normalisation."""

    def copy_layer(layer: Any) -> Any:
        copy = layer.__class__.from_config(layer.get_config())
        if isinstance(layer, keras.layers.BatchNormalization):
            copy.gamma_regularizer = keras.regularizers.L1(SCALE_PENALTY)
        return copy

    copy = keras.models.clone_model(model, clone_function=copy_layer)
    copy.set_weights(model.get_weights())
    return copy


def score_taylor(network: Network, distillation: DistillationData) -> Scores:
    """Score channels by Taylor importance: how much the loss would change without them, to first order.

    That is |activation x gradient|, summed over the image: Molchanov et al. 2017, "Pruning Convolutional Neural
    Networks for Resource Efficient Inference", and 2019, "Importance Estimation for Neural Network Pruning".
    """
    model, producers = network.model, _list_producers(network)
    watched = keras.Model(
        model.input, [*(_find_activation(model, producer).output for producer in producers), *model.outputs]
    )
    changes = [np.zeros(_find_activation(model, producer).output.shape[-1]) for producer in producers]
    for images, *truth in _list_batches(model, distillation):
        with tf.GradientTape() as tape:
            results = watched(images, training=False)
            activations, given = results[: len(producers)], results[len(producers) :]
            wrong = distillation.measure_loss(truth, given)
        for change, activation, slope in zip(changes, activations, tape.gradient(wrong, activations), strict=True):
            change += np.abs(tf.reduce_sum(activation * slope, axis=(1, 2)).numpy()).sum(axis=0)
    return _sum_scores(network, dict(zip(producers, changes, strict=True)))


def score_norm(network: Network, distillation: DistillationData) -> Scores:  # noqa: ARG001 - all measures have one signature
    """Score channels by their batch normalisation's scale, after a training with an L1 penalty on the scales.

    Liu et al. 2017, "Learning Efficient Convolutional Networks through Network Slimming". A transposed
    convolution has no batch normalisation; the norm of its filters is used instead.
    """
    model = network.model
    return _sum_scores(network, {producer: _measure_scale(model, producer) for producer in _list_producers(network)})


MEASURES: dict[str, Callable[[Network, DistillationData], Scores]] = {"taylor": score_taylor, "norm": score_norm}


def _list_producers(network: Network) -> list[str]:
    return [producer for group in network.wiring.groups for producer in group.producers]


def _find_layer(model: Any, name: str) -> Any:
    return next((layer for layer in model.layers if layer.name == name), None)


def _find_activation(model: Any, producer: str) -> Any:
    """Find the layer whose output stays zero for a removed channel: the activation behind the convolution."""
    return _find_layer(model, f"{producer}_relu") or model.get_layer(producer)


def _measure_scale(model: Any, producer: str) -> Scores:
    # named as unet._norm names it
    norm = _find_layer(model, f"{producer}_norm")
    if norm is not None:
        return np.asarray(np.abs(norm.gamma.numpy()), np.float64)
    return np.asarray(np.sqrt(np.square(model.get_layer(producer).kernel.numpy()).sum(axis=(0, 1, 3))), np.float64)


def _list_batches(model: Any, distillation: DistillationData) -> Iterator[tuple[NDArray[np.float32], ...]]:
    """Yield batches of training cases without augmentation: images, masks, and findings where they are learned."""
    feed = dataclasses.replace(distillation.feed(model), augment=None)
    count = len(distillation.train)
    picked = np.linspace(0, count - 1, min(SCORED_CASES, count)).astype(int)
    for start in range(0, len(picked), BATCH):
        cases = [feed.make_case(0, int(number)) for number in picked[start : start + BATCH]]
        yield tuple(np.stack(arrays) for arrays in zip(*cases, strict=True))


def _sum_scores(network: Network, by_producer: dict[str, Scores]) -> Scores:
    scores = np.zeros(network.wiring.total)
    for group in network.wiring.groups:
        for producer in group.producers:
            scores[group.channels] += by_producer[producer]
    return scores


def plan_removals(wiring: Wiring, scores: Scores, cost: str, start: Keep) -> list[Keep]:
    """Plan all removals, one block at a time, greedily: the block of least importance per saved cost comes first.

    The first plan keeps all of `start`, the last one the fewest channels.

    Args:
        wiring: The network's channels.
        scores: The importance of every channel.
        cost: The cost to save: "parameters", "macs" or "work".
        start: The channels that are still there.
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
    """Keep the fewest channels that every group must keep."""
    keep = wiring.keep_all()
    for group in wiring.groups:
        keep[group.channels[BLOCK:]] = False
    return keep


def find_removal(network: Network, plans: Sequence[Keep], meter: Meter, share: float) -> Keep:
    """Find the first plan within a share of the cost by bisection; the last plan where none is."""
    # costs fall from plan to plan; bisection saves measurements, of which a latency takes seconds
    index = bisect_left(range(len(plans) - 1), True, key=lambda number: meter(network, plans[number]) <= share)
    return plans[index]


def _list_blocks(groups: Sequence[Group], scores: Scores, keep: Keep) -> Iterator[ChannelIds]:
    """List the least important channels of every group, as many as leave a multiple of BLOCK."""
    for group in groups:
        left = group.channels[keep[group.channels]]
        count = len(left) % BLOCK or BLOCK
        if len(left) - count >= BLOCK:
            # stable: equal scores must always give the same channels
            yield left[np.argsort(scores[left], kind="stable")[:count]]


def _remove(keep: Keep, block: ChannelIds) -> Keep:
    left = keep.copy()
    left[block] = False
    return left


@dataclass(frozen=True)
class StepRecord:
    """The last finished step, and the spec of its network."""

    done: int
    spec: UNetSpec

    @property
    def weights(self) -> str:
        """The file of the weights; every step has its own, so that the record never names a half-written file."""
        return f"step-{self.done}.h5"


@dataclass(frozen=True)
class StepStore:
    """The store of the last finished step of a recipe's training."""

    folder: Path

    def load(self) -> tuple[int, Network] | None:
        """Load the number of the last finished step and its network; None where there is none."""
        path = self.folder / STEP_RECORD
        if not path.is_file():
            return None
        try:
            record = from_plain(StepRecord, read_json_table(path))
        except ValueError as error:
            raise RunError(
                f"Expected a finished step in {path}, got a damaged file: {error}.", "Begin again with --overwrite."
            ) from error
        model = build_unet(record.spec)
        read_weights(self.folder / record.weights, model)
        return record.done, wire_network(record.spec, model)

    def save(self, done: int, spec: UNetSpec, model: Any) -> None:
        """Save a step; the one before is only removed once this one is whole."""
        record = StepRecord(done, spec)
        # weights first: the record must never name a file that is not there
        write_weights(self.folder / record.weights, model)
        write_json(self.folder / STEP_RECORD, to_plain(record))
        for path in self.folder.glob("step-*.h5"):
            if path.name != record.weights:
                path.unlink()


@dataclass(frozen=True)
class PrunedNetwork:
    """The spec of the pruned network, and the channels that were kept."""

    spec: UNetSpec
    channels: tuple[KeptChannels, ...]
    calibrated: bool = False
    """Whether its file was made by calibration alone, although the recipe has QAT."""


def describe_pruned(before: Network, after: Network) -> PrunedNetwork:
    """Compare the widths of every convolution."""
    widths = [network.wiring.count_kept(network.wiring.keep_all()) for network in (before, after)]
    order = [layer.name for layer in before.wiring.layers if layer.name in widths[0]]
    return PrunedNetwork(after.spec, tuple(KeptChannels(name, widths[0][name], widths[1][name]) for name in order))


def write_pruned(folder: Path, recipe: str, pruned: PrunedNetwork) -> None:
    """Write the description of a recipe's pruned network."""
    write_json(folder / NETWORKS / f"{recipe}.json", to_plain(pruned))


def float_path(folder: Path, recipe: str) -> Path:
    """Name the float file of a recipe's pruned network."""
    return folder / NETWORKS / f"{recipe}.tflite"


def read_pruned(folder: Path, recipe: str) -> PrunedNetwork | None:
    """Read the description of a recipe's pruned network; None where it has no pruning."""
    path = folder / NETWORKS / f"{recipe}.json"
    if not path.is_file():
        return None
    return from_plain(PrunedNetwork, json.loads(path.read_text(encoding="utf-8")))
