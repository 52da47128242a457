"""The study: take trials from the journal until there are enough, and leave the files that say what came of them.

STUDY/journal.log  everything that was tried, by all processes
STUDY/trials/NNNN  the run folder of a trial
STUDY/study.json   the plan, all trials, the front and the pick
STUDY/trials.csv   one line per trial
STUDY/front.png    validation Dice against work
STUDY/front.md     the front as a table, and the command that trains the pick
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from edgeseg.core.card import SplitSpec
from edgeseg.core.errors import RunError
from edgeseg.core.files import format_rows, write_bytes, write_json, write_text
from edgeseg.core.schema import to_plain
from edgeseg.data.dataset import fingerprint_dataset, open_dataset
from edgeseg.frame.images import ACCENT, FAINT, SOFT
from edgeseg.model.losses import find_loss
from edgeseg.report.plots import draw_png
from edgeseg.search.networks import Journal, StudyPlan, TrialRow, find_front, pick_trial, run_trial
from edgeseg.search.trials import FINISHED, RUNNING, count_state

COLUMNS = ("trial", "model", "size", "stem", "loss", "learning rate", "million MACs", "validation Dice")
STUDY, TABLE, PICTURE, FRONT = "study.json", "trials.csv", "front.png", "front.md"


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


def train_command(data: Path, study: Path, split: SplitSpec, pick: TrialRow) -> str:
    """Name the command that trains the pick with all epochs, on the same division of the cases."""
    words = ["edgeseg", "train", str(data), "--out", f"{study}-best", "--model", pick.model, "--size", str(pick.size)]
    words += ["--stem", pick.stem, "--loss", pick.loss, "--learning-rate", f"{pick.learning_rate:g}"]
    words += ["--seed", str(split.seed)]
    for option, value in (("--layout", split.layout), ("--group-pattern", split.group_pattern)):
        words += [option, value] if value is not None else []
    return shlex.join(words)


def draw_trials(rows: Sequence[TrialRow], front: Sequence[TrialRow], pick: TrialRow | None) -> bytes:
    """Draw the finished trials as a PNG."""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        finished = _list_points([row for row in rows if row.state == FINISHED])
        axes.plot(*finished, "o", color=FAINT, markersize=4, label="trials")
        axes.step(*_list_points(front), "o-", where="post", color=SOFT, label="front")
        for row in front:
            colour = ACCENT if row == pick else SOFT
            (work,), (dice,) = _list_points([row])
            axes.plot(work, dice, "o", color=colour, label="pick" if row == pick else None)
            axes.annotate(row.label, (work, dice), (5, -11), color=colour, fontsize=8, textcoords="offset points")
        axes.set(xlabel="million MACs per frame", ylabel="validation Dice", xscale="log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.margins(x=0.2, y=0.15)
        axes.legend(frameon=False, loc="upper left")

    return draw_png(paint)


def _list_points(rows: Sequence[TrialRow]) -> tuple[list[float], list[float]]:
    return [(row.macs or 0) / 1e6 for row in rows], [row.validation_dice or 0.0 for row in rows]


@dataclass(frozen=True)
class StudyReport:
    """What a study found so far."""

    data_fingerprint: str
    plan: StudyPlan
    trials: tuple[TrialRow, ...]
    front: tuple[TrialRow, ...]
    pick: TrialRow | None
    command: str | None
    """Trains the pick for real."""


@dataclass(frozen=True)
class _Worker:
    """One process's share in a study."""

    data: Path
    out: Path
    plan: StudyPlan
    fingerprint: str
    journal: Journal

    def run_next(self, trials: int) -> bool:
        """Run one more trial and renew the study's files; says whether there was one to run."""
        with self.journal.claim(trials) as claim:
            if claim is None:
                return False
            result = run_trial(self.data, claim.folder, self.plan, claim.options, self.fingerprint)
            self.journal.finish(claim, result)
        self.report()
        return True

    def report(self) -> StudyReport:
        """Write the study's files as the trials stand now."""
        with self.journal.locked():
            report = self._summarise(self.journal.read_rows())
            write_json(self.out / STUDY, to_plain(report))
            write_text(self.out / TABLE, write_csv(report.trials))
            write_text(self.out / FRONT, write_markdown(report.front, report.pick, report.command))
            if report.front:
                write_bytes(self.out / PICTURE, draw_trials(report.trials, report.front, report.pick))
        return report

    def _summarise(self, rows: list[TrialRow]) -> StudyReport:
        front = find_front(rows)
        pick = pick_trial(front)
        command = train_command(self.data, self.out, self.plan.split, pick) if pick is not None else None
        return StudyReport(self.fingerprint, self.plan, tuple(rows), front, pick, command)


def run_study(data: Path, out: Path, plan: StudyPlan, trials: int) -> StudyReport:
    """Search, or go on with a search; other processes may do the same at the same time.

    Args:
        data: Labelled images.
        out: The study's folder.
        plan: What is searched.
        trials: How many trials there shall be in all, over all processes.
    """
    for loss in plan.space.losses:
        find_loss(loss)
    fingerprint = fingerprint_dataset(open_dataset(data, plan.split.layout, plan.split.group_pattern))
    worker = _Worker(data, out, plan, fingerprint, Journal(out, data, plan, fingerprint))
    worker.journal.run_all(trials, worker.run_next)
    report = worker.report()
    if not report.front and not count_state(report.trials, RUNNING):
        raise RunError(
            f"Expected at least one trial of {out} to be finished, got none: {_name_failure(report.trials)}",
            "Begin a new study with another --out and lower --learning-rates or smaller --sizes.",
        )
    return report


def _name_failure(rows: tuple[TrialRow, ...]) -> str:
    return next((row.sentence for row in rows if row.sentence), "every one was interrupted.")
