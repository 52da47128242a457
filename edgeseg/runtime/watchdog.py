"""Tell systemd that masks keep coming, so that it restarts a stream that hangs."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from time import monotonic

from edgeseg.core.errors import OutputError
from edgeseg.runtime.sinks.base import Result, Sink

TOLD_PER_LIMIT = 4
"""How often a stream that runs well says so within the time after which it would be restarted."""


class Watchdog(Sink):
    """Says "ready" with the first mask, "alive" with later ones, and "stopping" at the end."""

    def __init__(self, address: str, limit_s: float | None) -> None:
        """Reach systemd.

        Args:
            address: What NOTIFY_SOCKET says: a path, or an abstract name behind an @.
            limit_s: After how many seconds of silence the stream is restarted; None where it never is.
        """
        self._limit_s = limit_s
        self._told_at: float | None = None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._address = f"\0{address[1:]}" if address.startswith("@") else address

    def publish(self, result: Result) -> None:  # noqa: ARG002 - that there is one is the whole message
        """Say that a mask is done, when it is time to say so."""
        now = monotonic()
        if self._told_at is None:
            self._tell("READY=1")
        elif self._limit_s is None or now - self._told_at < self._limit_s / TOLD_PER_LIMIT:
            return
        self._tell("WATCHDOG=1")
        self._told_at = now

    def close(self) -> None:
        """Say that the stream ends by itself."""
        with self._socket:
            self._tell("STOPPING=1")

    def _tell(self, state: str) -> None:
        try:
            self._socket.sendto(state.encode("ascii"), self._address)
        except OSError as error:
            raise OutputError(
                f"Expected systemd to listen at NOTIFY_SOCKET, got: {error.strerror}.",
                "Outside of a service, start the stream with NOTIFY_SOCKET unset.",
            ) from error


def find_watchdogs(environment: Mapping[str, str] = os.environ) -> list[Watchdog]:
    """Give the sink that this process owes to systemd: one as a service of the type notify, else none."""
    address = environment.get("NOTIFY_SOCKET")
    if not address:
        return []
    meant = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    microseconds = environment.get("WATCHDOG_USEC") if meant else None
    return [Watchdog(address, int(microseconds) / 1e6 if microseconds else None)]
