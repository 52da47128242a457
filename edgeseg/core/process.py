"""Run another program with a time limit, and leave nothing of it behind."""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TextIO, cast

from edgeseg.core.redact import redact
from edgeseg.core.searchpath import list_trusted, trusted_surroundings

_START = """\
import sys
count = int(sys.argv[1])
sys.path[:], sys.argv = sys.argv[2 : 2 + count], sys.argv[2 + count :]
import runpy
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
"""What a Python of our own runs: its arguments are the number of folders to search, these, a module, the module's."""
OUTPUTS = (1, 2)
_LOG = logging.getLogger(__name__)


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


@dataclass(eq=False)
class NativeLog:
    """What was written; there when the block has ended, or when the output was restored before."""

    text: str = ""
    _file: IO[bytes] | None = field(default=None, repr=False)
    _owner: int = field(default_factory=threading.get_ident, repr=False)

    def restore(self) -> None:
        """End the holding back, from whatever thread; doing it again does nothing."""
        _TURN.end(self)


class _Stream:
    """Stands for sys.stdout or sys.stderr: only who holds back output writes to the descriptor that is turned away."""

    def __init__(self, usual: TextIO, real: TextIO) -> None:
        self._usual, self._real = usual, real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real if _TURN.passes_by() else self._usual, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._usual)


class _Turn:
    """Turns the descriptors away for the first who holds output back, and back after the last."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._busy = False
        self._logs: list[NativeLog] = []
        self._copies: dict[int, int] = {}
        self._turned: dict[int, int] = {}
        """Which descriptors are turned away, and the copies that lead where they led."""
        self._streams: dict[str, _Stream] = {}

    def begin(self, log: NativeLog, file: IO[bytes]) -> None:
        with self._lock:
            if self._busy:  # the collector took a model apart in the middle of this: there is a holder already
                return
            self._busy = True
            try:
                _flush()
                if not self._logs:
                    self._keep()
                log._file = file
                self._logs.append(log)
                self._point(file.fileno())
            finally:
                self._busy = False

    def end(self, log: NativeLog) -> None:
        with self._lock:
            if self._busy or log not in self._logs or log._file is None:
                return
            self._busy = True
            try:
                if log._owner == threading.get_ident():  # C's buffers may be locked by a thread that hangs
                    _flush()
                self._logs.remove(log)
                if self._logs:
                    newest = self._logs[-1]._file
                    assert newest is not None
                    self._point(newest.fileno())
                else:
                    self._give_back()
                log._file.seek(0)
                log.text = log._file.read().decode("utf-8", "replace")
            finally:
                self._busy = False

    def find(self, thread: int | None) -> list[NativeLog]:
        with self._lock:
            return [log for log in self._logs if log._owner == thread]

    def passes_by(self) -> bool:
        """Say whether this thread's messages are to pass by what is held back."""
        logs = self._logs
        return bool(logs) and all(log._owner != threading.get_ident() for log in logs)

    def _keep(self) -> None:
        self._turned = {}
        for output in OUTPUTS:
            with contextlib.suppress(OSError):  # one that is closed stays so
                self._turned[output] = self._copy(output)
        for name in ("stdout", "stderr"):
            usual = getattr(sys, name)
            copy = self._turned.get(_find_descriptor(usual))
            if copy is not None:
                # as `python -u` writes: nothing waits in a buffer
                raw = open(copy, "wb", buffering=0, closefd=False)  # noqa: SIM115 - a descriptor, kept for good
                real = io.TextIOWrapper(cast(Any, raw), usual.encoding, usual.errors, write_through=True)
                self._streams[name] = _Stream(usual, real)
                setattr(sys, name, cast(TextIO, self._streams[name]))

    def _copy(self, output: int) -> int:
        """Copy a descriptor; the copy's number stays the same for good, since a slow thread may still write to it."""
        if output not in self._copies:
            self._copies[output] = os.dup(output)
        else:
            os.dup2(output, self._copies[output], inheritable=False)
        return self._copies[output]

    def _give_back(self) -> None:
        for output, copy in self._turned.items():
            os.dup2(copy, output)
        for name, stream in self._streams.items():
            if getattr(sys, name) is stream:
                setattr(sys, name, stream._usual)
        self._streams = {}

    def _point(self, target: int) -> None:
        for output in self._turned:
            os.dup2(target, output)


_TURN = _Turn()


def restore_output(thread: int | None) -> None:
    """End what a thread holds back that was given up, by its identity, and show what its library has said so far."""
    for log in _TURN.find(thread):
        log.restore()
        _show(log)


@contextlib.contextmanager
def captured_native_output() -> Iterator[NativeLog]:
    """Hold back what C and C++ code writes to stdout and stderr, for one who knows what to look for in it."""
    log = NativeLog()
    with tempfile.TemporaryFile() as file:
        try:
            _TURN.begin(log, file)
            yield log
        finally:
            log.restore()


@contextlib.contextmanager
def quiet_native_output() -> Iterator[None]:
    """Hold back what C and C++ code writes; it is shown on stderr after all when the block raises, or for debugging."""
    if _LOG.isEnabledFor(logging.DEBUG):
        yield
        return
    log = NativeLog()
    try:
        with captured_native_output() as log:
            yield
    except BaseException:
        _show(log)
        raise


def _show(log: NativeLog) -> None:
    """Show a log, once."""
    data, log.text = redact(log.text).encode("utf-8"), ""
    while data:
        data = data[os.write(2, data) :]


def _find_descriptor(stream: TextIO | None) -> int:
    """Find where a stream of Python's writes; -1 where that is in memory, as in a test or a notebook."""
    try:
        return stream.fileno() if stream is not None else -1
    except (OSError, ValueError):
        return -1


def _flush() -> None:
    """Empty Python's buffers and C's, which would come out after the block."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    ctypes.CDLL(None).fflush(None)
