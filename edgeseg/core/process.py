"""Run another program with a time limit, and leave nothing of it behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgeseg.core.searchpath import list_trusted, trusted_surroundings

_START = """\
import sys
count = int(sys.argv[1])
sys.path[:], sys.argv = sys.argv[2 : 2 + count], sys.argv[2 + count :]
import runpy
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
"""What a Python of our own runs: its arguments are the number of folders to search, these, a module, the module's."""


def run_limited(
    command: Sequence[str], folder: Path, seconds: float, environment: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Run a program in a folder; after the limit it is ended together with all that it started.

    Returns:
        Its exit status, negative where a signal ended it, and what it said on stdout and stderr.

    Raises:
        OSError: It cannot be started.
        subprocess.TimeoutExpired: The limit passed.
    """
    done = feed_limited(command, b"", seconds, folder, environment, apart=False)
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
    return feed_limited(command_module(module, arguments), data, seconds, environment=trusted_surroundings())


def command_module(module: str, arguments: Sequence[str]) -> list[str]:
    """Write the command that runs a module in a Python of its own.

    `python -m` would look in the working folder first, and `-P` against it came with Python 3.11 only. So this one's
    search path is handed over, and takes the place of the child's before the child imports anything of its own accord.
    """
    paths = list_trusted()
    return [sys.executable, "-c", _START, str(len(paths)), *paths, module, *arguments]


def describe_end(done: subprocess.CompletedProcess[bytes]) -> str:
    """Say how a process ended that should have answered."""
    if done.returncode < 0:
        return f"but its process was ended by {signal.Signals(-done.returncode).name}"
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return f"but its process ended with code {done.returncode}: {lines[-1] if lines else 'it said nothing'}"
