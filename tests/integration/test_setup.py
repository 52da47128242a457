"""A board's setup.sh makes an environment for real, and finds all in place when it is run again."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from edgeseg.machine.boards import list_boards
from tests.boards import name_this_board, write_wheel

pytestmark = pytest.mark.integration


def test_running_setup_again_changes_nothing(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path / "tinything-1.0-py3-none-any.whl", "tinything", "1.0")
    first, second = set_up(wheel, tmp_path), set_up(wheel, tmp_path)
    folder = tmp_path / "environment"
    assert f"-m venv {folder}" in first
    assert f"already there: {folder}" in second
    assert "Requirement already satisfied: tinything" in second or "tinything is already installed" in second
    assert second.endswith(f"Next: {folder}/bin/edgeseg doctor --device {name_this_board()}\n")
    assert list(tmp_path.glob("environment/lib/python3*/site-packages/tinything-1.0.dist-info"))


def set_up(wheel: Path, home: Path) -> str:
    """Run the script as it stands, without a network and without edgeseg."""
    script = list_boards()[name_this_board()].parent / "setup.sh"
    command = ["sh", str(script), "--package", str(wheel), str(home / "environment")]
    here = {"PATH": os.environ["PATH"], "HOME": str(home), "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(command, env=here, cwd=home, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
