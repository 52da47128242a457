"""The two commands that make a compression again."""

from __future__ import annotations

from edgeseg.compress.make import RECIPES
from edgeseg.compress.plan import CompressReport
from edgeseg.train.run import RunRecord


def write_commands(report: CompressReport, record: RunRecord) -> tuple[str, str]:
    """Write the commands; DATA, RUN, TEACHER and OUT stand for the folders, which are no part of a report."""
    options = record.options
    train = (
        f"edgeseg train DATA --out RUN --model {options.model} --size {options.size} --stem {options.stem} "
        f"--epochs {options.epochs} --loss {options.loss} --seed {options.seed}"
    )
    recipes = ",".join(f"{RECIPES}/{recipe.name}.toml" for recipe in report.recipes)
    compress = f"edgeseg compress RUN --out OUT --recipe {recipes} --max-drop {report.gate['max_drop']}"
    if report.gate["budget_ms"] is not None:
        compress += f" --budget-ms {report.gate['budget_ms']}"
    if report.teacher is not None:
        compress += " --teacher TEACHER"
    return train, f"{compress} --threads {report.threads}"
