"""Import TensorFlow and Keras with the settings that edgeseg relies on; read and write weights.

tfmot only takes Keras 2 models, so Keras is tf_keras throughout (docs/decisions/0002).
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import RunError
from edgeseg.core.files import write_bytes
from edgeseg.core.limits import MODEL_BYTES, read_regular
from edgeseg.core.process import quiet_native_output

__all__ = ["keras", "tf"]
# What h5py raises on damaged and foreign files.
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError, IndexError)

# both variables are only read when TensorFlow is imported
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

with quiet_native_output():
    import tensorflow as tf
    import tf_keras as keras

tf.get_logger().setLevel("ERROR")


def write_weights(path: Path, model: Any) -> None:
    """Write a model's weights, whole or not at all."""
    # h5py would leave half a file behind when it is killed
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        keras.src.saving.legacy.hdf5_format.save_weights_to_hdf5_group(file, model)
    write_bytes(path, content.getvalue())


def read_weights(path: Path, model: Any) -> None:
    """Load a model's weights from a file, and refuse one that is damaged, foreign or of another network.

    Shapes are compared with the network before any values are read, so that no file can allocate more memory than the
    network has.

    Raises:
        RunError: The file cannot be read as the weights of this network.
        LimitError: It is no regular file, or far too large.
    """
    try:
        content = read_regular(path, MODEL_BYTES)
    except OSError as error:
        raise _refuse(path, str(error.strerror or error)) from error
    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            values = _read_values(file, model)
    except _UNREADABLE as error:
        raise _refuse(path, _first_line(error)) from error
    for variable, value in values:
        variable.assign(value)


def _read_values(file: Any, model: Any) -> list[tuple[Any, NDArray[Any]]]:
    """Pair every weight of a model with its value, in the order that Keras writes them."""
    layers = [layer for layer in model.layers if layer.weights]
    groups = [_open(file, name) for name in _list_names(file, "layer_names")]
    groups = [group for group in groups if _list_names(group, "weight_names")]
    if len(groups) != len(layers):
        raise ValueError(f"weights of {len(groups)} layers where the network has {len(layers)}")
    values = []
    for group, layer in zip(groups, layers, strict=True):
        variables = [*layer.trainable_weights, *layer.non_trainable_weights]
        stored = [_open(group, name) for name in _list_names(group, "weight_names")]
        if [dataset.shape for dataset in stored] != [tuple(variable.shape) for variable in variables]:
            raise ValueError(f"other shapes at the layer {layer.name}")
        values += [(one, _read_numbers(dataset, one)) for dataset, one in zip(stored, variables, strict=True)]
    return values


def _read_numbers(dataset: Any, variable: Any) -> NDArray[Any]:
    # a foreign file could make us read any other file of this user
    if dataset.external or dataset.is_virtual:
        raise ValueError("numbers that lie in other files")
    value = np.asarray(dataset, dtype=variable.dtype.as_numpy_dtype)
    if not np.isfinite(value).all():
        raise ValueError("values that are no numbers")
    return value


def _list_names(group: Any, attribute: str) -> list[str]:
    names = keras.src.saving.legacy.hdf5_format.load_attributes_from_hdf5_group(group, attribute)
    return [name.decode("utf-8") if isinstance(name, bytes) else str(name) for name in names]


def _open(group: Any, name: str) -> Any:
    """Open a group's member; links out of the file are not followed."""
    for part in name.split("/"):
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise ValueError("links in place of weights")  # noqa: TRY004 - the file is wrong, not the caller
        group = group[part]
    return group


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _refuse(path: Path, what: str) -> RunError:
    return RunError(
        f"Expected the weights of this network in {path}, got a file that cannot be read as that: {what}.",
        "Copy the run again, or train again.",
    )
