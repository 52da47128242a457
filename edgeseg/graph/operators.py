"""Read the operators of a flatbuffer with the schema that LiteRT ships."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgeseg.core.errors import ModelFileError

CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")
"""Operators that compute nothing and only change how numbers are written."""
_TYPES = {value: name.lower() for name, value in vars(schema.TensorType).items() if not name.startswith("_")}
_OPERATORS = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
_ACTIVATIONS = {value: name for name, value in vars(schema.ActivationFunctionType).items() if not name.startswith("_")}
_NUMPY_TYPES = {
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.FLOAT16: np.float16,
    schema.TensorType.INT8: np.int8,
    schema.TensorType.UINT8: np.uint8,
}
_FILTERED = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED")


@dataclass(frozen=True)
class Tensor:
    """One tensor of the graph."""

    shape: tuple[int, ...]
    dtype: str
    constant: bool
    dynamic: bool = False
    """Whether a size is only known when it runs."""
    zero: bool = False
    """Whether it is constant and holds nothing but zeros."""

    @property
    def elements(self) -> int:
        """Count the numbers in it."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Operator:
    """One operator of the graph."""

    name: str
    version: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    macs: int
    options: Any = None
    """Strides, padding and the like, as the schema has them."""
    custom: bool = False
    """Whether it is none of TFLite's own."""

    @property
    def activation(self) -> str:
        """Name the activation that is fused into it: NONE, RELU, RELU6."""
        kind = getattr(self.options, "fusedActivationFunction", schema.ActivationFunctionType.NONE)
        return str(_ACTIVATIONS[kind])

    @property
    def is_float(self) -> bool:
        """Say whether it computes with float numbers."""
        return any(tensor.dtype.startswith("float") for tensor in (*self.inputs, *self.outputs))

    @property
    def is_conversion(self) -> bool:
        """Say whether it only changes how numbers are written."""
        return self.name in CONVERSIONS


@dataclass(frozen=True)
class Graph:
    """The operators of a model in the order they run."""

    operators: tuple[Operator, ...]
    parameters: int
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()

    @property
    def macs(self) -> int:
        """Count the multiplications and additions of one inference."""
        return sum(operator.macs for operator in self.operators)


@dataclass(frozen=True)
class OperatorGroup:
    """Operators of one kind, for a table."""

    name: str
    version: int
    count: int
    dtype: str
    macs: int


def summarise_operators(graph: Graph) -> tuple[OperatorGroup, ...]:
    """Group the operators by kind, version and type; the ones with most work first."""
    groups: dict[tuple[str, int, str], list[Operator]] = {}
    for operator in graph.operators:
        groups.setdefault((operator.name, operator.version, operator.outputs[0].dtype), []).append(operator)
    rows = [
        OperatorGroup(name, version, len(members), dtype, sum(member.macs for member in members))
        for (name, version, dtype), members in groups.items()
    ]
    return tuple(sorted(rows, key=lambda row: (-row.macs, row.name)))


def count_operators(graph: Graph) -> dict[str, int]:
    """Count the operators of each kind; the most frequent first."""
    return dict(Counter(operator.name for operator in graph.operators).most_common())


def read_graph(flatbuffer: bytes) -> Graph:
    """Read the first subgraph of a flatbuffer."""
    if not schema.Model.ModelBufferHasIdentifier(flatbuffer, 0):
        raise ModelFileError("Expected a TFLite flatbuffer, got other bytes.", "Give a .tflite file.")
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(flatbuffer, 0))
    if not model.subgraphs:
        raise ModelFileError("Expected a model with a graph, got an empty one.", "Write the file again.")
    subgraph = model.subgraphs[0]
    tensors = [_read_tensor(tensor, model.buffers) for tensor in subgraph.tensors]
    operators = tuple(_read_operator(operator, model.operatorCodes, tensors) for operator in subgraph.operators)
    inputs, outputs = (tuple(tensors[index] for index in ends) for ends in (subgraph.inputs, subgraph.outputs))
    return Graph(operators, sum(_count_weights(operator) for operator in operators), inputs, outputs)


def measure_sparsity(flatbuffer: bytes) -> float:
    """Measure the share of zeros among the weights, from 0 to 1."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(flatbuffer, 0))
    zeros = total = 0
    for tensor in model.subgraphs[0].tensors:
        data = model.buffers[tensor.buffer].data
        if data is not None and tensor.shape is not None and len(tensor.shape) == 4:
            weights = np.frombuffer(bytes(data), _NUMPY_TYPES[tensor.type])
            zeros, total = zeros + int(np.count_nonzero(weights == 0)), total + weights.size
    return zeros / total if total else 0.0


def _read_tensor(tensor: Any, buffers: list[Any]) -> Tensor:
    data = buffers[tensor.buffer].data
    shape = tuple(int(n) for n in tensor.shape) if tensor.shape is not None else ()
    signature = tensor.shapeSignature if tensor.shapeSignature is not None else shape
    constant = data is not None and len(data) > 0
    zero = constant and not np.any(np.asarray(data))
    return Tensor(shape, _TYPES[tensor.type], constant, any(n < 0 for n in signature), zero)


def _read_operator(operator: Any, codes: list[Any], tensors: list[Tensor]) -> Operator:
    code = codes[operator.opcodeIndex]
    custom = code.customCode.decode("utf-8") if code.customCode else ""
    name = custom or _OPERATORS[max(code.builtinCode, code.deprecatedBuiltinCode)]
    inputs = tuple(tensors[index] for index in operator.inputs if index >= 0)
    outputs = tuple(tensors[index] for index in operator.outputs)
    macs = _count_macs(name, inputs, outputs)
    return Operator(name, code.version, inputs, outputs, macs, operator.builtinOptions, bool(custom))


def _count_macs(name: str, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> int:
    if name not in _FILTERED:
        return 0
    weights = next(tensor for tensor in inputs[1:] if len(tensor.shape) > 1)
    if name == "TRANSPOSE_CONV":
        return inputs[2].elements // inputs[2].shape[-1] * weights.elements
    if name == "DEPTHWISE_CONV_2D":
        return outputs[0].elements * weights.shape[1] * weights.shape[2]
    return outputs[0].elements // weights.shape[0] * weights.elements


def _count_weights(operator: Operator) -> int:
    """Count weights and biases; in a float16 file they stand behind a DEQUANTIZE."""
    if operator.name in _FILTERED:
        return sum(tensor.elements for tensor in operator.inputs[1:] if tensor.constant)
    if operator.name == "DEQUANTIZE":
        return sum(tensor.elements for tensor in operator.inputs if tensor.constant)
    return 0
