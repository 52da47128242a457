"""The parts of the ONNX export that need no trained network: scales, padding, limits, refusals, metadata."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from edgeseg.backends.probe_model import SIDE, build_probe_model
from edgeseg.cli.app import app
from edgeseg.core.errors import ExportError, ModelFileError
from edgeseg.core.modelfile import write_model
from edgeseg.graph.operators import Graph, Scales, read_graph
from tests.discs import make_disc_data
from tests.networks import save_network

pytest.importorskip("onnx", reason="needs the extra onnx")
pytest.importorskip("onnxruntime", reason="needs the extra onnx")

from edgeseg.backends.onnx import OnnxBackend
from edgeseg.convert.onnx.export import (
    Comparison,
    build_model,
    check_precision,
    compare_masks,
    export_onnx,
    list_golden,
)
from edgeseg.convert.onnx.scheme import Scheme, Step
from edgeseg.convert.onnx.translate import find_pads
from edgeseg.convert.onnx.writer import GraphWriter

SCHEMES = [Scheme("float32"), Scheme("float16"), Scheme("int8"), Scheme("int8", "tensorrt")]


@pytest.fixture
def graph() -> Graph:
    return read_graph(build_probe_model())


def change_operator(graph: Graph, **changes: Any) -> Graph:
    return dataclasses.replace(graph, operators=(dataclasses.replace(graph.operators[0], **changes),))


def test_zero_points_stay_for_onnxruntime_and_go_for_tensorrt() -> None:
    pixels = Scales((1 / 255,), (-128,), 0)
    assert Scheme("float32").choose_step(pixels) is None
    assert Scheme("int8").choose_step(pixels) == Step(1 / 255, -128)
    symmetric = Scheme("int8", "tensorrt").choose_step(pixels)
    assert symmetric is not None
    assert symmetric.zero_point == 0
    assert symmetric.limits[1] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("sizes", "pads"),
    [
        ({"target": 32, "source": 64, "kernel": 3, "stride": 2}, (0, 1)),
        ({"target": 33, "source": 65, "kernel": 3, "stride": 2}, (1, 1)),
        ({"target": 64, "source": 64, "kernel": 3, "stride": 1}, (1, 1)),
        ({"target": 64, "source": 64, "kernel": 3, "stride": 1, "dilation": 2}, (2, 2)),
        ({"target": 32, "source": 64, "kernel": 2, "stride": 2}, (0, 0)),
    ],
)
def test_the_odd_pixel_of_padding_stands_behind(sizes: dict[str, int], pads: tuple[int, int]) -> None:
    assert find_pads(**sizes) == pads


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_integers_go_through_as_they_are(graph: Graph, scheme: Scheme) -> None:
    # The model multiplies by one, and all its scales are one, so whole numbers must come back whole.
    image = np.arange(-32, 32, dtype=np.float32).reshape(1, SIDE, SIDE, 1)
    got = OnnxBackend(build_model(graph, scheme).SerializeToString()).invoke(image)[0]
    assert np.allclose(got, image, atol=0.51 if scheme.is_symmetric else 0)


def test_tensorrt_gets_no_zero_point_and_no_integer_bias(graph: Graph) -> None:
    onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
    model = build_model(graph, Scheme("int8", "tensorrt"))
    constants = {constant.name: onnx.numpy_helper.to_array(constant) for constant in model.graph.initializer}
    pairs = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert pairs
    assert all(not constants[node.input[2]].any() for node in pairs)
    assert all(array.dtype != np.int32 for array in constants.values())


def test_float16_is_float16_throughout_and_float32_at_both_ends(graph: Graph) -> None:
    onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
    model = build_model(graph, Scheme("float16"))
    onnx.checker.check_model(model, full_check=True)
    constants = [onnx.numpy_helper.to_array(constant) for constant in model.graph.initializer]
    assert {array.dtype for array in constants if array.dtype.kind == "f"} == {np.dtype("float16")}
    ends = [*model.graph.input, *model.graph.output]
    assert {end.type.tensor_type.elem_type for end in ends} == {onnx.TensorProto.FLOAT}
    inferred = onnx.shape_inference.infer_shapes(model).graph.value_info
    kinds = {value.name: value.type.tensor_type.elem_type for value in inferred}
    (convolution,) = [node for node in model.graph.node if node.op_type == "Conv"]
    assert kinds[convolution.output[0]] == onnx.TensorProto.FLOAT16


def test_numbers_beyond_float16_are_refused() -> None:
    writer = GraphWriter(Scheme("float16"))
    writer.add_constant(np.array([65504.0, -65504.0], np.float32))
    with pytest.raises(ExportError, match="65520"):
        writer.add_constant(np.array([1.0, 65520.0], np.float32))


def test_what_is_no_number_holds_nothing() -> None:
    assert not Comparison(3, 1.0, None).held
    assert not Comparison(0, 1.0, 0.0).held
    assert Comparison(1, 0.2, 0.01).held


def test_masks_that_are_no_numbers_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = save_network(tmp_path / "m.tflite")
    data = export_onnx(model, Scheme("float32")).data
    good = compare_masks(model, data, list_golden(model))
    assert (good.images, good.mask_iou, good.held) == (1, 1.0, True)
    monkeypatch.setattr(OnnxBackend, "invoke", lambda _, tensor: np.full(tensor.shape, np.nan, np.float32))
    bad = compare_masks(model, data, [*list_golden(model), *list_golden(model)])
    assert (bad.images, bad.largest_difference, bad.held) == (2, None, False)


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_the_command_compares_on_golden_pairs_and_on_named_images(precision: str, tmp_path: Path) -> None:
    save_network(tmp_path / "m.tflite")
    data, figures = make_disc_data(tmp_path / "discs", 3), tmp_path / "f.json"
    command = ["export", str(tmp_path / "m.tflite"), "--to", "onnx", "--precision", precision, "--json", str(figures)]
    for more, images, where in (([], 1, "golden pairs"), (["--data", str(data)], 3, "all cases of discs")):
        result = CliRunner().invoke(app, [*command, *more])
        assert result.exit_code == 0, result.output
        table = json.loads(figures.read_text(encoding="utf-8"))
        assert (table["precision"], table["parity"]["images"], table["compared_on"]) == (precision, images, where)


def test_a_file_without_golden_pairs_proves_nothing(tmp_path: Path) -> None:
    model = save_network(tmp_path / "m.tflite")
    write_model(tmp_path / "bare.tflite", model.flatbuffer, model.card)
    result = CliRunner().invoke(app, ["export", str(tmp_path / "bare.tflite"), "--to", "onnx"])
    assert (result.exit_code, (tmp_path / "bare.onnx").is_file()) == (3, True)


def test_an_unknown_operator_is_refused_by_name(graph: Graph) -> None:
    with pytest.raises(ModelFileError, match="got CUMSUM"):
        build_model(change_operator(graph, name="CUMSUM"), Scheme())


def test_an_unknown_activation_is_refused_by_name(graph: Graph) -> None:
    options = type("Options", (), {**vars(graph.operators[0].options), "fusedActivationFunction": 4})()
    with pytest.raises(ModelFileError, match=r"CONV_2D.*TANH"):
        build_model(change_operator(graph, options=options), Scheme())


def test_int8_is_refused_where_the_file_has_no_ranges(graph: Graph) -> None:
    real = dataclasses.replace(graph, inputs=(dataclasses.replace(graph.inputs[0], dtype="float32"),))
    with pytest.raises(ModelFileError, match="int8 file"):
        check_precision(real, Scheme("int8"))
    check_precision(real, Scheme("float32"))


def test_a_scheme_checks_itself() -> None:
    with pytest.raises(ValueError, match="precision"):
        Scheme("float64")
