"""What of the default training helps? Each row takes one thing away, or adds one, and is compared case by case.

    python benchmarks/what_helped.py DATA OUT [--init RUN] [--epochs N] [--batch N]

Trains the default first, then every row with the same split and seed. A row that was trained before is not trained
again. RUN is a finished run on other organs, for the row that starts from its encoder.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from trained import add_course, describe_course, list_course, score_run, show_estimate, train_once, write_results

from edgeseg.evaluation.score import ScoredCase, estimate_drop, summarise_cases

ROWS: dict[str, tuple[str, ...]] = {
    "without augmentation": ("--augment", "none"),
    "without moving average": ("--ema", "0"),
    "loss: bce-dice-all": ("--loss", "bce-dice-all"),
    "loss: bce": ("--loss", "bce"),
    "loss: focal-tversky": ("--loss", "focal-tversky"),
    "input 128x128": ("--size", "128"),
    "skip: concat": ("--skip", "concat"),
}
MISSED = 0.1
"""A Dice below this counts as a structure that was not found."""
HEADER = ("training", "Dice", "against the default, same cases", "missed", "false alarms", "minutes")


def make_row(name: str, data: Path, run: Path, options: Sequence[str], default: Sequence[ScoredCase]) -> list[str]:
    """Train one row and compare it with the default."""
    record, scored = train_once(data, run, options), score_run(run, data)
    summary = summarise_cases(scored, ())
    missed = sum(case.mean("dice") < MISSED for case in scored if not case.empty)
    change = show_estimate(estimate_drop(scored, default)) if scored is not default else ""
    minutes = f"{record['timing']['seconds'] / 60:.1f}"
    alarms = f"{summary.empty.false_positive_rate or 0.0:.0%} of {summary.empty.cases}"
    return [name, show_estimate(summary.dice), change, f"{missed} of {summary.cases}", alarms, minutes]


def main() -> None:
    """Train every row and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--init", type=Path, help="a finished run on other organs")
    add_course(parser)
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    common = list_course(chosen)
    rows = dict(ROWS) | ({"encoder from other organs": ("--init", str(chosen.init))} if chosen.init else {})
    train_once(chosen.data, chosen.out / "default", common)
    default = score_run(chosen.out / "default", chosen.data)
    table = [make_row("default", chosen.data, chosen.out / "default", common, default)]
    for name, options in rows.items():
        run = chosen.out / name.replace(": ", "-").replace(" ", "-")
        table.append(make_row(name, chosen.data, run, (*common, *options), default))
    notes = (
        "# What helps",
        "",
        "    python benchmarks/what_helped.py DATA OUT --init RUN",
        "",
        f"Trained on `{chosen.data.name}` ({describe_course(chosen)}), one seed; test cases with",
        "something to find. The third column is the mean difference on the same cases with its interval: above zero",
        "is better than the default; an interval that holds zero says that this data set cannot tell.",
    )
    write_results(chosen.out, "what-helped", notes, HEADER, table)


if __name__ == "__main__":
    main()
