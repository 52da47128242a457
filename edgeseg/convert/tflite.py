"""Turn a Keras model into a flatbuffer: static shapes, and full integers where that is asked for."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import ModelFileError
from edgeseg.core.quiet import quiet_native_output
from edgeseg.graph.operators import read_graph
from edgeseg.model.keras import tf

logging.getLogger("absl").setLevel(logging.ERROR)

PRECISIONS = ("float32", "float16", "int8")


def convert_model(model: Any, precision: str, calibration: NDArray[np.float32] | None = None) -> bytes:
    """Convert a Keras model.

    Args:
        model: The model, float or quantisation-aware.
        precision: One of `PRECISIONS`.
        calibration: Input images (n, height, width, channels) from 0 to 1, for int8 from a float model.
    """
    signature = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32)
    concrete = tf.function(lambda image: model(image, training=False)).get_concrete_function(signature)
    with quiet_native_output():
        converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], model)
        _set_precision(converter, precision, calibration)
        flatbuffer = bytes(converter.convert())
    if precision == "int8":
        check_full_integer(flatbuffer)
    return flatbuffer


def _set_precision(converter: Any, precision: str, calibration: NDArray[np.float32] | None) -> None:
    if precision == "float32":
        return
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
        return
    converter.inference_input_type = converter.inference_output_type = tf.int8
    if calibration is not None:
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: ([image[np.newaxis]] for image in calibration)


def check_full_integer(flatbuffer: bytes) -> None:
    """Refuse a file that is called int8 and still computes with float numbers somewhere."""
    floats = [operator.name for operator in read_graph(flatbuffer).operators if operator.is_float]
    if floats:
        raise ModelFileError(
            f"Expected integers throughout, got float numbers in {', '.join(sorted(set(floats)))}.",
            "Use layers that tfmot and TFLite quantise: Conv2D, BatchNormalization, ReLU, bilinear UpSampling2D, Add.",
        )
