"""Commands in processes of their own, to be killed or to work beside this one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep


def start_worker(*arguments: str | Path) -> subprocess.Popen[bytes]:
    """Start an edgeseg command."""
    command = [sys.executable, "-m", "edgeseg", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "TF_NUM_INTRAOP_THREADS": "1"})


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until a running process has made a path, or fail after three minutes."""
    deadline = monotonic() + 180
    while not path.exists():
        assert process.poll() is None, "the worker ended too early"
        assert monotonic() < deadline, "the worker never got that far"
        sleep(0.02)
