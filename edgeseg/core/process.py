"""Run another program with a time limit, and leave nothing of it behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


def run_limited(command: Sequence[str], folder: Path, seconds: float) -> tuple[int, str]:
    """Run a program in a folder; after the limit it is ended together with all that it started.

    Returns:
        Its exit status, negative where a signal ended it, and what it said on stdout and stderr.

    Raises:
        OSError: It cannot be started.
        subprocess.TimeoutExpired: The limit passed.
    """
    done = feed_limited(command, b"", seconds, folder, apart=False)
    return done.returncode, done.stdout.decode("utf-8", "replace")


def feed_limited(
    command: Sequence[str],
    data: bytes,
    seconds: float,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    apart: bool = True,
) -> subprocess.CompletedProcess[bytes]:
    """Give a program something to read, and take what it answers; after the limit it is ended as in `run_limited`.

    Args:
        command: The program and its arguments.
        data: What it reads on stdin.
        seconds: How long it may take.
        folder: Where it runs; here if not said.
        environment: Its variables; this process's own if not said.
        apart: Whether stderr is kept apart from stdout.

    Raises:
        OSError: It cannot be started.
        subprocess.TimeoutExpired: The limit passed.
    """
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if apart else subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(data, seconds)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def feed_module(
    module: str, arguments: Sequence[str], data: bytes, seconds: float
) -> subprocess.CompletedProcess[bytes]:
    """Run a module in a Python of its own that finds the same packages, fed as in `feed_limited`."""
    surroundings = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return feed_limited([sys.executable, "-m", module, *arguments], data, seconds, environment=surroundings)


def describe_end(done: subprocess.CompletedProcess[bytes]) -> str:
    """Say how a process ended that should have answered."""
    if done.returncode < 0:
        return f"but its process was ended by {signal.Signals(-done.returncode).name}"
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return f"but its process ended with code {done.returncode}: {lines[-1] if lines else 'it said nothing'}"
