"""`edgeseg bench` with several threads, memory of each row, and a reference to be held against."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from edgeseg.bench.memory import measure_memory
from edgeseg.cli.app import app
from edgeseg.core.errors import BackendError
from tests.networks import save_network

pytestmark = pytest.mark.integration


def run_bench(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, ["bench", *map(str, arguments)])


def read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def scale_times(path: Path, factor: float) -> None:
    reference = read_json(path)
    for row in reference["rows"]:
        row["total_ms"]["p50"] *= factor
    path.write_text(json.dumps(reference), encoding="utf-8")


def test_a_slower_run_fails_the_gate_and_a_faster_one_does_not(tmp_path: Path) -> None:
    model, kept, out = tmp_path / "tiny.tflite", tmp_path / "kept.json", tmp_path / "b.json"
    save_network(model)
    assert run_bench(model, "--threads", "1,2", "--runs", "40", "--save", kept, "--json", out).exit_code == 0
    rows = read_json(out)["results"]
    assert [row["threads"] for row in rows] == [1, 2]
    assert all(20 < row["peak_rss_mb"] < 500 and row["steadiness"]["ratio"] > 0 for row in rows)
    assert set(rows[0]["conditions"]) == {"governors", "thermal"}
    scale_times(kept, 1000.0)
    assert run_bench(model, "--runs", "1", "--against", kept).exit_code == 0
    scale_times(kept, 1e-6)
    done = run_bench(model, "--runs", "1", "--against", kept, "--tolerance", "0.5")
    assert (done.exit_code, "1 of 1 rows slower than the reference by more than 50%" in done.stdout) == (3, True)


def test_a_model_that_cannot_run_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "none.tflite").write_bytes(b"nothing")
    with pytest.raises(BackendError, match=r"none\.tflite.*code 1"):
        measure_memory(tmp_path / "none.tflite", "cpu", 1)
