"""Convert a Keras model to a TFLite flatbuffer, check it, and pack it smaller."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgeseg.core.errors import DataError, ModelFileError, RecipeError
from edgeseg.core.process import quiet_native_output
from edgeseg.core.signature import order_outputs
from edgeseg.graph.operators import Graph, read_graph
from edgeseg.model.keras import tf

FILE_IDENTIFIER = b"TFL3"
# The names of the outputs in the signature of a network that has two, in this order.
OUTPUTS = ("mask", "finding")
# Alignment of buffers in bytes, as the schema demands; its Python code does not align them.
ALIGNMENT = 16
# Versions of TRANSPOSE_CONV with and without a fused activation.
FUSED_VERSION, SPLIT_VERSION = 4, 3
_OPERATORS, _TYPES, _ACTIVATIONS = schema.BuiltinOperator, schema.TensorType, schema.ActivationFunctionType
_SPLIT = {_ACTIVATIONS.RELU: _OPERATORS.RELU, _ACTIVATIONS.RELU6: _OPERATORS.RELU6}
# The version of the activation operator for each type.
_SPLIT_VERSIONS = {_TYPES.FLOAT32: 1, _TYPES.INT8: 2, _TYPES.INT16: 3}
# Input and output type of full-integer files, and their set of operators.
_INTEGERS = {
    "int8": (tf.int8, tf.lite.OpsSet.TFLITE_BUILTINS_INT8),
    "int16x8": (tf.int16, tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8),
}
_KNOWN_WARNINGS = (
    # A quantisation-aware model carries its ranges in its layers, where this warning does not look.
    "Statistics for quantized inputs were expected",
    # TensorFlow's debugger opens files with TensorFlow's own interpreter.
    r"\s*Warning: tf\.lite\.Interpreter is deprecated",
)

logging.getLogger("absl").setLevel(logging.ERROR)


def convert_model(
    model: Any, precision: str, calibration: NDArray[np.float32] | None = None, float_nodes: Sequence[str] = ()
) -> bytes:
    """Convert a Keras model to a flatbuffer with fixed shapes.

    Args:
        model: The model, float or quantisation-aware.
        precision: float32, float16, dynamic-int8, int8 or int16x8.
        calibration: Input images (n, height, width, channels) from 0 to 1, for integers from a float model.
        float_nodes: Output tensors of operators that stay float beside int8, as the float file names them.
    """
    if calibration is not None:
        check_calibration(calibration, model.input_shape[1:])
    # batch 1: accelerators take no dynamic shapes
    signature = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32)
    concrete = tf.function(lambda image: model(image, training=False)).get_concrete_function(signature)
    with quiet_native_output(), warnings.catch_warnings():
        for message in _KNOWN_WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], _hold_variables(model))
        _set_precision(converter, precision, calibration)
        converted = _convert_mixed(converter, float_nodes) if float_nodes else bytes(converter.convert())
    graph = read_graph(converted)
    if len(graph.outputs) > 1:
        converted = put_mask_first(converted)
        graph = read_graph(converted)
    check_static(graph)
    if float_nodes:
        check_mixed(graph, len(float_nodes))
    elif precision in _INTEGERS:
        check_full_integer(graph)
    return split_transposed_activations(converted)


def _hold_variables(model: Any) -> Any:
    """Give the converter a module without layers.

    It saves what it is given first, and of a Keras model it would trace every layer: the same file in five times the
    time.
    """
    module = tf.Module()
    module.held = list(model.variables)
    return module


def _convert_mixed(converter: Any, float_nodes: Sequence[str]) -> bytes:
    """Quantise all but some operators; input and output stay int8 (docs/decisions/0024)."""
    tools = tf.lite.experimental
    options = tools.QuantizationDebugOptions(denylisted_nodes=list(float_nodes), fully_quantize=True)
    try:
        debugger = tools.QuantizationDebugger(converter=converter, debug_options=options)
    except ValueError as error:
        raise RecipeError(
            f"Expected layers that are left for int8 beside keep_float, got TensorFlow's refusal: {error}.",
            "Keep fewer layers in float, or take the recipe float16.",
        ) from error
    return bytes(debugger.get_nondebug_quantized_model())


def _set_precision(converter: Any, precision: str, calibration: NDArray[np.float32] | None) -> None:
    if precision == "float32":
        return
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if precision not in _INTEGERS:
        return
    ends, operators = _INTEGERS[precision]
    converter.inference_input_type = converter.inference_output_type = ends
    if calibration is not None:
        converter.target_spec.supported_ops = [operators]
        # after QAT there is no calibration: the ranges are in the model
        converter.representative_dataset = lambda: ([image[np.newaxis]] for image in calibration)


def put_mask_first(flatbuffer: bytes) -> bytes:
    """Put two outputs and the operators behind them in order, mask and then finding.

    A chip that does not take an operator of the finding then still runs all of the mask.
    """
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(flatbuffer, 0))
    (graph,) = model.subgraphs
    order = order_outputs([tuple(graph.tensors[index].shape) for index in graph.outputs])
    graph.outputs = [int(graph.outputs[number]) for number in order]
    for signature in model.signatureDefs or []:
        names = dict(zip(graph.outputs, OUTPUTS, strict=True))
        for output in signature.outputs:
            output.name = names[output.tensorIndex]
        signature.outputs.sort(key=lambda output: OUTPUTS.index(output.name))
    graph.operators = _list_needed_first(graph, graph.outputs[0])
    return pack_model_objects(model)


def _list_needed_first(graph: Any, output: int) -> list[Any]:
    """List the operators that an output needs, then the others, each in the order of execution."""
    needed, found = {output}, []
    for operator in reversed(graph.operators):
        if needed.intersection(operator.outputs):
            needed.update(operator.inputs)
            found.append(operator)
    return [*reversed(found), *(operator for operator in graph.operators if operator not in found)]


def check_calibration(images: NDArray[np.float32], shape: tuple[int, ...]) -> None:
    """Refuse calibration images of other shapes or values than the network will get."""
    if images.shape[1:] != shape or not len(images):
        raise DataError(
            f"Expected calibration images of the shape {shape}, as the model takes, got {images.shape[1:]}.",
            "Calibrate with images on the grid that the model's card describes.",
        )
    low, high = float(images.min()), float(images.max())
    if low < 0.0 or high > 1.0:
        raise DataError(
            f"Expected calibration images from 0 to 1, as the device feeds them, got {low:g} to {high:g}.",
            "Divide the pixels by 255.",
        )


def check_static(graph: Graph) -> None:
    """Refuse a file with dynamic shapes, which accelerators do not take."""
    dynamic = sorted({o.name for o in graph.operators if any(tensor.dynamic for tensor in (*o.inputs, *o.outputs))})
    if dynamic:
        raise ModelFileError(
            f"Expected fixed shapes throughout, got open ones in {', '.join(dynamic)}.",
            "Build the network for one input size.",
        )


def check_full_integer(graph: Graph) -> None:
    """Refuse an integer file that still computes in float somewhere."""
    floats = [operator for operator in graph.operators if operator.is_float]
    if floats:
        computing = {operator.name for operator in floats if not operator.is_conversion}
        named = computing or {operator.name for operator in floats}
        raise ModelFileError(
            f"Expected integers throughout, got float numbers in {', '.join(sorted(named))}.",
            "Use layers that tfmot and TFLite quantise: Conv2D, BatchNormalization, ReLU, bilinear UpSampling2D, Add.",
        )


def check_mixed(graph: Graph, kept: int) -> None:
    """Refuse a file with more or fewer float operators than were to be kept.

    TensorFlow ignores names that it does not know.
    """
    floats = [operator for operator in graph.operators if operator.is_float and not operator.is_conversion]
    if len(floats) != kept:
        raise ModelFileError(
            f"Expected {kept} operators with float numbers beside int8, got {len(floats)}.",
            "Leave keep_float out of the recipe, or use a TensorFlow release that heeds it: 2.21 does.",
        )


class SharingBuilder(schema.flatbuffers.Builder):  # type: ignore[misc]
    """Builds a flatbuffer in which equal vectors are stored once."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._rows: dict[tuple[str, bytes], int] = {}

    def CreateNumpyVector(self, x: NDArray[Any]) -> int:  # noqa: N802 - named by the library
        """Write a vector, or point to an equal one."""
        key = (x.dtype.str, x.tobytes())
        if key not in self._rows:
            if x.dtype == np.uint8:
                self.Prep(ALIGNMENT, x.nbytes)
            self._rows[key] = super().CreateNumpyVector(x)
        return self._rows[key]


def pack_model_objects(model: Any) -> bytes:
    """Pack a model of the schema's objects into a flatbuffer."""
    builder = SharingBuilder(1 << 20)
    builder.Finish(model.Pack(builder), file_identifier=FILE_IDENTIFIER)
    return bytes(builder.Output())


def compact_flatbuffer(flatbuffer: bytes) -> bytes:
    """Pack a flatbuffer again, smaller; a tensor is named after the first of the layers fused into its operator."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(flatbuffer, 0))
    for graph in model.subgraphs:
        _shorten_names(graph)
        _name_outputs(graph)
    _drop_empty_buffers(model)
    return pack_model_objects(model)


def _shorten_names(graph: Any) -> None:
    """Shorten the tensors' names and keep them unique: OpenVINO confuses tensors of equal names."""
    results = {index for operator in graph.operators for index in operator.outputs}
    taken: set[bytes] = set()
    for index in sorted(range(len(graph.tensors)), key=lambda index: index not in results):
        name = graph.tensors[index].name.partition(b";")[0]
        graph.tensors[index].name = name if name not in taken else b"%s_%d" % (name, index)
        taken.add(graph.tensors[index].name)


def _name_outputs(graph: Any) -> None:
    """Name two outputs, so that whoever lists them knows which is which."""
    if len(graph.outputs) == len(OUTPUTS):
        for index, name in zip(graph.outputs, OUTPUTS, strict=True):
            graph.tensors[index].name = name.encode()


def _drop_empty_buffers(model: Any) -> None:
    """Let all computed tensors share the first buffer, which the schema defines as empty."""
    kept = [n for n, buffer in enumerate(model.buffers) if n == 0 or buffer.data is not None or buffer.offset]
    places = {old: new for new, old in enumerate(kept)}
    for user in (*(tensor for graph in model.subgraphs for tensor in graph.tensors), *(model.metadata or [])):
        user.buffer = places.get(user.buffer, 0)
    model.buffers = [model.buffers[n] for n in kept]


def split_transposed_activations(flatbuffer: bytes) -> bytes:
    """Give each ReLU that is fused into a TRANSPOSE_CONV an operator of its own; other files are not changed."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(flatbuffer, 0))
    split = [_split_graph(model, graph) for graph in model.subgraphs]
    if not any(split):
        return flatbuffer
    for index, code in enumerate(model.operatorCodes):
        # no activation is fused any more, so the older version of the operator will do
        if _is_transposed(code) and code.version == FUSED_VERSION and not _is_used_fused(model, index):
            code.version = SPLIT_VERSION
    return pack_model_objects(model)


def _split_graph(model: Any, graph: Any) -> bool:
    """Split the fused activations of one graph, and say whether there were any."""
    steps: list[Any] = []
    for operator in graph.operators:
        steps.append(operator)
        if _is_transposed(model.operatorCodes[operator.opcodeIndex]) and _read_activation(operator) in _SPLIT:
            steps.append(_split_activation(model, graph, operator))
    found = len(steps) > len(graph.operators)
    graph.operators = steps
    return found


def _split_activation(model: Any, graph: Any, operator: Any) -> Any:
    """Move an operator's activation into an operator behind it, with a new tensor between them."""
    (result,) = operator.outputs
    # same type and quantisation; the activation's own range only clips
    between = copy.deepcopy(graph.tensors[result])
    between.name, between.buffer = between.name + b"_before_activation", 0
    graph.tensors.append(between)
    operator.outputs = [len(graph.tensors) - 1]
    code = _find_code(model, _SPLIT[_read_activation(operator)], _SPLIT_VERSIONS[between.type])
    operator.builtinOptions.fusedActivationFunction = _ACTIVATIONS.NONE
    return schema.OperatorT(opcodeIndex=code, inputs=list(operator.outputs), outputs=[result])


def _find_code(model: Any, builtin: int, version: int) -> int:
    """Find an operator code in the file, or add it."""
    for index, code in enumerate(model.operatorCodes):
        if code.builtinCode == builtin and code.version == version:
            return index
    model.operatorCodes.append(
        schema.OperatorCodeT(deprecatedBuiltinCode=builtin, builtinCode=builtin, version=version)
    )
    return len(model.operatorCodes) - 1


def _is_used_fused(model: Any, code: int) -> bool:
    operators = (operator for graph in model.subgraphs for operator in graph.operators)
    return any(o.opcodeIndex == code and _read_activation(o) != _ACTIVATIONS.NONE for o in operators)


def _is_transposed(code: Any) -> bool:
    return bool(code.builtinCode == _OPERATORS.TRANSPOSE_CONV)


def _read_activation(operator: Any) -> int:
    return int(operator.builtinOptions.fusedActivationFunction)
