"""Seeded mutations of bytes, text and trees: a mutant depends on nothing but its random generator."""

from __future__ import annotations

import copy
import math
import struct
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

NUMBERS = (0, 1, 2, 7, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1, -1, -2, -128)
"""Integers at which something overflows, wraps or becomes negative."""
WORDS = (
    b"",
    b"\0",
    b"\xff" * 8,
    b"%s%n",
    b"../" * 8,
    b"\x1b[2J",
    b"A" * 300,
    b"\xf0\x9f\x92\xa9",
    b"\xed\xa0\x80",
    b"-1",
)
DEEP = 20_000
"""Levels of nesting, far beyond what recursion survives."""
VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    -(2**63),
    10**30,
    10**400,
    0.0,
    -0.5,
    1e308,
    5e-324,
    math.inf,
    -math.inf,
    math.nan,
    "",
    "0",
    "\0",
    "\ud800",
    "\x1b]0;x\x07\x1b[2J",
    "../../../etc/passwd",
    "x" * 70_000,
    "\u202egnp.exe",
    [],
    {},
    [[]],
    [{}],
    {"": None},
    [0] * 5000,
)
"""What no honest writer puts where something else is expected."""
MOST_STEPS = 12


def count_steps(rng: Random) -> int:
    """Choose how often a mutant is changed: mostly once or twice, so that it gets past the first check."""
    return 1 + min(int(rng.expovariate(0.7)), MOST_STEPS)


def mutate_bytes(rng: Random, data: bytes, start: int = 0) -> bytes:
    """Change bytes behind `start`."""
    changed = bytearray(data)
    for _ in range(count_steps(rng)):
        if len(changed) <= start:
            break
        rng.choice(_BYTE_ACTIONS)(rng, changed, rng.randrange(start, len(changed)))
    return bytes(changed)


def mutate_text(rng: Random, text: str) -> bytes:
    """Change the bytes of a text, its encoding, or its ends."""
    act = rng.random()
    if act < 0.03:
        return text.encode(rng.choice(("utf-16", "utf-32", "utf-8-sig", "cp1252")), "replace")
    if act < 0.06:
        return (rng.choice("[{(\"'") * DEEP).encode() + text.encode()
    return mutate_bytes(rng, text.encode("utf-8", "surrogatepass"))


def mutate_tree(rng: Random, tree: Any, keys: Sequence[str] = ()) -> Any:
    """Change values, keys and lists of what JSON or TOML gave."""
    changed = copy.deepcopy(tree)
    for _ in range(count_steps(rng)):
        places = list(_list_places(changed))
        if not places:
            break
        tracker, key = rng.choice(places)
        _change_place(rng, tracker, key, keys)
    return changed


def nest(levels: int = DEEP) -> str:
    """Write lists in lists."""
    return "[" * levels + "]" * levels


def _list_places(tree: Any) -> Any:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield tree, key
        if len(repr(key)) < 200:
            yield from _list_places(value)


def _change_place(rng: Random, tracker: Any, key: Any, keys: Sequence[str]) -> None:
    act = rng.random()
    if act < 0.15:
        del tracker[key]
    elif act < 0.25 and isinstance(tracker, dict):
        tracker[rng.choice([*keys, "", "unknown", "__class__", "\ud800", "x" * 3000])] = tracker[key]
    elif act < 0.35 and isinstance(tracker, list):
        tracker.extend([copy.deepcopy(tracker[key])] * rng.choice((1, 2, 40)))
    elif act < 0.55 and isinstance(tracker[key], (int, float)) and not isinstance(tracker[key], bool):
        tracker[key] = _change_number(rng, tracker[key])
    elif act < 0.65 and isinstance(tracker[key], str):
        tracker[key] = mutate_bytes(rng, tracker[key].encode("utf-8", "replace")).decode("latin-1")
    else:
        tracker[key] = copy.deepcopy(rng.choice(VALUES))


def _change_number(rng: Random, value: float) -> Any:
    if (isinstance(value, float) and not math.isfinite(value)) or abs(value) > 10**300:
        return 0
    return rng.choice((-value, value + 1, value - 1, value * 1000, value * 10**9, float(value), value / 3, str(value)))


def _set_byte(rng: Random, data: bytearray, place: int) -> None:
    data[place] = rng.randrange(256)


def _flip_bit(rng: Random, data: bytearray, place: int) -> None:
    data[place] ^= 1 << rng.randrange(8)


def _set_number(rng: Random, data: bytearray, place: int) -> None:
    code = rng.choice(("<B", "<H", ">H", "<I", ">I", "<i", "<Q"))
    size = struct.calcsize(code)
    place -= place % size if rng.random() < 0.5 else 0
    number = rng.choice(NUMBERS) & (256**size - 1)
    data[place : place + size] = number.to_bytes(size, "big" if code[0] == ">" else "little")


def _add_to_number(rng: Random, data: bytearray, place: int) -> None:
    number = int.from_bytes(data[place : place + 4], "little") + rng.randint(-35, 35)
    data[place : place + 4] = (number & 0xFFFFFFFF).to_bytes(4, "little")[: len(data) - place]


def _delete(rng: Random, data: bytearray, place: int) -> None:
    del data[place : place + rng.choice((1, 2, 4, 8, 64))]


def _insert(rng: Random, data: bytearray, place: int) -> None:
    data[place:place] = rng.choice((rng.randbytes(rng.choice((1, 4, 16))), rng.choice(WORDS)))


def _repeat(rng: Random, data: bytearray, place: int) -> None:
    data[place:place] = data[place : place + rng.choice((1, 4, 16, 128))] * rng.choice((1, 2, 16))


def _copy(rng: Random, data: bytearray, place: int) -> None:
    source, size = rng.randrange(len(data)), rng.choice((1, 4, 16, 64))
    chunk = data[source : source + size]
    data[place : place + len(chunk)] = chunk


def _cut(rng: Random, data: bytearray, place: int) -> None:
    if rng.random() < 0.3:
        del data[place:]


_BYTE_ACTIONS: tuple[Callable[[Random, bytearray, int], None], ...] = (
    _set_byte,
    _set_byte,
    _flip_bit,
    _flip_bit,
    _set_number,
    _set_number,
    _set_number,
    _add_to_number,
    _delete,
    _insert,
    _repeat,
    _copy,
    _cut,
)
