"""The archive on an emulated 64-bit ARM board; takes minutes, so it runs when EDGESEG_AARCH64 is set."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.emulated]

REPOSITORY = Path(__file__).resolve().parents[2]


def run_benchmark(word: str | Path, path: str = os.environ["PATH"]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "benchmarks/aarch64.py", str(word)]
    here = os.environ | {"PATH": path}
    return subprocess.run(command, cwd=REPOSITORY, env=here, capture_output=True, text=True, check=False)


def test_what_is_missing_is_said_before_anything_is_made(tmp_path: Path) -> None:
    done = run_benchmark(tmp_path / "out", path=str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Expected ")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_it_installs_and_draws_the_same_masks(tmp_path: Path) -> None:
    if "EDGESEG_AARCH64" not in os.environ:
        pytest.skip("an emulated board takes minutes; EDGESEG_AARCH64=1 asks for it")
    check = run_benchmark("--check")
    if check.returncode != 0:
        pytest.skip(check.stderr.strip())
    done = run_benchmark(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "aarch64.json").read_text(encoding="utf-8"))["rows"]
    same = [row["emulated aarch64"] for row in rows if row["what"].startswith("golden pairs of ")]
    assert len(same) == 3
    assert all(shown.endswith(" identical") for shown in same)
