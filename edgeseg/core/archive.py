"""The zip behind a model file, read without trusting it: every byte is accounted for, and sizes are checked first.

Python's zipfile takes what any program wrote: bytes in front, between and behind, names twice, wrong sizes, data that
unpack to gigabytes. edgeseg writes nothing of that kind, so such a file is refused. Any unzip reads the archive.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from edgeseg.core.limits import GOLDEN_PAIRS, MIB

ENTRIES = 2 * GOLDEN_PAIRS + 2
STORED, DEFLATED = 0, 8

# Names and layouts as in PKWARE's APPNOTE.TXT, section 4.3; "version made by" is 2.0 on Unix, which keeps the rights.
_LOCAL_SIGN, _CENTRAL_SIGN, _END_SIGN = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_LOCAL, _CENTRAL, _END = struct.Struct("<4s5H3I2H"), struct.Struct("<4s6H3I5H2I"), struct.Struct("<4s4H2IH")
_VERSION, _UNIX = 20, 3 << 8
# Midnight of the first of January 1980, the same in every file: equal input must give equal bytes.
_TIME, _DATE = 0, 0x21
_RIGHTS = 0o644 << 16
_ZIP64 = struct.Struct("<2H2Q")
# This value as a size means that the real one is in the entry's ZIP64 field.
_IN_EXTRA = 0xFFFFFFFF


class ArchiveError(ValueError):
    """The zip is damaged, or none that edgeseg wrote."""


@dataclass(frozen=True)
class Entry:
    """One file inside the zip."""

    name: str
    method: int
    crc: int
    size: int
    """Unpacked, as the header announces it."""
    packed: bytes

    def unpack(self, limit: int) -> bytes:
        """Return the content; never more bytes than announced, nor than the limit."""
        if self.size > limit:
            raise ArchiveError(f"expected at most {limit / MIB:.1f} MiB in {self.name}, got {self.size / MIB:.1f} MiB")
        data = self.packed if self.method == STORED else self._inflate()
        if len(data) != self.size or zlib.crc32(data) != self.crc:
            raise ArchiveError(f"expected {self.size} whole bytes in {self.name}, got others")
        return data

    def _inflate(self) -> bytes:
        unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            # one byte more than announced shows a zip bomb without unpacking it
            data = unpacker.decompress(self.packed, self.size + 1)
        except zlib.error as error:
            raise ArchiveError(f"expected {self.name} to unpack, got: {error}") from error
        if not unpacker.eof or unpacker.unused_data:
            raise ArchiveError(f"expected {self.name} to unpack to {self.size} bytes, got others")
        return data


@dataclass(frozen=True)
class Archive:
    """A zip that ends a file."""

    start: int
    """Where the zip begins; the bytes in front of it are the network."""
    entries: dict[str, Entry]
    canonical: bool
    """Whether each byte is as `pack_archive` writes it, down to dates and rights."""


def pack_archive(contents: Mapping[str, bytes], start: int) -> bytes:
    """Write a zip to be appended to `start` bytes; the same input gives the same bytes."""
    return _lay_out([_pack_entry(name, data) for name, data in contents.items()], start)


def read_archive(data: bytes) -> Archive | None:
    """Read the zip at the very end of a file; None where there is none.

    Raises:
        ArchiveError: It is damaged, or holds what no file of edgeseg's holds.
    """
    end = len(data) - _END.size
    if end < 0 or data[end : end + 4] != _END_SIGN:
        return None
    _, disk, first_disk, here, count, size, offset, comment = _END.unpack_from(data, end)
    if (disk, first_disk, comment) != (0, 0, 0) or here != count or offset + size != end:
        raise ArchiveError("expected a plain zip at the end, got one that does not fit the file")
    if not 0 < count <= ENTRIES:
        raise ArchiveError(f"expected at most {ENTRIES} entries in the zip, got {count}")
    entries: list[Entry] = []
    start = place = -1
    position = offset
    for _ in range(count):
        position, header, name = _read_central(data, position, end)
        place = header[16] if place < 0 else place
        start = place if start < 0 else start
        if header[16] != place:
            raise ArchiveError(f"expected {name} at byte {place}, got {header[16]}")
        entry, place = _read_local(data, place, offset, header, name)
        entries.append(entry)
    if position != end or place != offset:
        raise ArchiveError("expected nothing between the entries of the zip, got other bytes")
    named = {entry.name: entry for entry in entries}
    if len(named) < len(entries):
        raise ArchiveError("expected every name once in the zip, got one twice")
    return Archive(start, named, _lay_out(entries, start) == data[start:])


def _read_central(data: bytes, position: int, end: int) -> tuple[int, tuple[int, ...], str]:
    """Read an entry of the central directory; returns the position of the next one, the numbers and the name."""
    if position + _CENTRAL.size > end:
        raise ArchiveError("expected more entries in the zip's list, got its end")
    header = _CENTRAL.unpack_from(data, position)
    name_size, extra, comment, disk = header[10:14]
    behind = position + _CENTRAL.size + name_size
    if header[0] != _CENTRAL_SIGN or behind > end or (extra, comment, disk) != (0, 0, 0):
        raise ArchiveError("expected plain entries in the zip's list, got others")
    return behind, header, data[position + _CENTRAL.size : behind].decode("ascii", "replace")


def _read_local(data: bytes, place: int, end: int, header: tuple[int, ...], name: str) -> tuple[Entry, int]:
    """Read an entry in place and compare it with the central directory; returns the position behind it."""
    flags, method, crc, packed, size = header[3], header[4], *header[7:10]
    if flags or method not in (STORED, DEFLATED):
        raise ArchiveError(f"expected {name[:80]!r} packed plainly, got flags {flags:#x} and method {method}")
    if place + _LOCAL.size > end:
        raise ArchiveError(f"expected {name[:80]!r} in front of the zip's list, got it elsewhere")
    sign, _, *same, name_size, extra = _LOCAL.unpack_from(data, place)
    begin = place + _LOCAL.size + name_size + extra
    said = data[place + _LOCAL.size : place + _LOCAL.size + name_size].decode("ascii", "replace")
    # numpy.savez writes the sizes of its archives into ZIP64 fields, however small they are
    if extra == _ZIP64.size and begin <= end:
        kind, width, *sizes = _ZIP64.unpack_from(data, begin - extra)
        if (kind, width, same[5:]) == (1, 16, [_IN_EXTRA, _IN_EXTRA]):
            same[5:], extra = sizes[::-1], 0
    if sign != _LOCAL_SIGN or said != name or extra or same != list(header[3:10]):
        raise ArchiveError(f"expected {name[:80]!r} as the zip's list has it, got another entry")
    if begin + packed > end:
        raise ArchiveError(f"expected {packed} bytes of {name[:80]!r}, got the zip's list")
    return Entry(name, method, crc, size, data[begin : begin + packed]), begin + packed


def _pack_entry(name: str, data: bytes) -> Entry:
    packer = zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, -zlib.MAX_WBITS)
    return Entry(name, DEFLATED, zlib.crc32(data), len(data), packer.compress(data) + packer.flush())


def _lay_out(entries: list[Entry], start: int) -> bytes:
    body, index = bytearray(), bytearray()
    for entry in entries:
        name = entry.name.encode("ascii", "replace")
        about = (_VERSION, 0, entry.method, _TIME, _DATE, entry.crc, len(entry.packed), entry.size, len(name), 0)
        index += _CENTRAL.pack(_CENTRAL_SIGN, _UNIX | _VERSION, *about, 0, 0, 0, _RIGHTS, start + len(body)) + name
        body += _LOCAL.pack(_LOCAL_SIGN, *about) + name + entry.packed
    count = len(entries)
    end = _END.pack(_END_SIGN, 0, 0, count, count, len(index), start + len(body), 0)
    return bytes(body + index + end)
