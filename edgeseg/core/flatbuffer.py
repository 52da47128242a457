"""Parse a TFLite flatbuffer without trusting it: every offset is checked before it is followed, and work is bounded.

The layout (https://flatbuffers.dev/internals): a table begins with the distance back to its vtable, which lists the
position of each field in the table; strings, vectors and tables inside it are reached by a forward offset, counted from
the position of the offset itself.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgeseg.core.limits import ARENA_BYTES, MIB, MODEL_BYTES, NAME_LETTERS, OPERATORS, TENSOR_DIMENSIONS, TENSORS
from edgeseg.core.redact import show_name

# Numbers and letters that may be read in all: offsets may be shared, so a small file can announce much.
BUDGET = 8 * 2**20
IDENTIFIER = b"TFL3"
# TensorType in schema.fbs, types of fixed size only: name and bits. No network for images has others.
TYPES = {
    0: ("float32", 32),
    1: ("float16", 16),
    2: ("int32", 32),
    3: ("uint8", 8),
    4: ("int64", 64),
    6: ("bool", 8),
    7: ("int16", 16),
    9: ("int8", 8),
    10: ("float64", 64),
    12: ("uint64", 64),
    15: ("uint32", 32),
    16: ("uint16", 16),
    17: ("int4", 4),
    18: ("bfloat16", 16),
}
# Index of an operator's optional input that is left out.
ABSENT = -1
# Field numbers in TFLite's schema.fbs; they are stable, since its tables only grow at their ends.
_MODEL = {"codes": 1, "subgraphs": 2, "buffers": 4, "external_groups": 8, "external_buffers": 9}
_GRAPH = {"tensors": 0, "inputs": 1, "outputs": 2, "operators": 3}
_TENSOR = {"shape": 0, "type": 1, "buffer": 2, "name": 3, "scales": 4, "sparsity": 6, "signature": 7, "external": 10}
_SCALES = {"scale": 2, "zero_point": 3, "axis": 6}
_OPERATOR = {"code": 0, "inputs": 1, "outputs": 2, "options_type": 3, "options": 4, "large_options": 9}
_CODE = {"short": 0, "custom": 1, "version": 2, "number": 3}
_BUFFER = {"data": 0, "offset": 1, "size": 2}
_U16, _I32, _U32 = struct.Struct("<H"), struct.Struct("<i"), struct.Struct("<I")


class FlatbufferError(ValueError):
    """The bytes are no flatbuffer, or not a whole one."""


class Flatbuffer:
    """The bytes with a budget: how much may still be read."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._left = BUDGET

    def root(self) -> Table:
        """Return the root table."""
        return Table(self, self.follow(0))

    def take(self, form: struct.Struct, position: int) -> Any:
        """Read one number."""
        self.check(position, form.size)
        return form.unpack_from(self.data, position)[0]

    def follow(self, position: int) -> int:
        """Follow an offset; offsets always lead forward."""
        distance = self.take(_U32, position)
        if distance == 0:
            raise FlatbufferError(f"expected an offset at byte {position}, got 0")
        self.check(position + distance, _U32.size)
        return int(position + distance)

    def check(self, position: int, size: int) -> None:
        """Refuse a range that is not inside the bytes."""
        if position < 0 or position + size > len(self.data):
            raise FlatbufferError(f"expected {size} bytes at {position}, got a file of {len(self.data)}")

    def spend(self, amount: int) -> None:
        """Take what is read off the budget."""
        self._left -= amount
        if self._left < 0:
            raise FlatbufferError(f"expected at most {BUDGET} numbers and letters beside the weights, got more")


class Table:
    """One table; a missing field has its default."""

    def __init__(self, source: Flatbuffer, position: int) -> None:
        self.source, self.position = source, position
        vtable = position - source.take(_I32, position)
        length = source.take(_U16, vtable)
        if length < 4 or length % 2:
            raise FlatbufferError(f"expected a list of fields at byte {vtable}, got one of {length} bytes")
        source.check(vtable, length)
        source.spend(length // 2)
        size, *self._fields = struct.unpack_from(f"<{length // 2 - 1}H", source.data, vtable + 2)
        source.check(position, size)
        if any(field and not 4 <= field < size for field in self._fields):
            raise FlatbufferError(f"expected fields inside the table at byte {position}, got one outside of it")

    def number(self, field: int, form: str, default: float = 0) -> Any:
        """Read a scalar field; `form` is its format in `struct`."""
        position = self._find(field)
        return default if position is None else self.source.take(struct.Struct("<" + form), position)

    def numbers(self, field: int, form: str) -> tuple[Any, ...] | None:
        """Read a vector of numbers; None if it is missing."""
        width = struct.calcsize("<" + form)
        vector = self._find_vector(field, width)
        if vector is None:
            return None
        start, count = vector
        self.source.spend(count)
        return struct.unpack_from(f"<{count}{form}", self.source.data, start)

    def text(self, field: int) -> str:
        """Read a string; bytes that are no UTF-8 are replaced."""
        vector = self._find_vector(field, 1)
        if vector is None:
            return ""
        start, count = vector
        self.source.spend(count)
        return self.source.data[start : start + count].decode("utf-8", "replace")

    def raw(self, field: int) -> memoryview | None:
        """Return a vector of bytes without a copy; None if it is missing."""
        vector = self._find_vector(field, 1)
        return None if vector is None else memoryview(self.source.data)[vector[0] : vector[0] + vector[1]]

    def table(self, field: int) -> Table | None:
        """Return a table inside this one."""
        position = self._find(field)
        return None if position is None else Table(self.source, self.source.follow(position))

    def tables(self, field: int, limit: int, name: str) -> list[Table]:
        """Return a vector of at most `limit` tables."""
        vector = self._find_vector(field, _U32.size)
        if vector is None:
            return []
        start, count = vector
        if count > limit:
            raise FlatbufferError(f"expected at most {limit} {name}, got {count}")
        return [Table(self.source, self.source.follow(start + number * _U32.size)) for number in range(count)]

    def has(self, field: int) -> bool:
        """Say whether a field is set."""
        return self._find(field) is not None

    def _find(self, field: int) -> int | None:
        offset = self._fields[field] if field < len(self._fields) else 0
        return self.position + offset if offset else None

    def _find_vector(self, field: int, width: int) -> tuple[int, int] | None:
        """Find where a vector begins, and how many elements of `width` bytes it has."""
        position = self._find(field)
        if position is None:
            return None
        start = self.source.follow(position)
        count = self.source.take(_U32, start)
        self.source.check(start + _U32.size, count * width)
        return start + _U32.size, count


@dataclass(frozen=True)
class NetworkTensor:
    """A tensor as the file describes it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    dynamic: bool
    """Whether a size is only known at run time."""
    bytes: int
    data: memoryview | None
    """The bytes of a constant; None for an activation."""
    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int


@dataclass(frozen=True)
class NetworkOperator:
    """An operator as the file describes it."""

    number: int
    """Its number in BuiltinOperator of schema.fbs."""
    custom: str
    """The name of a custom operator; empty for a builtin one."""
    version: int
    inputs: tuple[int, ...]
    """Indices of tensors; absent optional inputs are left out."""
    outputs: tuple[int, ...]
    options_type: int
    options: Table | None


@dataclass(frozen=True)
class Network:
    """The only subgraph of a file."""

    tensors: tuple[NetworkTensor, ...]
    operators: tuple[NetworkOperator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def is_flatbuffer(data: bytes) -> bool:
    """Say whether bytes have the file identifier of a .tflite."""
    return data[4:8] == IDENTIFIER


def read_network(data: bytes) -> Network:
    """Parse the graph of a .tflite and check it against the limits; nothing is allocated for its tensors.

    Raises:
        FlatbufferError: It is no whole flatbuffer, or beyond a limit.
    """
    if not is_flatbuffer(data):
        raise FlatbufferError("expected a TFLite flatbuffer, got other bytes")
    model = Flatbuffer(data).root()
    if model.has(_MODEL["external_groups"]) or model.has(_MODEL["external_buffers"]):
        raise FlatbufferError("expected all weights inside the file, got names of other files")
    graphs = model.tables(_MODEL["subgraphs"], 1, "graphs")
    if not graphs:
        raise FlatbufferError("expected a graph, got none")
    graph = graphs[0]
    buffers = [_read_buffer(table) for table in model.tables(_MODEL["buffers"], TENSORS, "buffers")]
    tensors = tuple(_read_tensor(table, buffers) for table in graph.tables(_GRAPH["tensors"], TENSORS, "tensors"))
    _check_sizes(tensors)
    codes = model.tables(_MODEL["codes"], OPERATORS, "kinds of operators")
    named = [_read_code(code) for code in codes]
    operators = graph.tables(_GRAPH["operators"], OPERATORS, "operators")
    if not operators:
        raise FlatbufferError("expected operators, got none")
    return Network(
        tensors,
        tuple(_read_operator(table, named, len(tensors)) for table in operators),
        _read_places(graph, _GRAPH["inputs"], len(tensors)),
        _read_places(graph, _GRAPH["outputs"], len(tensors)),
    )


def _read_buffer(table: Table) -> memoryview | None:
    # schema.fbs: data behind the flatbuffer, for models over 2 GB; valid only if greater than 1
    if table.number(_BUFFER["offset"], "Q") > 1 or table.number(_BUFFER["size"], "Q") > 1:
        raise FlatbufferError("expected weights inside the flatbuffer, got weights behind it")
    data = table.raw(_BUFFER["data"])
    return data if data else None


def _read_tensor(table: Table, buffers: Sequence[memoryview | None]) -> NetworkTensor:
    name = show_name(table.text(_TENSOR["name"]))
    if table.has(_TENSOR["sparsity"]) or table.number(_TENSOR["external"], "I"):
        raise FlatbufferError(f"expected the weights {name[:80]!r} as they are, got packed or external ones")
    kind, place = table.number(_TENSOR["type"], "b"), table.number(_TENSOR["buffer"], "I")
    if kind not in TYPES:
        raise FlatbufferError(f"expected numbers in the tensor {name[:80]!r}, got type {kind}")
    if place >= len(buffers):
        raise FlatbufferError(f"expected one of {len(buffers)} buffers for {name[:80]!r}, got number {place}")
    shape = table.numbers(_TENSOR["shape"], "i") or ()
    # shape_signature has -1 where the shape has a placeholder for a size that is known at run time
    signature = table.numbers(_TENSOR["signature"], "i") or shape
    if len(shape) > TENSOR_DIMENSIONS or any(size < 1 for size in shape):
        raise FlatbufferError(
            f"expected at most {TENSOR_DIMENSIONS} sizes of at least 1 for {name[:80]!r}, got {shape[:20]}"
        )
    dtype, bits = TYPES[kind]
    size = (math.prod(shape) * bits + 7) // 8
    data = buffers[place]
    if data is not None and len(data) != size:
        raise FlatbufferError(f"expected {size} bytes of {dtype} for {name[:80]!r}, got {len(data)}")
    return NetworkTensor(name, dtype, shape, any(n < 0 for n in signature), size, data, *_read_scales(table, name))


def _read_scales(tensor: Table, name: str) -> tuple[tuple[float, ...], tuple[int, ...], int]:
    table = tensor.table(_TENSOR["scales"])
    scale = table.numbers(_SCALES["scale"], "f") if table else None
    if table is None or not scale:
        return (), (), 0
    zero_point = table.numbers(_SCALES["zero_point"], "q") or ()
    if not all(math.isfinite(value) for value in scale) or len(zero_point) not in (0, 1, len(scale)):
        raise FlatbufferError(f"expected finite scales and a zero point for each of {name[:80]!r}, got others")
    return scale, zero_point or (0,) * len(scale), table.number(_SCALES["axis"], "i")


def _check_sizes(tensors: Sequence[NetworkTensor]) -> None:
    """Refuse a network whose tensors announce more bytes than the limits."""
    results = sum(tensor.bytes for tensor in tensors if tensor.data is None)
    if results > ARENA_BYTES:
        raise FlatbufferError(
            f"expected at most {ARENA_BYTES // MIB:,} MiB for the results of all layers, got {results / MIB:,.0f} MiB"
        )
    # buffers may be shared, so that a small file announces large weights many times
    if sum(len(tensor.data) for tensor in tensors if tensor.data is not None) > 2 * MODEL_BYTES:
        raise FlatbufferError("expected every weight to be used about once, got the same ones in many tensors")


def _read_code(code: Table) -> tuple[int, str, int]:
    # old files have the short field only, which holds numbers up to 127; the larger of both is right
    number = max(code.number(_CODE["short"], "b"), code.number(_CODE["number"], "i"))
    custom = show_name(code.text(_CODE["custom"]))
    if len(custom) > NAME_LETTERS:
        raise FlatbufferError(f"expected an operator's name of at most {NAME_LETTERS} letters, got {len(custom)}")
    return number, custom, code.number(_CODE["version"], "i", 1)


def _read_operator(table: Table, codes: Sequence[tuple[int, str, int]], tensors: int) -> NetworkOperator:
    place = table.number(_OPERATOR["code"], "I")
    if place >= len(codes):
        raise FlatbufferError(f"expected one of {len(codes)} kinds of operators, got number {place}")
    if table.number(_OPERATOR["large_options"], "Q") > 1:
        raise FlatbufferError("expected an operator's options inside the flatbuffer, got some behind it")
    inputs = table.numbers(_OPERATOR["inputs"], "i") or ()
    number, custom, version = codes[place]
    return NetworkOperator(
        number,
        custom,
        version,
        tuple(_check_place(index, tensors) for index in inputs if index != ABSENT),
        _read_places(table, _OPERATOR["outputs"], tensors),
        table.number(_OPERATOR["options_type"], "B"),
        table.table(_OPERATOR["options"]),
    )


def _read_places(table: Table, field: int, tensors: int) -> tuple[int, ...]:
    return tuple(_check_place(index, tensors) for index in table.numbers(field, "i") or ())


def _check_place(index: int, tensors: int) -> int:
    if not 0 <= index < tensors:
        raise FlatbufferError(f"expected one of {tensors} tensors, got number {index}")
    return index
