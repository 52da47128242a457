"""Locks between processes that the operating system lets go of when their holder ends, however it ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Hold the lock on a file within the block, after waiting for it."""
    with _open(path) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_held(path: Path) -> bool:
    """Say whether somebody holds the lock on a file."""
    if not path.exists():
        return False
    with _open(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _open(path: Path) -> IO[bytes]:
    """Open the file of a lock; what it holds does not matter, and a FIFO in its place is not waited for."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    return os.fdopen(handle, "r+b", buffering=0)
