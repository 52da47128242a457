"""Backends on the command line: the gate of the masks, and what the JSON says about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from edgeseg.cli.app import app
from edgeseg.core.errors import BackendError
from edgeseg.core.modelfile import GoldenPair, write_model
from tests.networks import build_network, describe_network, draw_ramp, save_network

pytestmark = pytest.mark.integration


def run_edgeseg(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


@pytest.fixture
def other_masks(tmp_path: Path) -> Path:
    """Write a file whose golden masks no backend of this machine draws."""
    path = tmp_path / "other.tflite"
    ramp = draw_ramp()
    write_model(path, build_network(), describe_network({}), (GoldenPair(ramp, np.flip(ramp, axis=2).copy()),))
    return path


def test_parity_lists_every_backend_and_is_a_gate(tmp_path: Path) -> None:
    save_network(tmp_path / "tiny.tflite")
    out = tmp_path / "parity.json"
    arguments = ("bench", tmp_path / "tiny.tflite", "--parity", "--json", out)
    assert run_edgeseg(*arguments, "--backend", "cpu").exit_code == 0
    done = run_edgeseg(*arguments, "--backend", "cpu,edgetpu")
    assert done.exit_code == 3
    assert "tiny.tflite on edgetpu: " in done.stdout
    rows = read_json(out)["rows"]
    assert [(row["backend"], row["parity"] is None) for row in rows] == [("cpu", False), ("edgetpu", True)]


def test_other_masks_fail_the_gate(other_masks: Path) -> None:
    done = run_edgeseg("bench", other_masks, "--parity", "--backend", "cpu")
    assert done.exit_code == 3
    assert "no" in done.stdout.split()


def test_other_masks_are_refused(other_masks: Path) -> None:
    done = run_edgeseg("bench", other_masks, "--backend", "cpu", "--runs", "1")
    assert isinstance(done.exception, BackendError)
    assert "golden masks" in done.exception.message


def test_no_parity_goes_on_and_says_so(other_masks: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    out = tmp_path / "stream.json"
    stream = ("stream", other_masks, "--source", "phantom://?size=32", "--frames", "2", "--view", "none")
    done = run_edgeseg(*stream, "--budget-ms", "60000", "--no-parity", "--json", out)
    assert done.exit_code == 0
    assert "are not the file's golden ones" in caplog.text
    parity = read_json(out)["backend"]["parity"]
    assert (parity["held"], parity["enforced"]) == (False, False)


def test_bench_times_one_file_on_several_backends(tmp_path: Path) -> None:
    save_network(tmp_path / "tiny.tflite")
    out = tmp_path / "bench.json"
    done = run_edgeseg("bench", tmp_path / "tiny.tflite", "--backend", "cpu,auto", "--runs", "1", "--json", out)
    assert done.exit_code == 0
    assert [row["requested"] for row in read_json(out)["results"]] == ["cpu", "auto"]
