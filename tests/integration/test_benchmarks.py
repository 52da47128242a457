"""The benchmarks of the live runtime run from start to end and give verdicts; how fast is not asked here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tinymodels import write_bright_model

pytestmark = pytest.mark.integration

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def run_benchmark(name: str, out: Path, *options: str | Path) -> list[dict[str, str]]:
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), str(out), *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    (written,) = out.glob("*.json")
    return list(json.loads(written.read_text(encoding="utf-8"))["rows"])


def test_overhead_lists_every_stage_and_judges_page_and_rest(tmp_path: Path) -> None:
    model = write_bright_model(tmp_path / "bright.tflite")
    rows = run_benchmark("overhead", tmp_path / "out", "--model", model, "--runs", "10", "--seconds", "1")
    judged = {row["what"] for row in rows if row["verdict"] in ("held", "missed")}
    assert judged == {
        "everything but the net",
        "the same with the page open and one client",
        "the same with 4 clients of the page",
        "confidence, states, distance: together",
    }
    assert {"- colour to grey", "- quantise", "- threshold", "book-keeping"} <= {row["what"] for row in rows}
    assert all(float(row["ms p50"]) > 0 for row in rows if row["what"] in judged)


def test_frame_age_judges_both_ways_of_reading(tmp_path: Path) -> None:
    rows = run_benchmark("frame_age", tmp_path / "out", "--seconds", "1", "--net-ms", "20")
    assert {row["reading"] for row in rows} == {"newest frame", "read in the loop"}
    assert all(row["verdict"] in ("held", "missed") for row in rows)


def test_a_killed_upgrade_loses_nothing(tmp_path: Path) -> None:
    (row,) = run_benchmark("kills", tmp_path / "out", "--kills", "2", "--only", "board.sh upgrade")
    assert (row["kills"], row["lost"], row["half made"], row["verdict"]) == ("2", "0", "0", "held")
