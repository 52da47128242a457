"""Other programs run within a time limit, and nothing of them is left behind."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from time import monotonic

import pytest

from edgeseg.core.process import feed_limited, run_limited


def test_what_a_program_reads_says_and_answers_comes_apart(tmp_path: Path) -> None:
    script = "cat; pwd; echo $WHAT >&2"
    done = feed_limited(["/bin/sh", "-c", script], b"fed ", 30, tmp_path, {"WHAT": "told"})
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, [b"fed", bytes(tmp_path)], b"told\n")


def test_status_and_everything_said_come_together(tmp_path: Path) -> None:
    assert run_limited(["/bin/sh", "-c", "echo a; echo b >&2; exit 3"], tmp_path, 30) == (3, "a\nb\n")
    assert run_limited(["/bin/sh", "-c", "kill -9 $$"], tmp_path, 30)[0] == -9


def test_a_program_that_does_not_read_is_no_error(tmp_path: Path) -> None:
    assert feed_limited(["/bin/true"], bytes(1 << 20), 30, tmp_path).returncode == 0


def test_after_the_limit_a_program_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        run_limited(["/bin/sh", "-c", f"sleep 600 & echo $! > {tmp_path}/child; wait"], tmp_path, 0.5)
    child = int((tmp_path / "child").read_text(encoding="ascii"))
    until = monotonic() + 10
    while is_running(child) and monotonic() < until:
        os.sched_yield()
    assert not is_running(child)


def is_running(pid: int) -> bool:
    """Say whether a process runs; one that only waits to be collected does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
