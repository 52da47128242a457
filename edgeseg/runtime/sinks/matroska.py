"""A video file that is whole after every frame: Matroska, a PNG per frame, each in a cluster of its own.

OpenCV's writer keeps hundreds of frames back and says nothing about a full disk (docs/decisions, 0032).
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from edgeseg.core.files import append_whole

_HEAD, _SEGMENT, _INFO, _TRACKS, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1549A966, 0x1654AE6B, 0x1F43B675
_OPEN_END = bytes([0x01]) + 7 * b"\xff"
"""The size of a segment that grows."""
_TRACK = 1
_WHOLE_FRAME = 0x80
_NANOSECONDS = 1_000_000
"""In a unit of the file's time: it counts milliseconds."""


class PngVideo:
    """A video of PNG pictures of one size, each shown at its own time."""

    def __init__(self, path: Path, width: int, height: int) -> None:
        """Begin a new file.

        Raises:
            OSError: It cannot be written, or is there.
        """
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o666)
        self.count = 0
        append_whole(self._handle, _write_start(width, height))

    def append(self, png: bytes, seconds: float) -> None:
        """Add a picture whole or not at all.

        Raises:
            OSError: There is no room.
        """
        block = bytes([0x80 | _TRACK]) + struct.pack(">hB", 0, _WHOLE_FRAME) + png
        append_whole(self._handle, _element(_CLUSTER, _number(0xE7, round(1e3 * seconds)) + _element(0xA3, block)))
        self.count += 1

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)


def _write_start(width: int, height: int) -> bytes:
    kind = _number(0x4286, 1) + _number(0x42F7, 1) + _number(0x42F2, 4) + _number(0x42F3, 8)
    kind += _element(0x4282, b"matroska") + _number(0x4287, 4) + _number(0x4285, 2)
    info = _number(0x2AD7B1, _NANOSECONDS) + _element(0x4D80, b"edgeseg") + _element(0x5741, b"edgeseg")
    size = _number(0xB0, width) + _number(0xBA, height)
    codec = struct.pack("<IiiHH4sIiiII", 40, width, height, 1, 24, b"MPNG", 0, 0, 0, 0, 0)
    track = _number(0xD7, _TRACK) + _number(0x73C5, _TRACK) + _number(0x83, 1) + _number(0x9C, 0)
    track += _element(0x86, b"V_MS/VFW/FOURCC") + _element(0x63A2, codec) + _element(0xE0, size)
    inside = _element(_INFO, info) + _element(_TRACKS, _element(0xAE, track))
    return _element(_HEAD, kind) + _name(_SEGMENT) + _OPEN_END + inside


def _element(name: int, data: bytes) -> bytes:
    return _name(name) + struct.pack(">Q", 1 << 56 | len(data)) + data


def _number(name: int, value: int) -> bytes:
    return _element(name, struct.pack(">Q", value))


def _name(name: int) -> bytes:
    return name.to_bytes((name.bit_length() + 7) // 8, "big")
