"""Files as torch wrote them before version 1.6, and a package that brings one: made without torch."""

from __future__ import annotations

import io
import pickle
import struct
import sys
import types
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeseg.model import pretrained

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


class FloatStorage:
    """Stands for torch's kind of storage."""

    __module__ = "torch"


class LongStorage:
    """Stands for torch's kind of storage."""

    __module__ = "torch"


def _rebuild_tensor_v2(*_: Any) -> None:
    """Stand for torch's function of this name."""


_rebuild_tensor_v2.__module__ = "torch._utils"


class Storage:
    """Numbers, which lie behind the pickles."""

    def __init__(self, numbers: NDArray[Any], said: int | None = None) -> None:
        """Keep the numbers, and how many the pickle says there are."""
        self.numbers, self.said = numbers.ravel(), numbers.size if said is None else said


class Tensor:
    """A part of a storage."""

    def __init__(self, storage: Storage, offset: Any, shape: Any, strides: Any) -> None:
        """Keep which part it is."""
        self.storage = storage
        self.rest: tuple[Any, ...] = (offset, shape, strides, False, OrderedDict())

    def __reduce__(self) -> Any:
        return _rebuild_tensor_v2, (self.storage, *self.rest)


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=2)
        self.storages: list[Storage] = []

    def persistent_id(self, obj: Any) -> Any:
        if not isinstance(obj, Storage):
            return None
        if obj not in self.storages:
            self.storages.append(obj)
        kind = FloatStorage if obj.numbers.dtype == np.float32 else LongStorage
        return "storage", kind, str(self.storages.index(obj)), "cpu", obj.said, None


def store(array: NDArray[Any]) -> Tensor:
    """Describe an array as torch stores it."""
    whole = np.array(array, order="C")
    return Tensor(Storage(whole), 0, whole.shape, tuple(step // whole.itemsize for step in whole.strides))


def write_state(state: Any) -> bytes:
    """Write a state as torch did: anything that can be pickled, with `Tensor` in it."""
    utils = types.ModuleType("torch._utils")
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2  # type: ignore[attr-defined]
    torch = types.ModuleType("torch")
    torch.FloatStorage, torch.LongStorage, torch._utils = FloatStorage, LongStorage, utils  # type: ignore[attr-defined]
    file = io.BytesIO()
    with pytest.MonkeyPatch.context() as patch:
        # a pickler looks up whether a name is where it says
        patch.setitem(sys.modules, "torch", torch)
        patch.setitem(sys.modules, "torch._utils", utils)
        for head in (MAGIC, PROTOCOL, {"little_endian": True}):
            pickle.dump(head, file, protocol=2)
        pickler = _Pickler(file)
        pickler.dump(state)
        pickle.dump([str(number) for number in range(len(pickler.storages))], file, protocol=2)
    for storage in pickler.storages:
        file.write(struct.pack("<q", storage.said) + storage.numbers.tobytes())
    return file.getvalue()


def write_tensors(tensors: Mapping[str, NDArray[Any]]) -> bytes:
    """Write tensors as torch did."""
    return write_state(OrderedDict((name, store(array)) for name, array in tensors.items()))


def install_weights(folder: Path, content: bytes, version: str = pretrained.VERSION) -> Path:
    """Lay out the package with the weights as pip does; it must be found, and never imported."""
    path = folder / pretrained.MODULE / pretrained.FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    (folder / pretrained.MODULE / "__init__.py").write_text("raise SystemExit('imported')\n", encoding="utf-8")
    metadata = folder / f"{pretrained.MODULE}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: {pretrained.PACKAGE}\nVersion: {version}\n", encoding="utf-8")
    return path
