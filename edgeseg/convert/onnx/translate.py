"""Translate each TFLite operator to ONNX nodes; one short function per operator."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgeseg.convert.onnx.writer import ONNX_CHANNELS, TO_ONNX, GraphWriter
from edgeseg.core.errors import ModelFileError
from edgeseg.graph.operators import Operator, Tensor

_CEILINGS = {"NONE": None, "RELU": np.inf, "RELU6": 6.0}
_TFLITE_CHANNELS, _TFLITE_PLANE = (3, -1), (1, 2)
_RANK = 4
_TRANSPOSED, _DEPTHWISE = (3, 0, 1, 2), (3, 0, 1, 2)


def limit_result(writer: GraphWriter, operator: Operator, name: str) -> str:
    """Apply the operator's ReLU, unless the int8 range of the result clips the same values."""
    ceiling = _find_ceiling(operator)
    if ceiling is None:
        return name
    step = writer.scheme.choose_step(operator.outputs[0].scales)
    low, high = step.limits if step is not None else (-np.inf, np.inf)
    half = step.scale / 2 if step is not None else 0.0
    if high <= ceiling + half:
        return name if low >= 0.0 else writer.add("Relu", name)
    ends = (writer.add_constant(np.asarray(end, np.float32)) for end in (0.0, ceiling))
    return writer.add("Clip", name, *ends)


def _find_ceiling(operator: Operator) -> float | None:
    """Find the upper limit of the operator's ReLU; None without a ReLU."""
    kind = operator.name if operator.name in _CEILINGS else operator.activation
    if kind not in _CEILINGS:
        raise refuse_export(f"{operator.name} with the activation {kind}")
    return _CEILINGS[kind]


def refuse_export(what: str) -> ModelFileError:
    """Build the error of an operator that is not supported."""
    return ModelFileError(
        f"Expected operators that the ONNX export knows, got {what}.",
        "Export a file of a network that edgeseg trained; the operators are listed in docs/how-to/jetson-onnx.md.",
    )


def translate_operator(writer: GraphWriter, operator: Operator, is_output: bool) -> None:
    """Write the nodes of one operator.

    Args:
        writer: The ONNX graph.
        operator: The operator.
        is_output: Whether its result is one of the network's.
    """
    translate = TRANSLATORS.get(operator.name)
    if translate is None:
        raise refuse_export(operator.name)
    source, target = operator.inputs[0], operator.outputs[0]
    if operator.name == "DEQUANTIZE" and source.constant:
        writer.fold_constant(source, target)
        return
    result = limit_result(writer, operator, translate(writer, operator))
    writer.set_result(target, result, is_output)


def find_pads(target: int, source: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """Compute SAME padding in front and behind, which TFLite only names; an odd pixel goes behind."""
    total = max(0, (target - 1) * stride + (kernel - 1) * dilation + 1 - source)
    return total // 2, total - total // 2


def _convolve(writer: GraphWriter, operator: Operator) -> str:
    image, weights = operator.inputs[:2]
    kernel = writer.add_weights(weights, TO_ONNX, axis=0)
    return _add_convolution(writer, operator, kernel, image.shape[3] // weights.shape[3])


def _convolve_depthwise(writer: GraphWriter, operator: Operator) -> str:
    kernel = writer.add_weights(operator.inputs[1], _DEPTHWISE, axis=0)
    return _add_convolution(writer, operator, kernel, operator.inputs[0].shape[3])


def _add_convolution(writer: GraphWriter, operator: Operator, kernel: str, group: int) -> str:
    options, (image, weights), target = operator.options, operator.inputs[:2], operator.outputs[0]
    strides, dilations = (options.strideH, options.strideW), (options.dilationHFactor, options.dilationWFactor)
    rows, columns = (
        find_pads(target.shape[axis], image.shape[axis], weights.shape[axis], stride, dilation)
        for axis, stride, dilation in zip((1, 2), strides, dilations, strict=True)
    )
    bias = [writer.add_bias(tensor) for tensor in operator.inputs[2:]]
    return writer.add(
        "Conv",
        writer.name_of(image),
        kernel,
        *bias,
        group=group,
        strides=strides,
        dilations=dilations,
        pads=_join_pads(rows, columns),
    )


def _convolve_transposed(writer: GraphWriter, operator: Operator) -> str:
    _, weights, image = operator.inputs[:3]
    strides, target = (operator.options.strideH, operator.options.strideW), operator.outputs[0]
    # a transposed convolution crops what the plain one in the other direction pads
    rows, columns = (
        find_pads(image.shape[axis], target.shape[axis], weights.shape[axis], stride)
        for axis, stride in zip((1, 2), strides, strict=True)
    )
    missing = [
        max(0, target.shape[axis] - (image.shape[axis] - 1) * stride - weights.shape[axis])
        for axis, stride in zip((1, 2), strides, strict=True)
    ]
    kernel = writer.add_weights(weights, _TRANSPOSED, axis=1)
    bias = [writer.add_bias(tensor) for tensor in operator.inputs[3:]]
    ends = {"strides": strides, "pads": _join_pads(rows, columns), "output_padding": missing}
    return writer.add("ConvTranspose", writer.name_of(image), kernel, *bias, **ends)


def _pool(writer: GraphWriter, operator: Operator) -> str:
    options, image, target = operator.options, operator.inputs[0], operator.outputs[0]
    rows = find_pads(target.shape[1], image.shape[1], options.filterHeight, options.strideH)
    columns = find_pads(target.shape[2], image.shape[2], options.filterWidth, options.strideW)
    return writer.add(
        "MaxPool",
        writer.name_of(image),
        kernel_shape=(options.filterHeight, options.filterWidth),
        strides=(options.strideH, options.strideW),
        pads=_join_pads(rows, columns),
    )


def _average(writer: GraphWriter, operator: Operator) -> str:
    if operator.reduced_axes != _TFLITE_PLANE or not operator.options.keepDims:
        raise refuse_export("MEAN over other axes than rows and columns, or one that drops them")
    return writer.add("GlobalAveragePool", writer.name_of(operator.inputs[0]))


def _join_pads(rows: tuple[int, int], columns: tuple[int, int]) -> tuple[int, int, int, int]:
    return rows[0], columns[0], rows[1], columns[1]


def _resize(writer: GraphWriter, operator: Operator) -> str:
    options, (_, height, width, channels) = operator.options, operator.outputs[0].shape
    grid = "half_pixel" if options.halfPixelCenters else "align_corners" if options.alignCorners else "asymmetric"
    sizes = writer.add_constant(np.array([1, channels, height, width], np.int64))
    name = writer.name_of(operator.inputs[0])
    return writer.add("Resize", name, "", "", sizes, mode="linear", coordinate_transformation_mode=grid)


def _add(writer: GraphWriter, operator: Operator) -> str:
    return writer.add("Add", *(_name_operand(writer, tensor) for tensor in operator.inputs))


def _name_operand(writer: GraphWriter, tensor: Tensor) -> str:
    """Name a tensor, or add a constant of one value per channel."""
    if not tensor.constant:
        return writer.name_of(tensor)
    return writer.add_constant(writer.read_constant(tensor).reshape(1, -1, 1, 1))


def _concatenate(writer: GraphWriter, operator: Operator) -> str:
    if operator.options.axis not in _TFLITE_CHANNELS:
        raise refuse_export(f"CONCATENATION along axis {operator.options.axis}")
    return writer.add("Concat", *map(writer.name_of, operator.inputs), axis=ONNX_CHANNELS)


def _cut_channels(writer: GraphWriter, operator: Operator) -> str:
    """Cut out channels; whether the file cuts anything else is told by the shape of its result."""
    image, begin = operator.inputs[:2]
    target = operator.outputs[0]
    if begin.data is None or begin.data.size != _RANK or image.shape[:3] != target.shape[:3]:
        raise refuse_export("STRIDED_SLICE of anything else than channels")
    first = int(begin.data.reshape(-1)[-1])
    ends = (first, first + target.shape[3], ONNX_CHANNELS)
    start, stop, axis = (writer.add_constant(np.array([end], np.int64)) for end in ends)
    return writer.add("Slice", writer.name_of(image), start, stop, axis)


def _sigmoid(writer: GraphWriter, operator: Operator) -> str:
    return writer.add("Sigmoid", writer.name_of(operator.inputs[0]))


def _softmax(writer: GraphWriter, operator: Operator) -> str:
    if operator.options.beta != 1.0:
        raise refuse_export(f"SOFTMAX with beta {operator.options.beta:g}")
    return writer.add("Softmax", writer.name_of(operator.inputs[0]), axis=ONNX_CHANNELS)


def _pack(writer: GraphWriter, operator: Operator) -> str:
    return writer.add("SpaceToDepth", writer.name_of(operator.inputs[0]), blocksize=operator.options.blockSize)


def _unpack(writer: GraphWriter, operator: Operator) -> str:
    # DCR: the block's pixels are the slow part of the channels, as in TFLite
    name, block = writer.name_of(operator.inputs[0]), operator.options.blockSize
    return writer.add("DepthToSpace", name, blocksize=block, mode="DCR")


def _pass(writer: GraphWriter, operator: Operator) -> str:
    return writer.name_of(operator.inputs[0])


TRANSLATORS: dict[str, Callable[[GraphWriter, Operator], str]] = {
    "ADD": _add,
    "CONCATENATION": _concatenate,
    "CONV_2D": _convolve,
    "DEPTHWISE_CONV_2D": _convolve_depthwise,
    "DEPTH_TO_SPACE": _unpack,
    "DEQUANTIZE": _pass,
    "LOGISTIC": _sigmoid,
    "MAX_POOL_2D": _pool,
    "MEAN": _average,
    "QUANTIZE": _pass,
    "RELU": _pass,
    "RELU6": _pass,
    "RESIZE_BILINEAR": _resize,
    "SOFTMAX": _softmax,
    "SPACE_TO_DEPTH": _pack,
    "STRIDED_SLICE": _cut_channels,
    "TRANSPOSE_CONV": _convolve_transposed,
}
