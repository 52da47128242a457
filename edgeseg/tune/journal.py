"""The journal of a search over networks: each trial is a training."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from edgeseg.core.schema import to_plain
from edgeseg.train.run import TrainOptions
from edgeseg.trials.journal import TrialJournal
from edgeseg.trials.opening import readable_journal
from edgeseg.trials.task import Task
from edgeseg.tune.results import TrialRow
from edgeseg.tune.space import StudyPlan, refuse_changed_data
from edgeseg.tune.values import PARAMETERS, propose_options, read_row

_DATA = "data_fingerprint"


class Journal(TrialJournal[TrainOptions]):
    """A study that several processes may work on at the same time."""

    def __init__(self, folder: Path, data: Path, plan: StudyPlan, fingerprint: str) -> None:
        """Open a study or begin it.

        Args:
            folder: The study's folder.
            data: Where the labelled images lie, for messages.
            plan: What is searched; a study that was begun with another plan is refused.
            fingerprint: What the labelled images are; a study of other ones is refused.
        """
        super().__init__(folder, _name_task(plan))
        with self.locked():
            refuse_changed_data(data, self.recall(_DATA, fingerprint), fingerprint)

    def read_rows(self) -> list[TrialRow]:
        """Read how the trials stand."""
        with readable_journal(self.path):
            return [read_row(trial) for trial in self.list_trials()]


def _name_task(plan: StudyPlan) -> Task[TrainOptions]:
    return Task(
        plan={"epochs": plan.epochs, **to_plain(plan.space), **to_plain(plan.split)},
        seed=plan.seed,
        directions=("maximize", "minimize"),
        parameters=PARAMETERS,
        propose=partial(propose_options, plan=plan),
    )
