"""Run another program with a time limit, and leave nothing of it behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path


def run_limited(command: Sequence[str], folder: Path, seconds: float) -> tuple[int, str]:
    """Run a program in a folder; after the limit it is ended together with all that it started.

    Returns:
        Its exit status, negative where a signal ended it, and what it said on stdout and stderr.

    Raises:
        OSError: It cannot be started.
        subprocess.TimeoutExpired: The limit passed.
    """
    with subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            said, _ = process.communicate(timeout=seconds)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode, said
