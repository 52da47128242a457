"""Split an ONNX file into the model and the metadata behind it, without a library: the card must always be readable.

An ONNX file is one protobuf message. Its metadata are pairs of texts in the field 14; edgeseg writes them last, and
nothing behind them: what stood there would belong to the model and to no hash.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgeseg.core.limits import OPERATORS, TENSOR_DIMENSIONS, TENSORS

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
