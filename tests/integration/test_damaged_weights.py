"""Weights that are damaged, foreign or of another network: one sentence, and never more memory than the network has."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from edgeseg.core.errors import EdgesegError, RunError
from edgeseg.model.keras import read_weights, write_weights
from edgeseg.model.spec import UNetSpec
from edgeseg.model.unet import build_unet

pytestmark = pytest.mark.integration

SPEC = UNetSpec(16, 16, 1, 1, "sigmoid", (4, 4))
Change = Callable[[bytes], bytes]


@pytest.fixture(scope="module")
def model() -> Any:
    return build_unet(SPEC)


def test_what_was_written_is_read_again(model: Any, tmp_path: Path) -> None:
    write_weights(tmp_path / "w.h5", model)
    other = build_unet(SPEC)
    read_weights(tmp_path / "w.h5", other)
    for one, same in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, same)


@pytest.mark.parametrize(
    "change",
    [
        lambda _: b"",
        lambda _: b"no HDF5 at all" * 100,
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:-20],
        lambda whole: bytes(byte ^ 0x55 for byte in whole),
        lambda whole: whole[:3000] + bytes(3000) + whole[6000:],
    ],
)
def test_damaged_files_are_told(change: Change, model: Any, tmp_path: Path) -> None:
    path = tmp_path / "w.h5"
    write_weights(path, model)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(RunError, match=r"w\.h5"):
        read_weights(path, model)


def forge_shape(file: Any) -> None:
    """Announce a terabyte, of which nothing is stored."""
    _replace_first(file, lambda group, name: group.create_dataset(name, shape=(2**19, 2**19), chunks=(1, 2**19)))


def forge_link(file: Any) -> None:
    _replace_first(file, lambda group, name: group.__setitem__(name, h5py.ExternalLink("/etc/passwd", "/")))


def forge_numbers(file: Any) -> None:
    name, dataset = _find_first(file)
    dataset[...] = np.nan
    assert name


def forge_names(file: Any) -> None:
    file.attrs["layer_names"] = 3


def forge_nothing(file: Any) -> None:
    for name in list(file):
        del file[name]
    for name in list(file.attrs):
        del file.attrs[name]


def _find_first(file: Any) -> tuple[str, Any]:
    found: list[tuple[str, Any]] = []
    file.visititems(lambda name, item: found.append((name, item)) if isinstance(item, h5py.Dataset) else None)
    return found[0]


def _replace_first(file: Any, replace: Callable[[Any, str], None]) -> None:
    name, _ = _find_first(file)
    del file[name]
    replace(file, name)


@pytest.mark.parametrize("forge", [forge_shape, forge_link, forge_numbers, forge_names, forge_nothing])
def test_forged_files_are_told(forge: Callable[[Any], None], model: Any, tmp_path: Path) -> None:
    path = tmp_path / "w.h5"
    write_weights(path, model)
    with h5py.File(path, "r+") as file:
        forge(file)
    with pytest.raises(RunError, match=r"w\.h5"):
        read_weights(path, model)


def test_weights_of_another_network_and_no_files_are_told(model: Any, tmp_path: Path) -> None:
    path = tmp_path / "w.h5"
    write_weights(path, build_unet(UNetSpec(16, 16, 1, 1, "sigmoid", (4, 8))))
    with pytest.raises(RunError, match="other shapes"):
        read_weights(path, model)
    os.mkfifo(tmp_path / "pipe.h5")
    for wrong in (tmp_path / "pipe.h5", tmp_path, tmp_path / "none.h5"):
        with pytest.raises(EdgesegError):
            read_weights(wrong, model)
