"""What an image file announces is checked before it is decoded, and each kind of number becomes 8 or 16 bit."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeseg.core.errors import DataError
from edgeseg.frame.images import decode_jpeg, measure_image, read_image, to_frame
from tests.discs import draw_case

FRAME = draw_case(0)[0]
HUGE = 30_000


def encode(ending: str, colour: bool = False) -> bytes:
    return bytes(cv2.imencode(ending, cv2.merge([FRAME] * 3) if colour else FRAME)[1])


def announce_png(width: int, height: int, kind: int = 0) -> bytes:
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)), (b"IDAT", b""), (b"IEND", b""))
    packed = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def announce_jpeg(width: int, height: int) -> bytes:
    data = bytearray(encode(".jpg"))
    place = data.find(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def announce_bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHI", 99, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, *[0] * 6)


def announce_tiff(*tags: tuple[int, int], order: str = "<", big: bool = False) -> bytes:
    first = {"<": b"II", ">": b"MM"}[order]
    if big:
        head = first + struct.pack(f"{order}HHHQQ", 43, 8, 0, 16, len(tags))
        return head + b"".join(struct.pack(f"{order}HHQQ", tag, 16, 1, value) for tag, value in tags)
    head = first + struct.pack(f"{order}HIH", 42, 8, len(tags))
    return head + b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags) + bytes(4)


SIDES = (256, HUGE), (257, HUGE)
BOMBS = {
    "a.png": announce_png(HUGE, HUGE),
    "a.jpg": announce_jpeg(HUGE, HUGE),
    "behind fill bytes.jpg": b"\xff\xd8\xff\xff" + announce_jpeg(HUGE, HUGE)[3:],
    "behind stray bytes.jpg": b"\xff\xd8nothing\xff\x00" + announce_jpeg(HUGE, HUGE)[2:],
    "a.bmp": announce_bmp(HUGE, HUGE),
    "from the top.bmp": announce_bmp(HUGE, -HUGE),
    "a.tif": announce_tiff(*SIDES),
    "motorola.tif": announce_tiff(*SIDES, order=">"),
    "big.tif": announce_tiff(*SIDES, big=True),
    "tiles.tif": announce_tiff((256, 96), (257, 72), (322, HUGE), (323, HUGE)),
}


@pytest.mark.parametrize("ending", [".png", ".jpg", ".bmp", ".tif"])
@pytest.mark.parametrize("colour", [False, True])
def test_every_kind_is_measured_as_it_is_decoded(ending: str, colour: bool) -> None:
    assert measure_image(encode(ending, colour)) == (96, 72)


@pytest.mark.parametrize("name", BOMBS)
def test_an_announced_size_beyond_the_limit_is_refused_undecoded(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "imdecode", None)
    (tmp_path / name).write_bytes(BOMBS[name])
    with pytest.raises(DataError, match=rf"{name}, got {HUGE}x{HUGE}"):
        read_image(tmp_path / name)


def test_a_chunk_beyond_the_file_is_refused_undecoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenCV would allocate the four gigabytes that the chunk announces."""
    monkeypatch.setattr(cv2, "imdecode", None)
    data = bytearray(encode(".png"))
    data[33:37] = b"\xff\xff\xff\xf0"
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(DataError, match="truncated"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"BM",
        b"\xff\xd8",
        b"II+\0" + b"\xff" * 60,
        b"MM\0*" + b"\xff" * 60,
        announce_tiff((256, 9), (257, 9), (277, 60_000)),
        bytes(cv2.imencode(".webp", FRAME)[1]),
        bytes(cv2.imencode(".jp2", FRAME)[1]),
    ],
)
def test_what_is_no_whole_header_of_the_four_kinds_is_unreadable(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(DataError, match=r"unreadable.*a\.png"):
        read_image(tmp_path / "a.png")


def test_a_jpeg_that_is_called_png_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode(".jpg"))
    assert read_image(tmp_path / "a.png").shape == FRAME.shape


def test_a_frame_of_a_stream_beyond_the_limit_is_damaged() -> None:
    assert decode_jpeg(encode(".jpg")) is not None
    assert decode_jpeg(announce_jpeg(HUGE, HUGE)) is None


def test_float_tiff_is_converted(tmp_path: Path) -> None:
    for values in (FRAME / 255, FRAME):
        cv2.imwrite(str(tmp_path / "a.tif"), values.astype(np.float32))
        assert np.array_equal(read_image(tmp_path / "a.tif"), FRAME)


@pytest.mark.parametrize("change", [lambda v: v - 100, lambda v: v * 16, lambda v: v + np.nan, lambda v: v / 0.0])
def test_float_tiff_of_unknown_white_is_refused(tmp_path: Path, change: object) -> None:
    assert callable(change)
    with np.errstate(divide="ignore"):
        cv2.imwrite(str(tmp_path / "a.tif"), change(FRAME.astype(np.float32)))
    with pytest.raises(DataError, match=r"a\.tif, got float32 from") as caught:
        read_image(tmp_path / "a.tif")
    assert "PNG" in caught.value.hint


@pytest.mark.parametrize("kind", ["?", "i1", ">u2", "<u4", "i8", "f2", "g"])
def test_numbers_of_every_type_become_bytes_or_words(kind: str) -> None:
    values = np.array([[0, 1]]).astype(kind)
    frame = to_frame(values, "here")
    assert frame.dtype == (np.uint16 if kind == ">u2" else np.uint8)
    assert frame.tolist() == [[0, 1]]


@pytest.mark.parametrize("kind", ["c8", "U1", "M8[s]", [("a", "u1")]])
def test_what_is_no_brightness_is_refused(kind: object) -> None:
    with pytest.raises(DataError, match="here"):
        to_frame(np.zeros((2, 2), kind), "here")  # type: ignore[call-overload]
