"""The trials as CSV and Markdown, and the command that trains the pick."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path

from edgeseg.core.card import SplitSpec
from edgeseg.core.files import format_rows
from edgeseg.core.schema import to_plain
from edgeseg.tune.results import TrialRow

COLUMNS = ("trial", "model", "size", "stem", "loss", "learning rate", "million MACs", "validation Dice")


def write_csv(rows: Sequence[TrialRow]) -> str:
    """Write a line for each trial."""
    columns = [field.name for field in dataclasses.fields(TrialRow)]
    plain = [to_plain(row) for row in rows]
    return format_rows(columns, [[row[name] for name in columns] for row in plain])


def write_markdown(front: Sequence[TrialRow], pick: TrialRow | None, command: str | None) -> str:
    """Write the front as a table, with the command below it."""
    lines = [COLUMNS, ("---",) * len(COLUMNS), *list_front(front, pick)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return table + (f"\n\n* the pick; train it with:\n\n    {command}\n" if command else "\n")


def list_front(front: Sequence[TrialRow], pick: TrialRow | None) -> list[tuple[str, ...]]:
    """List the front's figures as they are printed; the pick has a star."""
    return [
        (
            f"{row.number} *" if row == pick else str(row.number),
            row.model,
            str(row.size),
            row.stem,
            row.loss,
            f"{row.learning_rate:g}",
            f"{(row.macs or 0) / 1e6:,.1f}",
            f"{row.validation_dice:.4f}",
        )
        for row in front
    ]


def name_training(data: Path, study: Path, split: SplitSpec, pick: TrialRow) -> str:
    """Name the command that trains the pick with all epochs, on the same division of the cases."""
    words = ["edgeseg", "train", str(data), "--out", f"{study}-best", "--model", pick.model, "--size", str(pick.size)]
    words += ["--stem", pick.stem, "--loss", pick.loss, "--learning-rate", f"{pick.learning_rate:g}"]
    words += ["--seed", str(split.seed)]
    for option, value in (("--layout", split.layout), ("--group-pattern", split.group_pattern)):
        words += [option, value] if value is not None else []
    return shlex.join(words)
