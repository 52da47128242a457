"""Motion JPEG over HTTP, read with a time limit and without a queue of old frames."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import fcntl
import socket
import sys
import termios
from http.client import HTTPConnection, HTTPException, HTTPResponse
from time import monotonic
from typing import Any
from urllib.parse import SplitResult, quote, unquote_to_bytes

from numpy.typing import NDArray

from edgeseg.core.errors import LimitError, SourceError
from edgeseg.core.images import decode_jpeg, measure_jpeg
from edgeseg.core.limits import check_pixels
from edgeseg.runtime.sources.base import STALL_S, Source
from edgeseg.runtime.sources.deadline import Deadline, TimedSocket
from edgeseg.runtime.sources.multipart import open_parts
from edgeseg.runtime.sources.options import show_source, split_url

EXAMPLE = "http://192.168.0.20:8080/stream.mjpg"
_BAD_IN_A_ROW = 100
_BACKLOG = 16 * 1024
_MOST_SKIPPED = 100
_AS_IT_IS = "/?#[]@!$&'()*+,;=%:~"
"""What an address may hold unquoted; anything else is percent-encoded."""
_WRONG = (OSError, HTTPException, UnicodeError)
"""What an address, a network or a server lead to; a host's name that cannot be one is a UnicodeError."""


class MjpegSource(Source):
    """Reads Motion JPEG; damaged frames are left out and counted."""

    live = True

    def __init__(self, url: str, stall_s: float = STALL_S) -> None:
        """Ask for a stream.

        Args:
            url: Where it is; a name and password before the host are sent as basic authentication.
            stall_s: How long it may take for the next whole frame, and to connect and to answer.
        """
        where = split_url(url, EXAMPLE)
        self._name = show_source(url)
        self._interrupted = False
        self._failure: SourceError | None = None
        self._deadline = Deadline(stall_s)
        try:
            self._socket = socket.create_connection((str(where.hostname), where.port or 80), stall_s)
        except _WRONG as error:
            raise _lost(self._name, error) from error
        try:
            self._deadline.restart()
            self._response = _ask(TimedSocket(self._socket, self._deadline), where)
            self._parts = open_parts(self._response)
        except _WRONG as error:
            self._socket.close()
            raise _lost(self._name, error) from error

    def read(self) -> NDArray[Any] | None:
        """Wait for the next whole frame; None when the server says that it was the last."""
        self._deadline.restart()
        for _ in range(_BAD_IN_A_ROW):
            data = self._read_newest_part()
            self.arrived_at = monotonic()
            if data is None:
                return None
            image = _decode(data)
            if image is not None:
                return image
            self.health = dataclasses.replace(self.health, corrupt=self.health.corrupt + 1)
        raise SourceError(
            f"Expected JPEG frames from {self._name}, got {_BAD_IN_A_ROW} damaged ones in a row.",
            "Look at the address in a browser.",
        )

    def interrupt(self) -> None:
        """Cut the connection, which wakes whoever reads from it."""
        self._interrupted = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        self._response.close()
        self._socket.close()

    def _read_newest_part(self) -> bytes | None:
        """Read past what piled up while the last frame was decoded, so that a slow machine sees no old frames."""
        if self._failure is not None:
            raise self._failure
        data, skipped = self._read_part(), 0
        while data is not None and skipped < _MOST_SKIPPED and self._lies_behind(data):
            newer = self._read_behind()
            if newer is None:
                break
            data, skipped = newer, skipped + 1
        self.health = dataclasses.replace(self.health, skipped=self.health.skipped + skipped)
        return data

    def _read_behind(self) -> bytes | None:
        """Read the part behind a whole frame; that there is none is told when the next one is asked for."""
        try:
            return self._read_part()
        except SourceError as error:
            self._failure = SourceError(error.message, error.hint)  # without its trace, which holds what was read
            return None

    def _lies_behind(self, data: bytes) -> bool:
        """Say whether newer frames wait; a server that floods must not keep the whole time with them."""
        in_time = self._deadline.left > self._deadline.seconds / 2
        return in_time and self._count_waiting() > max(_BACKLOG, 2 * len(data))

    def _count_waiting(self) -> int:
        waiting = fcntl.ioctl(self._socket, termios.FIONREAD, bytes(4))
        return int.from_bytes(waiting, sys.byteorder)

    def _read_part(self) -> bytes | None:
        try:
            return self._parts.read()
        except _WRONG as error:
            if self._interrupted:
                return None
            raise _lost(self._name, error) from error


def _ask(timed: TimedSocket, where: SplitResult) -> HTTPResponse:
    connection = HTTPConnection(str(where.hostname), where.port or 80)
    connection.sock = timed
    headers = {}
    if where.username is not None:
        pair = unquote_to_bytes(where.username) + b":" + unquote_to_bytes(where.password or "")
        headers["Authorization"] = "Basic " + base64.b64encode(pair).decode()
    path = quote(where.path or "/", _AS_IT_IS)
    connection.request("GET", f"{path}?{quote(where.query, _AS_IT_IS)}" if where.query else path, headers=headers)
    return connection.getresponse()


def _decode(data: bytes) -> NDArray[Any] | None:
    """Decode a frame whose announced size the table of limits allows."""
    size = measure_jpeg(data)
    if size is None:
        return None
    try:
        check_pixels("the stream", *size)
    except LimitError:
        return None
    return decode_jpeg(data)


def _lost(name: str, error: Exception) -> SourceError:
    return SourceError(
        f"Expected Motion JPEG from {name}, got {str(error).rstrip('.') or type(error).__name__}.",
        "Look at the address in a browser on this machine.",
    )
