"""The parts of a multipart/x-mixed-replace answer, as network cameras send them."""

from __future__ import annotations

from http.client import HTTPException, HTTPResponse

_LARGEST_PART = 64 * 1024 * 1024


class PartReader:
    """Reads one part after the other; a part may say its length or not."""

    def __init__(self, response: HTTPResponse) -> None:
        """Find out what divides the parts.

        Raises:
            HTTPException: The answer is of another kind.
        """
        kind = response.headers.get_content_type()
        if response.status != 200:
            raise HTTPException(f"the answer {response.status} {response.reason}")
        if kind != "multipart/x-mixed-replace":
            raise HTTPException(f"{kind}, which is no Motion JPEG")
        self._response = response
        self._divider = b"--" + str(response.headers.get_param("boundary")).lstrip("-").encode()
        self._line = b""

    def read(self) -> bytes | None:
        """Read the next part; None after the last.

        Raises:
            HTTPException: The connection ended in between.
        """
        while not self._line.startswith(self._divider):
            self._read_line()
        if self._line.strip() == self._divider + b"--":
            return None
        length = self._read_length()
        return self._read_unsized() if length is None else self._read_sized(length)

    def _read_line(self) -> bytes:
        self._line = self._response.readline()
        if not self._line:
            raise HTTPException("the end of the connection")
        return self._line

    def _read_length(self) -> int | None:
        length = None
        while line := self._read_line().strip():
            name, _, value = line.partition(b":")
            if name.strip().lower() == b"content-length" and value.strip().isdigit():
                length = int(value)
        return length

    def _read_sized(self, length: int) -> bytes:
        if length > _LARGEST_PART:
            raise HTTPException(f"a frame of {length} bytes")
        data = self._response.read(length)
        if len(data) < length:
            raise HTTPException("the end of the connection in the middle of a frame")
        return data

    def _read_unsized(self) -> bytes:
        data = bytearray()
        while not self._read_line().startswith(self._divider):
            data += self._line
            if len(data) > _LARGEST_PART:
                raise HTTPException("a frame without an end")
        return bytes(data.removesuffix(b"\r\n"))
