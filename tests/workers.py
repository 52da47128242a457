"""Commands in processes of their own, to be killed or to work beside this one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import monotonic, sleep

from tests.shallow import ENVIRONMENT

PLAIN = (sys.executable, "-m", "edgeseg")


def start_worker(*arguments: str | Path, program: Sequence[str] = PLAIN) -> subprocess.Popen[bytes]:
    """Start an edgeseg command, with the sizes that users have or with others."""
    return subprocess.Popen([*program, *map(str, arguments)], stdout=subprocess.DEVNULL, env=os.environ | ENVIRONMENT)


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until a running process has made a path, or fail after three minutes."""
    deadline = monotonic() + 180
    while not path.exists():
        assert process.poll() is None, "the worker ended too early"
        assert monotonic() < deadline, "the worker never got that far"
        sleep(0.02)
