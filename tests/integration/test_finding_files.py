"""Networks with a finding output: pruned, made sparse, quantised and exported, with both outputs."""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeseg.backends.cpu import CpuBackend
from edgeseg.backends.onnx import OnnxBackend
from edgeseg.backends.select import select_backend
from edgeseg.compression.channels import Network, count_costs, cut_network, wire_network
from edgeseg.compression.context import DistillationData
from edgeseg.compression.evaluate import LayerReader, compare_layers, find_nodes
from edgeseg.compression.finetune import measure_kernel_sparsity, sparsify_model, train_quantised
from edgeseg.compression.pruning import MEASURES, plan_removals
from edgeseg.compression.recipe import QatStep, SparsifyStep
from edgeseg.convert.onnx.export import compare_masks, export_onnx, list_golden
from edgeseg.convert.onnx.scheme import Scheme
from edgeseg.convert.package import build_card, make_golden
from edgeseg.convert.tflite import compact_flatbuffer, convert_model, pack_model_objects, put_mask_first
from edgeseg.core.card import Card, Provenance, SplitSpec
from edgeseg.core.modelfile import ModelFile, read_model, write_model
from edgeseg.core.spec import ClassSpec, FindingSpec, InputSpec, OutputSpec
from edgeseg.frame.postprocess import dequantise
from edgeseg.frame.preprocess import pixels_to_tensor
from edgeseg.graph.lint import lint_graph
from edgeseg.graph.operators import read_graph
from edgeseg.model.keras import keras
from edgeseg.model.spec import UNetSpec
from edgeseg.model.unet import build_unet, summarise_stages
from edgeseg.training.distillation import finding_distillation_loss, order_findings
from edgeseg.training.grids import GridArrays

pytestmark = pytest.mark.integration

FRAME_CLASSES = ("benign", "malignant", "normal")
CASES = 8
# Precisions of files, and how far a probability may be from the float model's.
PRECISIONS = {"float32": 1e-5, "float16": 0.01, "dynamic-int8": 0.05, "int8": 0.05, "int16x8": 0.02}


@lru_cache
def make_network() -> Network:
    """Build a tiny network with weights as a trained one could have; nobody may change it."""
    # some draws have probabilities that rounding changes far more than it does in a trained network
    keras.utils.set_random_seed(0)
    spec = UNetSpec(32, 32, 1, 1, "sigmoid", (16, 24), stem="half", findings=1 + len(FRAME_CLASSES))
    model, random = build_unet(spec), np.random.default_rng(0)
    for weight in model.weights:
        if weight.shape.rank == 1:
            weight.assign(random.uniform(0.5, 1.5, weight.shape))
    # probabilities that are neither 0 nor 1
    head = model.get_layer("finding_head")
    head.set_weights([random.normal(0, 0.05, head.kernel.shape), random.normal(0, 0.5, head.bias.shape)])
    return wire_network(spec, model)


@lru_cache
def make_arrays() -> GridArrays:
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (CASES, 32, 32, 1), np.uint8)
    masks = np.zeros_like(images)
    masks[: CASES // 2, 8:20, 8:20] = 1
    labels = np.eye(len(FRAME_CLASSES), dtype=np.float32)[random.integers(0, len(FRAME_CLASSES), CASES)]
    labels[0] = -1
    return GridArrays(images, masks, frame_labels=labels)


def make_lesson() -> DistillationData:
    arrays, model = make_arrays(), make_network().model
    return DistillationData(arrays, arrays, 0, lambda batch: model(batch, training=False))


def to_reals(count: int = CASES) -> NDArray[np.float32]:
    return make_arrays().images[:count].astype(np.float32) / np.float32(255)


@lru_cache
def make_flatbuffer(precision: str) -> bytes:
    calibration = to_reals() if precision in ("int8", "int16x8") else None
    return compact_flatbuffer(convert_model(make_network().model, precision, calibration))


def describe_file(flatbuffer: bytes) -> Card:
    provenance = Provenance("f" * 64, SplitSpec(0, 0.15, 0.2), 0, "int8-ptq", "nano", "0.1.0", {})
    ends = InputSpec(32, 32), OutputSpec((ClassSpec("lesion"),))
    return build_card(flatbuffer, "two", ends, provenance, FindingSpec(FRAME_CLASSES))


def write_file(path: Path, flatbuffer: bytes) -> ModelFile:
    card = describe_file(flatbuffer)
    write_model(path, flatbuffer, card, make_golden(flatbuffer, card))
    return read_model(path)


def run_file(flatbuffer: bytes) -> list[NDArray[Any]]:
    """Run all cases; gives masks and findings as real numbers."""
    backend = CpuBackend(flatbuffer)
    tensors = [pixels_to_tensor(pixels, backend.input.quantisation) for pixels in make_arrays().images[:]]
    results = [[output.copy() for output in backend.invoke(tensor)] for tensor in tensors]
    ends = [spec.quantisation for spec in backend.outputs]
    return [dequantise(np.concatenate(one), end) for one, end in zip(zip(*results, strict=True), ends, strict=True)]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_both_outputs_of_every_precision_are_those_of_the_keras_model(precision: str, tmp_path: Path) -> None:
    flatbuffer = make_flatbuffer(precision)
    wanted = [output.numpy() for output in make_network().model(to_reals(), training=False)]
    for got, real in zip(run_file(flatbuffer), wanted, strict=True):
        np.testing.assert_allclose(got, real, atol=PRECISIONS[precision])
    model = write_file(tmp_path / "two.tflite", flatbuffer)
    assert len({pair.finding.tobytes() for pair in model.golden if pair.finding is not None}) == len(model.golden) == 2
    parity = select_backend(model, "cpu").parity
    assert parity is not None
    assert (parity.held, parity.finding) == (True, 0.0)


def test_an_int8_file_is_int8_at_every_end_and_within_the_rules_of_the_edge_tpu() -> None:
    flatbuffer = make_flatbuffer("int8")
    card, graph = describe_file(flatbuffer), read_graph(flatbuffer)
    assert card.finding_quantisation is not None
    ends = card.input_quantisation, card.output_quantisation, card.finding_quantisation
    assert {end.dtype for end in ends} == {"int8"}
    assert lint_graph(graph) == {"cpu": "ok", "edgetpu": "ok"}
    assert [tensor.name for tensor in graph.outputs] == ["mask", "finding"]


def test_the_finding_is_computed_behind_the_mask() -> None:
    from ai_edge_litert import schema_py_generated as schema

    graph = read_graph(make_flatbuffer("int8"))
    names = [operator.outputs[0].name for operator in graph.operators]
    behind = names[names.index("mask") + 1 :]
    assert behind[-1] == "finding"
    assert all("finding" in name for name in behind)
    assert not any("finding" in name for name in names[: names.index("mask")])
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(make_flatbuffer("int8"), 0))
    model.subgraphs[0].outputs = model.subgraphs[0].outputs[::-1]
    again = read_graph(put_mask_first(pack_model_objects(model)))
    assert [tensor.shape[1:3] for tensor in again.outputs] == [(16, 16), (1, 1)]


def test_stages_channels_and_files_count_the_same_macs() -> None:
    network = make_network()
    macs = read_graph(make_flatbuffer("float32")).macs
    assert count_costs(network.wiring, network.wiring.keep_all()).macs == macs
    assert sum(stage.macs for stage in summarise_stages(network.model)) == macs


@pytest.mark.parametrize(
    ("precision", "scheme", "far"),
    [
        ("float32", Scheme(), 1e-4),
        ("float32", Scheme("float16"), 0.01),
        ("int8", Scheme(), 0.05),
        ("int8", Scheme("int8"), 0.02),
        ("int8", Scheme("int8", "tensorrt"), 0.05),
    ],
)
def test_onnx_gives_both_outputs(precision: str, scheme: Scheme, far: float, tmp_path: Path) -> None:
    model = write_file(tmp_path / "two.tflite", make_flatbuffer(precision))
    exported = export_onnx(model, scheme)
    compared = compare_masks(model, exported.data, list_golden(model))
    assert compared.finding_difference is not None
    assert compared.held
    assert compared.finding_difference <= far
    (tmp_path / "two.onnx").write_bytes(exported.data)
    read = read_model(tmp_path / "two.onnx")
    parity = select_backend(read).parity
    assert parity is not None
    assert (parity.held, parity.finding, len(read.golden)) == (True, 0.0, 2)
    assert [spec.shape for spec in OnnxBackend(exported.data).outputs] == [(1, 16, 16, 1), (1, 1, 1, 4)]


def test_onnx_of_other_findings_does_not_hold(tmp_path: Path) -> None:
    model = write_file(tmp_path / "two.tflite", make_flatbuffer("float32"))
    other = build_unet(make_network().spec)
    other.set_weights(make_network().model.get_weights())
    other.get_layer("finding_head").bias.assign_add([3.0, 0.0, 0.0, 0.0])
    changed = write_file(tmp_path / "other.tflite", compact_flatbuffer(convert_model(other, "float32")))
    compared = compare_masks(model, export_onnx(changed, Scheme()).data, list_golden(model))
    assert (compared.mask_iou, compared.finding_held, compared.held) == (1.0, False, False)


def test_channels_of_the_deepest_stage_are_cut_from_the_finding_too() -> None:
    network, random = make_network(), np.random.default_rng(2)
    plans = plan_removals(network.wiring, random.uniform(0, 1, network.wiring.total), "work", network.wiring.keep_all())
    smaller = cut_network(network, plans[-1])
    assert (smaller.spec.widths, smaller.spec.own["finding_hidden"]) == ((8, 8), 8)
    silent = build_unet(network.spec)
    silent.set_weights(network.model.get_weights())
    for wired in network.wiring.layers:
        if wired.name.endswith("_norm"):
            layer = silent.get_layer(wired.name)
            for weight in (layer.gamma, layer.beta):
                weight.assign(np.where(plans[-1][wired.outputs], weight, 0))
    for got, wanted in zip(smaller.model(to_reals()), silent(to_reals()), strict=True):
        np.testing.assert_allclose(got.numpy(), wanted.numpy(), atol=1e-5)


def test_taylor_importance_sees_the_finding() -> None:
    network = make_network()
    scores = MEASURES["taylor"](network, make_lesson())
    (hidden,) = (group for group in network.wiring.groups if "finding_hidden" in group.producers)
    assert np.count_nonzero(scores[hidden.channels]) > len(hidden.channels) // 2


def test_qat_and_sparsity_train_both_outputs() -> None:
    network, lesson = make_network(), make_lesson()
    sparse = sparsify_model(network.model, SparsifyStep(0.5, 1, 1e-3, 0.5), lesson)
    assert measure_kernel_sparsity(sparse) > 0.45
    assert np.count_nonzero(sparse.get_layer("head").kernel) == sparse.get_layer("head").kernel.numpy().size
    quantised = train_quantised(sparse, QatStep(1, 1e-4, 0.5), lesson, keep_sparsity=True)
    results = run_file(convert_model(quantised, "int8"))
    for got, wanted in zip(results, quantised(to_reals(), training=False), strict=True):
        # the weights, and with them single steps of rounding, differ from processor to processor
        differences = np.abs(got - wanted.numpy())
        assert (differences.mean() < 0.01, differences.max() < 0.1) == (True, True)


def test_layers_of_both_outputs_are_compared_by_name(tmp_path: Path) -> None:
    parent = write_file(tmp_path / "float32.tflite", make_flatbuffer("float32"))
    child = write_file(tmp_path / "int8.tflite", make_flatbuffer("int8"))
    errors = compare_layers(parent, child, make_arrays().images[:2])
    names = [error.layer for error in errors]
    assert len(names) == len(set(names)) == len(LayerReader(parent).steps)
    assert {"logistic", "finding", "finding_head", "finding_mean"} <= set(names)
    assert max(error.error for error in errors) < 0.2


@pytest.mark.parametrize("layer", ["finding_head", "finding", "logistic"])
def test_layers_of_the_finding_may_stay_float(layer: str) -> None:
    model = make_network().model
    kept = find_nodes(convert_model(model, "float32"), [layer])
    flatbuffer = compact_flatbuffer(convert_model(model, "int8", to_reals(), kept))
    graph = read_graph(flatbuffer)
    assert [tensor.dtype for tensor in (*graph.inputs, *graph.outputs)] == ["int8"] * 3
    assert sum(operator.is_float and not operator.is_conversion for operator in graph.operators) == 1
    wanted = model(to_reals(), training=False)[1].numpy()
    np.testing.assert_allclose(run_file(flatbuffer)[1], wanted, atol=0.05)


# Distillation


def test_what_truth_or_teacher_do_not_know_has_no_part_in_the_loss() -> None:
    loss, unknown = finding_distillation_loss(0.5), [-1.0, -1.0]
    predicted = np.array([[[[0.2, 0.9]]]], np.float32)

    def measure(truth: list[float], taught: list[float]) -> float:
        return float(loss(np.array([[[[*truth, *taught]]]], np.float32), predicted)[0])

    assert measure(unknown, unknown) == 0.0
    # what no teacher knows is learned as without one
    assert measure([0.0, 1.0], unknown) == pytest.approx(2 * measure(unknown, [0.0, 1.0]))
    assert measure([1.0, 0.0], [1.0, 0.0]) > measure([0.0, 1.0], [0.0, 1.0]) > 0.0
    assert measure([1.0, -1.0], unknown) == pytest.approx(2 * measure([-1.0, -1.0], [1.0, -1.0]))


@pytest.mark.parametrize(
    ("frame_classes", "background", "order"),
    [
        (("benign", "malignant", "normal"), False, (1, 0, 2, 3, 4)),
        (("normal", "benign"), False, (1, 0, 3, 4, 2)),
        ((), False, (1, 0, 2, 2, 2)),
        (("malignant", "benign", "else", "normal"), True, (1, 0, 3, 2, 5)),
        (None, False, ()),
    ],
)
def test_findings_of_a_teacher_come_in_the_order_of_the_student(
    frame_classes: tuple[str, ...] | None, background: bool, order: tuple[int, ...], trained_run: Path
) -> None:
    from edgeseg.training.run import RunRecord, read_run

    activation = "softmax" if background else "sigmoid"
    output = OutputSpec((ClassSpec("nerve"), ClassSpec("vessel")), activation)

    def make_record(finding: FindingSpec | None) -> RunRecord:
        run = read_run(trained_run)
        spec = dataclasses.replace(run.spec, findings=0 if finding is None else finding.count_channels(2))
        return dataclasses.replace(run, output=output, finding=finding, spec=spec, finding_weights=())

    record = make_record(FindingSpec(FRAME_CLASSES))
    teacher = make_record(None if frame_classes is None else FindingSpec(frame_classes))
    channels = (0, 2, 1) if background else (1, 0)
    assert order_findings(teacher, record, channels) == order


def test_a_teacher_without_findings_leaves_them_unknown() -> None:
    lesson, arrays = make_lesson(), make_arrays()
    dumb = dataclasses.replace(lesson, teacher=lambda images: make_network().model(images, training=False)[0])
    feed = dumb.feed(make_network().model)
    from edgeseg.training.loading import build_pipeline

    _, (masks, findings) = next(iter(dumb.add_teacher(build_pipeline(feed, 1))))
    assert (masks.shape[1:], findings.shape[1:]) == ((16, 16, 2), (1, 1, 8))
    assert (findings.numpy()[..., 4:] == -1).all()
    assert arrays.findings is not None
    _, (_, taught) = next(iter(lesson.add_teacher(build_pipeline(feed, 1))))
    assert (taught.numpy()[..., 4:] > 0).all()
