r"""How long a training takes to its Dice: finished cross-validations of the same data, in one table.

    python benchmarks/training_time.py OUT --done default=FOLDS --done shorter=FOLDS ...

FOLDS is what `edgeseg train DATA --folds 5 --out FOLDS ...` made. The first one is what the others are compared with:
test Dice by case, each judged by the network that has not seen its group, in brackets 95% intervals (bootstrap over
groups). Minutes are those of all folds, from their histories, validation included. The target of a fold is the
validation Dice at which the first one's chosen epoch stands, averaged over as many epochs as that choice was; the
column beside says in how many folds, and after how many minutes of these folds, a training came within 0.005 of it.
--patience N adds what early stopping would have made of the first one's histories: the epochs up to the stop are the
same, so the network is the same where the chosen epoch is. Writes OUT/training-time.md and .json.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from fold_figures import Figures, mean_of
from folds import named, read_options
from trained import show_estimate, write_results

from edgeseg.training.loop import TrainingSchedule
from edgeseg.training.validation import EpochResult, best_result, read_history

# Of the validation Dice, which is measured on a few dozen cases.
NEAR = 0.005
HEADER = (
    *("recipe", "minutes", "of the first", "s an epoch, first and last", "target met in", "minutes until then"),
    *("Dice", "Dice, against the first"),
)


@dataclass(frozen=True)
class Trained:
    """A finished cross-validation."""

    name: str
    command: str
    histories: tuple[tuple[EpochResult, ...], ...]
    figures: Figures

    @property
    def minutes(self) -> float:
        """Sum up the time of all epochs of all folds."""
        return sum(row.seconds for history in self.histories for row in history) / 60


def read_trained(name: str, folder: Path) -> Trained:
    """Read a finished cross-validation."""
    runs = sorted(folder.glob("fold-*[0-9]"))
    if not runs:
        raise SystemExit(f"expected finished folds in {folder}, got none")
    histories = tuple(tuple(read_history(run)) for run in runs)
    return Trained(name, read_options(folder), histories, read_dice(folder / "cases.csv"))


def read_dice(path: Path) -> Figures:
    """Read the Dice of every test case, averaged over its classes; nan where there is nothing to find."""
    dice: dict[tuple[str, str], list[float]] = defaultdict(list)
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            dice[row["stem"], row["group"]] += [float(row["dice"])] if row["dice"] else []
    cases = sorted(dice)
    values = np.array([np.mean(dice[case]) if dice[case] else np.nan for case in cases])
    return Figures(tuple(stem for stem, _ in cases), tuple(group for _, group in cases), {"dice": mean_of(values)})


def steady_dice(history: Sequence[EpochResult], seen: int | None = None) -> list[float]:
    """Average the validation Dice over the epochs that the choice of the best epoch averages over.

    Args:
        history: All epochs.
        seen: How many of them there were until a stop; None is all.
    """
    window = TrainingSchedule(len(history), 1.0).window
    dice = [row.validation_dice for row in history[:seen]]
    return [float(np.mean(dice[max(0, end - window) : end])) for end in range(1, len(dice) + 1)]


def reach_targets(trained: Trained, targets: Sequence[float]) -> list[float | None]:
    """Find after how many minutes each fold came near its target; None where it never did."""
    reached: list[float | None] = []
    for history, target in zip(trained.histories, targets, strict=True):
        epochs = [number for number, dice in enumerate(steady_dice(history), start=1) if dice >= target - NEAR]
        reached.append(sum(row.seconds for row in history[: epochs[0]]) / 60 if epochs else None)
    return reached


def stop_early(trained: Trained, patience: int) -> tuple[str, ...]:
    """Fill the row of a training that stops early, read off its histories."""
    minutes, same, lost = 0.0, 0, []
    for history in trained.histories:
        schedule = TrainingSchedule(len(history), 1.0, patience=patience)
        seen = next((end for end in range(1, len(history)) if schedule.stops_early(history[:end])), len(history))
        chosen, whole = (best_result(rows, schedule.window) for rows in (history[:seen], history))
        minutes += sum(row.seconds for row in history[:seen]) / 60
        same += chosen.epoch == whole.epoch
        lost.append(max(steady_dice(history)) - max(steady_dice(history, seen)))
    return (
        f"{trained.name}, --patience {patience}",
        f"{minutes:.1f}",
        f"{minutes / trained.minutes:.2f}",
        "",
        f"{sum(one <= NEAR for one in lost)} of {len(lost)}",
        "",
        f"the same network in {same} of {len(lost)} folds",
        f"validation: at most -{max(lost):.4f}",
    )


def list_cells(trained: Trained, first: Trained) -> tuple[str, ...]:
    """Fill one row."""
    if len(trained.histories) != len(first.histories):
        raise SystemExit(f"expected as many folds as {first.name} has, got {len(trained.histories)} of {trained.name}")
    targets = [max(steady_dice(history)) for history in first.histories]
    reached = [minutes for minutes in reach_targets(trained, targets) if minutes is not None]
    ends = [median(history[place].seconds for history in trained.histories) for place in (1, -1)]
    against = "" if trained is first else f"{show_estimate(trained.figures.compare(first.figures)['dice'])}"
    return (
        trained.name,
        f"{trained.minutes:.1f}",
        f"{trained.minutes / first.minutes:.2f}",
        f"{ends[0]:.2f}, {ends[1]:.2f}",
        f"{len(reached)} of {len(targets)}",
        f"{sum(reached):.1f}" if reached else "",
        show_estimate(trained.figures.estimate()["dice"]),
        against,
    )


def main() -> None:
    """Read the cross-validations, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--done", type=named, action="append", required=True, metavar="NAME=FOLDS")
    parser.add_argument("--patience", type=int, nargs="*", default=[], help="of the first one, read off its histories")
    chosen = parser.parse_args()
    trained = [read_trained(name, Path(folder)) for name, folder in chosen.done]
    rows = [list_cells(one, trained[0]) for one in trained]
    rows += [stop_early(trained[0], patience) for patience in chosen.patience]
    notes = [
        "# Time of a training to its Dice",
        "",
        f"{len(trained[0].histories)} folds by group. Minutes of all folds together; the target of a fold is the first",
        f"row's validation Dice, and counts as met within {NEAR}.",
        "",
        *(f"- {one.name}: `{one.command}`" for one in trained),
    ]
    write_results(chosen.out, "training-time", notes, HEADER, rows)


if __name__ == "__main__":
    main()
