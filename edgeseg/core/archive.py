"""The zip behind a model file, read without trusting it: every byte is accounted for, and sizes are checked first.

Python's zipfile takes what any program wrote: bytes in front, between and behind, names twice, sizes that are not so,
data that unpack to gigabytes. What edgeseg writes has none of that, so what has is refused. Any unzip reads it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from edgeseg.core.limits import GOLDEN_PAIRS, MIB, OPERATORS, TENSOR_DIMENSIONS, TENSORS

ENTRIES = 2 * GOLDEN_PAIRS + 2
STORED, DEFLATED = 0, 8
_LOCAL_SIGN, _CENTRAL_SIGN, _END_SIGN = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_VERSION, _UNIX = 20, 3 << 8
_TIME, _DATE = 0, 0x21
"""Midnight of the first of January 1980, the same in every file."""
_RIGHTS = 0o644 << 16
_IN_EXTRA = 0xFFFFFFFF
METADATA_FIELD, KEY_FIELD, VALUE_FIELD = 14, 1, 2
FIELDS = 4_000_000
"""How many fields of messages are looked at in all."""
ELEMENT_TYPES = {1: "float32", 2: "uint8", 3: "int8", 10: "float16"}
_GRAPH = 7
_PLAIN_MODEL = (1, 2, 3, 4, 5, 6, _GRAPH, 8)
"""The fields of a model that is one graph: no functions, no training, no devices."""
_NODE, _INITIALIZER, _INPUT, _OUTPUT, _SPARSE = 1, 5, 11, 12, 15
_EXTERNAL, _LOCATION = 13, 14
"""Where a tensor names another file that holds its numbers."""
_ATTRIBUTE, _TENSOR, _INNER = 5, 5, (6, 10, 11, 22, 23)
"""A node's attributes; the one that is a tensor, and the kinds that edgeseg never writes: graphs, lists, sparse."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 10

_LOCAL, _CENTRAL, _END = struct.Struct("<4s5H3I2H"), struct.Struct("<4s6H3I5H2I"), struct.Struct("<4s4H2IH")
_ZIP64 = struct.Struct("<2H2Q")


class ArchiveError(ValueError):
    """The zip is damaged, or none that edgeseg wrote."""


@dataclass(frozen=True)
class Entry:
    """One file inside."""

    name: str
    method: int
    crc: int
    size: int
    """Unpacked, by its own account."""
    packed: bytes

    def unpack(self, limit: int) -> bytes:
        """Give the content, which is never larger than announced, nor than the limit."""
        if self.size > limit:
            raise ArchiveError(f"expected at most {limit / MIB:.1f} MiB in {self.name}, got {self.size / MIB:.1f} MiB")
        data = self.packed if self.method == STORED else self._inflate()
        if len(data) != self.size or zlib.crc32(data) != self.crc:
            raise ArchiveError(f"expected {self.size} whole bytes in {self.name}, got others")
        return data

    def _inflate(self) -> bytes:
        unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
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
    """Where it begins: what stands in front is the network."""
    entries: dict[str, Entry]
    canonical: bool
    """Whether each byte is as `pack_archive` writes it, down to dates and rights."""


def pack_archive(contents: Mapping[str, bytes], start: int) -> bytes:
    """Write a zip that stands behind so many bytes; the same input gives the same bytes."""
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
    """Read what the list at the end says of an entry; gives the next one's place, the numbers and the name."""
    if position + _CENTRAL.size > end:
        raise ArchiveError("expected more entries in the zip's list, got its end")
    header = _CENTRAL.unpack_from(data, position)
    name_size, extra, comment, disk = header[10:14]
    behind = position + _CENTRAL.size + name_size
    if header[0] != _CENTRAL_SIGN or behind > end or (extra, comment, disk) != (0, 0, 0):
        raise ArchiveError("expected plain entries in the zip's list, got others")
    return behind, header, data[position + _CENTRAL.size : behind].decode("ascii", "replace")


def _read_local(data: bytes, place: int, end: int, header: tuple[int, ...], name: str) -> tuple[Entry, int]:
    """Read an entry where it stands, and hold it against the list; gives the place behind it."""
    flags, method, crc, packed, size = header[3], header[4], *header[7:10]
    if flags or method not in (STORED, DEFLATED):
        raise ArchiveError(f"expected {name[:80]!r} packed plainly, got flags {flags:#x} and method {method}")
    if place + _LOCAL.size > end:
        raise ArchiveError(f"expected {name[:80]!r} in front of the zip's list, got it elsewhere")
    sign, _, *same, name_size, extra = _LOCAL.unpack_from(data, place)
    begin = place + _LOCAL.size + name_size + extra
    said = data[place + _LOCAL.size : place + _LOCAL.size + name_size].decode("ascii", "replace")
    if extra == _ZIP64.size and begin <= end:  # numpy writes the sizes of its archives so, however small they are
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


@dataclass(frozen=True)
class OnnxEnd:
    """The type and shape of an input or output."""

    dtype: str
    shape: tuple[int, ...]


class _Reader:
    """Lists the fields of messages, and counts them."""

    def __init__(self) -> None:
        self._left = FIELDS

    def walk(self, data: memoryview) -> Iterator[tuple[int, int, memoryview, int]]:
        """List a message's fields: where each starts, its number, and the bytes or the number that it holds."""
        position = 0
        while position < len(data):
            self._left -= 1
            if self._left < 0:
                raise ValueError(f"expected at most {FIELDS} fields, got more")
            start = position
            tag, position = _read_varint(data, position)
            value, number = data[:0], 0
            if tag & 7 == _VARINT:
                number, position = _read_varint(data, position)
            elif tag & 7 == _BYTES:
                length, position = _read_varint(data, position)
                value, position = data[position : position + length], position + length
            elif tag & 7 in (_FIXED64, _FIXED32):
                position += 8 if tag & 7 == _FIXED64 else 4
            else:
                raise ValueError(f"expected a field of a known type at byte {start}, got type {tag & 7}")
            if position > len(data):
                raise ValueError(f"expected {position - len(data)} more bytes for the field at byte {start}")
            yield start, tag >> 3, value, number


def split_onnx(data: bytes) -> tuple[bytes, dict[str, str]]:
    """Give the bytes in front of the metadata, and the metadata.

    Raises:
        ValueError: The data are no ONNX file, not a whole one, or hold something behind the metadata.
    """
    entries: dict[str, str] = {}
    end, reader = len(data), _Reader()
    for start, field, value, _ in reader.walk(memoryview(data)):
        if field == METADATA_FIELD:
            end = min(end, start)
            pair = {number: text for _, number, text, _ in reader.walk(value)}
            if set(pair) != {KEY_FIELD, VALUE_FIELD}:
                raise ValueError("expected a key and a text among the metadata, got something else")
            key = bytes(pair[KEY_FIELD]).decode("utf-8")
            if key in entries:
                raise ValueError(f"expected {key[:80]!r} once among the metadata, got it twice")
            entries[key] = bytes(pair[VALUE_FIELD]).decode("utf-8")
        elif entries:
            raise ValueError(f"expected nothing behind the metadata, got the field {field}")
    return data[:end], entries


def read_onnx_ends(bare: bytes) -> tuple[OnnxEnd, OnnxEnd]:
    """Read the only input and the only output of a model, and refuse what reaches beyond its own bytes.

    Raises:
        ValueError: The model is damaged, or of a kind that edgeseg does not write.
    """
    reader, graphs = _Reader(), []
    for _, field, value, _ in reader.walk(memoryview(bare)):
        if field not in _PLAIN_MODEL:
            raise ValueError(f"expected a model of one graph, got the field {field}")
        if field == _GRAPH:
            graphs.append(value)
    if len(graphs) != 1:
        raise ValueError(f"expected one graph, got {len(graphs)}")
    found: dict[int, list[memoryview]] = {_NODE: [], _INITIALIZER: [], _INPUT: [], _OUTPUT: [], _SPARSE: []}
    for _, field, value, _ in reader.walk(graphs[0]):
        found.get(field, []).append(value)
    if len(found[_NODE]) > OPERATORS or len(found[_INITIALIZER]) > TENSORS or found[_SPARSE]:
        raise ValueError(f"expected at most {OPERATORS} nodes and {TENSORS} dense weights, got others")
    if len(found[_INPUT]) != 1 or len(found[_OUTPUT]) != 1:
        raise ValueError(f"expected one input and one output, got {len(found[_INPUT])} and {len(found[_OUTPUT])}")
    for tensor in found[_INITIALIZER]:
        _check_tensor(reader, tensor)
    for node in found[_NODE]:
        _check_node(reader, node)
    return _read_end(reader, found[_INPUT][0]), _read_end(reader, found[_OUTPUT][0])


def _check_node(reader: _Reader, node: memoryview) -> None:
    for _, field, attribute, _ in reader.walk(node):
        if field == _ATTRIBUTE:
            for _, kind, value, _ in reader.walk(attribute):
                if kind in _INNER:
                    raise ValueError("expected plain nodes, got one that holds a graph")
                if kind == _TENSOR:
                    _check_tensor(reader, value)


def _check_tensor(reader: _Reader, tensor: memoryview) -> None:
    if any(field == _EXTERNAL or (field == _LOCATION and number) for _, field, _, number in reader.walk(tensor)):
        raise ValueError("expected all weights inside the file, got the name of another file")


def _read_end(reader: _Reader, value: memoryview) -> OnnxEnd:
    """Read a ValueInfoProto down to its sizes: type (2), tensor type (1), element (1) and shape (2), sizes (1)."""
    tensor = _take_only(reader, _take_only(reader, value, 2), 1)
    kinds = [number for _, field, _, number in reader.walk(tensor) if field == 1]
    sizes = [size for _, field, size, _ in reader.walk(_take_only(reader, tensor, 2)) if field == 1]
    if len(kinds) != 1 or kinds[0] not in ELEMENT_TYPES or len(sizes) > TENSOR_DIMENSIONS:
        raise ValueError("expected numbers of a known type at both ends, got others")
    shape = tuple(next((number for _, field, _, number in reader.walk(size) if field == 1), 0) for size in sizes)
    if not all(0 < size < 2**31 for size in shape):
        raise ValueError(f"expected fixed sizes at both ends, got {shape}")
    return OnnxEnd(ELEMENT_TYPES[kinds[0]], shape)


def _take_only(reader: _Reader, data: memoryview, wanted: int) -> memoryview:
    """Take the only field of a number; protobuf would merge several."""
    found = [value for _, field, value, _ in reader.walk(data) if field == wanted]
    if len(found) != 1:
        raise ValueError(f"expected one field {wanted} at an end of the graph, got {len(found)}")
    return found[0]


def _read_varint(data: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for number in range(_LONGEST_VARINT):
        if position + number >= len(data):
            raise ValueError(f"expected a number at byte {position}, got the end")
        byte = data[position + number]
        value |= (byte & 0x7F) << 7 * number
        if byte < 0x80:
            return value, position + number + 1
    raise ValueError(f"expected a number of at most {_LONGEST_VARINT} bytes at byte {position}, got a longer one")
