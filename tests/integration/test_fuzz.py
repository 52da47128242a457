"""What edgeseg reads may be damaged or hostile: the fuzzer finds nothing, and would find it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

FUZZ = Path(__file__).resolve().parents[2] / "benchmarks" / "fuzz.py"
FAILURES = ("crash", "hang", "memory", "exception")
GATE_NOT_HELD = 3


def run_fuzzer(out: Path, *options: str) -> tuple[int, dict[str, dict[str, str]], str]:
    command = [sys.executable, str(FUZZ), str(out), "--workers", "1", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    table = out / "fuzz.json"
    rows = json.loads(table.read_text(encoding="utf-8"))["rows"] if table.is_file() else []
    return done.returncode, {row["kind"]: row for row in rows}, done.stdout + done.stderr


def test_a_thousand_mutants_are_refused_or_read_in_time(tmp_path: Path) -> None:
    code, rows, said = run_fuzzer(tmp_path, "--mutants", "1000")
    assert code == 0, said
    assert int(rows["all"]["mutants"]) > 950
    assert {name: rows["all"][name] for name in FAILURES} == dict.fromkeys(FAILURES, "0")
    assert [kind for kind, row in rows.items() if row["accepted"] == "0"] == []  # else it ends at the first check


def test_every_way_to_fail_is_found_kept_and_seen_again(tmp_path: Path) -> None:
    code, rows, said = run_fuzzer(tmp_path, "--kind", "trial", "--mutants", "8", "--hang-s", "3", "--memory-mb", "300")
    assert code == GATE_NOT_HELD, said
    assert [rows["trial"][name] for name in FAILURES] == ["1"] * len(FAILURES)
    (kept,) = (tmp_path / "failures").glob("*exception.json")
    code, _, said = run_fuzzer(tmp_path / "again", "--replay", str(kept))
    assert code == GATE_NOT_HELD
    assert "KeyError" in said


def test_an_interrupted_run_goes_on_and_makes_the_same_mutants(tmp_path: Path) -> None:
    first = run_fuzzer(tmp_path, "--kind", "toml,pipe", "--mutants", "20")[1]
    done = (tmp_path / "progress.jsonl").read_text(encoding="utf-8")
    again = run_fuzzer(tmp_path, "--kind", "toml,pipe", "--mutants", "30")[1]
    assert (tmp_path / "progress.jsonl").read_text(encoding="utf-8").startswith(done)
    assert int(again["all"]["mutants"]) > int(first["all"]["mutants"])
