"""Every command on streams as shells hand them over: closed ones, and readers that leave."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.tinymodels import write_bright_model

pytestmark = pytest.mark.integration

SECONDS = 60
STREAM = "stream {model} --view none --source 'phantom://?size=64&frames=5'"
INSPECT = "inspect {model}"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bright_model(tmp_path_factory.mktemp("model") / "bright.tflite")


def run(model: Path, command: str, streams: str) -> tuple[int, str]:
    """Run a command with its streams as a shell makes them; gives its own exit code, and stderr."""
    line = f"{sys.executable} -m edgeseg {command.format(model=model)} {streams}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False, timeout=SECONDS)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("command", "streams", "code"),
    [
        (INSPECT, "<&- >&-", 0),
        (INSPECT, "| true", 141),
        (INSPECT, ">/dev/full", 1),
        ("--help", "| true", 141),
        (STREAM, "<&- >&- 2>&-", 0),
        (STREAM, "| true", 141),
    ],
)
def test_closed_streams_and_readers_that_leave_are_no_defect(
    model: Path, command: str, streams: str, code: int
) -> None:
    got, said = run(model, command, streams)
    assert got == code
    assert "Error" not in said
    assert "defect" not in said
    assert said.count("edgeseg:") == (streams == ">/dev/full")


def test_a_file_that_is_opened_first_does_not_become_standard_output(model: Path, tmp_path: Path) -> None:
    index = tmp_path / "rec/index.jsonl"
    assert run(model, f"{STREAM} --record {tmp_path / 'rec'} --every-frame", "<&- >&- 2>&-") == (0, "")
    assert all(line.startswith('{"number": ') for line in index.read_text(encoding="utf-8").splitlines())
