"""The two commands that make a compression again."""

from __future__ import annotations

import dataclasses
import shlex

from edgeseg.compress.make import RECIPES
from edgeseg.compress.plan import CompressReport
from edgeseg.train.run import RunRecord, TrainOptions


def write_commands(report: CompressReport, record: RunRecord) -> tuple[str, str]:
    """Write the commands; DATA, RUN, INIT, TEACHER and OUT stand for the folders, which are no part of a report."""
    train = " ".join(("edgeseg train DATA --out RUN", *_list_changed(record.options), *_list_others(record)))
    recipes = ",".join(f"{RECIPES}/{variant.name}.toml" for variant in report.variants if variant.requested)
    compress = f"edgeseg compress RUN --out OUT --recipe {recipes} --max-drop {report.gate['max_drop']}"
    if report.gate["board"] is not None:
        compress += f" --device {shlex.quote(report.gate['board'])}"
    if report.gate["budget_ms"] is not None:
        compress += f" --budget-ms {report.gate['budget_ms']}"
    if report.teacher is not None:
        compress += " --teacher TEACHER"
    return train, f"{compress} --threads {report.threads}"


def _list_others(record: RunRecord) -> list[str]:
    """List how the data were read and divided, and where the training started, as the command takes it."""
    split = record.split
    others = {
        "--layout": split.layout,
        "--group-pattern": shlex.quote(split.group_pattern) if split.group_pattern else None,
        "--folds": split.folds or None,
        "--init": "INIT" if record.init else None,
    }
    return [f"{option} {value}" for option, value in others.items() if value is not None]


def _list_changed(options: TrainOptions) -> list[str]:
    """List what was chosen and is no default, as the command takes it."""
    usual, chosen = dataclasses.asdict(TrainOptions()), dataclasses.asdict(options)
    return [f"--{name.replace('_', '-')} {value}" for name, value in chosen.items() if value != usual[name]]
