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
from urllib.parse import SplitResult, unquote

from numpy.typing import NDArray

from edgeseg.core.errors import SourceError
from edgeseg.core.images import decode_jpeg
from edgeseg.runtime.sources.base import STALL_S, Source
from edgeseg.runtime.sources.multipart import PartReader
from edgeseg.runtime.sources.options import split_url

EXAMPLE = "http://192.168.0.20:8080/stream.mjpg"
_BAD_IN_A_ROW = 100
_BACKLOG = 16 * 1024
_MOST_SKIPPED = 100


class MjpegSource(Source):
    """Reads Motion JPEG; damaged frames are left out and counted."""

    live = True

    def __init__(self, url: str, stall_s: float = STALL_S) -> None:
        """Ask for a stream.

        Args:
            url: Where it is; a name and password before the host are sent as basic authentication.
            stall_s: How long it may give nothing.
        """
        where = split_url(url, EXAMPLE)
        self._host = str(where.hostname)
        self._interrupted = False
        self._connection = HTTPConnection(self._host, where.port or 80, timeout=stall_s)
        try:
            self._connection.connect()
            self._socket: socket.socket = self._connection.sock
            self._response = _ask(self._connection, where)
            self._parts = PartReader(self._response)
        except (OSError, HTTPException) as error:
            self._connection.close()
            raise _lost(self._host, error) from error

    def read(self) -> NDArray[Any] | None:
        """Wait for the next whole frame; None when the server says that it was the last."""
        for _ in range(_BAD_IN_A_ROW):
            data = self._read_newest_part()
            self.arrived_at = monotonic()
            if data is None:
                return None
            image = decode_jpeg(data)
            if image is not None:
                return image
            self.health = dataclasses.replace(self.health, corrupt=self.health.corrupt + 1)
        raise SourceError(
            f"Expected JPEG frames from {self._host}, got {_BAD_IN_A_ROW} damaged ones in a row.",
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
        self._connection.close()

    def _read_newest_part(self) -> bytes | None:
        """Read past what piled up while the last frame was decoded, so that a slow machine sees no old frames."""
        data, skipped = self._read_part(), 0
        while data is not None and skipped < _MOST_SKIPPED and self._count_waiting() > max(_BACKLOG, 2 * len(data)):
            data, skipped = self._read_part(), skipped + 1
        self.health = dataclasses.replace(self.health, skipped=self.health.skipped + skipped)
        return data

    def _count_waiting(self) -> int:
        waiting = fcntl.ioctl(self._socket, termios.FIONREAD, bytes(4))
        return int.from_bytes(waiting, sys.byteorder)

    def _read_part(self) -> bytes | None:
        try:
            return self._parts.read()
        except (OSError, HTTPException) as error:
            if self._interrupted:
                return None
            raise _lost(self._host, error) from error


def _ask(connection: HTTPConnection, where: SplitResult) -> HTTPResponse:
    headers = {}
    if where.username is not None:
        pair = f"{unquote(where.username)}:{unquote(where.password or '')}"
        headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    path = where.path or "/"
    connection.request("GET", f"{path}?{where.query}" if where.query else path, headers=headers)
    return connection.getresponse()


def _lost(host: str, error: Exception) -> SourceError:
    return SourceError(
        f"Expected Motion JPEG from {host}, got {error or type(error).__name__}.",
        "Look at the address in a browser on this machine.",
    )
