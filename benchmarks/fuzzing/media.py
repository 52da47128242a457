"""Images, DICOM, volumes, arrays and videos, as they lie in a data folder or are played from a file."""

from __future__ import annotations

import gzip
import shutil
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import cv2
import numpy as np

from edgeseg.core.errors import EdgesegError
from fuzzing import doors
from fuzzing.kind import Kind, tag, untag
from fuzzing.mutate import NUMBERS, mutate_bytes, mutate_text
from fuzzing.packing import MIB, SHAPES, deflate_zeros, gzip_zeros, mutate_npy, write_npy
from tests.discs import draw_case

FRAME, _ = draw_case(0)
SMALL = (24, 32)
SMALL_FRAME = np.ascontiguousarray(FRAME[: SMALL[0], : SMALL[1]])
SMALL_MASK = np.where(SMALL_FRAME > 90, np.uint8(255), np.uint8(0))


def encode(ending: str, image: Any = SMALL_FRAME, *options: int) -> bytes:
    """Encode an image."""
    return bytes(cv2.imencode(ending, image, list(options))[1])


class ImageKind(Kind):
    """PNG, JPEG, TIFF and BMP as an image or as a mask of a data folder."""

    name: ClassVar[str] = "image"
    share: ClassVar[float] = 2.0

    def __init__(self, folder: Path) -> None:
        """Encode a small image in every way, and make a data folder around one of them."""
        super().__init__(folder)
        colour = np.dstack([SMALL_FRAME, SMALL_FRAME[::-1], SMALL_FRAME])
        deep = SMALL_FRAME.astype(np.uint16) * 257
        self.seeds = [
            ("png", encode(".png")),
            ("png", encode(".png", colour)),
            ("png", encode(".png", deep)),
            ("jpg", encode(".jpg")),
            ("jpg", encode(".jpg", colour, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)),
            ("tif", encode(".tif")),
            ("tif", encode(".tif", colour)),
            ("tif", encode(".tif", SMALL_FRAME, cv2.IMWRITE_TIFF_COMPRESSION, 1)),
            ("bmp", encode(".bmp")),
            ("bmp", encode(".bmp", colour)),
        ]
        self.data = folder / "data"
        for number in range(2):
            for kind, image in (("images", SMALL_FRAME), ("masks", SMALL_MASK)):
                path = self.data / kind / f"p{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encode(".png", image))

    def bombs(self) -> Mapping[str, Callable[[], bytes]]:
        """Give images that announce a size that nobody holds in memory."""
        return {
            "JPEG of 30000x30000": lambda: tag("images/p0.jpg", resize_jpeg(encode(".jpg"), 30000, 30000)),
            "JPEG of 65535x65535": lambda: tag("images/p0.jpg", resize_jpeg(encode(".jpg"), 65535, 65535)),
            "progressive JPEG of 30000x30000": lambda: tag(
                "images/p0.jpg", resize_jpeg(self.seeds[4][1], 30000, 30000)
            ),
            "PNG of 30000x30000": lambda: tag("images/p0.png", write_png(30000, 30000, 8, 0)),
            "PNG of 30000x30000 in RGBA of 16 bit": lambda: tag("images/p0.png", write_png(30000, 30000, 16, 6)),
            "PNG of 2^31 by 1": lambda: tag("images/p0.png", write_png(2**31 - 1, 1, 1, 0)),
            "PNG of 1 bit as mask": lambda: tag("masks/p0.png", write_png(32000, 32000, 1, 0)),
            "PNG with 500 MiB of text": lambda: tag("images/p0.png", write_png(32, 24, 8, 0, text=500 * MIB)),
            "TIFF of 60000x60000": lambda: tag("images/p0.tif", write_tiff(60000, 60000)),
            "TIFF whose directories are a circle": lambda: tag("images/p0.tif", write_tiff(32, 24, following=8)),
            "BMP of 2^31 squared": lambda: tag("images/p0.bmp", resize_bmp(encode(".bmp"), 2**31 - 1, 2**31 - 1)),
            "BMP of 30000x30000": lambda: tag("images/p0.bmp", resize_bmp(encode(".bmp"), 30000, 30000)),
            "empty PNG": lambda: tag("images/p0.png", b""),
        }

    def mutate(self, rng: Random) -> bytes:
        """Change an image; the sums of a PNG's chunks are put right again, mostly."""
        ending, data = rng.choice(self.seeds)
        act = rng.random()
        if ending == "png" and act < 0.7:
            changed = mutate_png(rng, data)
        elif ending == "tif" and act < 0.5:
            changed = mutate_tiff(rng, data)
        else:
            changed = mutate_bytes(rng, data)
        if ending == "jpg" and act < 0.8 and not changed.endswith(b"\xff\xd9"):
            changed += b"\xff\xd9"
        return tag(f"{rng.choice(('images', 'masks'))}/p0.{ending}", changed)

    def feed(self, data: bytes) -> None:
        """Put it into the data folder and read that."""
        name, image = untag(data)
        kind = name.partition("/")[0]
        whole = self.data / kind / "p0.png"
        kept = whole.read_bytes()
        whole.unlink()
        path = self.data / name
        try:
            path.write_bytes(image)
            doors.check_data(self.data, 2)
        finally:
            path.unlink()
            whole.write_bytes(kept)


def resize_jpeg(data: bytes, width: int, height: int) -> bytes:
    """Write another size into a JPEG's header."""
    place = next(p for p in range(len(data)) if data[p] == 0xFF and data[p + 1] in (0xC0, 0xC1, 0xC2))
    return data[: place + 5] + struct.pack(">2H", height, width) + data[place + 9 :]


def resize_bmp(data: bytes, width: int, height: int) -> bytes:
    """Write another size into a BMP's header."""
    return data[:18] + struct.pack("<2I", width, height) + data[26:]


def write_png(width: int, height: int, depth: int, colour: int, text: int = 0) -> bytes:
    """Write a PNG of nothing but zeros, of which there are less than announced."""
    head = struct.pack(">2I5B", width & 0xFFFFFFFF, height, depth, colour, 0, 0, 0)
    chunks = [(b"IHDR", head)]
    if text:
        chunks.append((b"zTXt", b"Comment\0\0" + b"\x78\xda" + deflate_zeros(text) + bytes(4)))
    chunks += [(b"IDAT", zlib.compress(bytes(100_000), 9)), (b"IEND", b"")]
    return join_png(chunks)


def join_png(chunks: Sequence[tuple[bytes, bytes]], sums: Mapping[int, int] = {}) -> bytes:
    """Write a PNG of chunks, with right sums but for some."""
    written = b"\x89PNG\r\n\x1a\n"
    for number, (name, body) in enumerate(chunks):
        check = sums.get(number, zlib.crc32(name + body))
        written += struct.pack(">I", len(body)) + name + body + struct.pack(">I", check)
    return written


def split_png(data: bytes) -> list[tuple[bytes, bytes]]:
    """List a whole PNG's chunks."""
    chunks, place = [], 8
    while place < len(data):
        (size,) = struct.unpack(">I", data[place : place + 4])
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + size]))
        place += 12 + size
    return chunks


def mutate_png(rng: Random, data: bytes) -> bytes:
    """Change a PNG's chunks, their order, or what is packed in them."""
    chunks = split_png(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        place = rng.randrange(len(chunks))
        name, body = chunks[place]
        act = rng.random()
        if act < 0.45 and body:
            chunks[place] = (name, mutate_bytes(rng, body))
        elif act < 0.65 and name == b"IHDR":
            fields = list(struct.unpack(">2I5B", body[:13].ljust(13, b"\0")))
            field = rng.randrange(7)
            fields[field] = rng.choice((*NUMBERS, 1000, 20_000)) & (0xFFFFFFFF if field < 2 else 0xFF)
            chunks[place] = (name, struct.pack(">2I5B", *fields))
        elif act < 0.75:
            chunks.insert(rng.randrange(len(chunks) + 1), rng.choice(chunks))
        elif act < 0.85:
            extra = rng.choice(
                (b"PLTE", b"tRNS", b"gAMA", b"iCCP", b"eXIf", b"acTL", b"fcTL", b"fdAT", b"sBIT", b"cICP")
            )
            chunks.insert(1, (extra, rng.randbytes(rng.choice((0, 1, 4, 26, 768)))))
        elif len(chunks) > 1:
            del chunks[place]
    return join_png(chunks, {0: 0} if rng.random() < 0.1 else {})


def write_tiff(width: int, height: int, following: int = 0) -> bytes:
    """Write a TIFF of one strip that announces a size."""
    tags = ((256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 200), (277, 3, 1))
    tags += ((278, 4, height), (279, 4, 768))
    entries = b"".join(struct.pack("<HHII", number, kind, 1, value) for number, kind, value in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", following)
    return head.ljust(200, b"\0") + bytes(768)


def mutate_tiff(rng: Random, data: bytes) -> bytes:
    """Change the entries of a TIFF's directory."""
    changed = bytearray(data)
    (start,) = struct.unpack("<I", changed[4:8])
    (count,) = struct.unpack("<H", changed[start : start + 2])
    for _ in range(rng.choice((1, 1, 2, 4))):
        place = start + 2 + 12 * rng.randrange(count)
        field, size = rng.choice(((0, 2), (2, 2), (4, 4), (8, 4), (8, 4)))
        number = rng.choice((*NUMBERS, 1000, 32946, 34712, 7, 5)) & (256**size - 1)
        changed[place + field : place + field + size] = number.to_bytes(size, "little")
    return bytes(changed)


LONG_VRS = ("OB", "OW", "SQ", "UN", "UT", "OF")
SYNTAXES = {
    "implicit": "1.2.840.10008.1.2",
    "explicit": "1.2.840.10008.1.2.1",
    "deflated": "1.2.840.10008.1.2.1.99",
    "big": "1.2.840.10008.1.2.2",
    "jpeg": "1.2.840.10008.1.2.4.50",
    "jpeg2000": "1.2.840.10008.1.2.4.90",
    "rle": "1.2.840.10008.1.2.5",
    "jpegls": "1.2.840.10008.1.2.4.80",
    "none": "1.2.3",
}


@dataclass(frozen=True)
class Element:
    """One element of a DICOM file; its length may lie."""

    number: int
    vr: str
    value: bytes
    length: int | None = None

    def write(self) -> bytes:
        """Write it with an explicit type."""
        value = self.value + b"\0" * (len(self.value) % 2)
        length = len(value) if self.length is None else self.length
        head = struct.pack("<HH", self.number >> 16, self.number & 0xFFFF) + self.vr.encode()[:2].ljust(2, b" ")
        if self.vr in LONG_VRS:
            return head + bytes(2) + struct.pack("<I", length & 0xFFFFFFFF) + value
        return head + struct.pack("<H", length & 0xFFFF) + value


def write_dicom(
    elements: Sequence[Element], syntax: str = "explicit", wrap: Callable[[bytes], bytes] | None = None
) -> bytes:
    """Write a DICOM file."""
    meta = [
        Element(0x00020001, "OB", b"\0\1"),
        Element(0x00020002, "UI", b"1.2.840.10008.5.1.4.1.1.6.1"),
        Element(0x00020003, "UI", b"1.2.3"),
        Element(0x00020010, "UI", SYNTAXES[syntax].encode()),
    ]
    head = b"".join(element.write() for element in meta)
    body = b"".join(element.write() for element in elements)
    return (
        bytes(128)
        + b"DICM"
        + Element(0x00020000, "UL", struct.pack("<I", len(head))).write()
        + head
        + (wrap or bytes)(body)
    )


def describe_pixels(frame: Any, frames: int = 1, colour: bool = False) -> list[Element]:
    """Write the elements of an image."""
    samples = 3 if colour else 1
    rows, columns = frame.shape[-2:] if not colour else frame.shape[-3:-1]
    short = lambda number, value: Element(number, "US", struct.pack("<H", value & 0xFFFF))  # noqa: E731
    return [
        Element(0x00080060, "CS", b"US"),
        Element(0x00100010, "PN", b"Secret^Name"),
        Element(0x00181063, "DS", b"50.0"),
        Element(0x00186011, "SQ", write_region()),
        short(0x00280002, samples),
        Element(0x00280004, "CS", b"RGB" if colour else b"MONOCHROME2"),
        *([short(0x00280006, 0)] if colour else []),
        Element(0x00280008, "IS", str(frames).encode()),
        short(0x00280010, rows),
        short(0x00280011, columns),
        Element(0x00280030, "DS", b"0.2\\0.2"),
        short(0x00280100, 8),
        short(0x00280101, 8),
        short(0x00280102, 7),
        short(0x00280103, 0),
        Element(0x7FE00010, "OB", frame.tobytes()),
    ]


def write_region() -> bytes:
    """Write the item of one ultrasound region."""
    inner = [
        Element(0x00186012, "US", struct.pack("<H", 1)),
        Element(0x00186014, "US", struct.pack("<H", 1)),
        *(Element(0x00186018 + 2 * n, "UL", struct.pack("<I", edge)) for n, edge in enumerate((0, 0, 20, 20))),
        Element(0x00186024, "US", struct.pack("<H", 3)),
        Element(0x00186026, "US", struct.pack("<H", 3)),
        Element(0x0018602C, "FD", struct.pack("<d", 0.01)),
        Element(0x0018602E, "FD", struct.pack("<d", 0.01)),
    ]
    body = b"".join(element.write() for element in inner)
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(body)) + body


def encapsulate(*frames: bytes) -> bytes:
    """Put compressed frames into items, with an empty table of offsets."""
    items = (b"", *(frame + b"\0" * (len(frame) % 2) for frame in frames))
    return b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(i)) + i for i in items) + struct.pack(
        "<HHI", 0xFFFE, 0xE0DD, 0
    )


def pack_rle(frame: bytes, segments: int = 1) -> bytes:
    """Pack a frame of zeros and others as RLE, byte by byte."""
    body = b"".join(b"\x7f" + frame[n : n + 128].ljust(128, b"\0") for n in range(0, len(frame), 128))
    return struct.pack("<16I", segments, 64, *[0] * 14) + body


class DicomKind(Kind):
    """DICOM files, as images of a data folder and as cines that are played."""

    name: ClassVar[str] = "dicom"
    share: ClassVar[float] = 2.0
    needs: ClassVar[tuple[str, ...]] = ("pydicom", "PIL")

    def __init__(self, folder: Path) -> None:
        """Write the elements of an image, a cine and two compressed files."""
        super().__init__(folder)
        cine = np.stack([SMALL_FRAME, SMALL_FRAME[::-1], SMALL_FRAME[:, ::-1]])
        colour = np.repeat(cine[..., np.newaxis], 3, axis=3)
        jpeg = [Element(0x7FE00010, "OB", encapsulate(encode(".jpg")), length=0xFFFFFFFF)]
        rle = [Element(0x7FE00010, "OB", encapsulate(pack_rle(SMALL_FRAME.tobytes())), length=0xFFFFFFFF)]
        still = describe_pixels(SMALL_FRAME)
        self.seeds: list[tuple[str, list[Element]]] = [
            ("explicit", still),
            ("explicit", describe_pixels(cine, 3)),
            ("explicit", describe_pixels(colour, 3, colour=True)),
            ("jpeg", [*still[:-1], *jpeg]),
            ("rle", [*still[:-1], *rle]),
        ]
        self.data = folder / "data"
        for name, content in (("images", b""), ("masks", encode(".png", SMALL_MASK))):
            (self.data / name).mkdir(parents=True)
            if content:
                (self.data / name / "d0.png").write_bytes(content)
        self.path = self.data / "images" / "d0.dcm"

    def bombs(self) -> Mapping[str, Callable[[], bytes]]:
        """Give files that announce or unpack to gigabytes."""
        still = self.seeds[0][1]
        zeros = partial(_end_deflated, size=4608 * MIB)
        wide = _replace(still, {0x00280010: struct.pack("<H", 65535), 0x00280011: struct.pack("<H", 65535)})
        jpeg = encapsulate(resize_jpeg(encode(".jpg"), 65500, 65500))
        return {
            "4.6 GB deflated": lambda: write_dicom(
                [*still[:-1], Element(0x7FE00010, "OB", b"", length=0xFFFFFFFE)], "deflated", zeros
            ),
            "65535x65535 of nothing": lambda: write_dicom(wide),
            "2^31 frames": lambda: write_dicom(_replace(still, {0x00280008: b"2147483647"})),
            "10^12 frames": lambda: write_dicom(_replace(still, {0x00280008: b"999999999999"})),
            "1 GiB in RLE": lambda: write_dicom(_pack_wide(still, 65535, 16384), "rle"),
            "JPEG of 65500x65500": lambda: write_dicom(
                [*wide[:-1], Element(0x7FE00010, "OB", jpeg, length=0xFFFFFFFF)], "jpeg"
            ),
            "3000 nested regions": lambda: write_dicom(
                [*still[:3], Element(0x00186011, "SQ", nest_regions(3000)), *still[4:]]
            ),
            "palette of nothing": lambda: write_dicom(_replace(still, {0x00280004: b"PALETTE COLOR"})),
            "no bits": lambda: write_dicom(_replace(still, {0x00280101: struct.pack("<H", 0)})),
            "frame time of nan": lambda: write_dicom(_replace(still, {0x00181063: b"nan"})),
            "only a preamble": lambda: bytes(128) + b"DICM",
            "unknown syntax": lambda: write_dicom(still, "none"),
        }

    def mutate(self, rng: Random) -> bytes:
        """Change elements, lengths, types, the syntax, or any bytes."""
        syntax, elements = rng.choice(self.seeds)
        changed = list(elements)
        if rng.random() < 0.4:
            return mutate_bytes(rng, write_dicom(changed, syntax), rng.choice((0, 128, 320)))
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            _change_element(rng, changed)
        return write_dicom(changed, rng.choice(list(SYNTAXES)) if rng.random() < 0.1 else syntax)

    def feed(self, data: bytes) -> None:
        """Read it as one of a data folder, and play it."""
        self.path.write_bytes(data)
        with suppress(EdgesegError, doors.Refusal):
            doors.check_data(self.data, 1)
        doors.play_source(str(self.path))


_DICOM_TEXTS = (
    b"-1",
    b"0",
    b"nan",
    b"inf",
    b"1e400",
    b"1\\2\\3",
    b"\\",
    b"x" * 70,
    b"",
    b"9" * 20,
    b"\xff\xfe",
    b"0.0\\0.0",
)
_PHOTOMETRIC = (b"MONOCHROME1", b"PALETTE COLOR", b"YBR_FULL", b"YBR_FULL_422", b"YBR_RCT", b"ARGB", b"", b"NONE")


def _change_element(rng: Random, elements: list[Element]) -> None:
    place = rng.randrange(len(elements))
    element = elements[place]
    act = rng.random()
    if act < 0.1:
        del elements[place]
        elements.append(element)
    elif act < 0.15:
        elements.insert(place, element)
    elif act < 0.3:
        elements[place] = replace(element, length=rng.choice(NUMBERS))
    elif act < 0.4:
        elements[place] = replace(
            element, vr=rng.choice(("US", "UL", "OB", "OW", "SQ", "UN", "DS", "IS", "PN", "??", "FD"))
        )
    elif element.vr == "US" and len(element.value) == 2:
        elements[place] = replace(
            element, value=struct.pack("<H", rng.choice((0, 1, 2, 3, 8, 9, 12, 16, 32, 1000, 65535)))
        )
    elif element.number == 0x00280004:
        elements[place] = replace(element, value=rng.choice(_PHOTOMETRIC))
    elif element.vr in ("DS", "IS", "CS", "PN"):
        elements[place] = replace(element, value=rng.choice(_DICOM_TEXTS))
    elif element.value:
        elements[place] = replace(element, value=mutate_bytes(rng, element.value))


def _replace(elements: Sequence[Element], values: Mapping[int, bytes]) -> list[Element]:
    return [replace(e, value=values[e.number]) if e.number in values else e for e in elements]


def _end_deflated(body: bytes, size: int) -> bytes:
    """Deflate a data set whose last element goes on with so many zeros."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(body) + packer.flush(zlib.Z_FULL_FLUSH) + deflate_zeros(size)


def nest_regions(levels: int) -> bytes:
    """Write a sequence in a sequence in a sequence."""
    nested = b""
    for _ in range(levels):
        nested = Element(0x00186011, "SQ", struct.pack("<HHI", 0xFFFE, 0xE000, len(nested)) + nested).write()
    return nested


def _pack_wide(still: Sequence[Element], rows: int, columns: int) -> list[Element]:
    sized = _replace(still, {0x00280010: struct.pack("<H", rows), 0x00280011: struct.pack("<H", columns)})
    return [*sized[:-1], Element(0x7FE00010, "OB", encapsulate(pack_zeros(rows * columns)), length=0xFFFFFFFF)]


def pack_zeros(size: int) -> bytes:
    """Pack so many zeros as RLE: two bytes for every 128."""
    return struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\0" * (size // 128)


class VolumeKind(Kind):
    """NIfTI and MetaImage, plain and packed, in CAMUS's layout."""

    name: ClassVar[str] = "volume"
    needs: ClassVar[tuple[str, ...]] = ("SimpleITK",)

    def __init__(self, folder: Path) -> None:
        """Write a good image in every format."""
        super().__init__(folder)
        self.nifti = write_nifti((SMALL[1], SMALL[0]), SMALL_FRAME.tobytes())
        self.labels = write_nifti((SMALL[1], SMALL[0]), (SMALL_MASK // 255).tobytes())
        self.meta = (
            "ObjectType = Image\nNDims = 2\nDimSize = 32 24\nElementSpacing = 0.3 0.3\nElementType = MET_UCHAR\n"
            "ElementDataFile = "
        )
        self.data = folder / "data"
        self.patient = self.data / "patient0001"

    def bombs(self) -> Mapping[str, Callable[[], bytes]]:
        """Give volumes that announce or unpack to gigabytes, or lead elsewhere."""
        wide = (30000, 30000)
        return {
            "nii.gz of 3 GiB": lambda: tag(
                "nii.gz", gzip.compress(write_nifti((30000, 30000, 3), b""), mtime=0) + gzip_zeros(3072 * MIB)
            ),
            "nii.gz of a small image and 3 GiB more": lambda: tag(
                "nii.gz", gzip.compress(self.nifti, mtime=0) + gzip_zeros(3072 * MIB)
            ),
            "nii of 30000x30000": lambda: tag("nii", write_nifti(wide, bytes(1000))),
            "nii of 32767^7": lambda: tag("nii", write_nifti((32767,) * 7, bytes(1000))),
            "negative sizes": lambda: tag("nii", write_nifti((-1, -32768), bytes(1000))),
            "nii with an extension of 2 GiB": lambda: tag("nii", write_nifti((32, 24), bytes(768), offset=2.0**31)),
            "nii of doubles": lambda: tag("nii", write_nifti((30000, 30000), bytes(8000), kind=(64, 64))),
            "mhd of 100000x100000": lambda: tag(
                "mhd", self.meta.replace("32 24", "100000 100000").encode() + b"p.raw\n"
            ),
            "mhd that reads /dev/zero": lambda: tag("mhd", (self.meta + "/dev/zero\n").encode()),
            "mhd that reads a FIFO": lambda: tag("mhd", (self.meta + "p.fifo\n").encode()),
            "mhd that reads itself": lambda: tag("mhd", (self.meta + "patient0001_2CH_ED.mhd\n").encode()),
            "mhd of 2^31 files": lambda: tag("mhd", (self.meta + "p%d.raw 0 2147483647 1\n").encode()),
            "mhd of a list": lambda: tag("mhd", (self.meta + "LIST\n" + "p.raw\n" * 5000).encode()),
        }

    def mutate(self, rng: Random) -> bytes:
        """Change a header, the numbers behind it, or the packed bytes."""
        act = rng.random()
        if act < 0.3:
            name = rng.choice(("p.raw", "p.raw", "LOCAL", "LIST", "/etc/hostname", "../p.raw", "p%03d.raw 1 3 1"))
            lines = (self.meta + name + "\n").splitlines()
            if rng.random() < 0.6:
                place = rng.randrange(len(lines))
                word = rng.choice(
                    ("0 0", "-1 -1", "1000000 1000000", "nan nan", "MET_DOUBLE", "True", "2", "9", "", "x" * 3000)
                )
                lines[place] = f"{lines[place].partition(' = ')[0]} = {word}"
            return tag(
                "mhd", mutate_text(rng, "\n".join(lines) + "\n") if rng.random() < 0.5 else "\n".join(lines).encode()
            )
        changed = (
            mutate_bytes(rng, self.nifti[:352]) + self.nifti[352:]
            if rng.random() < 0.8
            else mutate_bytes(rng, self.nifti)
        )
        if act < 0.6:
            return tag("nii", changed)
        packed = gzip.compress(changed, 6, mtime=0)
        return tag("nii.gz", mutate_bytes(rng, packed) if rng.random() < 0.3 else packed)

    def feed(self, data: bytes) -> None:
        """Make a patient of it and read that."""
        import os

        ending, content = untag(data)
        shutil.rmtree(self.data, ignore_errors=True)
        self.patient.mkdir(parents=True)
        (self.patient / f"patient0001_2CH_ED.{ending}").write_bytes(content)
        (self.patient / "patient0001_2CH_ED_gt.nii").write_bytes(self.labels)
        (self.patient / "p.raw").write_bytes(SMALL_FRAME.tobytes())
        os.mkfifo(self.patient / "p.fifo")
        doors.check_data(self.data, 1)


def write_nifti(shape: Sequence[int], data: bytes, kind: tuple[int, int] = (2, 8), offset: float = 352.0) -> bytes:
    """Write a NIfTI-1 file."""
    head = bytearray(352)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, len(shape), *shape, *[1] * (7 - len(shape)))
    struct.pack_into("<2h", head, 70, *kind)
    struct.pack_into("<8f", head, 76, 1.0, 0.3, 0.3, *[1.0] * 5)
    struct.pack_into("<3f", head, 108, offset, 1.0, 0.0)
    head[344:348] = b"n+1\0"
    return bytes(head) + data


class NpyKind(Kind):
    """Arrays of images and of masks."""

    name: ClassVar[str] = "npy"

    def __init__(self, folder: Path) -> None:
        """Write the good arrays."""
        super().__init__(folder)
        shape = f"(2, {SMALL[0]}, {SMALL[1]})"
        self.arrays = {
            "images": write_npy(shape, "|u1", SMALL_FRAME.tobytes() * 2),
            "masks": write_npy(shape, "|u1", SMALL_MASK.tobytes() * 2),
        }
        self.data = folder / "data"

    def bombs(self) -> Mapping[str, Callable[[], bytes]]:
        """Give arrays of every hostile shape, each of 128 bytes."""
        named = {f"{kind} of {shape}": (kind, shape) for kind in ("images", "masks") for shape in SHAPES}
        return {name: partial(_tag_npy, kind, shape) for name, (kind, shape) in named.items()} | {
            "objects": lambda: tag("images", write_npy("(2, 24, 32)", "|O", b"\x80\4N.")),
            "header without an end": lambda: tag("masks", b"\x93NUMPY\2\0\xff\xff\xff\x7f{"),
        }

    def mutate(self, rng: Random) -> bytes:
        """Change one of the arrays."""
        kind = rng.choice(("images", "masks"))
        return tag(kind, mutate_npy(rng, self.arrays[kind]))

    def feed(self, data: bytes) -> None:
        """Put it into a data folder and read that."""
        kind, content = untag(data)
        self.data.mkdir(exist_ok=True)
        for name, array in (self.arrays | {kind: content}).items():
            (self.data / f"train_{name}.npy").write_bytes(array)
        doors.check_data(self.data, 2)


def _tag_npy(kind: str, shape: str) -> bytes:
    return tag(kind, write_npy(shape))


class VideoKind(Kind):
    """AVI and MP4 files that are played."""

    name: ClassVar[str] = "video"
    share: ClassVar[float] = 0.7

    def __init__(self, folder: Path) -> None:
        """Write a clip in both."""
        super().__init__(folder)
        self.seeds = [
            (ending, _write_video(folder / f"seed.{ending}", code))
            for ending, code in (("avi", "MJPG"), ("mp4", "mp4v"))
        ]

    def bombs(self) -> Mapping[str, Callable[[], bytes]]:
        """Give clips of a size that nobody holds in memory."""
        avi = self.seeds[0][1]
        small, large = struct.pack("<2I", 64, 48), struct.pack("<2I", 30000, 30000)
        return {
            "AVI of 30000x30000": lambda: tag("avi", avi.replace(small, large)),
            "empty AVI": lambda: tag("avi", b""),
            "empty MP4": lambda: tag("mp4", b""),
            "JPEG of 30000x30000 in an AVI": lambda: tag("avi", _resize_all_jpegs(avi)),
        }

    def mutate(self, rng: Random) -> bytes:
        """Change bytes: half of the time near the header."""
        ending, data = rng.choice(self.seeds)
        if rng.random() < 0.5:
            head = 600 if ending == "avi" else len(data) - 900
            part = slice(0, head) if ending == "avi" else slice(head, len(data))
            return tag(ending, data[: part.start] + mutate_bytes(rng, data[part]) + data[part.stop :])
        return tag(ending, mutate_bytes(rng, data))

    def feed(self, data: bytes) -> None:
        """Play it."""
        ending, content = untag(data)
        path = self.folder / f"mutant.{ending}"
        path.write_bytes(content)
        doors.play_source(str(path))


def _resize_all_jpegs(data: bytes) -> bytes:
    start = data.index(b"\xff\xd8")
    return data[:start] + resize_jpeg(data[start:], 30000, 30000)


def _write_video(path: Path, code: str) -> bytes:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), 25, (64, 48))
    for shift in range(4):
        writer.write(np.roll(np.full((48, 64, 3), 90, np.uint8), shift, axis=1))
    writer.release()
    return path.read_bytes()


class TableKind(Kind):
    """groups.csv, and HC18's table of pixel sizes."""

    name: ClassVar[str] = "groups"
    share: ClassVar[float] = 1.5

    def __init__(self, folder: Path) -> None:
        """Make a data folder of each layout that has a table."""
        super().__init__(folder)
        self.plain, self.heads = folder / "plain", folder / "heads"
        for number in range(3):
            _write_pair(self.plain / "images" / f"p{number}.png", self.plain / "masks" / f"p{number}.png")
            _write_pair(
                self.heads / "training_set" / f"00{number}_HC.png",
                self.heads / "training_set" / f"00{number}_HC_Annotation.png",
            )
        columns = "stem,group,part,pixel_size_mm,pixel_size_mm_original,orig_width,width,head_circumference_mm\n"
        self.groups = columns + "".join(
            f"p{n},g{n},{part},0.1,0.2,64,32,44.3\n" for n, part in enumerate(("train", "val", "test"))
        )
        head = "filename,pixel size(mm),head circumference (mm)\n"
        self.sizes = head + "".join(f"00{n}_HC.png,0.0691358041432,44.3\n" for n in range(3))

    def bombs(self) -> Mapping[str, Callable[[], bytes]]:
        """Give tables that are too long, too wide or no text."""
        return {
            "field of 200,000 letters": lambda: tag("groups", b"stem,group\np0," + b"x" * 200_000 + b"\n"),
            "quote without an end": lambda: tag("groups", b'stem,group\np0,"' + b"x\n" * 200_000),
            "1,000,000 columns": lambda: tag("groups", b"stem,group" + b"," * 1_000_000 + b"\np0,a\n"),
            "100,000 rows": lambda: tag("groups", b"stem,group\n" + b"p0,a\n" * 100_000),
            "zeros": lambda: tag("groups", bytes(100_000)),
            "row without columns": lambda: tag("groups", b"stem,group\np0\np1\n"),
            "row with more columns": lambda: tag("groups", b"stem,group\np0,a,b,c,d\n"),
            "only a header": lambda: tag("groups", b"stem,group\n"),
            "same stem twice": lambda: tag("groups", b"stem,group\np0,a\np0,b\np1,a\np2,c\n"),
            "empty": lambda: tag("groups", b""),
            "sizes without columns": lambda: tag("sizes", b"filename\n000_HC.png\n"),
            "sizes with a long field": lambda: tag("sizes", b"filename," + b"y" * 200_000),
            "100 MiB of one line": lambda: tag("groups", b"stem,group\n" + b"x" * (100 * MIB)),
        }

    def mutate(self, rng: Random) -> bytes:
        """Change cells, or bytes."""
        kind = rng.choice(("groups", "groups", "sizes"))
        text = self.groups if kind == "groups" else self.sizes
        if rng.random() < 0.4:
            return tag(kind, mutate_text(rng, text))
        rows = [line.split(",") for line in text.splitlines()]
        for _ in range(rng.choice((1, 1, 2, 4))):
            row = rng.choice(rows)
            _change_row(rng, rows, row)
        return tag(kind, "\n".join(",".join(row) for row in rows).encode("utf-8", "surrogatepass"))

    def feed(self, data: bytes) -> None:
        """Put it into its data folder and read that."""
        kind, content = untag(data)
        name = {"groups": "groups.csv", "sizes": "training_set_pixel_size_and_HC.csv"}[kind]
        root = self.plain if kind == "groups" else self.heads
        (root / name).write_bytes(content)
        doors.check_data(root, 3)


_CELLS = (
    "",
    "nan",
    "inf",
    "-1",
    "0",
    "1e400",
    '"',
    '""',
    "\0",
    "p0",
    "x" * 140_000,
    "\u202e",
    "=1+1",
    "1_0",
    "٣",
    "train\r",
    " 1 ",
)


def _change_row(rng: Random, rows: list[list[str]], row: list[str]) -> None:
    act = rng.random()
    if act < 0.6 and row:
        row[rng.randrange(len(row))] = rng.choice(_CELLS)
    elif act < 0.7:
        row.append(rng.choice(_CELLS))
    elif act < 0.8 and row:
        del row[rng.randrange(len(row))]
    elif act < 0.9:
        rows.append(list(row))
    elif len(rows) > 1:
        rows.remove(row)


def _write_pair(image: Path, mask: Path) -> None:
    image.parent.mkdir(parents=True, exist_ok=True)
    mask.parent.mkdir(parents=True, exist_ok=True)
    image.write_bytes(encode(".png"))
    mask.write_bytes(encode(".png", SMALL_MASK))


KINDS: tuple[type[Kind], ...] = (ImageKind, DicomKind, VolumeKind, NpyKind, VideoKind, TableKind)
