"""The study: take trials from the journal until there are enough, and leave the files that say what came of them.

STUDY/journal.log  everything that was tried, by all processes
STUDY/trials/NNNN  the run folder of a trial
STUDY/study.json   the plan, all trials, the front and the pick
STUDY/trials.csv   one line per trial
STUDY/front.png    validation Dice against work
STUDY/front.md     the front as a table, and the command that trains the pick
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeseg.core.errors import RunError
from edgeseg.core.files import write_bytes, write_json, write_text
from edgeseg.core.schema import to_plain
from edgeseg.data.dataset import fingerprint_dataset, open_dataset
from edgeseg.model.losses import find_loss
from edgeseg.trials.results import RUNNING, count_state
from edgeseg.tune.journal import Journal
from edgeseg.tune.picture import draw_trials
from edgeseg.tune.results import TrialRow, find_front, pick_trial
from edgeseg.tune.space import StudyPlan
from edgeseg.tune.tables import name_training, write_csv, write_markdown
from edgeseg.tune.trial import run_trial

STUDY, TABLE, PICTURE, FRONT = "study.json", "trials.csv", "front.png", "front.md"


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
        command = name_training(self.data, self.out, self.plan.split, pick) if pick is not None else None
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
