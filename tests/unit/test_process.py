"""Other programs run within a time limit, and nothing of them is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from time import monotonic

import pytest

from edgeseg.core.process import run_limited, run_module_limited, run_with_input
from edgeseg.core.searchpath import list_trusted


def test_what_a_program_reads_says_and_answers_comes_apart(tmp_path: Path) -> None:
    script = "cat; pwd; echo $WHAT >&2"
    done = run_with_input(["/bin/sh", "-c", script], b"fed ", 30, tmp_path, {"WHAT": "told"})
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, [b"fed", bytes(tmp_path)], b"told\n")


def test_status_and_everything_said_come_together(tmp_path: Path) -> None:
    assert run_limited(["/bin/sh", "-c", "echo a; echo b >&2; exit 3"], tmp_path, 30) == (3, "a\nb\n")
    assert run_limited(["/bin/sh", "-c", "kill -9 $$"], tmp_path, 30)[0] == -9


def test_a_program_that_does_not_read_is_no_error(tmp_path: Path) -> None:
    assert run_with_input(["/bin/true"], bytes(1 << 20), 30, tmp_path).returncode == 0


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


TRAP = "from pathlib import Path\n(Path(__file__).parent / 'was-run').touch()\nraise SystemExit(9)\n"


@pytest.fixture
def trapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder in which a stranger left modules that bear well-known names."""
    for name in ("numpy", "json", "runpy", "typer", "hatchling", "sitecustomize", "subprocess"):
        (tmp_path / f"{name}.py").write_text(TRAP, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("inherited", [None, ":x", "x:", ".", "x::y"])
@pytest.mark.parametrize("safe", [None, "1"])
def test_a_child_imports_nothing_from_the_working_folder(
    trapped: Path, monkeypatch: pytest.MonkeyPatch, inherited: str | None, safe: str | None
) -> None:
    for name, value in (("PYTHONPATH", inherited), ("PYTHONSAFEPATH", safe)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "path", ["", str(trapped), ".", *sys.path])
    done = run_module_limited("json.tool", ["--compact", "-"], b'{"a": 1}', 30)
    assert (done.returncode, done.stdout.strip()) == (0, b'{"a":1}'), done.stderr
    assert not (trapped / "was-run").exists()


def test_a_folder_that_was_named_in_full_is_still_searched(trapped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = trapped / "a folder: with\nsigns"
    named.mkdir()
    (named / "mine.py").write_text("import sys\nprint(sys.argv[1:])", encoding="utf-8")
    monkeypatch.setattr(sys, "path", [str(named), *sys.path])
    assert run_module_limited("mine", ["-x", "a b"], b"", 30).stdout == b"['-x', 'a b']\n"
    monkeypatch.chdir(named)
    assert run_module_limited("mine", [], b"", 30).returncode != 0
    monkeypatch.setenv("PYTHONPATH", str(trapped))
    monkeypatch.chdir(trapped)
    monkeypatch.setattr(sys, "path", [str(trapped), *sys.path[1:]])
    assert str(trapped) in list_trusted()


@pytest.mark.parametrize("start", [["-m", "edgeseg"], ["-c", "from edgeseg.cli.app import main; main()"]])
def test_the_command_line_imports_nothing_from_the_working_folder(trapped: Path, start: list[str]) -> None:
    for name in ("runpy", "sitecustomize", "subprocess"):  # what Python itself looks for before edgeseg runs
        (trapped / f"{name}.py").unlink()
    inherited = {**os.environ, "PYTHONPATH": ":x"}
    done = subprocess.run([sys.executable, *start, "devices"], env=inherited, capture_output=True, check=False)
    assert (done.returncode, b"raspberry-pi-5" in done.stdout) == (0, True), done.stderr
    assert not (trapped / "was-run").exists()
