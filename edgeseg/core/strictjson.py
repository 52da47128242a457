"""Read JSON that somebody else wrote: no duplicate keys, no NaN, no huge numbers, no depth without end."""

from __future__ import annotations

import json
import math
import re
from typing import Any

DEPTH = 32
"""How deep tables and lists may lie in one another; a card needs four."""
DIGITS = 18
"""How many digits a whole number may have; more would not fit 64 bits."""
# a string without end is passed over as a whole: to begin anew behind every quote in it would take hours
_MARKS = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[{\]}]', re.DOTALL)


def parse_json(text: str) -> Any:
    """Parse JSON strictly.

    Raises:
        ValueError: It is no JSON, or holds what no file of edgeseg's holds.
    """
    _check_depth(text)
    try:
        return json.loads(
            text,
            object_pairs_hook=_build_table,
            parse_int=_read_whole,
            parse_float=_read_real,
            parse_constant=_refuse_constant,
        )
    except RecursionError as error:  # the caller itself lies deep already
        raise ValueError("expected JSON of a few levels, got more than can be read here") from error


def _check_depth(text: str) -> None:
    """Count brackets before the parser, which would run out of stack, sees them."""
    depth = 0
    for mark in _MARKS.finditer(text):
        sign = text[mark.start()]
        depth += (sign in "[{") - (sign in "]}")
        if depth > DEPTH:
            raise ValueError(f"expected tables and lists of at most {DEPTH} levels, got more")


def _build_table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"expected every key once, got {twice[:80]!r} twice")
    return table


def _read_whole(text: str) -> int:
    if len(text.lstrip("-")) > DIGITS:
        raise ValueError(f"expected whole numbers of at most {DIGITS} digits, got one of {len(text)}")
    return int(text)


def _read_real(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"expected finite numbers, got {text[:40]}")
    return value


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"expected finite numbers, got {text}")
