"""Standard input, output and error as a shell hands them over, the notices that go there, and signals."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which
from types import FrameType
from typing import NoReturn

import typer

from edgeseg.core.progress import allow_bars
from edgeseg.core.redact import make_printable, redact

# The exit code that a shell reports after a broken pipe, as in `yes | head -1`.
READER_LEFT = 128 + signal.SIGPIPE
# The exit code after either signal: 128 plus the number of SIGINT, as in shells.
INTERRUPTED = 130
SIGNALS = (signal.SIGINT, signal.SIGTERM)
# FFmpeg's own numbers for its log levels.
FFMPEG_QUIET, FFMPEG_WARNINGS = "-8", "24"


class NoticeHandler(logging.Handler):
    """Writes log records to what stderr is at that moment: warnings behind the program's name, the rest as it is."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; a reader that has left ends the command, as with everything else that is printed."""
        name = "edgeseg: " if record.levelno >= logging.WARNING else ""
        # paths in it may hold anything
        print(f"{name}{make_printable(self.format(record))}", file=sys.stderr, flush=True)


@contextmanager
def notices_on_stderr() -> Iterator[None]:
    """Show what the library logs, and progress bars, while a command runs."""
    logger, handler = logging.getLogger("edgeseg"), NoticeHandler()
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    # TensorFlow gives the root logger a handler of its own, which would print every notice a second time
    logger.propagate = False
    allow_bars(True)
    set_native_output(False)
    try:
        yield
    finally:
        allow_bars(False)
        logger.setLevel(before[0])
        logger.propagate = before[1]
        logger.removeHandler(handler)


def be_verbose(asked: bool) -> None:
    """Show debug messages, and what native libraries write."""
    if asked:
        logging.getLogger("edgeseg").setLevel(logging.DEBUG)
        set_native_output(True)


def be_quiet(asked: bool) -> None:
    """Show errors alone."""
    if asked:
        logging.getLogger("edgeseg").setLevel(logging.ERROR)
        allow_bars(False)


def set_native_output(shown: bool) -> None:
    """Let OpenCV, FFmpeg and TensorFlow write warnings past Python, or nothing, in child processes as well."""
    level = "WARNING" if shown else "SILENT"
    wanted = {"OPENCV_LOG_LEVEL": level, "OPENCV_FFMPEG_LOGLEVEL": FFMPEG_WARNINGS if shown else FFMPEG_QUIET}
    if shown:
        os.environ.update(wanted, TF_CPP_MIN_LOG_LEVEL="1")
    else:
        os.environ.update({name: value for name, value in wanted.items() if name not in os.environ})
    # OpenCV reads its variable when it is imported, which may have been before
    opencv = sys.modules.get("cv2")
    if opencv is not None:
        opencv.utils.logging.setLogLevel(getattr(opencv.utils.logging, f"LOG_LEVEL_{level}"))


@contextmanager
def standard_streams() -> Iterator[None]:
    """Give a command three open streams, and end it quietly when the reader of its output leaves, as `head` does."""
    _open_closed_streams()
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _leave()
    except SystemExit as ending:
        if isinstance(ending.__context__, BrokenPipeError):  # click and rich make an ordinary failure of it
            _leave()
        raise


def discard_unwritable() -> None:
    """Discard output that cannot be written: Python would try again at its exit and print an error."""
    try:
        sys.stdout.flush()
    except OSError:
        _discard_output()


def _discard_output() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def _leave() -> None:
    _discard_output()
    sys.exit(READER_LEFT)


def _open_closed_streams() -> None:
    """Open /dev/null in place of a closed stream: the next opened file would get its number, and the output."""
    for number, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        if not _is_open(number):
            os.open(os.devnull, mode)  # takes the lowest free number, which is this one
    sys.stdin = sys.stdin or os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8", closefd=False)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def name_command() -> str:
    """Return the command as it was called, so that a printed command can be copied."""
    if Path(sys.argv[0]).name == "__main__.py":
        return "python -m edgeseg"
    return "edgeseg" if which("edgeseg") == sys.argv[0] else os.path.relpath(sys.argv[0])


@contextmanager
def resumable(out: Path) -> Iterator[None]:
    """Run long work with partial results; when it is interrupted, print the command with --resume.

    Args:
        out: The final folder.
    """
    with _explain_interruption(lambda: _name_resumption(out)):
        yield


@contextmanager
def repeatable(kept: bool = True) -> Iterator[None]:
    """Run long work that is repeated with the same command; when it is interrupted, print that command.

    Args:
        kept: Whether finished parts are kept and reused.
    """
    kind = "What is finished is kept; go on with" if kept else "Nothing is kept; begin again with"
    with _explain_interruption(lambda: f"{kind}: {_repeat_command()}"):
        yield


@contextmanager
def _explain_interruption(explain: Callable[[], str]) -> Iterator[None]:
    with _first_signal_raises():
        try:
            yield
        except KeyboardInterrupt as stopped:
            # the command that it repeats may hold an address with a password
            print(f"edgeseg: Interrupted. {redact(explain())}", file=sys.stderr, flush=True)
            raise typer.Exit(INTERRUPTED) from stopped


@contextmanager
def _first_signal_raises() -> Iterator[None]:
    """Turn the first signal into a KeyboardInterrupt; a second one ends the process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _stop) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - the system gives them
    for other in SIGNALS:
        signal.signal(other, signal.SIG_DFL)
    print("edgeseg: Stopping; once more ends it at once.", file=sys.stderr, flush=True)
    raise KeyboardInterrupt


def _name_resumption(out: Path) -> str:
    from edgeseg.core.files import partial_path

    if not partial_path(out).is_dir():
        return f"Nothing is kept; begin again with: {_repeat_command()}"
    return f"What is finished is kept; go on with: {_repeat_command('--resume')}"


def _repeat_command(*further: str) -> str:
    """Write the given command with further options that it lacks."""
    given = sys.argv[1:]
    words = [*given, *(option for option in further if option not in given)]
    return f"{name_command()} {shlex.join(words)}"
