"""When a finding counts as told late, on states that are given by hand."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def steadiness(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("steadiness")


def make_played(steadiness: Any, single: str, steady: str, shares: str | None = None) -> Any:
    found = [np.asarray([letter == "f" for letter in states]) for states in (single, steady)]
    known = None if shares is None else np.asarray([{"0": 0.0, ".": 0.5, "1": 1.0}[letter] for letter in shares])
    return steadiness.Played(*found, 0, 0, known)


def test_delay_of_findings_that_last(steadiness: Any) -> None:
    # the single frame is flicker, for which nobody waits; the last finding is over before it is told
    played = make_played(steadiness, "-f--ffff---ffff---fff-", "-----fffff---ffff-----")
    assert played.list_delays() == [1, 2, None]


def test_delay_counts_from_the_whole_lesion(steadiness: Any) -> None:
    played = make_played(steadiness, "--ffffff--", "----ffffff", "00...11.00")
    assert played.list_delays() == [0]
    assert played.count(1.0) == (2, 2, 2)
    assert played.count(0.0) == (4, 0, 2)


def test_row_of_the_table(steadiness: Any) -> None:
    row = steadiness.make_row("phantoms", [make_played(steadiness, "ffff", "-fff", "1111")])
    assert len(row) == len(steadiness.HEADER)
    assert row[4:7] == ["1", "0, 1, 0, 0", "0"]
    assert row[-2:] == ["n/a", "n/a"]
