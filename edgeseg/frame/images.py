"""Image files: read, measure and write PNG, JPEG, BMP and TIFF; damaged ones are refused."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import DataError, LimitError
from edgeseg.core.files import write_bytes
from edgeseg.core.limits import IMAGE_BYTES, check_pixels, read_regular
from edgeseg.frame.preprocess import to_bytes

# The value that is shown as white: of 8, 12 or 16 bits.
DIMMEST_WHITE, WHITE_OF_12_BITS, BRIGHTEST_WHITE = 255, 4095, 65535
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
# A JPEG may have padding behind its end marker.
_TAIL_BYTES = 4096
_PNG, _JPEG, _BMP = b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"BM"
_JPEG_END, _PNG_END = b"\xff\xd9", b"IEND"
# Position of the colour type in a PNG, and the types with an alpha channel.
_PNG_KIND, _PNG_TRANSPARENT = 25, (b"\4", b"\6")
# Length of the OS/2 1.x header of a BMP, whose sizes have 16 bits.
_OS2_HEADER = 12
# The byte order of a TIFF by its first bytes; a plus is BigTIFF.
_TIFF_KINDS = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}
# TIFF field types that libtiff accepts for a size, as formats of `struct`.
_TIFF_NUMBERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 16: "Q", 17: "q"}
# Tags of TIFF 6.0.
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_SAMPLES, _TIFF_TILE_WIDTH, _TIFF_TILE_HEIGHT = 256, 257, 277, 322, 323
_TIFF_ENTRIES = 4096
_MOST_SAMPLES = 4
# Two modalities in one array, of which the first is shown.
_PAIR = 2
_SAVE_AS = "Save it with 8 or 16 bit (uint8, uint16), or as reals from 0 to 1; of float TIFF write PNG."
# Start-of-frame markers, whose segments hold the size (ITU T.81, table B.1); F7 is JPEG-LS.
_JPEG_SIZES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
# Markers without a length field: TEM, RSTn, SOI and EOI.
_JPEG_BARE = {0x01, *range(0xD0, 0xDA)}
# Colours of plots and drawings: text, the highlighted series, the second series, and labels in the background.
INK, ACCENT, SOFT, FAINT = "#1b2a33", "#c2410c", "#0f766e", "#94a3b8"
T = TypeVar("T")
P = ParamSpec("P")


def list_images(folder: str | Path) -> list[Path]:
    """List the image files of a folder by name; hidden files are skipped."""
    place = Path(folder)
    return [place / name for name in sorted(_list_names(place))]


def holds_images(folder: str | Path) -> bool:
    """Say whether a path is a folder with an image file, without listing all of them."""
    place = Path(folder)
    return place.is_dir() and next(_list_names(place), None) is not None


def _list_names(folder: Path) -> Iterator[str]:
    """List the names of images; paths of a hundred thousand files would take a second."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.lower().endswith(SUFFIXES) and not entry.name.startswith("."):
                yield entry.name


def read_image(path: str | Path, colour: bool = False) -> NDArray[Any]:
    """Read an image of 8 or 16 bit as grey, or as BGR.

    The announced size is checked against the limits before anything is decoded. OpenCV silently fills the missing part
    of a truncated file with grey, so the file's end is checked as well.
    """
    return decode_image(read_bytes(Path(path)), str(path), colour)


def decode_image(data: bytes, where: str, colour: bool = False) -> NDArray[Any]:
    """Decode an image as `read_image` does.

    Args:
        data: The content of an image file.
        where: The file, for messages.
        colour: Whether to return BGR instead of grey.
    """
    size = measure_image(data)
    if size is None:
        raise DataError(
            f"Expected an image in PNG, JPEG, BMP or TIFF, got the unreadable file {where}.",
            "Copy the file again, save it as PNG, or remove it.",
        )
    as_data_error(check_pixels, where, *size)
    if not _is_whole(data):
        raise DataError(f"Expected a whole image, got the truncated file {where}.", "Copy the file again or remove it.")
    image = _decode(data, (cv2.IMREAD_COLOR if colour else cv2.IMREAD_GRAYSCALE) | cv2.IMREAD_ANYDEPTH)
    if image is None:
        raise DataError(f"Expected an image, got the unreadable file {where}.", "Copy the file again or remove it.")
    return to_frame(image, where)


def _is_whole(data: bytes) -> bool:
    """Say whether a PNG or JPEG is complete.

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
    except cv2.error:  # most damaged files give None, but some assertions of the decoders raise
        return None
    return None if image is None else np.asarray(image)


def read_bytes(path: Path, limit: int = IMAGE_BYTES) -> bytes:
    """Read a file of a data folder; a FIFO, a dangling link or a file beyond the limit is refused."""
    return as_data_error(read_regular, path, limit)


def as_data_error(act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function on a file of a data folder, and turn its OSError or LimitError into a DataError."""
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
    """Convert an array to an 8 or 16 bit frame: integers up to 255 as they are, reals from 0 to 1 times 255.

    Integers above 255 of another type than uint16 are refused: one image does not show whether its folder has 12 or
    16 bits.
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
    """Decode a JPEG as BGR; None if it is truncated, no JPEG, or announces more pixels than the limit."""
    size = measure_jpeg(data)
    if size is None or not _is_whole(data):
        return None
    try:
        check_pixels("a JPEG", *size)
    except LimitError:
        return None
    return _decode(data, cv2.IMREAD_COLOR)


def measure_image(data: bytes) -> tuple[int, int] | None:
    """Read width and height from the header of a PNG, JPEG, BMP or TIFF without decoding it; None for others."""
    if data.startswith(_PNG):
        return _unpack_pair(">II", data, 16) if data[12:16] == b"IHDR" else None
    if data.startswith(_BMP):
        return _measure_bmp(data)
    return _measure_tiff(data) if data[:4] in _TIFF_KINDS else measure_jpeg(data)


def measure_jpeg(data: bytes) -> tuple[int, int] | None:
    """Read width and height from the header of a JPEG without decoding it; None if it is none.

    Markers are searched as libjpeg does, which skips fill bytes and bytes between segments: otherwise a file could show
    this function another size than the decoder.
    """
    place = 2 if data.startswith(_JPEG) else len(data)
    while (place := data.find(b"\xff", place)) >= 0 and place + 9 < len(data):
        marker = data[place + 1]
        if marker in _JPEG_SIZES:
            height, width = struct.unpack_from(">HH", data, place + 5)
            return width, height
        if marker in (0x00, 0xFF):
            place += 1
        elif marker in _JPEG_BARE:
            place += 2
        else:
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return None


def _measure_bmp(data: bytes) -> tuple[int, int] | None:
    header = _unpack("<I", data, 14)
    if header is None:
        return None
    size = _unpack_pair("<HH" if header[0] == _OS2_HEADER else "<ii", data, 18)
    return None if size is None else (size[0], abs(size[1]))  # a negative height means that rows begin at the top


def _measure_tiff(data: bytes) -> tuple[int, int] | None:
    """Read the size of a TIFF's first image, or of its tiles if these are larger: libtiff allocates both."""
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
    except (struct.error, OverflowError):  # an offset beyond the file, or beyond the range of an index
        return None


def has_transparency(data: bytes) -> bool:
    """Say whether a PNG's alpha channel varies: then a mask may be drawn in it alone."""
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


def is_jpeg(path: Path) -> bool:
    """Say whether a file that can be read begins as a JPEG does, whatever its ending."""
    return read_bytes(path).startswith(_JPEG)


def choose_white(brightest: Iterable[int]) -> int:
    """Choose the white of images: the highest value of the fewest bits that hold their brightest pixels."""
    highest = max(brightest, default=BRIGHTEST_WHITE)
    return max(DIMMEST_WHITE, (1 << highest.bit_length()) - 1)


def _brighten(frame: NDArray[Any]) -> NDArray[np.uint8]:
    """Convert a frame to 8 bits for display; one of 12 bits would look almost black as one of 16.

    Only two levels of white exist, so that a stream does not flicker with its brightest pixel.
    """
    if frame.dtype == np.uint8:
        return frame
    white = WHITE_OF_12_BITS if frame.max(initial=0) <= WHITE_OF_12_BITS else BRIGHTEST_WHITE
    return to_bytes(frame, white)


def to_bgr(frame: NDArray[Any]) -> NDArray[np.uint8]:
    """Convert a frame to a BGR copy to draw on."""
    image = _brighten(frame)
    if image.ndim == 2 or image.shape[2] == 1:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), dtype=np.uint8)
    if image.shape[2] == _PAIR:
        return np.repeat(image[:, :, :1], 3, axis=2)
    return image[:, :, :3].copy()


def to_grey(frame: NDArray[Any]) -> NDArray[np.uint8]:
    """Convert a frame to 8-bit grey for display; `frame/preprocess.py` makes the network's input."""
    image = _brighten(frame)
    if image.ndim == 2 or image.shape[2] == 1:
        return image.reshape(image.shape[:2])
    if image.shape[2] == _PAIR:
        return np.ascontiguousarray(image[:, :, 0])
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(image[:, :, :3]), cv2.COLOR_BGR2GRAY), dtype=np.uint8)
