"""Weights between a Keras model and a message: in the model's order, checked before a number of a peer is used.

A message holds the weights of the training and behind them their moving average (EMA). Both are averaged;
with a single site the result is that of an ordinary training.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.model.keras import keras

Weights = list[NDArray[np.float32]]
Shapes = list[tuple[int, ...]]
# Bytes of a NumPy header, and those that a message has besides its tensors.
_HEADER, _ENVELOPE = 4096, 262_144


def list_variables(model: Any) -> list[Any]:
    """List a model's weights in the order of messages; all are floats."""
    return list(model.weights)


def list_shapes(model: Any) -> Shapes:
    """List the shapes of a model's weights."""
    return [tuple(variable.shape) for variable in list_variables(model)]


def find_batch_norm(model: Any) -> list[bool]:
    """Say for every weight whether it belongs to batch normalisation, moving statistics included."""
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    own = {id(variable) for layer in layers for variable in layer.weights}
    return [id(variable) in own for variable in list_variables(model)]


def read_values(model: Any) -> Weights:
    """Copy a model's weights."""
    return [np.array(variable.numpy(), np.float32) for variable in list_variables(model)]


def assign_values(model: Any, values: Sequence[NDArray[np.float32]]) -> None:
    """Assign weights to a model."""
    for variable, value in zip(list_variables(model), values, strict=True):
        variable.assign(value)


def largest_message(shapes: Shapes) -> int:
    """Compute how many bytes a message with two sets of these weights has at most."""
    return 2 * sum(4 * math.prod(shape) + _HEADER for shape in shapes) + _ENVELOPE


def read_tensors(tensors: Sequence[bytes], shapes: Shapes) -> Weights:
    """Read the arrays of a message, which must have exactly these shapes and finite numbers.

    Headers are compared with the network before anything is allocated, and nothing is ever unpickled.

    Raises:
        ValueError: It is something else.
    """
    if len(tensors) != len(shapes):
        raise ValueError(f"{len(tensors)} arrays where the network has {len(shapes)}")
    return [_read_tensor(tensor, shape) for tensor, shape in zip(tensors, shapes, strict=True)]


def _read_tensor(data: bytes, shape: tuple[int, ...]) -> NDArray[np.float32]:
    if len(data) > 4 * math.prod(shape) + _HEADER:
        raise ValueError("an array that is too large")
    stream = io.BytesIO(data)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("an array in another format")
    found, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    if (found, dtype) != (shape, np.dtype("<f4")) or (fortran and len(shape) > 1):
        raise ValueError("arrays of other shapes than the network's")
    if len(data) - stream.tell() != 4 * math.prod(shape):
        raise ValueError("an array that is cut off")
    values: NDArray[np.float32] = np.frombuffer(data, "<f4", offset=stream.tell()).reshape(shape).copy()
    if not np.isfinite(values).all():
        raise ValueError("values that are no numbers")
    return values


def keep_own(values: Weights, own: Weights, kept: Sequence[bool]) -> Weights:
    """Take the values, but one's own where `kept` says so."""
    return [mine if keep else value for value, mine, keep in zip(values, own, kept, strict=True)]
