"""Run other programs with a time limit, and capture what native libraries write to stdout and stderr."""

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
from edgeseg.core.searchpath import list_trusted, trusted_environment

# Code of a child Python; its arguments: number of folders on the search path, the folders, a module, its arguments.
_START = """\
import sys
count = int(sys.argv[1])
sys.path[:], sys.argv = sys.argv[2 : 2 + count], sys.argv[2 + count :]
import runpy
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
# The file descriptors of stdout and stderr.
OUTPUTS = (1, 2)
_LOG = logging.getLogger(__name__)


def run_limited(
    command: Sequence[str], folder: Path, seconds: float, environment: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Run a program in a folder; after the time limit its whole process group is killed.

    Returns:
        Its exit status, negative if a signal ended it, and its stdout and stderr together.

    Raises:
        OSError: It cannot be started.
        subprocess.TimeoutExpired: It took longer than `seconds`.
    """
    done = run_with_input(command, b"", seconds, folder, environment, merge_stderr=True)
    return done.returncode, done.stdout.decode("utf-8", "replace")


def run_with_input(
    command: Sequence[str],
    data: bytes,
    seconds: float,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    merge_stderr: bool = False,
) -> subprocess.CompletedProcess[bytes]:
    """Run a program with bytes on its stdin; after the time limit its whole process group is killed.

    Args:
        command: The program and its arguments.
        data: What it reads on stdin.
        seconds: The time limit.
        folder: Its working folder; None: this process's own.
        environment: Its variables; None: this process's own.
        merge_stderr: Whether stderr goes into stdout.

    Raises:
        OSError: It cannot be started.
        subprocess.TimeoutExpired: It took longer than `seconds`.
    """
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if merge_stderr else subprocess.PIPE,
        start_new_session=True,  # a process group of its own, so that its children are killed with it
    ) as process:
        try:
            out, err = process.communicate(data, seconds)
        except BaseException:  # Ctrl-C as well as the time limit
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def run_module_limited(
    module: str, arguments: Sequence[str], data: bytes, seconds: float
) -> subprocess.CompletedProcess[bytes]:
    """Run a Python module in a child process that finds the same packages, as `run_with_input` does."""
    return run_with_input(command_module(module, arguments), data, seconds, environment=trusted_environment())


def command_module(module: str, arguments: Sequence[str]) -> list[str]:
    """Build the command that runs a module in a child Python.

    `python -m` would search the working folder first, and `-P` against that came with Python 3.11 only. So this
    process's search path is passed on, and replaces the child's before the child imports anything else.
    """
    paths = list_trusted()
    return [sys.executable, "-c", _START, str(len(paths)), *paths, module, *arguments]


def describe_end(done: subprocess.CompletedProcess[bytes]) -> str:
    """Describe how a process ended that gave no valid answer."""
    if done.returncode < 0:
        return f"but its process was ended by {signal.Signals(-done.returncode).name}"
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return f"but its process ended with code {done.returncode}: {lines[-1] if lines else 'it said nothing'}"


@dataclass(eq=False)
class NativeLog:
    """The captured output; complete when the block has ended or the output was restored before."""

    text: str = ""
    _file: IO[bytes] | None = field(default=None, repr=False)
    _owner: int = field(default_factory=threading.get_ident, repr=False)

    def restore(self) -> None:
        """End the capture, from any thread; repeated calls do nothing."""
        _REDIRECT.end(self)


class _Stream:
    """Replaces sys.stdout or sys.stderr during a capture: threads that capture nothing write to the real output."""

    def __init__(self, original: TextIO, real: TextIO) -> None:
        self._original, self._real = original, real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real if _REDIRECT.bypasses() else self._original, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._original)


class _OutputRedirect:
    """Redirects the descriptors of stdout and stderr, where C and C++ write, from the first capture to the last."""

    def __init__(self) -> None:
        # reentrant: a finalizer that captures output may run in the middle of a capture
        self._lock = threading.RLock()
        self._busy = False
        self._logs: list[NativeLog] = []
        self._duplicates: dict[int, int] = {}
        self._redirected: dict[int, int] = {}
        """The redirected descriptors, and the duplicates that lead to the real outputs."""
        self._streams: dict[str, _Stream] = {}

    def begin(self, log: NativeLog, file: IO[bytes]) -> None:
        with self._lock:
            if self._busy:  # the garbage collector freed a model in the middle of this, and its finalizer captures, too
                return
            self._busy = True
            try:
                _flush()
                if not self._logs:
                    self._redirect_streams()
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
                    self._restore_streams()
                log._file.seek(0)
                log.text = log._file.read().decode("utf-8", "replace")
            finally:
                self._busy = False

    def find(self, thread: int | None) -> list[NativeLog]:
        with self._lock:
            return [log for log in self._logs if log._owner == thread]

    def bypasses(self) -> bool:
        """Say whether this thread's messages go to the real output: no capture is its own."""
        logs = self._logs
        return bool(logs) and all(log._owner != threading.get_ident() for log in logs)

    def _redirect_streams(self) -> None:
        self._redirected = {}
        for output in OUTPUTS:
            with contextlib.suppress(OSError):  # a closed descriptor stays closed
                self._redirected[output] = self._copy(output)
        for name in ("stdout", "stderr"):
            original = getattr(sys, name)
            copy = self._redirected.get(_find_descriptor(original))
            if copy is not None:
                # unbuffered, as `python -u` writes
                raw = open(copy, "wb", buffering=0, closefd=False)  # noqa: SIM115 - a descriptor, kept for good
                real = io.TextIOWrapper(cast(Any, raw), original.encoding, original.errors, write_through=True)
                self._streams[name] = _Stream(original, real)
                setattr(sys, name, cast(TextIO, self._streams[name]))

    def _copy(self, output: int) -> int:
        """Duplicate a descriptor; its number stays reserved for good, since a slow thread may still write to it."""
        if output not in self._duplicates:
            self._duplicates[output] = os.dup(output)
        else:
            os.dup2(output, self._duplicates[output], inheritable=False)
        return self._duplicates[output]

    def _restore_streams(self) -> None:
        for output, copy in self._redirected.items():
            os.dup2(copy, output)
        for name, stream in self._streams.items():
            if getattr(sys, name) is stream:
                setattr(sys, name, stream._original)
        self._streams = {}

    def _point(self, target: int) -> None:
        for output in self._redirected:
            os.dup2(target, output)


_REDIRECT = _OutputRedirect()


def restore_output(thread: int | None) -> None:
    """End the captures of a thread that was abandoned, by its identifier, and show their output so far on stderr."""
    for log in _REDIRECT.find(thread):
        log.restore()
        _show(log)


@contextlib.contextmanager
def captured_native_output() -> Iterator[NativeLog]:
    """Capture what C and C++ code writes to stdout and stderr, for a caller that parses it."""
    log = NativeLog()
    with tempfile.TemporaryFile() as file:
        try:
            _REDIRECT.begin(log, file)
            yield log
        finally:
            log.restore()


@contextlib.contextmanager
def quiet_native_output() -> Iterator[None]:
    """Hide what C and C++ code writes to stdout and stderr; shown if the block raises, or at the debug level."""
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
    """Write a log to stderr, once."""
    data, log.text = redact(log.text).encode("utf-8"), ""
    while data:
        data = data[os.write(2, data) :]


def _find_descriptor(stream: TextIO | None) -> int:
    """Return the descriptor of a Python stream; -1 for one in memory, as in a test or a notebook."""
    try:
        return stream.fileno() if stream is not None else -1
    except (OSError, ValueError):
        return -1


def _flush() -> None:
    """Flush Python's buffers and C's, whose content would come out at the wrong side of the redirect."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    ctypes.CDLL(None).fflush(None)
