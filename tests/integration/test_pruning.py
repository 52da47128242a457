"""Channels that belong together go together, the smaller network draws what is left, budgets hold or are refused."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeseg.compression import compress, pruning
from edgeseg.compression.channels import (
    Keep,
    LatencyMeter,
    Network,
    count_costs,
    cut_network,
    shrink_spec,
    wire_network,
)
from edgeseg.compression.compress import compress_run
from edgeseg.compression.context import DistillationData, open_run, plan_distillation
from edgeseg.compression.evaluate import score_validation
from edgeseg.compression.finetune import quantise_model
from edgeseg.compression.gate import Gate
from edgeseg.compression.pruning import (
    BLOCK,
    MEASURES,
    StepStore,
    check_pruning,
    find_removal,
    keep_least,
    penalise_scales,
    plan_removals,
    prune_network,
    read_pruned,
)
from edgeseg.compression.recipe import PruneStep, QatStep, Recipe, load_recipe
from edgeseg.convert.tflite import convert_model
from edgeseg.core.errors import OutputError, RecipeError
from edgeseg.core.files import staged_folder
from edgeseg.core.modelfile import read_model
from edgeseg.graph.operators import read_graph
from edgeseg.inference.segmenter import Segmenter
from edgeseg.model.keras import keras
from edgeseg.model.spec import UNetSpec
from edgeseg.model.unet import build_unet
from edgeseg.report.compression import write_compression_report
from edgeseg.training.grids import GridArrays
from tests.commands import full_disk, read_files

pytestmark = pytest.mark.integration

KINDS: dict[str, dict[str, Any]] = {
    "add, half stem": {"stem": "half"},
    "add, quarter stem": {"stem": "quarter", "widths": (32, 24, 16)},
    "add, full stem, own widths": {"own": {"down0_a": 24, "up1_b": 12}},
    "concat, half stem": {"skip": "concat", "stem": "half", "own": {"up0_reduce": 8}},
    "concat, transpose, full stem": {"skip": "concat", "upsampling": "transpose"},
    "add, transpose": {"upsampling": "transpose"},
    "separable, depth stem": {"convolution": "separable", "stem": "depth", "channels": 3},
    "pixels as channels": {"stem": "s2d8", "outputs": 2},
    "softmax": {"activation": "softmax", "outputs": 3},
    "late fusion, quarter stem": {"fusion": "late", "channels": 2, "stem": "quarter"},
    "late fusion, full stem": {"fusion": "late", "channels": 3, "convolution": "separable"},
}
RECIPE = """
summary = "test"
precision = "int8"
[prune]
macs = 0.8
steps = 1
epochs = 1
recovery_epochs = 1
learning_rate = 1e-3
distillation = 0.5
"""


def make_network(**changes: Any) -> Network:
    """Build a small network with weights as a trained one could have."""
    plain: dict[str, Any] = {"height": 32, "width": 32, "channels": 1, "outputs": 1, "activation": "sigmoid"}
    spec = UNetSpec(**plain | {"widths": (16, 24, 32)} | changes)
    model = build_unet(spec)
    random = np.random.default_rng(0)
    for weight in model.weights:
        if weight.shape.rank == 1:
            weight.assign(random.uniform(0.5, 1.5, weight.shape))
    return wire_network(spec, model)


@lru_cache
def share_network(kind: str) -> Network:
    """Make a network of a kind once; nobody may change it."""
    return make_network(**KINDS[kind])


def make_lesson(network: Network) -> DistillationData:
    """Make cases of noise; the network's own masks are followed."""
    random, spec = np.random.default_rng(1), network.spec
    images = random.integers(0, 256, (8, spec.height, spec.width, spec.channels), np.uint8)
    arrays = GridArrays(images, random.integers(0, 2, (8, spec.height, spec.width, 1), np.uint8))
    return DistillationData(arrays, arrays, 0, lambda batch: network.model(batch, training=False))


def keep_some(network: Network, seed: int = 2) -> Keep:
    """Keep channels as the greedy choice would for random scores, about half way down."""
    scores = np.random.default_rng(seed).uniform(0, 1, network.wiring.total)
    plans = plan_removals(network.wiring, scores, "work", network.wiring.keep_all())
    return plans[len(plans) * 2 // 3]


def silence_channels(network: Network, keep: Keep) -> Any:
    """Copy the model with the channels at zero that do not stay."""
    silent = build_unet(network.spec)
    silent.set_weights(network.model.get_weights())
    for wired in network.wiring.layers:
        layer, gone = silent.get_layer(wired.name), ~keep[wired.outputs]
        if wired.name.endswith("_norm"):
            for weight in (layer.gamma, layer.beta):
                weight.assign(np.where(gone, 0, weight))
        elif network.spec.upsampling == "transpose" and wired.name.endswith("_reduce"):
            layer.kernel.assign(np.where(gone[:, np.newaxis], 0, layer.kernel))
            layer.bias.assign(np.where(gone, 0, layer.bias))
    return silent


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_smaller_network_draws_what_the_silenced_one_draws(kind: str) -> None:
    network = share_network(kind)
    keep = keep_some(network)
    smaller = cut_network(network, keep)
    assert (~keep).sum() > 0
    spec = network.spec
    images = np.random.default_rng(3).uniform(0, 1, (2, spec.height, spec.width, spec.channels)).astype(np.float32)
    drawn = smaller.model(images, training=False).numpy()
    np.testing.assert_allclose(drawn, silence_channels(network, keep)(images, training=False).numpy(), atol=1e-5)
    assert np.abs(drawn - network.model(images, training=False).numpy()).max() > 1e-3


@pytest.mark.parametrize("kind", ["concat, transpose, full stem", "separable, depth stem"])
def test_costs_are_those_of_the_converted_file(kind: str) -> None:
    network = share_network(kind)
    keep = keep_some(network)
    costs = count_costs(network.wiring, keep)
    graph = read_graph(convert_model(cut_network(network, keep).model, "float32"))
    assert (costs.parameters, costs.macs) == (graph.parameters, graph.macs)


def test_what_is_added_is_one_group_and_the_mask_is_none() -> None:
    added = {group.producers for group in make_network(stem="half").wiring.groups}
    assert {("stem",), ("down0_b", "up0_reduce"), ("down1_b", "up1_reduce"), ("down2_b",), ("up0_b",)} <= added
    listed = {group.producers for group in make_network(skip="concat").wiring.groups}
    assert {("down0_b",), ("up0_reduce",)} <= listed
    assert not any("head" in makers for makers in added | listed)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_widths_stay_multiples_of_eight(kind: str) -> None:
    network = share_network(kind)
    scores = np.random.default_rng(4).uniform(0, 1, network.wiring.total)
    plans = plan_removals(network.wiring, scores, "parameters", network.wiring.keep_all())
    before = network.wiring.count_kept(plans[0])
    for keep in plans:
        for name, width in network.wiring.count_kept(keep).items():
            assert width == before[name] or width % BLOCK == 0
    assert set(network.wiring.count_kept(plans[-1]).values()) == {BLOCK}
    np.testing.assert_array_equal(
        sorted(network.wiring.count_kept(keep_least(network.wiring)).values()),
        sorted(network.wiring.count_kept(plans[-1]).values()),
    )
    assert min(shrink_spec(network, plans[-1]).widths) == BLOCK


@pytest.mark.parametrize("measure", sorted(MEASURES))
def test_channels_that_do_nothing_go_first(measure: str) -> None:
    network = make_network(stem="half")
    idle = [1, 4, 5, 8, 9, 10, 14, 15]
    for maker in ("down0_b", "up0_reduce"):
        norm = network.model.get_layer(f"{maker}_norm")
        for weight in (norm.gamma, norm.beta):
            weight.assign(np.where(np.isin(np.arange(16), idle), 0, weight))
    scores = MEASURES[measure](network, make_lesson(network))
    group = next(group for group in network.wiring.groups if group.producers == ("down0_b", "up0_reduce"))
    assert scores[group.channels][idle].max() == 0.0 < scores[group.channels].max()
    first = plan_removals(network.wiring, scores, "work", network.wiring.keep_all())[1]
    assert scores[~first].max() == 0.0
    assert (~first).sum() == BLOCK


def test_scales_are_lowered_only_in_the_copy() -> None:
    model = make_network().model
    assert len(penalise_scales(model).losses) == sum(layer.name.endswith("_norm") for layer in model.layers)
    assert model.losses == []


def test_latency_is_measured_on_what_is_left() -> None:
    network = make_network(height=128, width=128, widths=(32, 64))
    assert LatencyMeter(network.spec)(network, keep_least(network.wiring)) < 0.8


def test_first_plan_within_the_budget_is_taken() -> None:
    network = make_network()
    plans = plan_removals(network.wiring, np.ones(network.wiring.total), "work", network.wiring.keep_all())
    left = {plan.tobytes(): 1.0 - 0.1 * number for number, plan in enumerate(plans)}
    found = find_removal(network, plans, lambda _, keep: left[keep.tobytes()], 0.75)
    np.testing.assert_array_equal(found, plans[3])


def make_step(**changes: Any) -> PruneStep:
    plain: dict[str, Any] = {"epochs": 1, "recovery_epochs": 1, "learning_rate": 1e-3, "distillation": 0.5}
    return PruneStep(**plain | changes)


def test_more_than_the_network_can_give_is_refused() -> None:
    network = make_network(widths=(8, 16))
    with pytest.raises(RecipeError, match=r" 10% of its macs.* \d\d%") as caught:
        check_pruning(network.spec, network.model, make_step(macs=0.1))
    assert "[prune] macs = 0." in caught.value.hint


@pytest.mark.parametrize("measure", sorted(MEASURES))
def test_network_keeps_every_budget_and_leaves_the_parent_alone(
    measure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if measure != "taylor":  # one of them is trained in between
        monkeypatch.setattr(pruning, "recover", lambda network, *_: network)
    network = make_network(stem="half", widths=(16, 32))
    before = [weight.copy() for weight in network.model.get_weights()]
    step = make_step(parameters=0.5, macs=0.6, steps=1, importance=measure)
    smaller = prune_network(network.spec, network.model, step, make_lesson(network), StepStore(tmp_path))
    whole, left = (count_costs(n.wiring, n.wiring.keep_all()) for n in (network, smaller))
    assert 0.3 < left.parameters / whole.parameters <= 0.5
    assert 0.3 < left.macs / whole.macs <= 0.6
    for old, new in zip(before, network.model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_killed_pruning_goes_on_behind_its_last_finished_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, store = make_network(stem="half"), StepStore(tmp_path)
    trained: list[int] = []

    def recover_twice(network: Network, distillation: DistillationData, step: PruneStep, epochs: int) -> Network:  # noqa: ARG001
        trained.append(epochs)
        if len(trained) == 2:
            raise KeyboardInterrupt
        return network

    monkeypatch.setattr(pruning, "recover", recover_twice)
    step, distillation = make_step(macs=0.5, steps=2, epochs=3, recovery_epochs=7), make_lesson(network)
    with pytest.raises(KeyboardInterrupt):
        prune_network(network.spec, network.model, step, distillation, store)
    done, left = store.load() or (0, network)
    share = [count_costs(n.wiring, n.wiring.keep_all()).macs for n in (left, network)]
    assert (done, 0.5 < share[0] / share[1] <= 0.5**0.5) == (1, True)
    assert {path.name for path in tmp_path.iterdir()} == {"step.json", "step-1.h5"}

    smaller = prune_network(network.spec, network.model, step, distillation, store)
    assert trained == [3, 3, 3, 7]
    assert count_costs(smaller.wiring, smaller.wiring.keep_all()).macs <= 0.5 * share[1]
    finished = store.load()
    assert finished is not None
    assert finished[0] == 3
    for kept, made in zip(finished[1].model.get_weights(), smaller.model.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, made)


def test_time_is_a_budget_like_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "recover", lambda network, *_: network)
    network = make_network(height=128, width=128, widths=(32, 64))
    step, distillation = make_step(latency=0.7, steps=1), make_lesson(network)
    smaller = prune_network(network.spec, network.model, step, distillation, StepStore(tmp_path))
    whole, left = (count_costs(n.wiring, n.wiring.keep_all()) for n in (network, smaller))
    assert left.work < whole.work


def test_pruned_network_is_trained_for_integers_only_where_that_is_better(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forget(model: Any, *_: object, **__: object) -> Any:
        return quantise_model(keras.models.clone_model(model))

    context = open_run(trained_run)
    monkeypatch.setattr(compress, "train_quantised", forget)
    recipe = Recipe("mine", "", "int8", prune=make_step(macs=0.8, steps=1), qat=QatStep(1, 1e-3, 0.5))
    compress.make_file(context, plan_distillation(context), recipe, tmp_path)
    pruned = read_pruned(tmp_path, "mine")
    assert pruned is not None
    assert pruned.calibrated
    assert score_validation(context, Segmenter(read_model(tmp_path / "mine.tflite"))) > 0.5


@pytest.mark.parametrize("room", [20, 10_000])
def test_full_disk_leaves_the_step_before_whole(tmp_path: Path, room: int) -> None:
    network, store = make_network(), StepStore(tmp_path)
    store.save(1, network.spec, network.model)
    before = read_files(tmp_path)
    with full_disk(room), pytest.raises(OutputError, match=r"step-2\.h5.*File too large"):
        store.save(2, network.spec, network.model)
    assert read_files(tmp_path) == before


def test_pruned_network_goes_on_to_integers(trained_run: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(RECIPE, encoding="utf-8")
    with staged_folder(tmp_path / "out") as folder:
        outcome = compress_run(trained_run, folder, [load_recipe(str(path))], Gate(max_drop=1.0))
        write_compression_report(folder, trained_run, outcome)
    parent, pruned = outcome.report.variants
    assert pruned.macs <= 0.8 * parent.macs
    assert pruned.dice.mean > 0.5
    assert {kept.before for kept in pruned.channels} == {8, 16, 24, 64}
    assert any(kept.after < kept.before for kept in pruned.channels)
    assert {"stem", "head"} <= {layer.layer for layer in pruned.layers}
    assert all(layer.error < 0.5 for layer in pruned.layers)
    assert sorted(path.name for path in (tmp_path / "out" / "networks").iterdir()) == ["mine.json", "mine.tflite"]
    model = read_model(tmp_path / "out" / "mine.tflite")
    assert not any(operator.is_float for operator in read_graph(model.flatbuffer).operators)
    assert (model.card.macs, model.card.provenance.recipe) == (pruned.macs, "mine")
    assert "<h3>Channels kept</h3>" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
