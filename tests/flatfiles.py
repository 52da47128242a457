"""Small .tflite files for tests, built with LiteRT's schema: any operator, version, shape and option."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

SCHEMA_VERSION = 3
OPTIONS = {
    "ADD": "AddOptions",
    "CONCATENATION": "ConcatenationOptions",
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "MEAN": "ReducerOptions",
    "RESIZE_BILINEAR": "ResizeBilinearOptions",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions",
    "SOFTMAX": "SoftmaxOptions",
    "TRANSPOSE_CONV": "TransposeConvOptions",
}


@dataclass(frozen=True)
class Spot:
    """A tensor: what has data is constant."""

    shape: tuple[int, ...]
    dtype: str = "int8"
    data: NDArray[Any] | None = None
    signature: tuple[int, ...] | None = None
    scale: tuple[float, ...] = (0.1,)
    zero_point: int = 0


@dataclass(frozen=True)
class Step:
    """An operator; its inputs and outputs are numbers of spots."""

    name: str
    inputs: Sequence[int]
    outputs: Sequence[int]
    version: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)


def make_weights(*shape: int, dtype: str = "int8") -> Spot:
    """Make a constant tensor of ones."""
    return Spot(shape, dtype, np.ones(shape, dtype))


def build_flatbuffer(
    spots: Sequence[Spot], steps: Sequence[Step], inputs: Sequence[int], outputs: Sequence[int]
) -> bytes:
    """Build a file with one graph; a step of an unknown name becomes a custom operator."""
    buffers = [schema.BufferT()]
    tensors = []
    for number, spot in enumerate(spots):
        if spot.data is not None:
            buffers.append(schema.BufferT(data=np.frombuffer(spot.data.tobytes(), np.uint8)))
        tensors.append(_describe(f"tensor{number}", spot, len(buffers) - 1 if spot.data is not None else 0))
    operators = [_lay_step(step, number) for number, step in enumerate(steps)]
    graph = schema.SubGraphT(tensors=tensors, inputs=list(inputs), outputs=list(outputs), operators=operators)
    model = schema.ModelT(
        version=SCHEMA_VERSION, operatorCodes=[_name_step(step) for step in steps], subgraphs=[graph], buffers=buffers
    )
    builder = schema.flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _describe(name: str, spot: Spot, buffer: int) -> Any:
    ranges = schema.QuantizationParametersT(scale=list(spot.scale), zeroPoint=[spot.zero_point] * len(spot.scale))
    return schema.TensorT(
        name=name,
        shape=list(spot.shape),
        shapeSignature=list(spot.signature) if spot.signature is not None else None,
        type=getattr(schema.TensorType, spot.dtype.upper()),
        buffer=buffer,
        quantization=ranges if spot.dtype != "float32" else None,
    )


def _name_step(step: Step) -> Any:
    code = getattr(schema.BuiltinOperator, step.name, None)
    if code is None:
        custom = schema.BuiltinOperator.CUSTOM
        return schema.OperatorCodeT(
            deprecatedBuiltinCode=custom, builtinCode=custom, customCode=step.name, version=step.version
        )
    return schema.OperatorCodeT(deprecatedBuiltinCode=min(code, 127), builtinCode=code, version=step.version)


def _lay_step(step: Step, code: int) -> Any:
    operator = schema.OperatorT(opcodeIndex=code, inputs=list(step.inputs), outputs=list(step.outputs))
    if step.name in OPTIONS:
        kind = OPTIONS[step.name]
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
        operator.builtinOptions = getattr(schema, f"{kind}T")(**step.options)
    return operator
