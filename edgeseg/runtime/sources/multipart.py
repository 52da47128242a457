"""The parts of a multipart/x-mixed-replace answer, as network cameras send them."""

from __future__ import annotations

import io
import re
from http.client import HTTPException, HTTPResponse
from typing import Any, Protocol

from edgeseg.core.limits import HEADER_LINES, LINE_BYTES, PART_BYTES

_KIND = "multipart/x-mixed-replace"
_LONGEST_BOUNDARY = 256
_SAID = 200
"""Signs of what a server says that a message quotes."""


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
        lead = f", which leads to {place[:_SAID]}" if place else ""
        raise HTTPException(f"the answer {response.status} {response.reason[:_SAID]}{lead}")
    if kind != _KIND:
        raise HTTPException(f"{kind[:_SAID]}, which is no Motion JPEG")
    encoding = headers.get("Content-Encoding", "identity")
    if encoding.strip().lower() != "identity":
        raise HTTPException(f"frames that are packed again as {encoding[:_SAID]}")
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
        raise HTTPException(f"a frame of {digits[:_SAID].decode()} bytes")
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
