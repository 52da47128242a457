"""A network runs for the first time in another process; what has run is remembered, and nothing else is believed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeseg.backends import probing
from edgeseg.backends.base import Backend, Probe
from edgeseg.backends.cpu import CpuBackend, skip_trial
from edgeseg.backends.gpu import GpuBackend
from edgeseg.backends.onnx import OnnxBackend
from edgeseg.backends.probing import try_backend, try_once
from edgeseg.backends.select import select_backend
from edgeseg.core.errors import BackendError
from edgeseg.core.modelfile import read_model, write_model
from tests.flatfiles import Spot, Step, build_flatbuffer
from tests.networks import SIDE, build_network, describe_network, save_network

NETWORK = b"some network"
PLACES = ("XDG_CACHE_HOME", "CACHE_DIRECTORY", "STATE_DIRECTORY", "HOME")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Begin with an empty home and a process that has run nothing."""
    for variable in PLACES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(probing, "_remembered", set())
    return tmp_path


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Count the trials that would start a process."""
    made: list[bytes] = []

    def count(_name: str, _variant: str, network: bytes, _hint: str) -> Probe:
        made.append(network)
        return Probe(True, "ran")

    monkeypatch.setattr(probing, "try_backend", count)
    return made


def try_network(runtime: str = "LiteRT 2", name: str = "cpu", variant: str = "", network: bytes = NETWORK) -> bool:
    return try_once(name, variant, network, runtime, "").available


def start_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "_remembered", set())


def test_the_second_start_needs_no_trial(home: Path, trials: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    assert try_network()
    start_again(monkeypatch)
    assert try_network()
    assert trials == [NETWORK]
    (file,) = (home / ".cache/edgeseg/proved").iterdir()
    assert file.stat().st_size < 100
    assert (home / ".cache/edgeseg").stat().st_mode & 0o777 == 0o700


def test_another_network_backend_variant_or_runtime_is_tried(trials: list[bytes]) -> None:
    for change in ({}, {"runtime": "LiteRT 3"}, {"name": "gpu"}, {"variant": "float16"}, {"network": b"other"}):
        try_network(**change)
    assert len(trials) == 5


def test_what_failed_is_not_remembered(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "try_backend", lambda *_: Probe(False, "died"))
    assert not try_network()
    assert not (home / ".cache").exists()


@pytest.mark.parametrize("variable", PLACES)
def test_every_place_serves(
    trials: list[bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
) -> None:
    monkeypatch.setenv("HOME", "/nonexistent")
    (tmp_path / "place").mkdir()
    monkeypatch.setenv(variable, str(tmp_path / "place"))
    try_network()
    start_again(monkeypatch)
    try_network()
    assert len(trials) == 1
    assert list(tmp_path.glob("place/**/proved/*"))


@pytest.mark.parametrize("value", ["", "relative", "/nonexistent/cache", "/dev/null", "/proc"])
def test_no_place_means_a_trial_at_every_start(
    trials: list[bytes], monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    for _ in range(2):
        assert try_network()
        start_again(monkeypatch)
    assert len(trials) == 2


def spoil(file: Path, how: str) -> None:
    content = file.read_bytes()
    if how == "garbage":
        file.write_bytes(b"\x00" * 1000)
    elif how == "longer":
        file.write_bytes(content + b"x")
    elif how == "folder":
        file.unlink()
        file.mkdir()
    elif how == "fifo":
        file.unlink()
        os.mkfifo(file)
    elif how == "link":
        other = file.parent.parent / "other"
        other.write_bytes(content)
        file.unlink()
        file.symlink_to(other)
    elif how == "others may write the file":
        file.chmod(0o666)
    elif how == "others may write the folder":
        file.parent.chmod(0o777)


@pytest.mark.parametrize(
    "how",
    ["garbage", "longer", "folder", "fifo", "link", "others may write the file", "others may write the folder"],
)
def test_what_others_could_have_written_is_not_believed(
    home: Path, trials: list[bytes], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    try_network()
    (file,) = (home / ".cache/edgeseg/proved").iterdir()
    spoil(file, how)
    start_again(monkeypatch)
    assert try_network()
    assert len(trials) == 2


def test_a_cache_of_another_user_is_left_alone(
    home: Path, trials: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: home.stat().st_uid + 1)
    try_network()
    assert not (home / ".cache").exists()
    assert len(trials) == 1


def test_only_so_many_are_remembered(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "MOST_REMEMBERED", 3)
    for number in range(6):
        probing.remember(f"{number}")
        os.utime(home / f".cache/edgeseg/proved/{number}", (number, number))
    assert sorted(file.name for file in (home / ".cache/edgeseg/proved").iterdir()) == ["3", "4", "5"]


def test_what_this_process_made_needs_no_trial(trials: list[bytes], tmp_path: Path) -> None:
    skip_trial(build_network())
    select_backend(save_network(tmp_path / "own.tflite"), "cpu")
    assert trials == []


def test_a_file_is_tried_before_it_is_loaded(trials: list[bytes], tmp_path: Path) -> None:
    model = save_network(tmp_path / "new.tflite")
    select_backend(model, "cpu")
    assert trials == [model.flatbuffer]


def build_killer() -> bytes:
    """Build a network that this runtime dies of: it looks for a second input that is not there."""
    ends = [Spot((1, SIDE, SIDE, 1), scale=(1 / 256,), zero_point=-128)] * 2
    return build_flatbuffer(ends, [Step("SPLIT", [0], [1])], [0], [1])


def test_a_network_that_kills_its_process_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "killer.tflite"
    write_model(path, build_killer(), describe_network({}))
    with pytest.raises(BackendError, match=r"cpu.*trial.*SIG"):
        select_backend(read_model(path), "cpu")


def test_a_network_that_grows_beyond_its_file_fails_in_the_trial() -> None:
    """The file announces 1 KiB; inside, a picture of 1.6 GB is made and thrown away."""
    picture = Spot((1, SIDE, SIDE, 1))
    sizes = [Spot((2,), "int32", np.array([side, side], np.int32)) for side in (40_000, SIDE)]
    steps = [Step("RESIZE_NEAREST_NEIGHBOR", [0, 1], [2], 2), Step("RESIZE_NEAREST_NEIGHBOR", [2, 3], [4], 2)]
    network = build_flatbuffer([picture, sizes[0], picture, sizes[1], picture], steps, [0], [4])
    probe = try_backend("cpu", "", network, "")
    assert not probe.available
    assert "memory" in probe.detail


def test_an_onnx_file_that_fills_the_memory_fails_in_the_trial() -> None:
    """A file of some 300 bytes makes 4 GiB out of one number."""
    onnx = pytest.importorskip("onnx", reason="onnx writes the file that this test runs")
    pytest.importorskip("onnxruntime", reason="onnxruntime is what runs it")
    constants = [
        onnx.numpy_helper.from_array(np.array([1, 32_768, 32_768, 1], np.int64), "sizes"),
        onnx.numpy_helper.from_array(np.zeros((1, 1, 1, 1), np.float32), "zero"),
    ]
    nodes = [
        onnx.helper.make_node("Expand", ["zero", "sizes"], ["wide"]),
        onnx.helper.make_node("ReduceMax", ["wide"], ["most"], keepdims=1),
        onnx.helper.make_node("Add", ["image", "most"], ["mask"]),
    ]
    shape = (1, SIDE, SIDE, 1)
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in ("image", "mask")]
    graph = onnx.helper.make_graph(nodes, "wide", ends[:1], ends[1:], constants)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=7)
    probe = try_backend("onnx", "", model.SerializeToString(), "")
    assert not probe.available
    assert "allocate" in probe.detail


def test_the_trial_loads_no_more_than_it_needs() -> None:
    asked = (
        "import sys, edgeseg.backends.probing, edgeseg.backends.cpu; print({'cv2', 'tensorflow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_doctor_s_probe_tries_nothing(trials: list[bytes]) -> None:
    assert CpuBackend.probe().available
    assert trials == []


@pytest.mark.parametrize("kind", [GpuBackend, OnnxBackend])
def test_every_backend_tries_a_new_network_once(
    trials: list[bytes], monkeypatch: pytest.MonkeyPatch, kind: type[Backend]
) -> None:
    monkeypatch.setattr("edgeseg.backends.gpu.try_backend", lambda *_: Probe(True, "LiteRT, some adapter"))
    if kind is OnnxBackend:
        pytest.importorskip("onnxruntime", reason="the ONNX backend asks onnxruntime where it could run")
    for _ in range(2):
        assert kind.probe(NETWORK).available
        start_again(monkeypatch)
    assert trials == [NETWORK]


def test_a_trial_that_answers_nonsense_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    for answer in (b"[]", b"\xff", b"[" * 100_000, b'{"available": "yes", "detail": ""}'):
        done = subprocess.CompletedProcess([], 0, answer, b"\x1b[31mlast words")
        monkeypatch.setattr(probing, "run_module_limited", lambda *_, done=done: done)
        probe = try_backend("cpu", "", NETWORK, "hint")
        assert not probe.available
        assert probe.detail.isprintable()
