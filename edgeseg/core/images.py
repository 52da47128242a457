"""Read and write single images, and notice those that are damaged."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import DataError
from edgeseg.core.files import write_bytes
from edgeseg.core.frame import to_bytes

DIMMEST_WHITE, WHITE_OF_12_BITS, BRIGHTEST_WHITE = 255, 4095, 65535
"""What may be white in an image."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # FFmpeg writes past Python; what is wrong is said by us
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

_ENDINGS = {".png": b"IEND\xaeB`\x82", ".jpg": b"\xff\xd9", ".jpeg": b"\xff\xd9"}
_TAIL_BYTES = 4096
_JPEG = b"\xff\xd8"
_JPEG_SIZES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
"""Markers of the segments that hold the size."""


def list_images(folder: Path) -> list[Path]:
    """List the images of a folder by name."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))


def read_image(path: Path, colour: bool = False) -> NDArray[Any]:
    """Read an image as grey or, on request, as BGR, with its own bit depth.

    OpenCV fills what a truncated file does not hold with grey and says nothing, so the file's end is checked first.
    """
    data = read_bytes(path)
    ending = _ENDINGS.get(path.suffix.lower())
    if ending is not None and ending not in data[-_TAIL_BYTES:]:
        raise DataError(f"Expected a whole image, got the truncated file {path}.", "Copy the file again or remove it.")
    flag = cv2.IMREAD_COLOR if colour else cv2.IMREAD_GRAYSCALE
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flag | cv2.IMREAD_ANYDEPTH) if data else None
    if image is None:
        raise DataError(f"Expected an image, got the unreadable file {path}.", "Copy the file again or remove it.")
    return np.asarray(image)


def read_bytes(path: Path) -> bytes:
    """Read a file of a data folder, whose links may lead nowhere."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"Expected a readable file at {path}, got none: {error.strerror or error}.",
            "Copy the file again, remove it, or allow reading it.",
        ) from error


def decode_jpeg(data: bytes) -> NDArray[Any] | None:
    """Decode a JPEG as BGR; None where it is cut off or no JPEG."""
    if _ENDINGS[".jpg"] not in data[-_TAIL_BYTES:]:
        return None
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return None if image is None else np.asarray(image)


def measure_jpeg(data: bytes) -> tuple[int, int] | None:
    """Read the width and height that a JPEG announces, without decoding it; None where it is no JPEG."""
    place = 2
    while data.startswith(_JPEG) and data[place : place + 1] == b"\xff" and place + 9 <= len(data):
        if data[place + 1] in _JPEG_SIZES:
            height, width = data[place + 5 : place + 7], data[place + 7 : place + 9]
            return int.from_bytes(width, "big"), int.from_bytes(height, "big")
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return None


def encode_png(image: NDArray[Any]) -> bytes:
    """Encode a grey or BGR image of 8 or 16 bit as PNG."""
    _, buffer = cv2.imencode(".png", image)
    return bytes(buffer)


def write_image(path: Path, image: NDArray[Any]) -> None:
    """Write an image as PNG, whole or not at all."""
    write_bytes(path, encode_png(image))


def choose_white(brightest: Iterable[int]) -> int:
    """Choose the highest value of the fewest bits that hold the brightest pixels; of all 16 where there are none."""
    highest = max(brightest, default=BRIGHTEST_WHITE)
    return max(DIMMEST_WHITE, (1 << highest.bit_length()) - 1)


def _brighten(frame: NDArray[Any]) -> NDArray[np.uint8]:
    """Make a picture of 8 bits to look at; a frame that needs 12 bits at most would look almost black as one of 16.

    Two whites only, so that a stream does not flicker with its brightest pixel.
    """
    if frame.dtype == np.uint8:
        return frame
    white = WHITE_OF_12_BITS if frame.max(initial=0) <= WHITE_OF_12_BITS else BRIGHTEST_WHITE
    return to_bytes(frame, white)


def to_bgr(frame: NDArray[Any]) -> NDArray[np.uint8]:
    """Make a BGR copy of a frame to draw on."""
    image = _brighten(frame)
    if image.ndim == 2 or image.shape[2] == 1:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), dtype=np.uint8)
    return image[:, :, :3].copy()


def to_grey(frame: NDArray[Any]) -> NDArray[np.uint8]:
    """Make an 8-bit grey picture of a frame to look at; what a network sees is made in core/frame.py."""
    image = _brighten(frame)
    if image.ndim == 2 or image.shape[2] == 1:
        return image.reshape(image.shape[:2])
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(image[:, :, :3]), cv2.COLOR_BGR2GRAY), dtype=np.uint8)
