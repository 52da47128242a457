"""Read a flatbuffer that nobody vouches for: every offset is checked before it is followed, and work is bounded.

The layout: a table begins with the distance back to its vtable, which lists where each field stands in the table;
strings, vectors and tables inside it are reached by an offset forward from where that offset stands.
"""

from __future__ import annotations

import struct
from typing import Any

BUDGET = 8 * 2**20
"""How many numbers and letters may be read in all: offsets may be shared, so a small file can hold much."""


class FlatbufferError(ValueError):
    """The bytes are no flatbuffer, or not a whole one."""


class Flatbuffer:
    """The bytes, and how much may still be read of them."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._left = BUDGET

    def root(self) -> Table:
        """Give the table that holds all others."""
        return Table(self, self.follow(0))

    def take(self, form: struct.Struct, position: int) -> Any:
        """Read one number."""
        self.check(position, form.size)
        return form.unpack_from(self.data, position)[0]

    def follow(self, position: int) -> int:
        """Go where an offset leads, which is always forward."""
        distance = self.take(_U32, position)
        if distance == 0:
            raise FlatbufferError(f"expected an offset at byte {position}, got 0")
        self.check(position + distance, _U32.size)
        return int(position + distance)

    def check(self, position: int, size: int) -> None:
        """Refuse what does not lie inside the bytes."""
        if position < 0 or position + size > len(self.data):
            raise FlatbufferError(f"expected {size} bytes at {position}, got a file of {len(self.data)}")

    def spend(self, amount: int) -> None:
        """Count what is read."""
        self._left -= amount
        if self._left < 0:
            raise FlatbufferError(f"expected at most {BUDGET} numbers and letters beside the weights, got more")


class Table:
    """One table; a field that is not there has its default."""

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
        """Read a field that holds one number, of a kind that `struct` names."""
        place = self._find(field)
        return default if place is None else self.source.take(struct.Struct("<" + form), place)

    def numbers(self, field: int, form: str) -> tuple[Any, ...] | None:
        """Read a field that holds a row of numbers; None where it is missing."""
        width = struct.calcsize("<" + form)
        row = self._find_row(field, width)
        if row is None:
            return None
        start, count = row
        self.source.spend(count)
        return struct.unpack_from(f"<{count}{form}", self.source.data, start)

    def text(self, field: int) -> str:
        """Read a field that holds a text; what is no UTF-8 in it is replaced."""
        row = self._find_row(field, 1)
        if row is None:
            return ""
        start, count = row
        self.source.spend(count)
        return self.source.data[start : start + count].decode("utf-8", "replace")

    def raw(self, field: int) -> memoryview | None:
        """Give a field that holds bytes, without copying them; None where it is missing."""
        row = self._find_row(field, 1)
        return None if row is None else memoryview(self.source.data)[row[0] : row[0] + row[1]]

    def table(self, field: int) -> Table | None:
        """Give a field that holds another table."""
        place = self._find(field)
        return None if place is None else Table(self.source, self.source.follow(place))

    def tables(self, field: int, limit: int, name: str) -> list[Table]:
        """Give a field that holds a row of tables, of which there may be so many."""
        row = self._find_row(field, _U32.size)
        if row is None:
            return []
        start, count = row
        if count > limit:
            raise FlatbufferError(f"expected at most {limit} {name}, got {count}")
        return [Table(self.source, self.source.follow(start + number * _U32.size)) for number in range(count)]

    def has(self, field: int) -> bool:
        """Say whether a field is there."""
        return self._find(field) is not None

    def _find(self, field: int) -> int | None:
        offset = self._fields[field] if field < len(self._fields) else 0
        return self.position + offset if offset else None

    def _find_row(self, field: int, width: int) -> tuple[int, int] | None:
        """Find where a row of things of one width begins, and how many there are."""
        place = self._find(field)
        if place is None:
            return None
        start = self.source.follow(place)
        count = self.source.take(_U32, start)
        self.source.check(start + _U32.size, count * width)
        return start + _U32.size, count


_U16, _I32, _U32 = struct.Struct("<H"), struct.Struct("<i"), struct.Struct("<I")
