"""Ask a video device what it is: the two questions of Video4Linux that the doctor needs. Not verified on hardware."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

Control = Callable[[int, int, bytearray], int]
QUERY_CAPABILITIES = 0x80685600
LIST_FORMATS = 0xC0405602
_CAPTURE = 1
_CAN_CAPTURE = 0x1
# The device has capabilities of its own beside those of all its siblings.
_HAS_OWN = 0x80000000
_MOST_FORMATS = 64

_CAPABILITIES = struct.Struct("16s32s32sIII12x")
_FORMAT = struct.Struct("III32s4sI12x")


@dataclass(frozen=True)
class VideoDevice:
    """What a video device says of itself; without formats it is no camera."""

    name: str
    formats: tuple[str, ...]
    """Four letters each, such as MJPG or YUYV."""


def query_device(path: Path, control: Control) -> VideoDevice:
    """Ask a video device for its name and the formats that it captures.

    Raises:
        OSError: It cannot be opened, or is no video device.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        answer = bytearray(_CAPABILITIES.size)
        control(descriptor, QUERY_CAPABILITIES, answer)
        _, card, _, _, whole, own = _CAPABILITIES.unpack(answer)
        can_capture = (own if whole & _HAS_OWN else whole) & _CAN_CAPTURE
        formats = tuple(_list_formats(descriptor, control)) if can_capture else ()
        return VideoDevice(_read_text(card), formats)
    finally:
        os.close(descriptor)


def _list_formats(descriptor: int, control: Control) -> Iterator[str]:
    for index in range(_MOST_FORMATS):
        answer = bytearray(_FORMAT.pack(index, _CAPTURE, 0, b"", b"", 0))
        try:
            control(descriptor, LIST_FORMATS, answer)
        except OSError:  # how a device says that there are no more
            return
        yield _read_text(_FORMAT.unpack(answer)[4])


def _read_text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode("ascii", "replace").strip()
