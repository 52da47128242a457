"""Motion JPEG over HTTP, read with a time limit and without a queue of old frames."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import fcntl
import io
import re
import socket
import sys
import termios
from http.client import HTTPConnection, HTTPException, HTTPResponse
from time import monotonic
from typing import Any, Protocol
from urllib.parse import SplitResult, quote, unquote_to_bytes

from numpy.typing import NDArray

from edgeseg.core.errors import LimitError, SourceError
from edgeseg.core.limits import HEADER_LINES, LINE_BYTES, PART_BYTES, check_pixels
from edgeseg.frame.images import decode_jpeg, measure_jpeg
from edgeseg.streaming.sources.base import STALL_S, Deadline, Source, TimedSocket
from edgeseg.streaming.sources.options import show_source, split_url

_KIND = "multipart/x-mixed-replace"
_LONGEST_BOUNDARY = 256
_QUOTED_CHARS = 200
"""Signs of what a server says that a message quotes."""
EXAMPLE = "http://192.168.0.20:8080/stream.mjpg"
_MAX_CORRUPT_IN_A_ROW = 100
_BACKLOG_BYTES = 16 * 1024
_MAX_SKIPPED = 100
_URL_CHARS = "/?#[]@!$&'()*+,;=%:~"
"""What an address may hold unquoted; anything else is percent-encoded."""
_NETWORK_ERRORS = (OSError, HTTPException, UnicodeError)
"""What an address, a network or a server lead to; a host's name that cannot be one is a UnicodeError."""


class Body(Protocol):
    """What the parts are read from."""

    def read(self, count: int, /) -> bytes:
        """Read so many bytes, fewer at the end."""

    def readline(self, limit: int, /) -> bytes:
        """Read a line, or as much of it as the limit says."""


def open_parts(response: HTTPResponse) -> PartReader:
    """Check that an answer is Motion JPEG, and find out what divides its parts.

    Raises:
        HTTPException: The answer is of another kind.
    """
    headers, kind = response.headers, response.headers.get_content_type()
    if response.status != 200:
        place = headers.get("Location")  # not followed: it may lead anywhere, and round and round
        lead = f", which leads to {place[:_QUOTED_CHARS]}" if place else ""
        raise HTTPException(f"the answer {response.status} {response.reason[:_QUOTED_CHARS]}{lead}")
    if kind != _KIND:
        raise HTTPException(f"{kind[:_QUOTED_CHARS]}, which is no Motion JPEG")
    encoding = headers.get("Content-Encoding", "identity")
    if encoding.strip().lower() != "identity":
        raise HTTPException(f"frames that are packed again as {encoding[:_QUOTED_CHARS]}")
    boundary = headers.get_param("boundary")
    if not isinstance(boundary, str) or not 0 < len(boundary.strip("- ")) <= _LONGEST_BOUNDARY:
        raise HTTPException("an answer that does not say what divides its frames")
    chunked = headers.get("Transfer-Encoding", "").strip().lower() == "chunked"
    body: Body = io.BufferedReader(_Chunks(response.fp)) if chunked else response
    return PartReader(body, boundary.encode("latin-1", "replace"))


class PartReader:
    """Reads one part after the other; a part may say its length or not."""

    def __init__(self, body: Body, boundary: bytes) -> None:
        """Prepare to read.

        Args:
            body: What comes behind the headers of the answer.
            boundary: What divides the parts; with or without the dashes that stand before it.
        """
        self._body = body
        self._name = boundary.strip().lstrip(b"-")
        self._divider = b""
        """The divider that was read already: the end of a part without a length, or the last of all."""

    def read(self) -> bytes | None:
        """Read the next part; None after the last.

        Raises:
            HTTPException: The connection ended in between, or what came is no part.
        """
        divider = self._divider or self._find_divider()
        if self._is_last(divider):
            self._divider = divider  # it stays the last, however often one asks
            return None
        self._divider = b""
        length = self._read_length()
        return self._read_unsized() if length is None else self._read_sized(length)

    def _find_divider(self, kept: bytearray | None = None) -> bytes:
        """Read to the next divider; what stands before it is kept if that is wanted."""
        begins, passed = True, 0
        while True:
            line = self._read_line()
            if begins and self._is_divider(line):
                return line
            passed += len(line)
            if passed > PART_BYTES:
                raise HTTPException("a frame without an end")
            if kept is not None:
                kept += line
            begins = line.endswith(b"\n")

    def _is_divider(self, line: bytes) -> bool:
        return line.startswith(b"--") and line.strip().lstrip(b"-") in (self._name, self._name + b"--")

    def _is_last(self, divider: bytes) -> bool:
        return divider.strip().lstrip(b"-") == self._name + b"--"

    def _read_line(self) -> bytes:
        line = self._body.readline(LINE_BYTES)
        if not line:
            raise HTTPException("the end of the connection")
        return line

    def _read_length(self) -> int | None:
        """Read the headers of a part; gives the length that they announce, if any."""
        length = None
        for _ in range(HEADER_LINES):
            line = self._read_line()
            if not line.endswith(b"\n"):
                raise HTTPException("a header without an end")
            if not line.strip():
                return length
            name, _, value = line.partition(b":")
            if name.strip().lower() == b"content-length" and value.strip().isdigit():
                length = _check_length(value.strip())
        raise HTTPException("headers without an end")

    def _read_sized(self, length: int) -> bytes:
        data = self._body.read(length)
        if len(data) < length:
            raise HTTPException("the end of the connection in the middle of a frame")
        return data

    def _read_unsized(self) -> bytes:
        data = bytearray()
        self._divider = self._find_divider(data)
        return bytes(data.removesuffix(b"\r\n"))


def _check_length(digits: bytes) -> int:
    digits = digits.lstrip(b"0") or b"0"
    if len(digits) > len(str(PART_BYTES)) or int(digits) > PART_BYTES:  # int() refuses thousands of digits
        raise HTTPException(f"a frame of {digits[:_QUOTED_CHARS].decode()} bytes")
    return int(digits)


class _Chunks(io.RawIOBase):
    """What comes in chunks; http.client's own reader believes a negative length and then reads without an end."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._left = 0
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._left and not self._ended:
            self._begin_chunk()
        if self._ended:
            return 0
        data = self._file.read1(min(len(buffer), self._left))
        if not data:
            raise HTTPException("the end of the connection in the middle of a frame")
        buffer[: len(data)] = data
        self._left -= len(data)
        if not self._left and self._file.readline(LINE_BYTES).strip():
            raise HTTPException("a chunk that is longer than it says")
        return len(data)

    def _begin_chunk(self) -> None:
        line = self._file.readline(LINE_BYTES)
        match = re.match(rb"([0-9a-fA-F]{1,8})[ \t]*(?:;|\r?\n)", line)
        if match is None:
            raise HTTPException("chunks that do not say their length" if line else "the end of the connection")
        self._left = int(match[1], 16)
        self._ended = self._left == 0


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
        except _NETWORK_ERRORS as error:
            raise _lost(self._name, error) from error
        try:
            self._deadline.restart()
            self._response = _send_request(TimedSocket(self._socket, self._deadline), where)
            self._parts = open_parts(self._response)
        except _NETWORK_ERRORS as error:
            self._socket.close()
            raise _lost(self._name, error) from error

    def read(self) -> NDArray[Any] | None:
        """Wait for the next whole frame; None when the server says that it was the last."""
        self._deadline.restart()
        for _ in range(_MAX_CORRUPT_IN_A_ROW):
            data = self._read_newest_part()
            self.arrived_at = monotonic()
            if data is None:
                return None
            image = _decode(data)
            if image is not None:
                return image
            self.health = dataclasses.replace(self.health, corrupt=self.health.corrupt + 1)
        raise SourceError(
            f"Expected JPEG frames from {self._name}, got {_MAX_CORRUPT_IN_A_ROW} damaged ones in a row.",
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
        while data is not None and skipped < _MAX_SKIPPED and self._is_backlogged(data):
            newer = self._read_newer()
            if newer is None:
                break
            data, skipped = newer, skipped + 1
        self.health = dataclasses.replace(self.health, skipped=self.health.skipped + skipped)
        return data

    def _read_newer(self) -> bytes | None:
        """Read the part behind a whole frame; that there is none is told when the next one is asked for."""
        try:
            return self._read_part()
        except SourceError as error:
            self._failure = SourceError(error.message, error.hint)  # without its trace, which holds what was read
            return None

    def _is_backlogged(self, data: bytes) -> bool:
        """Say whether newer frames wait; a server that floods must not keep the whole time with them."""
        in_time = self._deadline.left > self._deadline.seconds / 2
        return in_time and self._count_waiting() > max(_BACKLOG_BYTES, 2 * len(data))

    def _count_waiting(self) -> int:
        waiting = fcntl.ioctl(self._socket, termios.FIONREAD, bytes(4))
        return int.from_bytes(waiting, sys.byteorder)

    def _read_part(self) -> bytes | None:
        try:
            return self._parts.read()
        except _NETWORK_ERRORS as error:
            if self._interrupted:
                return None
            raise _lost(self._name, error) from error


def _send_request(timed: TimedSocket, where: SplitResult) -> HTTPResponse:
    connection = HTTPConnection(str(where.hostname), where.port or 80)
    connection.sock = timed
    headers = {}
    if where.username is not None:
        pair = unquote_to_bytes(where.username) + b":" + unquote_to_bytes(where.password or "")
        headers["Authorization"] = "Basic " + base64.b64encode(pair).decode()
    path = quote(where.path or "/", _URL_CHARS)
    connection.request("GET", f"{path}?{quote(where.query, _URL_CHARS)}" if where.query else path, headers=headers)
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
