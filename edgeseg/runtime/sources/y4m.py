"""YUV4MPEG: raw video that says its own size, as GStreamer's y4menc writes it."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import SourceError
from edgeseg.core.limits import check_pixels
from edgeseg.runtime.sources.pipe import Pipe

_MARK = b"FRAME\n"
_LONGEST_LINE = 256


class Y4mReader:
    """Reads frames of three planes (4:2:0); a new header in the middle changes the size."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._size = (0, 0)

    def read(self) -> NDArray[Any] | None:
        """Read the next frame as BGR; None at the end."""
        self._pipe.begin_frame()
        line = self._pipe.read(len(_MARK))
        while len(line) == len(_MARK) and line != _MARK:
            self._size = _read_size(bytes(line + self._read_rest()))
            line = self._pipe.read(len(_MARK))
        height, width = self._size
        planes = self._pipe.read(height * width * 3 // 2) if line == _MARK else b""
        if not planes or len(planes) < height * width * 3 // 2:
            return None
        flat = np.frombuffer(planes, np.uint8).reshape(height * 3 // 2, width)
        return np.asarray(cv2.cvtColor(flat, cv2.COLOR_YUV2BGR_I420))

    def _read_rest(self) -> bytes:
        line = b""
        while not line.endswith(b"\n") and len(line) < _LONGEST_LINE:
            letter = self._pipe.read(1)
            if not letter:
                break
            line += letter
        return line


def _read_size(header: bytes) -> tuple[int, int]:
    fields = {chunk[:1]: chunk[1:] for chunk in header.split()[1:]}
    width, height = fields.get(b"W", b""), fields.get(b"H", b"")
    if not header.startswith(b"YUV4MPEG2 ") or not (width.isdigit() and height.isdigit()):
        raise SourceError("Expected frames from the pipeline, got bytes that are none.", "End it in raw video.")
    check_pixels("the pipeline", int(width), int(height))
    if int(width) % 2 or int(height) % 2:
        raise SourceError(
            f"Expected an even width and height from the pipeline, got {int(width)}x{int(height)}.",
            "Add ! videoscale ! video/x-raw,width=...,height=... with even numbers.",
        )
    return int(height), int(width)
