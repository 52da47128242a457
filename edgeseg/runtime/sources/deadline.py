"""The time by which a frame must be whole: whoever sends one byte at a time does not put it off."""

from __future__ import annotations

import io
import socket
from collections.abc import Callable
from time import monotonic
from typing import Any


class Deadline:
    """Runs out so many seconds after it was last set."""

    def __init__(self, seconds: float, clock: Callable[[], float] = monotonic) -> None:
        self.seconds, self._clock = seconds, clock
        self.restart()

    def restart(self) -> None:
        """Begin anew, for the next frame."""
        self._ends_at = self._clock() + self.seconds

    @property
    def left(self) -> float:
        """Say how many seconds are left, 0 when it has run out."""
        return max(0.0, self._ends_at - self._clock())


class TimedSocket:
    """A connected socket as http.client uses one; no read or write of it outlasts the deadline."""

    def __init__(self, connected: socket.socket, deadline: Deadline) -> None:
        self._socket, self._deadline = connected, deadline

    def makefile(self, *_: object) -> io.BufferedReader:
        """Give what http.client reads the answer from."""
        return io.BufferedReader(_TimedReader(self._socket, self._deadline))

    def sendall(self, data: bytes) -> None:
        """Send all of it in time."""
        _set_timeout(self._socket, self._deadline)
        self._socket.sendall(data)

    def close(self) -> None:
        """Do nothing: http.client closes while the answer is still to be read; the socket's owner closes it."""


class _TimedReader(io.RawIOBase):
    def __init__(self, connected: socket.socket, deadline: Deadline) -> None:
        self._socket, self._deadline = connected, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            _set_timeout(self._socket, self._deadline)
            return self._socket.recv_into(buffer)
        except TimeoutError as error:
            raise TimeoutError(f"no whole frame within {self._deadline.seconds:g} s") from error


def _set_timeout(connected: socket.socket, deadline: Deadline) -> None:
    left = deadline.left
    if not left:
        raise TimeoutError
    connected.settimeout(left)
