"""Turn a Keras model into a flatbuffer: static shapes, and full integers where that is asked for."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.convert.transpose import split_transposed_activations
from edgeseg.core.errors import DataError, ModelFileError, RecipeError
from edgeseg.core.quiet import quiet_native_output
from edgeseg.graph.operators import Graph, read_graph
from edgeseg.model.keras import tf

logging.getLogger("absl").setLevel(logging.ERROR)

_INTEGERS = {
    "int8": (tf.int8, tf.lite.OpsSet.TFLITE_BUILTINS_INT8),
    "int16x8": (tf.int16, tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8),
}
"""What full-integer files take and give, and the operators they are made of."""
_KNOWN_WARNINGS = (
    # A quantisation-aware model carries its ranges in its layers, where this warning does not look.
    "Statistics for quantized inputs were expected",
    # TensorFlow's debugger opens files with TensorFlow's own interpreter.
    r"\s*Warning: tf\.lite\.Interpreter is deprecated",
)


def convert_model(
    model: Any, precision: str, calibration: NDArray[np.float32] | None = None, float_nodes: Sequence[str] = ()
) -> bytes:
    """Convert a Keras model.

    Args:
        model: The model, float or quantisation-aware.
        precision: float32, float16, dynamic-int8, int8 or int16x8.
        calibration: Input images (n, height, width, channels) from 0 to 1, for integers from a float model.
        float_nodes: Tensors of the float file whose operators stay float beside int8.
    """
    if calibration is not None:
        check_calibration(calibration, model.input_shape[1:])
    signature = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32)
    concrete = tf.function(lambda image: model(image, training=False)).get_concrete_function(signature)
    with quiet_native_output(), warnings.catch_warnings():
        for message in _KNOWN_WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], model)
        _set_precision(converter, precision, calibration)
        converted = _convert_mixed(converter, float_nodes) if float_nodes else bytes(converter.convert())
    graph = read_graph(converted)
    check_static(graph)
    if float_nodes:
        check_mixed(graph, len(float_nodes))
    elif precision in _INTEGERS:
        check_full_integer(graph)
    return split_transposed_activations(converted)


def _convert_mixed(converter: Any, float_nodes: Sequence[str]) -> bytes:
    """Quantise all but some operators; both ends are int8 as without them."""
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
        converter.representative_dataset = lambda: ([image[np.newaxis]] for image in calibration)


def check_calibration(images: NDArray[np.float32], shape: tuple[int, ...]) -> None:
    """Refuse calibration images that the network will never see the like of."""
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
    """Refuse a file whose shapes are only known when it runs, since accelerators take none."""
    dynamic = sorted({o.name for o in graph.operators if any(tensor.dynamic for tensor in (*o.inputs, *o.outputs))})
    if dynamic:
        raise ModelFileError(
            f"Expected fixed shapes throughout, got open ones in {', '.join(dynamic)}.",
            "Build the network for one input size.",
        )


def check_full_integer(graph: Graph) -> None:
    """Refuse a file that is called integer and still computes with float numbers somewhere."""
    floats = [operator for operator in graph.operators if operator.is_float]
    if floats:
        computing = {operator.name for operator in floats if not operator.is_conversion}
        named = computing or {operator.name for operator in floats}
        raise ModelFileError(
            f"Expected integers throughout, got float numbers in {', '.join(sorted(named))}.",
            "Use layers that tfmot and TFLite quantise: Conv2D, BatchNormalization, ReLU, bilinear UpSampling2D, Add.",
        )


def check_mixed(graph: Graph, kept: int) -> None:
    """Refuse a file in which other operators compute with float numbers than those that were to be kept."""
    floats = [operator for operator in graph.operators if operator.is_float and not operator.is_conversion]
    if len(floats) != kept:
        raise ModelFileError(
            f"Expected {kept} operators with float numbers beside int8, got {len(floats)}.",
            "Leave keep_float out of the recipe, or use a TensorFlow release that heeds it: 2.21 does.",
        )
