"""Exact amounts of bytes out of a pipe, without waiting for ever: for standard input and for child processes."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable

from edgeseg.core.errors import SourceError
from edgeseg.runtime.sources.base import STALL_S
from edgeseg.runtime.sources.deadline import Deadline

TICK_S = 0.1


class Pipe:
    """The reading end of a pipe; a whole frame must come within a time limit."""

    def __init__(
        self, descriptor: int, name: str, stall_s: float = STALL_S, tell_stall: Callable[[], None] | None = None
    ) -> None:
        """Take over a file descriptor.

        Args:
            descriptor: What to read from; it stays the caller's to close.
            name: What to call it in messages.
            stall_s: How long a frame may take, from `begin_frame` to its last byte.
            tell_stall: Called when that has passed, for a pipe that is waited for all the same.
        """
        self._descriptor, self._name, self._tell_stall = descriptor, name, tell_stall
        self._deadline = Deadline(stall_s)
        self._stopped = threading.Event()

    def begin_frame(self) -> None:
        """Begin the time of the next frame."""
        self._deadline.restart()

    def read(self, count: int) -> bytearray:
        """Read so many bytes; fewer at the end and after `interrupt`.

        Raises:
            SourceError: The frame's time has passed.
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
        while not self._stopped.is_set():
            if not self._deadline.left:
                self._note_stall()
            if select.select([self._descriptor], [], [], TICK_S)[0]:
                return True
        return False

    def _note_stall(self) -> None:
        if self._tell_stall is None:
            raise SourceError(
                f"Expected frames from {self._name}, got no whole one within {self._deadline.seconds:g} s.",
                "Check that it is running and connected.",
            )
        self._tell_stall()
        self._deadline.restart()
