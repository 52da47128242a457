"""The smallest model that XNNPACK or a GPU takes over, to test whether they work."""

from __future__ import annotations

from typing import Any

SIDE = 8
_SCHEMA_VERSION = 3
_FILE_IDENTIFIER = b"TFL3"


def build_probe_model() -> bytes:
    """Build an int8 model with one 1x1 convolution, as a flatbuffer.

    The writer comes with ai-edge-litert; tflite-runtime has none.
    """
    # no numpy in this module: the doctor must start without it
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT(
        version=_SCHEMA_VERSION,
        operatorCodes=[_name_convolution(schema)],
        subgraphs=[_build_graph(schema)],
        buffers=[
            schema.BufferT(),
            schema.BufferT(data=[1]),
            schema.BufferT(data=[0] * 4),
        ],
    )
    builder = schema.flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=_FILE_IDENTIFIER)
    return bytes(builder.Output())


def _name_convolution(schema: Any) -> Any:
    code = schema.BuiltinOperator.CONV_2D
    return schema.OperatorCodeT(deprecatedBuiltinCode=code, builtinCode=code, version=1)


def _build_graph(schema: Any) -> Any:
    image, kernel = [1, SIDE, SIDE, 1], [1, 1, 1, 1]
    int8, int32 = schema.TensorType.INT8, schema.TensorType.INT32
    convolution = schema.OperatorT(
        opcodeIndex=0,
        inputs=[0, 1, 2],
        outputs=[3],
        builtinOptionsType=schema.BuiltinOptions.Conv2DOptions,
        builtinOptions=schema.Conv2DOptionsT(strideW=1, strideH=1),
    )
    tensors = [
        _describe_tensor(schema, "input", image, int8, 0),
        _describe_tensor(schema, "weights", kernel, int8, 1),
        _describe_tensor(schema, "bias", [1], int32, 2),
        _describe_tensor(schema, "output", image, int8, 0),
    ]
    return schema.SubGraphT(tensors=tensors, inputs=[0], outputs=[3], operators=[convolution])


def _describe_tensor(schema: Any, name: str, shape: list[int], dtype: int, buffer: int) -> Any:
    scale = schema.QuantizationParametersT(scale=[1.0], zeroPoint=[0])
    return schema.TensorT(name=name, shape=shape, type=dtype, buffer=buffer, quantization=scale)
