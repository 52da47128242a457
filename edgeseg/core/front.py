"""The front: what no other one beats in every respect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

Costs = tuple[float, ...]
"""What something is judged by, so that less is better everywhere."""
Row = TypeVar("Row")


def beats(one: Costs, other: Costs) -> bool:
    """Say whether costs are at least as low in every respect and lower in one."""
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def keep_unbeaten(rows: Sequence[tuple[Costs, Row]]) -> list[Row]:
    """Keep the rows whose costs no other one beats."""
    return [row for costs, row in rows if not any(beats(other, costs) for other, _ in rows)]
