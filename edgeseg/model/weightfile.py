"""Weights as Keras writes them, but made in memory: HDF5 ends the whole process where it meets a full disk."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import h5py

from edgeseg.core.files import write_bytes
from edgeseg.model.keras import keras


def write_weights(path: Path, model: Any) -> None:
    """Write a model's weights whole or not at all, for `load_weights` to read."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        keras.src.saving.legacy.hdf5_format.save_weights_to_hdf5_group(file, model)
    write_bytes(path, content.getvalue())
