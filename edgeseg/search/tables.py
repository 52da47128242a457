"""The front as a table, on the screen and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from edgeseg.search.results import SearchRow

COLUMNS = ("trial", "recipe", "validation Dice", "ms", "of int8's time", "kB")


def list_front(front: Sequence[SearchRow], pick: SearchRow | None) -> list[tuple[str, ...]]:
    """List the front's figures as they are printed; the pick has a star."""
    return [
        (
            f"{row.number} *" if row == pick else str(row.number),
            row.name,
            f"{row.score.validation_dice:.4f}",
            f"{row.ms:.2f}",
            f"{row.score.relative:.2f}",
            f"{row.score.bytes / 1e3:,.0f}",
        )
        for row in front
        if row.score is not None
    ]


def write_markdown(front: Sequence[SearchRow], pick: SearchRow | None, command: str | None) -> str:
    """Write the front as a table, with the command that makes the pick again below it."""
    rows = [COLUMNS, ("---",) * len(COLUMNS), *list_front(front, pick)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return table + (f"\n\n* the pick; make it again with:\n\n    {command}\n" if command else "\n")
