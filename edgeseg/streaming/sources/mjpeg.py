"""http://: Motion JPEG (multipart/x-mixed-replace), with a time limit per frame and without a queue of old frames.

Parts are read by `PartReader` (MIME multipart, RFC 2046, 5.1), chunked bodies by `_ChunkReader` (RFC 9112, 7.1).
Cameras deviate from both, so the reader accepts what is harmless and limits every length.
"""

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
from edgeseg.streaming.sources.address import show_source, split_url
from edgeseg.streaming.sources.base import STALL_S, Deadline, Source, TimedSocket

EXAMPLE = "http://192.168.0.20:8080/stream.mjpg"
_CONTENT_TYPE = "multipart/x-mixed-replace"
# RFC 2046 allows 70; some cameras use more.
_MAX_BOUNDARY_CHARS = 256
# How much of a server's text an error quotes.
_QUOTED_CHARS = 200
_MAX_CORRUPT_IN_A_ROW = 100
_MIN_BACKLOG_BYTES = 16 * 1024
_MAX_SKIPPED = 100
# Reserved characters and "~" stay (RFC 3986, 2.2); anything else is percent-encoded.
_URL_CHARS = "/?#[]@!$&'()*+,;=%:~"
# A host name that IDNA cannot encode is a UnicodeError.
_NETWORK_ERRORS = (OSError, HTTPException, UnicodeError)


class MjpegSource(Source):
    """Reads Motion JPEG; corrupt frames are skipped and counted."""

    live = True

    def __init__(self, url: str, stall_s: float = STALL_S) -> None:
        """Request a stream.

        Args:
            url: A user name and password before the host are sent as basic authentication.
            stall_s: Time limit for connecting, for the response and for every frame.
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
            # connecting had a time limit of its own
            self._deadline.restart()
            self._response = _send_request(TimedSocket(self._socket, self._deadline), where)
            self._parts = open_parts(self._response)
        except _NETWORK_ERRORS as error:
            self._socket.close()
            raise _lost(self._name, error) from error

    def read(self) -> NDArray[Any] | None:
        """Wait for the next complete frame; None after the closing delimiter."""
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
        """Shut the connection down, which wakes a waiting `read`."""
        self._interrupted = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        self._response.close()
        self._socket.close()

    def _read_newest_part(self) -> bytes | None:
        """Skip frames that queued up while the last one was decoded, so that a slow machine sees no old ones."""
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
        """Read the part after a complete one; an error is kept for the next `read`, so the complete one is shown."""
        try:
            return self._read_part()
        except SourceError as error:
            # without traceback, which keeps the frame
            self._failure = SourceError(error.message, error.hint)
            return None

    def _is_backlogged(self, data: bytes) -> bool:
        """Tell whether newer frames wait in the socket; skipping may use up half of the time limit at most."""
        in_time = self._deadline.left > self._deadline.seconds / 2
        return in_time and self._count_waiting() > max(_MIN_BACKLOG_BYTES, 2 * len(data))

    def _count_waiting(self) -> int:
        """Count the bytes that arrived and were not read (FIONREAD, tcp(7))."""
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
    # basic authentication (RFC 7617), which is all that most cameras have
    headers = {}
    if where.username is not None:
        pair = unquote_to_bytes(where.username) + b":" + unquote_to_bytes(where.password or "")
        headers["Authorization"] = "Basic " + base64.b64encode(pair).decode()
    path = quote(where.path or "/", _URL_CHARS)
    connection.request("GET", f"{path}?{quote(where.query, _URL_CHARS)}" if where.query else path, headers=headers)
    return connection.getresponse()


def _decode(data: bytes) -> NDArray[Any] | None:
    """Decode a frame; None where it is corrupt or its announced size is beyond the limits."""
    size = measure_jpeg(data)
    if size is None:
        return None
    try:
        check_pixels("the stream", *size)
    except LimitError:
        return None
    return decode_jpeg(data)


def _lost(name: str, error: Exception) -> SourceError:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error).rstrip(".") or type(error).__name__
    return SourceError(
        f"Expected Motion JPEG from {name}, got {reason}.",
        "Look at the address in a browser on this machine.",
    )


def open_parts(response: HTTPResponse) -> PartReader:
    """Check that a response is Motion JPEG and find the boundary of its parts.

    Raises:
        HTTPException: It is something else.
    """
    headers, kind = response.headers, response.headers.get_content_type()
    if response.status != 200:
        # not followed: it may lead into the local network, or in a circle
        place = headers.get("Location")
        lead = f", which leads to {place[:_QUOTED_CHARS]}" if place else ""
        raise HTTPException(f"the answer {response.status} {response.reason[:_QUOTED_CHARS]}{lead}")
    if kind != _CONTENT_TYPE:
        raise HTTPException(f"{kind[:_QUOTED_CHARS]}, which is no Motion JPEG")
    # a compressed stream could expand without a limit
    encoding = headers.get("Content-Encoding", "identity")
    if encoding.strip().lower() != "identity":
        raise HTTPException(f"frames that are packed again as {encoding[:_QUOTED_CHARS]}")
    boundary = headers.get_param("boundary")
    if not isinstance(boundary, str) or not 0 < len(boundary.strip("- ")) <= _MAX_BOUNDARY_CHARS:
        raise HTTPException("an answer without a usable boundary between its frames")
    chunked = headers.get("Transfer-Encoding", "").strip().lower() == "chunked"
    body: Body = io.BufferedReader(_ChunkReader(response.fp)) if chunked else response
    return PartReader(body, boundary.encode("latin-1", "replace"))


class Body(Protocol):
    """What the parts are read from."""

    def read(self, count: int, /) -> bytes:
        """Read so many bytes, fewer at the end."""

    def readline(self, limit: int, /) -> bytes:
        """Read a line, up to the limit."""


class PartReader:
    """Reads the parts of a multipart body, with or without a Content-Length."""

    def __init__(self, body: Body, boundary: bytes) -> None:
        """Prepare to read.

        Args:
            body: The body of the response.
            boundary: As the header names it; some cameras include the two dashes that precede it in the body.
        """
        self._body = body
        self._boundary = boundary.strip().lstrip(b"-")
        self._delimiter = b""
        """A delimiter line that was read already: after a part without a length, or the closing one."""

    def read(self) -> bytes | None:
        """Read the next part; None after the last.

        Raises:
            HTTPException: The connection ended in between, or the bytes are no part.
        """
        delimiter = self._delimiter or self._find_delimiter()
        if self._is_closing(delimiter):
            # every further call returns None as well
            self._delimiter = delimiter
            return None
        self._delimiter = b""
        length = self._read_length()
        return self._read_unsized() if length is None else self._read_sized(length)

    def _find_delimiter(self, before: bytearray | None = None) -> bytes:
        """Read up to the next delimiter line and return it; what precedes it is appended to `before`."""
        is_line_start, passed = True, 0
        while True:
            line = self._read_line()
            if is_line_start and self._is_delimiter(line):
                return line
            passed += len(line)
            if passed > PART_BYTES:
                raise HTTPException("a frame without an end")
            if before is not None:
                before += line
            is_line_start = line.endswith(b"\n")

    def _is_delimiter(self, line: bytes) -> bool:
        return line.startswith(b"--") and line.strip().lstrip(b"-") in (self._boundary, self._boundary + b"--")

    def _is_closing(self, delimiter: bytes) -> bool:
        return delimiter.strip().lstrip(b"-") == self._boundary + b"--"

    def _read_line(self) -> bytes:
        line = self._body.readline(LINE_BYTES)
        if not line:
            raise HTTPException("the end of the connection")
        return line

    def _read_length(self) -> int | None:
        """Read the headers of a part; returns its Content-Length, if any."""
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
        self._delimiter = self._find_delimiter(data)
        # the line break before a delimiter belongs to it (RFC 2046, 5.1.1)
        return bytes(data.removesuffix(b"\r\n"))


def _check_length(digits: bytes) -> int:
    digits = digits.lstrip(b"0") or b"0"
    # int() refuses thousands of digits
    if len(digits) > len(str(PART_BYTES)) or int(digits) > PART_BYTES:
        raise HTTPException(f"a frame of {digits[:_QUOTED_CHARS].decode()} bytes")
    return int(digits)


class _ChunkReader(io.RawIOBase):
    """Reads a chunked body; http.client's own reader accepts a negative length and then reads without a limit."""

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
            raise HTTPException("a chunk that is longer than its announced length")
        return len(data)

    def _begin_chunk(self) -> None:
        line = self._file.readline(LINE_BYTES)
        match = re.match(rb"([0-9a-fA-F]{1,8})[ \t]*(?:;|\r?\n)", line)
        if match is None:
            raise HTTPException("chunks without a valid length" if line else "the end of the connection")
        self._left = int(match[1], 16)
        self._ended = self._left == 0
