"""The graph of a .tflite: operators with their tensors, options and multiply-accumulate operations (MACs).

The tables are read by `core/flatbuffer.py`, which trusts no offset; names and options come from LiteRT's schema.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgeseg.core.errors import ModelFileError
from edgeseg.core.flatbuffer import TYPES, FlatbufferError, NetworkOperator, NetworkTensor, read_network

# Operators that compute nothing and only change the number format.
CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")
_OPERATORS = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
_ACTIVATIONS = {value: name for name, value in vars(schema.ActivationFunctionType).items() if not name.startswith("_")}
_NUMPY_TYPES = {name: np.dtype(name) for name in ("float32", "float16", "int8", "uint8", "int16", "int32", "int64")}
_IMAGE_RANK = 4
# How many dimensions the inputs of an operator have, for those whose shapes are looked at: of a picture (4) exactly,
# and then the result has as many; else at least.
_RANKS = {
    "CONV_2D": (4, 4),
    "DEPTHWISE_CONV_2D": (4, 4),
    "FULLY_CONNECTED": (1, 2),
    "TRANSPOSE_CONV": (1, 4, 4),
    "CONCATENATION": (1,),
    "DEPTH_TO_SPACE": (4,),
    "DEQUANTIZE": (0,),
    "MAX_POOL_2D": (4,),
    "MEAN": (1, 0),
    "RESIZE_BILINEAR": (4,),
    "RESIZE_NEAREST_NEIGHBOR": (4,),
    "SOFTMAX": (1,),
    "SPACE_TO_DEPTH": (4,),
    "STRIDED_SLICE": (4, 1),
}
# Operators whose options are looked at, all of them scalars: without offsets, LiteRT's reader is safe on them.
_OPTIONS = {
    "ADD": "AddOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "CONCATENATION": "ConcatenationOptions",
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "DEPTH_TO_SPACE": "DepthToSpaceOptions",
    "DIV": "DivOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "L2_NORMALIZATION": "L2NormOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "MEAN": "ReducerOptions",
    "MUL": "MulOptions",
    "RESIZE_BILINEAR": "ResizeBilinearOptions",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions",
    "SOFTMAX": "SoftmaxOptions",
    "SPACE_TO_DEPTH": "SpaceToDepthOptions",
    "SUB": "SubOptions",
    "TRANSPOSE_CONV": "TransposeConvOptions",
}
_BITS = dict(TYPES.values())
_WITH_WEIGHTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED")


@dataclass(frozen=True)
class Scales:
    """Quantisation of a tensor, per tensor or per channel along an axis."""

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int


@dataclass(frozen=True)
class Tensor:
    """A tensor of the graph."""

    shape: tuple[int, ...]
    dtype: str
    constant: bool
    dynamic: bool = False
    """Whether a size is only known at run time."""
    index: int = -1
    """Its position in the file; all uses of one tensor have the same."""
    name: str = ""
    scales: Scales | None = None
    data: NDArray[Any] | None = field(default=None, compare=False, repr=False)
    """The values of a constant."""

    @property
    def elements(self) -> int:
        """Count the elements."""
        return math.prod(self.shape)

    @property
    def is_zero(self) -> bool:
        """Say whether it is a constant of zeros."""
        return self.data is not None and not self.data.any()

    @property
    def bytes(self) -> int:
        """Count the bytes in memory."""
        return self.elements * _BITS[self.dtype] // 8


@dataclass(frozen=True)
class Operator:
    """An operator of the graph."""

    name: str
    version: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    macs: int
    options: Any = None
    """Strides, padding and the like, as a class of LiteRT's schema."""
    custom: bool = False
    """Whether it is no builtin operator of TFLite."""

    @property
    def activation(self) -> str:
        """Return the fused activation: NONE, RELU, RELU6, ..."""
        kind = getattr(self.options, "fusedActivationFunction", schema.ActivationFunctionType.NONE)
        return str(_ACTIVATIONS[kind])

    @property
    def reduced_axes(self) -> tuple[int, ...] | None:
        """Which axes of its first input a reduction like MEAN takes; None where no constant says so."""
        (source, axes), rank = self.inputs[:2], len(self.inputs[0].shape)
        if axes.data is None or axes.data.dtype.kind != "i":
            return None
        found = {int(axis) + rank * (int(axis) < 0) for axis in np.atleast_1d(axes.data)}
        return tuple(sorted(found)) if found <= set(range(len(source.shape))) else None

    @property
    def is_float(self) -> bool:
        """Say whether it computes with float numbers."""
        return any(tensor.dtype.startswith("float") for tensor in (*self.inputs, *self.outputs))

    @property
    def is_conversion(self) -> bool:
        """Say whether it only changes the number format."""
        return self.name in CONVERSIONS


@dataclass(frozen=True)
class Graph:
    """The operators of a model in execution order."""

    operators: tuple[Operator, ...]
    parameters: int
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()

    @property
    def macs(self) -> int:
        """Count the MACs of one inference."""
        return sum(operator.macs for operator in self.operators)


def read_graph(flatbuffer: bytes) -> Graph:
    """Read the graph of a .tflite; a damaged or hostile file is refused."""
    try:
        network = read_network(flatbuffer)
        tensors = tuple(_read_tensor(index, tensor) for index, tensor in enumerate(network.tensors))
        operators = tuple(_read_operator(operator, tensors) for operator in network.operators)
    except FlatbufferError as error:
        raise ModelFileError(
            f"Expected a TFLite flatbuffer that edgeseg can read, got a damaged or unfit one: {error}.",
            "Give a .tflite file that edgeseg wrote.",
        ) from error
    inputs, outputs = (tuple(tensors[index] for index in ends) for ends in (network.inputs, network.outputs))
    return Graph(operators, sum(count_weights(operator) for operator in operators), inputs, outputs)


def _read_tensor(index: int, tensor: NetworkTensor) -> Tensor:
    return Tensor(
        tensor.shape,
        tensor.dtype,
        tensor.data is not None,
        dynamic=tensor.dynamic,
        index=index,
        name=tensor.name,
        scales=Scales(tensor.scale, tensor.zero_point, tensor.axis) if tensor.scale else None,
        data=_read_numbers(tensor),
    )


def _read_numbers(tensor: NetworkTensor) -> NDArray[Any] | None:
    """Read a constant; None for types that no operator of edgeseg uses."""
    if tensor.data is None or tensor.dtype not in _NUMPY_TYPES:
        return None
    return np.frombuffer(tensor.data, _NUMPY_TYPES[tensor.dtype]).reshape(tensor.shape)


def _read_operator(operator: NetworkOperator, tensors: Sequence[Tensor]) -> Operator:
    name = operator.custom or _OPERATORS.get(operator.number)
    if name is None:
        raise FlatbufferError(f"expected an operator that LiteRT's schema names, got number {operator.number}")
    inputs, outputs = (tuple(tensors[index] for index in ends) for ends in (operator.inputs, operator.outputs))
    if operator.custom:
        name = f"custom {name}" if name in _OPERATORS.values() else name
        _check_shapes(name, inputs, outputs)
        return Operator(name, operator.version, inputs, outputs, 0, None, custom=True)
    _check_shapes(name, inputs, outputs)
    macs = _count_macs(name, inputs, outputs)
    return Operator(name, operator.version, inputs, outputs, macs, _read_options(name, operator))


def _check_shapes(name: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
    """Refuse an operator with too few tensors, or tensors of the wrong rank."""
    ranks = _RANKS.get(name, ())
    if not outputs or len(inputs) < len(ranks):
        raise FlatbufferError(
            f"expected a result and at least {len(ranks)} inputs of {name[:80]}, got {len(outputs)} and {len(inputs)}"
        )
    wanted = (*ranks, _IMAGE_RANK) if _IMAGE_RANK in ranks else ranks
    found = [*inputs[: len(ranks)], outputs[0]][: len(wanted)]
    for rank, tensor in zip(wanted, found, strict=True):
        if len(tensor.shape) < rank or (rank == _IMAGE_RANK and len(tensor.shape) != rank):
            raise FlatbufferError(f"expected tensors of {wanted} dimensions for {name}, got one of {tensor.shape}")


def _read_options(name: str, operator: NetworkOperator) -> Any:
    """Read the options of the operators that the linter and the exports look at; None for others."""
    kind = _OPTIONS.get(name)
    if kind is None:
        return None
    if operator.options is None:
        return getattr(schema, f"{kind}T")()
    if operator.options_type != getattr(schema.BuiltinOptions, kind):
        raise FlatbufferError(f"expected options of {name}, got those of another operator")
    try:
        options = getattr(schema, f"{kind}T").InitFromBuf(operator.options.source.data, operator.options.position)
    except struct.error as error:
        raise FlatbufferError(f"expected the whole options of {name}, got {error}") from error
    if getattr(options, "fusedActivationFunction", 0) not in _ACTIVATIONS:
        raise FlatbufferError(f"expected a known activation in {name}, got {options.fusedActivationFunction}")
    return options


def _count_macs(name: str, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> int:
    if name not in _WITH_WEIGHTS:
        return 0
    weights = inputs[1]
    if name == "TRANSPOSE_CONV":  # every input pixel is multiplied with the whole kernel
        return inputs[2].elements // inputs[2].shape[-1] * weights.elements
    if name == "DEPTHWISE_CONV_2D":
        return outputs[0].elements * weights.shape[1] * weights.shape[2]
    return outputs[0].elements // weights.shape[0] * weights.elements


def count_weights(operator: Operator) -> int:
    """Count weights and biases; in a float16 file they are the inputs of a DEQUANTIZE."""
    if operator.name in _WITH_WEIGHTS:
        return sum(tensor.elements for tensor in operator.inputs[1:] if tensor.constant)
    if operator.name == "DEQUANTIZE":
        return sum(tensor.elements for tensor in operator.inputs if tensor.constant)
    return 0
