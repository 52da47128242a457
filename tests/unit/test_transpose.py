"""An activation that is fused into a transposed convolution is split off, and not a bit of the result changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

from edgeseg.convert.tflite import split_transposed_activations
from edgeseg.core.card import OK
from edgeseg.graph.lint import lint_graph
from edgeseg.graph.operators import read_graph
from tests.flatfiles import Spot, Step, build_flatbuffer

PICTURE, LARGER, CHANNELS = (1, 6, 6, 3), (1, 12, 12, 5), 5
KINDS = {
    "int8": ("int8", "int32", 1),
    "int8 by channel": ("int8", "int32", CHANNELS),
    "float32": ("float32", "float32", 1),
}
RESOLVERS = (OpResolverType.AUTO, OpResolverType.BUILTIN_REF)
ACTIVATIONS = ("RELU", "RELU6")


def build_upscale(kind: str, activation: str, seed: int) -> bytes:
    """Build a file of one TRANSPOSE_CONV with random weights and biases, as TensorFlow writes it."""
    random = np.random.default_rng(seed)
    dtype, bias_type, scales = KINDS[kind]
    weights = random.integers(-127, 128, (CHANNELS, 2, 2, 3)).astype(dtype)
    bias = random.integers(-9000, 9000, CHANNELS).astype(bias_type)
    bias = bias / np.float32(3e3) if kind == "float32" else bias
    steps = tuple(float(scale) for scale in random.uniform(0.01, 0.03, scales))
    spots = (
        Spot((4,), "int32", np.array(LARGER, np.int32)),
        Spot(weights.shape, dtype, weights, scale=steps),
        Spot(PICTURE, dtype, scale=(1 / 255,), zero_point=-128),
        Spot(bias.shape, bias_type, bias, scale=tuple(step / 255 for step in steps)),
        Spot(LARGER, dtype, scale=(6 / 255,), zero_point=-128 if activation == "RELU6" else -90),
    )
    options = {
        "padding": schema.Padding.VALID,
        "strideW": 2,
        "strideH": 2,
        "fusedActivationFunction": getattr(schema.ActivationFunctionType, activation),
    }
    return build_flatbuffer(spots, [Step("TRANSPOSE_CONV", (0, 1, 2, 3), (4,), 4, options)], [2], [4])


def run_model(flatbuffer: bytes, image: NDArray[Any], resolver: OpResolverType) -> NDArray[Any]:
    interpreter = Interpreter(model_content=flatbuffer, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    return np.array(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))


@pytest.mark.parametrize("resolver", RESOLVERS, ids=("default", "reference"))
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_not_a_bit_changes(kind: str, activation: str, resolver: OpResolverType) -> None:
    for seed in range(4):
        fused = build_upscale(kind, activation, seed)
        image = np.random.default_rng(seed).integers(-128, 128, PICTURE).astype(KINDS[kind][0])
        image = image / np.float32(3e4) if kind == "float32" else image
        before = run_model(fused, image, resolver)
        assert np.array_equal(before, run_model(split_transposed_activations(fused), image, resolver))
        assert len(np.unique(before)) > 20


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_edge_tpu_takes_what_is_split(activation: str) -> None:
    fused = build_upscale("int8", activation, 0)
    assert "TRANSPOSE_CONV has version 4" in lint_graph(read_graph(fused))["edgetpu"]
    graph = read_graph(split_transposed_activations(fused))
    assert [(operator.name, operator.version) for operator in graph.operators] == [
        ("TRANSPOSE_CONV", 3),
        (activation, 2),
    ]
    assert lint_graph(graph)["edgetpu"] == OK


def test_splitting_again_changes_nothing() -> None:
    split = split_transposed_activations(build_upscale("int8", "RELU", 0))
    assert split_transposed_activations(split) is split
