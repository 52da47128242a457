"""Read the operators of a flatbuffer with the schema that LiteRT ships."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

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
    schema.TensorType.INT16: np.int16,
    schema.TensorType.INT32: np.int32,
    schema.TensorType.INT64: np.int64,
}
_BYTES = {_TYPES[kind]: np.dtype(number).itemsize for kind, number in _NUMPY_TYPES.items()}
_FILTERED = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED")


@dataclass(frozen=True)
class Scales:
    """How a tensor's integers stand for real numbers, as a whole or for each slice along an axis."""

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int


@dataclass(frozen=True)
class Tensor:
    """One tensor of the graph."""

    shape: tuple[int, ...]
    dtype: str
    constant: bool
    dynamic: bool = False
    """Whether a size is only known when it runs."""
    index: int = -1
    """Where it stands in the file's list; two uses of one tensor have the same."""
    name: str = ""
    scales: Scales | None = None
    data: NDArray[Any] | None = field(default=None, compare=False, repr=False)
    """The numbers of a constant."""

    @property
    def elements(self) -> int:
        """Count the numbers in it."""
        return math.prod(self.shape)

    @property
    def is_zero(self) -> bool:
        """Say whether it is constant and holds nothing but zeros."""
        return self.data is not None and not self.data.any()

    @property
    def bytes(self) -> int:
        """Count the bytes it takes in memory."""
        return self.elements * _BYTES.get(self.dtype, 0)


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


def read_graph(flatbuffer: bytes) -> Graph:
    """Read the first subgraph of a flatbuffer."""
    if not schema.Model.ModelBufferHasIdentifier(flatbuffer, 0):
        raise ModelFileError("Expected a TFLite flatbuffer, got other bytes.", "Give a .tflite file.")
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(flatbuffer, 0))
    if not model.subgraphs:
        raise ModelFileError("Expected a model with a graph, got an empty one.", "Write the file again.")
    subgraph = model.subgraphs[0]
    tensors = [_read_tensor(index, tensor, model.buffers) for index, tensor in enumerate(subgraph.tensors)]
    operators = tuple(_read_operator(operator, model.operatorCodes, tensors) for operator in subgraph.operators)
    inputs, outputs = (tuple(tensors[index] for index in ends) for ends in (subgraph.inputs, subgraph.outputs))
    return Graph(operators, sum(count_weights(operator) for operator in operators), inputs, outputs)


def _read_tensor(index: int, tensor: Any, buffers: list[Any]) -> Tensor:
    data = buffers[tensor.buffer].data
    shape = tuple(int(n) for n in tensor.shape) if tensor.shape is not None else ()
    signature = tensor.shapeSignature if tensor.shapeSignature is not None else shape
    constant = data is not None and len(data) > 0
    return Tensor(
        shape,
        _TYPES[tensor.type],
        constant,
        dynamic=any(n < 0 for n in signature),
        index=index,
        name=tensor.name.decode("utf-8") if tensor.name else "",
        scales=_read_scales(tensor.quantization),
        data=_read_numbers(data, shape, tensor.type) if constant else None,
    )


def _read_scales(quantisation: Any) -> Scales | None:
    if quantisation is None or quantisation.scale is None or not len(quantisation.scale):
        return None
    scale = tuple(float(value) for value in quantisation.scale)
    zero_point = tuple(int(value) for value in quantisation.zeroPoint)
    return Scales(scale, zero_point, int(quantisation.quantizedDimension))


def _read_numbers(data: Any, shape: tuple[int, ...], kind: int) -> NDArray[Any] | None:
    """Read a constant; None for types that no operator here computes with."""
    known = _NUMPY_TYPES.get(kind)
    return None if known is None else np.frombuffer(bytes(data), known).reshape(shape)


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


def count_weights(operator: Operator) -> int:
    """Count weights and biases; in a float16 file they stand behind a DEQUANTIZE."""
    if operator.name in _FILTERED:
        return sum(tensor.elements for tensor in operator.inputs[1:] if tensor.constant)
    if operator.name == "DEQUANTIZE":
        return sum(tensor.elements for tensor in operator.inputs if tensor.constant)
    return 0
