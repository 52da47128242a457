"""Cameras: name and pixel formats of a video device, by two ioctls of Video4Linux. Not verified on hardware."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

Control = Callable[[int, int, bytearray], int]
# VIDIOC_QUERYCAP, VIDIOC_ENUM_FMT, flags and struct layouts: linux/videodev2.h
QUERY_CAPABILITIES = 0x80685600
LIST_FORMATS = 0xC0405602
_CAPTURE = 1
_CAN_CAPTURE = 0x1
# V4L2_CAP_DEVICE_CAPS: the node's own capabilities are set beside those of the whole device.
_HAS_DEVICE_CAPS = 0x80000000
_MOST_FORMATS = 64

_CAPABILITIES = struct.Struct("16s32s32sIII12x")
_FORMAT = struct.Struct("III32s4sI12x")


@dataclass(frozen=True)
class VideoDevice:
    """Name and pixel formats of a video device; without formats it is no camera."""

    name: str
    formats: tuple[str, ...]
    """Four letters each, such as MJPG or YUYV."""


def query_device(path: Path, control: Control) -> VideoDevice:
    """Query the name and the capture formats of a video device.

    Raises:
        OSError: It cannot be opened, or is no video device.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        answer = bytearray(_CAPABILITIES.size)
        control(descriptor, QUERY_CAPABILITIES, answer)
        _, card, _, _, whole, own = _CAPABILITIES.unpack(answer)
        can_capture = (own if whole & _HAS_DEVICE_CAPS else whole) & _CAN_CAPTURE
        formats = tuple(_list_formats(descriptor, control)) if can_capture else ()
        return VideoDevice(_read_text(card), formats)
    finally:
        os.close(descriptor)


def _list_formats(descriptor: int, control: Control) -> Iterator[str]:
    for index in range(_MOST_FORMATS):
        answer = bytearray(_FORMAT.pack(index, _CAPTURE, 0, b"", b"", 0))
        try:
            control(descriptor, LIST_FORMATS, answer)
        except OSError:  # EINVAL behind the last format
            return
        yield _read_text(_FORMAT.unpack(answer)[4])


def _read_text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode("ascii", "replace").strip()
