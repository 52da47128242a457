"""The GPU backend for real, on Vulkan drivers that need no GPU: SwiftShader and lavapipe. Real GPUs are not verified.

With VK_ICD_FILENAMES set, the tests take that driver in SwiftShader's place: a real one's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgeseg.backends.gpu import GpuBackend
from edgeseg.core.errors import BackendError
from tests.networks import build_network, save_network

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
SETUP_SECONDS = 120
Surroundings = dict[str, str]


@pytest.fixture(scope="session")
def vulkan() -> Surroundings:
    """Fetch the driver once and give the variables that make it found."""
    if os.environ.get("VK_ICD_FILENAMES"):
        return {name: os.environ.get(name, "") for name in ("LD_LIBRARY_PATH", "VK_ICD_FILENAMES")}
    return fetch_driver("swiftshader")


def fetch_driver(name: str) -> Surroundings:
    script = ROOT / "tests" / "device" / "setup-vulkan.sh"
    done = subprocess.run(["sh", script, name], capture_output=True, text=True, timeout=SETUP_SECONDS, check=False)
    if done.returncode != 0:
        pytest.skip(f"the Vulkan driver {name} could not be fetched: {done.stderr.strip()[-200:]}")
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


def run_edgeseg(surroundings: Surroundings, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgeseg", *map(str, arguments)]
    env = os.environ | surroundings
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=ROOT, timeout=300, check=False)


def names_adapter(detail: str) -> bool:
    return detail.startswith("LiteRT, ") and "adapter not named" not in detail


def read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def test_same_masks_on_cpu_and_gpu(vulkan: Surroundings, int8_model: Path, tmp_path: Path) -> None:
    files = int8_model, int8_model.with_name("float32.tflite")
    out = tmp_path / "parity.json"
    done = run_edgeseg(vulkan, "bench", *files, "--parity", "--backend", "cpu,gpu,gpu:float16", "--json", out)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = read_json(out)["rows"]
    assert [row["backend"] for row in rows] == ["cpu", "gpu", "gpu:float16"] * 2
    assert all(names_adapter(row["detail"]) for row in rows if row["backend"] != "cpu")
    assert all(row["parity"]["held"] for row in rows)
    assert rows[4]["parity"]["difference"] < 1e-5


def test_half_precision_on_a_driver_that_has_it(tmp_path: Path) -> None:
    save_network(tmp_path / "tiny.tflite")
    out = tmp_path / "parity.json"
    arguments = ("bench", tmp_path / "tiny.tflite", "--parity", "--backend", "gpu:float16", "--json", out)
    done = run_edgeseg(fetch_driver("lavapipe"), *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = read_json(out)["rows"]
    assert row["detail"].startswith("LiteRT, llvmpipe (")
    assert row["detail"].endswith("), float16")


def test_stream_names_the_adapter(vulkan: Surroundings, tmp_path: Path) -> None:
    save_network(tmp_path / "tiny.tflite")
    out = tmp_path / "stream.json"
    stream = ("stream", tmp_path / "tiny.tflite", "--backend", "gpu", "--view", "none", "--frames", "3")
    done = run_edgeseg(vulkan, *stream, "--budget-ms", "60000", "--json", out)
    assert done.returncode == 0, done.stderr
    backend = read_json(out)["backend"]
    assert (backend["name"], backend["requested"], backend["fallback_reason"]) == ("gpu", "gpu", None)
    assert names_adapter(backend["detail"])
    assert backend["parity"]["held"] is True


@pytest.mark.parametrize("has_loader", [True, False])
def test_without_a_driver_one_sentence(vulkan: Surroundings, tmp_path: Path, has_loader: bool) -> None:
    save_network(tmp_path / "tiny.tflite")
    loader = vulkan if has_loader else {"LD_LIBRARY_PATH": ""}
    done = run_edgeseg(
        loader | {"VK_ICD_FILENAMES": "/nowhere.json"}, "bench", tmp_path / "tiny.tflite", "--backend", "gpu"
    )
    assert done.returncode == 1
    sentence, hint = done.stderr.strip().splitlines()
    assert sentence.startswith("edgeseg: ")
    assert "GPU" in sentence
    assert "Vulkan" in hint


def test_operator_that_the_gpu_does_not_know(vulkan: Surroundings, tmp_path: Path) -> None:
    save_network(tmp_path / "whirl.tflite", custom="Whirl")
    done = run_edgeseg(vulkan, "bench", tmp_path / "whirl.tflite", "--backend", "gpu")
    assert done.returncode == 1
    assert "edgeseg: " in done.stderr
    assert "Whirl" in done.stderr
    assert "Traceback" not in done.stderr


def test_driver_that_disappears_after_the_probe(
    vulkan: Surroundings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # of a network that ran before, in another test, the probe only tells what it ran with
    for name, value in (vulkan | {"XDG_CACHE_HOME": str(tmp_path)}).items():
        monkeypatch.setenv(name, value)
    probe = GpuBackend.probe(build_network())
    assert probe.available, probe
    assert names_adapter(probe.detail)
    monkeypatch.setenv("VK_ICD_FILENAMES", "/nowhere.json")
    with pytest.raises(BackendError, match="GPU") as caught:
        GpuBackend(build_network())
    assert "Vulkan" in caught.value.hint
