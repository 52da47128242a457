"""The Edge TPU backend against a stand-in for libedgetpu, built by gcc: no device can be had here.

The stand-in follows the documented behaviour: NULL without a reason where no device is found, a crash where library
and runtime do not fit. What happens on a real Edge TPU is not verified.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from time import monotonic

import pytest

from edgeseg.backends.base import Probe
from edgeseg.backends.edgetpu import EdgeTpuBackend
from edgeseg.backends.probe_model import build_probe_model
from edgeseg.backends.probing import try_backend
from tests.edgetpu import compile_library
from tests.networks import save_network

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
NO_DELEGATE = "int add(int a, int b) { return a + b; }\n"


@pytest.fixture
def stub(stub_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the trial's process find the stand-in; gives the file that tells the options it was loaded with."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(stub_folder))
    monkeypatch.setenv("STUB_SEEN", str(tmp_path / "seen"))
    return tmp_path / "seen"


@pytest.mark.parametrize(("device", "seen"), [("", ""), ("usb:1", "device=usb:1\n"), (":0", "device=:0\n")])
def test_loads_and_is_told_the_device(stub: Path, device: str, seen: str) -> None:
    probe = EdgeTpuBackend.probe(build_probe_model(), device)
    assert probe.available, probe
    assert "Edge TPU" in probe.detail
    assert stub.read_text(encoding="utf-8") == seen


@pytest.mark.usefixtures("stub")
@pytest.mark.parametrize(
    ("behaviour", "detail", "hint"),
    [
        ("silent", "no reason given, most often no device", "Plug the Edge TPU in"),
        ("refuse", "the option is not known", "Plug the Edge TPU in"),
        ("crash", "ended by SIGSEGV", "libedgetpu 16.0"),
    ],
)
def test_failures_come_as_sentences(behaviour: str, detail: str, hint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUB", behaviour)
    assert_refused(EdgeTpuBackend.probe(build_probe_model()), detail, hint)


@pytest.mark.usefixtures("stub")
def test_hang_ends_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUB", "hang")
    began = monotonic()
    probe = try_backend("edgetpu", "", build_probe_model(), "Reset it.", limit_s=5.0)
    assert_refused(probe, "within 5 s, got no answer", "Reset it.")
    assert monotonic() - began < 20


def test_library_is_not_there() -> None:
    assert_refused(EdgeTpuBackend.probe(build_probe_model()), "cannot open shared object file", "libedgetpu1-std")


def test_library_is_no_delegate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "add.c").write_text(NO_DELEGATE, encoding="utf-8")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(compile_library(tmp_path / "add.c", tmp_path)))
    assert_refused(
        EdgeTpuBackend.probe(build_probe_model()), "without tflite_plugin_create_delegate", "libedgetpu1-std"
    )


@pytest.mark.parametrize("behaviour", ["", "crash"])
def test_stream_says_what_is_wrong(stub_folder: Path, tmp_path: Path, behaviour: str) -> None:
    path = tmp_path / "compiled.tflite"
    save_network(path, custom="edgetpu-custom-op")
    command = [sys.executable, "-m", "edgeseg", "stream", str(path), "--backend", "edgetpu", "--view", "none"]
    env = os.environ | {"LD_LIBRARY_PATH": str(stub_folder), "STUB": behaviour}
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=ROOT, timeout=120, check=False)
    assert done.returncode == 1
    sentence, hint = done.stderr.strip().splitlines()
    assert sentence.startswith("edgeseg: Expected ")
    assert ("SIGSEGV" in sentence) == (behaviour == "crash")
    assert hint


def test_a_compiled_file_runs_on_a_chip_that_answers(stub_folder: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "compiled.tflite", tmp_path / "s.json"
    save_network(path, custom="edgetpu-custom-op")
    command = [sys.executable, "-m", "edgeseg", "stream", str(path), "--backend", "edgetpu:usb", "--view", "none"]
    env = os.environ | {"LD_LIBRARY_PATH": str(stub_folder), "STUB": "run"}
    command += ["--source", "phantom://?frames=5", "--budget-ms", "60000", "--json", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=ROOT, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    backend = json.loads(out.read_text(encoding="utf-8"))["backend"]
    assert (backend["detail"], backend["parity"]["held"]) == ("LiteRT, Edge TPU usb, delegated parts: 1", True)


def assert_refused(probe: Probe, detail: str, hint: str) -> None:
    assert not probe.available
    assert detail in probe.detail, probe
    assert hint in probe.hint, probe
    assert "\n" not in probe.detail
