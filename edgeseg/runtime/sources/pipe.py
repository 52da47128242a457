"""Exact amounts of bytes out of a pipe, without waiting for ever: for standard input and for child processes."""

from __future__ import annotations

import os
import select
import threading
from time import monotonic

from edgeseg.core.errors import SourceError

TICK_S = 0.1


class Pipe:
    """The reading end of a pipe."""

    def __init__(self, descriptor: int, name: str, stall_s: float | None = None) -> None:
        """Take over a file descriptor.

        Args:
            descriptor: What to read from; it stays the caller's to close.
            name: What to call it in messages.
            stall_s: How long it may give nothing; None for any time.
        """
        self._descriptor, self._name, self._stall_s = descriptor, name, stall_s
        self._stopped = threading.Event()

    def read(self, count: int) -> bytearray:
        """Read so many bytes; fewer at the end and after `interrupt`.

        Raises:
            SourceError: Nothing came for too long.
        """
        data = bytearray(count)
        room, filled = memoryview(data), 0
        while filled < count and self._wait():
            got = os.readv(self._descriptor, [room[filled:]])
            if got == 0:
                break
            filled += got
        room.release()
        del data[filled:]
        return data

    def interrupt(self) -> None:
        """Let a read that waits return with what it has."""
        self._stopped.set()

    @property
    def interrupted(self) -> bool:
        """Say whether somebody called `interrupt`."""
        return self._stopped.is_set()

    def _wait(self) -> bool:
        began = monotonic()
        while not self._stopped.is_set():
            if select.select([self._descriptor], [], [], TICK_S)[0]:
                return True
            if self._stall_s is not None and monotonic() - began > self._stall_s:
                raise SourceError(
                    f"Expected frames from {self._name}, got nothing for {self._stall_s:g} s.",
                    "Check that it is running and connected.",
                )
        return False
