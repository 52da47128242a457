"""Zips, gzips and numpy headers written by hand, so that every field of theirs can lie; and bombs that cost nothing."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from fuzzing.mutate import NUMBERS, mutate_bytes

MIB = 2**20
STORED, DEFLATED = 0, 8
_ZEROS = bytes(MIB)
METHODS = (0, 1, 6, 8, 9, 12, 14, 93, 95, 98, 99, 65535)
NAMES = (
    b"edgeseg.json",
    b"golden/0/input.npy",
    b"golden/1/input.npy",
    b"golden/4000000/input.npy",
    b"golden/-1/output.npy",
    b"golden/0/output.npy",
    b"../../evil",
    b"/etc/passwd",
    b"",
    b"\0",
    b"\xff\xfe\x80",
    b"x" * 65535,
)


@dataclass(frozen=True)
class Entry:
    """A file in a zip; what is None is worked out from its data."""

    name: bytes
    data: bytes
    method: int = DEFLATED
    flags: int = 0
    crc: int | None = None
    size: int | None = None
    packed_size: int | None = None
    offset: int | None = None
    extra: bytes = b""
    packed: bytes | None = None
    """The data as they are stored."""
    local_name: bytes | None = None


@dataclass(frozen=True)
class End:
    """The end of a zip; what is None is worked out."""

    count: int | None = None
    size: int | None = None
    offset: int | None = None
    comment: bytes = b""


def write_zip(front: bytes, entries: Sequence[Entry], end: End = End()) -> bytes:
    """Write a zip behind other bytes, with every field as told."""
    body, central = bytearray(front), bytearray()
    for entry in entries:
        packed = entry.packed if entry.packed is not None else _pack(entry)
        crc = zlib.crc32(entry.data) if entry.crc is None else entry.crc
        sizes = (_or(entry.packed_size, len(packed)), _or(entry.size, len(entry.data)))
        fields = (20, entry.flags, entry.method, 0, 0x21, crc & _U32, sizes[0] & _U32, sizes[1] & _U32)
        local = entry.name if entry.local_name is None else entry.local_name
        offset = len(body) if entry.offset is None else entry.offset
        name, extra = entry.name[:65535], entry.extra[:65535]
        body += b"PK\3\4" + struct.pack("<5H3I2H", *fields, len(local[:65535]), len(extra)) + local[:65535]
        body += extra + packed
        central += b"PK\1\2" + struct.pack("<6H3I5H2I", 20, *fields, len(name), len(extra), 0, 0, 0, 0, offset & _U32)
        central += name + extra
    count, size, offset = _or(end.count, len(entries)), _or(end.size, len(central)), _or(end.offset, len(body))
    tail = struct.pack("<4H2IH", 0, 0, count & 0xFFFF, count & 0xFFFF, size & _U32, offset & _U32, len(end.comment))
    return bytes(body + central + b"PK\5\6" + tail + end.comment)


def mutate_zip(rng: Random, front: bytes, entries: Sequence[Entry]) -> bytes:
    """Write a zip of which a few fields, entries or bytes are changed."""
    changed, end = list(entries), End()
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        act, place = rng.random(), rng.randrange(max(1, len(changed)))
        if act < 0.5 and changed:
            changed[place] = _mutate_entry(rng, changed[place])
        elif act < 0.6 and changed:
            changed.insert(rng.randrange(len(changed) + 1), changed[place])
        elif act < 0.7 and changed:
            del changed[place]
        elif act < 0.75:
            changed.append(Entry(rng.choice(NAMES), rng.randbytes(30)))
        elif act < 0.9:
            end = replace(end, **{rng.choice(("count", "size", "offset")): rng.choice(NUMBERS)})
        else:
            end = replace(end, comment=rng.choice((b"x", b"PK\5\6" * 40, bytes(65535))))
    data = write_zip(front, changed, end)
    return mutate_bytes(rng, data, len(front)) if rng.random() < 0.2 else data


def _mutate_entry(rng: Random, entry: Entry) -> Entry:
    changes = {
        "name": lambda: rng.choice(NAMES),
        "local_name": lambda: rng.choice(NAMES),
        "method": lambda: rng.choice(METHODS),
        "flags": lambda: rng.choice((1, 8, 0x20, 0x40, 0x800, 0x2000, 0xFFFF, 1 << rng.randrange(16))),
        "crc": lambda: rng.choice(NUMBERS),
        "size": lambda: rng.choice(NUMBERS),
        "packed_size": lambda: rng.choice(NUMBERS),
        "offset": lambda: rng.choice(NUMBERS),
        "extra": lambda: rng.choice(
            (bytes(4), b"\1\0\x18\0" + b"\xff" * 24, b"\1\0\0\0", b"\1\0\xff\xff", b"up\5\0abcde")
        ),
        "data": lambda: mutate_bytes(rng, entry.data) if entry.data else b"x",
    }
    field = rng.choice([*changes, "data", "method", "flags", "size"])
    return replace(entry, **{field: changes[field]()})


def deflate_zeros(size: int) -> bytes:
    """Write the deflate stream of so many zeros, MiB by MiB: a flushed block can be repeated."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(_ZEROS) + packer.flush(zlib.Z_FULL_FLUSH)
    return block * (size // MIB) + packer.flush()


def gzip_zeros(size: int) -> bytes:
    """Write the gzip of so many zeros, as members of one MiB."""
    return gzip.compress(_ZEROS, 9, mtime=0) * (size // MIB)


def write_npy(shape: str, descr: str = "|u1", data: bytes = b"", order: str = "False") -> bytes:
    """Write an array file whose header says anything."""
    header = f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}"
    return wrap_npy(header.encode("latin-1")) + data


def wrap_npy(header: bytes) -> bytes:
    """Put the magic bytes of a numpy file in front of a header."""
    padded = header + b" " * (-(10 + len(header) + 1) % 64) + b"\n"
    if len(padded) < 65536:
        return b"\x93NUMPY\1\0" + struct.pack("<H", len(padded)) + padded
    return b"\x93NUMPY\2\0" + struct.pack("<I", len(padded)) + padded


SHAPES = (
    "(200000000, 0, 0)",
    "(0,)",
    "()",
    "(-1, 72, 96)",
    "(4, 72, 96, 3)",
    "(2147483647, 2147483647)",
    "(1, 1, 1, 1, 1, 1, 1)",
    "(4, 100000, 100000)",
    "(4.5, 72, 96)",
    "(True, 72, 96)",
    "'x'",
    "(4, 72, 96, 1000000)",
    "(18446744073709551616,)",
    "(0, 72, 96)",
    "(4, 0, 0)",
)
DESCRS = ("<f8", "<f4", ">u2", "|O", "|b1", "<U2147483647", "|V100000000", "<c16", "<M8[ns]", "<i8", "|S0", "<f2", "[[")


def mutate_npy(rng: Random, data: bytes) -> bytes:
    """Change an array file: its header's words, or any bytes."""
    if rng.random() < 0.5:
        return mutate_bytes(rng, data)
    shape = rng.choice((*SHAPES, "(" * 400 + ")" * 400, "(4, 72, 96)"))
    descr = rng.choice((*DESCRS, "|u1"))
    return write_npy(shape, descr, data[128:], rng.choice(("False", "True", "None", "[]")))


def _pack(entry: Entry) -> bytes:
    if entry.method != DEFLATED:
        return entry.data
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    return packer.compress(entry.data) + packer.flush()


def _or(told: int | None, found: int) -> int:
    return found if told is None else told


_U32 = 0xFFFFFFFF
