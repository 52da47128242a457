"""The parts of the ONNX export that need no trained network: scales, padding, limits, refusals, metadata."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from edgeseg.backends.probe_model import SIDE, build_probe_model
from edgeseg.core.errors import ModelFileError
from edgeseg.graph.operators import Graph, Scales, read_graph

pytest.importorskip("onnx", reason="needs the extra onnx")
pytest.importorskip("onnxruntime", reason="needs the extra onnx")

from edgeseg.backends.onnx import OnnxBackend
from edgeseg.convert.onnx.export import build_model, check_precision
from edgeseg.convert.onnx.scheme import Scheme, Step
from edgeseg.convert.onnx.translate import find_pads

SCHEMES = [Scheme("float32"), Scheme("int8"), Scheme("int8", "tensorrt")]


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
    got = OnnxBackend(build_model(graph, scheme).SerializeToString()).invoke(image)
    assert np.allclose(got, image, atol=0.51 if scheme.is_symmetric else 0)


def test_tensorrt_gets_no_zero_point_and_no_integer_bias(graph: Graph) -> None:
    onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
    model = build_model(graph, Scheme("int8", "tensorrt"))
    constants = {constant.name: onnx.numpy_helper.to_array(constant) for constant in model.graph.initializer}
    pairs = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert pairs
    assert all(not constants[node.input[2]].any() for node in pairs)
    assert all(array.dtype != np.int32 for array in constants.values())


def test_an_unknown_operator_is_refused_by_name(graph: Graph) -> None:
    with pytest.raises(ModelFileError, match="got CUMSUM"):
        build_model(change_operator(graph, name="CUMSUM"), Scheme())


def test_an_unknown_activation_is_refused_by_name(graph: Graph) -> None:
    options = type("Options", (), {**vars(graph.operators[0].options), "fusedActivationFunction": 4})()
    with pytest.raises(ModelFileError, match="CONV_2D with the activation TANH"):
        build_model(change_operator(graph, options=options), Scheme())


def test_int8_is_refused_where_the_file_has_no_ranges(graph: Graph) -> None:
    real = dataclasses.replace(graph, inputs=(dataclasses.replace(graph.inputs[0], dtype="float32"),))
    with pytest.raises(ModelFileError, match="int8 file"):
        check_precision(real, Scheme("int8"))
    check_precision(real, Scheme("float32"))


def test_a_scheme_checks_itself() -> None:
    with pytest.raises(ValueError, match="precision"):
        Scheme("float64")
