"""Read and write single images, and notice those that are damaged."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import DataError, LimitError
from edgeseg.core.files import write_bytes
from edgeseg.core.limits import IMAGE_BYTES, check_pixels, read_regular
from edgeseg.frame.preprocess import to_bytes

DIMMEST_WHITE, WHITE_OF_12_BITS, BRIGHTEST_WHITE = 255, 4095, 65535
"""What may be white in an image."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_TAIL_BYTES = 4096
_PNG, _JPEG, _BMP = b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"BM"
_JPEG_END, _PNG_END = b"\xff\xd9", b"IEND"
_PNG_KIND, _PNG_TRANSPARENT = 25, (b"\4", b"\6")
_OS2_HEADER = 12
"""The length of the first kind of BMP header, which has sizes of 16 bit."""
_TIFF_KINDS = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}
"""The byte order of a TIFF by its first bytes; a plus is BigTIFF."""
_TIFF_NUMBERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 16: "Q", 17: "q"}
"""The types in which libtiff takes a size."""
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_SAMPLES, _TIFF_TILE_WIDTH, _TIFF_TILE_HEIGHT = 256, 257, 277, 322, 323
_TIFF_ENTRIES = 4096
_MOST_SAMPLES = 4
_SAVE_AS = "Save it with 8 or 16 bit (uint8, uint16), or as reals from 0 to 1; of float TIFF write PNG."
T = TypeVar("T")
INK, ACCENT, SOFT, FAINT = "#1b2a33", "#c2410c", "#0f766e", "#94a3b8"

_JPEG_SIZES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"""Markers of the segments that hold the size; F7 is JPEG-LS."""
_JPEG_LONELY = {0x01, *range(0xD0, 0xDA)}
"""Markers without a length behind them."""

P = ParamSpec("P")


def list_images(folder: str | Path) -> list[Path]:
    """List the images of a folder by name."""
    return sorted(p for p in Path(folder).iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))


def read_image(path: str | Path, colour: bool = False) -> NDArray[Any]:
    """Read an image as grey or, on request, as BGR, of 8 or 16 bit.

    What a header announces is held against the table of limits before anything is decoded. OpenCV fills what a
    truncated file does not hold with grey and says nothing, so the file's end is checked as well.
    """
    path = Path(path)
    data = read_bytes(path)
    size = measure_image(data)
    if size is None:
        raise DataError(
            f"Expected an image in PNG, JPEG, BMP or TIFF, got the unreadable file {path}.",
            "Copy the file again, save it as PNG, or remove it.",
        )
    for_data(check_pixels, path, *size)
    if not _is_whole(data):
        raise DataError(f"Expected a whole image, got the truncated file {path}.", "Copy the file again or remove it.")
    image = _decode(data, (cv2.IMREAD_COLOR if colour else cv2.IMREAD_GRAYSCALE) | cv2.IMREAD_ANYDEPTH)
    if image is None:
        raise DataError(f"Expected an image, got the unreadable file {path}.", "Copy the file again or remove it.")
    return to_frame(image, str(path))


def _is_whole(data: bytes) -> bool:
    """Say whether a PNG or JPEG goes on to its end.

    Every chunk of a PNG must lie in the file: OpenCV allocates as many bytes as a chunk announces before it reads it.
    """
    if not data.startswith(_PNG):
        return not data.startswith(_JPEG) or _JPEG_END in data[-_TAIL_BYTES:]
    place = len(_PNG)
    while place + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        place += 12 + length  # length, kind and checksum
        if kind == _PNG_END:
            return bool(place <= len(data))
    return False


def _decode(data: bytes, flags: int) -> NDArray[Any] | None:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:  # most damages give None, some assertions of the decoders are raised
        return None
    return None if image is None else np.asarray(image)


def read_bytes(path: Path, limit: int = IMAGE_BYTES) -> bytes:
    """Read a file of a data folder, which may be a FIFO, a link that leads nowhere, or too large."""
    return for_data(read_regular, path, limit)


def for_data(act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Read or check a file of a data folder: what is missing or beyond a limit is data that cannot be used."""
    try:
        return act(*args, **kwargs)
    except LimitError as error:
        raise DataError(error.message, error.hint) from error
    except OSError as error:
        path = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else error.filename
        raise DataError(
            f"Expected a readable file at {path}, got none: {error.strerror or error}.",
            "Copy the file again, remove it, or allow reading it.",
        ) from error


def to_frame(values: NDArray[Any], where: str) -> NDArray[Any]:
    """Turn numbers into an 8 or 16 bit frame: whole ones up to 255 as they are, else reals from 0 to 1 times 255.

    Whole numbers above 255 of another type than uint16 are refused: whether they are of 12 or 16 bits, and whether a
    darker image of the same folder is too, one image does not tell.
    """
    if values.size == 0 or values.dtype.kind not in "buif":
        raise DataError(
            f"Expected brightness as numbers in {where}, got {values.dtype} of shape {values.shape}.", _SAVE_AS
        )
    native = values.astype(values.dtype.newbyteorder("="), copy=False)
    if native.dtype in (np.uint8, np.uint16):
        return np.ascontiguousarray(native)
    low, high = float(native.min()), float(native.max())
    real = native.dtype.kind == "f"
    if 0.0 <= low <= high <= 255.0 and not (real and np.any(native % 1)):
        return np.ascontiguousarray(native, dtype=np.uint8)
    if real and 0.0 <= low <= high <= 1.0:
        return np.rint(native * 255.0).astype(np.uint8)
    raise DataError(
        f"Expected 8 or 16 bit brightness, or reals from 0 to 1, in {where}, got {values.dtype} "
        f"from {low:g} to {high:g}.",
        _SAVE_AS,
    )


def decode_jpeg(data: bytes) -> NDArray[Any] | None:
    """Decode a JPEG as BGR; None where it is cut off, no JPEG, or announces more pixels than the limit."""
    size = measure_jpeg(data)
    if size is None or not _is_whole(data):
        return None
    try:
        check_pixels("a JPEG", *size)
    except LimitError:
        return None
    return _decode(data, cv2.IMREAD_COLOR)


def measure_image(data: bytes) -> tuple[int, int] | None:
    """Read the width and height that a PNG, JPEG, BMP or TIFF announces, without decoding it; None for others."""
    if data.startswith(_PNG):
        return _unpack_pair(">II", data, 16) if data[12:16] == b"IHDR" else None
    if data.startswith(_BMP):
        return _measure_bmp(data)
    return _measure_tiff(data) if data[:4] in _TIFF_KINDS else measure_jpeg(data)


def measure_jpeg(data: bytes) -> tuple[int, int] | None:
    """Read the width and height that a JPEG announces, without decoding it; None where it is no JPEG.

    Markers are found as libjpeg finds them, which passes over fill bytes and over what stands between segments:
    otherwise a file could show this function another size than the decoder.
    """
    place = 2 if data.startswith(_JPEG) else len(data)
    while (place := data.find(b"\xff", place)) >= 0 and place + 9 < len(data):
        marker = data[place + 1]
        if marker in _JPEG_SIZES:
            height, width = struct.unpack_from(">HH", data, place + 5)
            return width, height
        if marker in (0x00, 0xFF):
            place += 1
        elif marker in _JPEG_LONELY:
            place += 2
        else:
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return None


def _measure_bmp(data: bytes) -> tuple[int, int] | None:
    header = _unpack("<I", data, 14)
    if header is None:
        return None
    size = _unpack_pair("<HH" if header[0] == _OS2_HEADER else "<ii", data, 18)
    return None if size is None else (size[0], abs(size[1]))  # rows from the top have a negative height


def _measure_tiff(data: bytes) -> tuple[int, int] | None:
    """Read the size of a TIFF's first image, or of its tiles where these are larger: both are allocated."""
    order, big = _TIFF_KINDS[data[:4]], data[2:4].strip(b"\0") == b"+"
    place = _unpack(f"{order}{'Q' if big else 'I'}", data, 8 if big else 4)
    count = place and _unpack(f"{order}{'Q' if big else 'H'}", data, place[0])
    if not place or not count or count[0] > _TIFF_ENTRIES:
        return None
    first, step, inline = place[0] + (8 if big else 2), 20 if big else 12, 12 if big else 8
    tags: dict[int, int] = {}
    for entry in range(first, first + step * count[0], step):
        tag, kind = _unpack(f"{order}HH", data, entry) or (0, 0)
        value = _unpack(f"{order}{_TIFF_NUMBERS[kind]}", data, entry + inline) if kind in _TIFF_NUMBERS else None
        if value is not None:
            tags.setdefault(tag, value[0])
    sides = [
        max(tags.get(tag, 0) for tag in pair)
        for pair in ((_TIFF_WIDTH, _TIFF_TILE_WIDTH), (_TIFF_HEIGHT, _TIFF_TILE_HEIGHT))
    ]
    return (sides[0], sides[1]) if tags.get(_TIFF_SAMPLES, 1) <= _MOST_SAMPLES else None


def _unpack_pair(form: str, data: bytes, place: int) -> tuple[int, int] | None:
    values = _unpack(form, data, place)
    return None if values is None else (values[0], values[1])


def _unpack(form: str, data: bytes, place: int) -> tuple[int, ...] | None:
    try:
        return struct.unpack_from(form, data, place)
    except (struct.error, OverflowError):  # beyond the file, or beyond what an index can be
        return None


def has_transparency(data: bytes) -> bool:
    """Say whether a picture's transparency varies from pixel to pixel: then something may be drawn in it alone."""
    if not data.startswith(_PNG) or data[_PNG_KIND : _PNG_KIND + 1] not in _PNG_TRANSPARENT:
        return False
    image = _decode(data, cv2.IMREAD_UNCHANGED)
    return image is not None and image.ndim == 3 and image.shape[2] == 4 and bool(np.ptp(image[:, :, 3]))


def encode_png(image: NDArray[Any]) -> bytes:
    """Encode a grey or BGR image of 8 or 16 bit as PNG."""
    _, buffer = cv2.imencode(".png", image)
    return bytes(buffer)


def write_image(path: str | Path, image: NDArray[Any]) -> None:
    """Write an image as PNG, whole or not at all."""
    write_bytes(Path(path), encode_png(image))


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
    """Make an 8-bit grey picture of a frame to look at; what a network sees is made in frame/preprocess.py."""
    image = _brighten(frame)
    if image.ndim == 2 or image.shape[2] == 1:
        return image.reshape(image.shape[:2])
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(image[:, :, :3]), cv2.COLOR_BGR2GRAY), dtype=np.uint8)
