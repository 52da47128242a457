"""Standard input, output and error as a shell hands them over: some may be closed, and a reader may leave."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

READER_LEFT = 128 + signal.SIGPIPE
"""What a shell reports of a program that a broken pipe ended, as in `yes | head -1`."""


@contextmanager
def standard_streams() -> Iterator[None]:
    """Give every command three open streams, and end it quietly when whoever reads its output has seen enough."""
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
    """Let what cannot be written go nowhere: Python would try once more at its end, and complain."""
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
    """Open /dev/null where a stream is closed: else the next file that is opened gets its number, and what it says."""
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
