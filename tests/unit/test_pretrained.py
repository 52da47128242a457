"""ImageNet weights are found without running their package, and a file that is not theirs can do nothing."""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeseg.core.errors import EdgesegError, TrainingError
from edgeseg.core.install import MissingExtraError
from edgeseg.model import pretrained
from edgeseg.model.pretrained import find_weights, read_imagenet, read_tensors
from tests.torchfiles import Storage, Tensor, install_weights, store, write_state, write_tensors

NUMBERS = np.arange(24, dtype=np.float32)
TENSORS: dict[str, NDArray[Any]] = {
    "a.weight": NUMBERS.reshape(2, 3, 4),
    "a.steps": np.array(7, np.int64),
    "b": NUMBERS[:5] + 1,
}


class Command:
    """Runs a command when it is unpickled as usual."""

    def __reduce__(self) -> Any:
        return os.system, ("touch hacked",)


class Code:
    """Evaluates code when it is unpickled as usual."""

    def __reduce__(self) -> Any:
        return eval, ("1 / 0",)


def read(path: Path, content: bytes) -> dict[str, Any]:
    path.write_bytes(content)
    return read_tensors(path, hashlib.sha256(content).hexdigest())


def test_tensors_are_read_as_torch_wrote_them(tmp_path: Path) -> None:
    found = read(tmp_path / "a.pth", write_tensors(TENSORS))
    assert found.keys() == TENSORS.keys()
    assert all(
        np.array_equal(found[name], array) and found[name].dtype == array.dtype for name, array in TENSORS.items()
    )


def test_a_transposed_part_of_a_storage_is_read(tmp_path: Path) -> None:
    turned = Tensor(Storage(NUMBERS), 4, (4, 3), (1, 4))
    found = read(tmp_path / "a.pth", write_state(OrderedDict(turned=turned)))
    assert np.array_equal(found["turned"], NUMBERS[4:16].reshape(3, 4).T)


def test_metadata_on_the_state_is_let_pass(tmp_path: Path) -> None:
    state = OrderedDict(b=store(NUMBERS))
    state._metadata = OrderedDict(version=1)  # type: ignore[attr-defined]
    assert list(read(tmp_path / "a.pth", write_state(state))) == ["b"]


def make_cycle() -> Any:
    state: OrderedDict[str, Any] = OrderedDict()
    state["self"] = state
    return state


def nest(depth: int) -> Any:
    """Nest lists without recursion of the pickler: opcodes alone."""
    head = b"".join(pickle.dumps(part, protocol=2) for part in (1, 2, 3))
    return head + b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b"."


HOSTILE: dict[str, Callable[[], bytes]] = {
    "a command": lambda: write_state(OrderedDict(a=Command())),
    "code": lambda: write_state(OrderedDict(a=Code())),
    "a command in front": lambda: pickle.dumps(Command()),
    "a cycle": lambda: write_state(make_cycle()),
    "deep lists": lambda: nest(100_000),
    "a list": lambda: write_state([store(NUMBERS)]),
    "numbers instead of tensors": lambda: write_state(OrderedDict(a=1)),
    "a storage instead of a tensor": lambda: write_state(OrderedDict(a=Storage(NUMBERS))),
    "a huge storage": lambda: write_state(OrderedDict(a=Tensor(Storage(NUMBERS, 2**40), 0, (2,), (1,)))),
    "a storage longer than the file": lambda: write_state(OrderedDict(a=Tensor(Storage(NUMBERS, 99), 0, (2,), (1,)))),
    "a storage of less than nothing": lambda: write_state(OrderedDict(a=Tensor(Storage(NUMBERS, -1), 0, (2,), (1,)))),
    "a tensor beyond its storage": lambda: write_state(OrderedDict(a=Tensor(Storage(NUMBERS), 20, (5,), (1,)))),
    "a tensor in front of its storage": lambda: write_state(OrderedDict(a=Tensor(Storage(NUMBERS), -1, (5,), (1,)))),
    "wide strides": lambda: write_state(OrderedDict(a=Tensor(Storage(NUMBERS), 0, (2, 3), (30, 1)))),
    "strides of zero": lambda: write_state(OrderedDict(a=Tensor(Storage(NUMBERS), 0, (2**20, 2**20), (0, 0)))),
    "negative strides": lambda: write_state(OrderedDict(a=Tensor(Storage(NUMBERS), 4, (3,), (-1,)))),
    "strides of other dimensions": lambda: write_state(OrderedDict(a=Tensor(Storage(NUMBERS), 0, (2, 3), (1,)))),
    "a negative side": lambda: write_state(OrderedDict(a=Tensor(Storage(NUMBERS), 0, (-2, -3), (3, 1)))),
    "sides that are text": lambda: write_state(OrderedDict(a=Tensor(Storage(NUMBERS), 0, "ab", (1, 1)))),
    "sides that are fractions": lambda: write_state(OrderedDict(a=Tensor(Storage(NUMBERS), 0, (2.5,), (1,)))),
    "many tensors of one storage": lambda: write_state(
        OrderedDict((str(number), Tensor(storage, 0, (24,), (1,))) for storage in [Storage(NUMBERS)] for number in "ab")
    ),
    "no number": lambda: write_tensors({"a": np.array([1.0, np.nan], np.float32)}),
    "infinity": lambda: write_tensors({"a": np.array([1.0, np.inf], np.float32)}),
    "nothing": lambda: b"",
    "no pickle": lambda: b"\x00" * 100,
    "a name of great length": lambda: b"".join((*[pickle.dumps(1)] * 3, b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7f")),
    "a far place in the memo": lambda: b"".join((*[pickle.dumps(1)] * 3, b"\x80\x02]r\xff\xff\xff\x7f.")),
}


@pytest.mark.parametrize("kind", sorted(HOSTILE))
def test_what_is_no_table_of_tensors_is_refused(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content = HOSTILE[kind]()
    with pytest.raises(TrainingError):
        read(tmp_path / "a.pth", content)
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]


def test_every_shorter_file_is_refused(tmp_path: Path) -> None:
    whole = write_tensors(TENSORS)
    for length in range(0, len(whole), 7):
        with pytest.raises(TrainingError):
            read(tmp_path / "a.pth", whole[:length])


def test_damaged_bytes_are_refused_or_read_as_tensors(tmp_path: Path) -> None:
    whole, random = write_tensors(TENSORS), np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(whole)
        for place in random.integers(0, len(whole), 3):
            damaged[place] = random.integers(256)
        try:
            found = read(tmp_path / "a.pth", bytes(damaged))
        except EdgesegError:
            continue
        assert all(isinstance(array, np.ndarray) for array in found.values())


def test_another_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(write_tensors(TENSORS))
    with pytest.raises(TrainingError, match="SHA-256"):
        read_tensors(tmp_path / "a.pth", pretrained.SHA256)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder that Python looks for packages in."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_weights_are_found_and_their_package_is_not_imported(packages: Path) -> None:
    path = install_weights(packages, b"")
    assert find_weights() == path
    assert pretrained.MODULE not in sys.modules


@pytest.mark.skipif(pretrained.MODULE in sys.modules, reason="imported")
def test_a_missing_package_is_answered_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeseg.core.install.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError) as caught:
        find_weights()
    assert "pretrained" in caught.value.hint


def test_another_version_and_another_file_name_the_version_to_install(packages: Path) -> None:
    install_weights(packages, b"", version="0.0.9")
    with pytest.raises(TrainingError, match=r"0\.1\.0.*0\.0\.9") as caught:
        find_weights()
    assert f"{pretrained.PACKAGE}=={pretrained.VERSION}" in caught.value.hint


def test_a_package_without_metadata_or_file_is_refused(packages: Path) -> None:
    path = install_weights(packages, b"")
    with pytest.raises(TrainingError, match="SHA-256"):
        read_imagenet()
    path.unlink()
    with pytest.raises(TrainingError, match=path.name):
        find_weights()
    (packages / f"{pretrained.MODULE}-{pretrained.VERSION}.dist-info" / "METADATA").unlink()
    with pytest.raises(TrainingError, match=r"0\.1\.0"):
        find_weights()
