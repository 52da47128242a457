"""The journal of a search over compressions: each trial is a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from optuna.trial import FrozenTrial

from edgeseg.compress.resume import fingerprint_run
from edgeseg.core.errors import RunError
from edgeseg.core.schema import to_plain
from edgeseg.search.results import FileScore, SearchRow
from edgeseg.search.space import FIRST, PARAMETERS, Choice, propose_choice
from edgeseg.trials.journal import TrialJournal
from edgeseg.trials.opening import readable_journal
from edgeseg.trials.states import SECONDS, judge_state
from edgeseg.trials.task import Task

PARENT_MS = "parent_ms"
_RUN = "run"


class SearchJournal(TrialJournal[Choice]):
    """The files that were tried for one run."""

    def __init__(self, folder: Path, run: Path, seed: int, threads: int) -> None:
        """Open a search or begin it.

        Args:
            folder: The search's folder.
            run: The run to compress; a search over another one is refused.
            seed: Leads the search.
            threads: CPU threads of the timing; a search with others is refused.
        """
        super().__init__(folder, _name_task(seed, threads))
        with self.locked():
            _refuse_other_run(folder, run, self.recall(_RUN, fingerprint_run(run)))

    def read_rows(self) -> list[SearchRow]:
        """Read how the trials stand; milliseconds are those of a machine on which the int8 file takes its median time.

        Trials are timed hours apart, on a machine that is not always equally busy; shares of the int8 file's time in
        the same minute can be compared.
        """
        with readable_journal(self.path):
            trials = self.list_trials()
            parent = [trial.user_attrs[PARENT_MS] for trial in trials if PARENT_MS in trial.user_attrs]
            parent_ms = float(np.median(parent)) if parent else 0.0
            return [_read_row(trial, parent_ms) for trial in trials]


def _name_task(seed: int, threads: int) -> Task[Choice]:
    return Task(
        plan={"threads": threads},
        seed=seed,
        directions=("maximize", "minimize", "minimize"),
        parameters=PARAMETERS,
        propose=propose_choice,
        first=tuple(to_plain(choice) for choice in FIRST),
    )


def _refuse_other_run(folder: Path, run: Path, begun: str) -> None:
    if fingerprint_run(run) != begun:
        raise RunError(
            f"Expected the run that the search in {folder} was begun with, got another one or a changed one, {run}.",
            "Give that run, or begin a new search with another --out.",
        )


def _read_row(trial: FrozenTrial, parent_ms: float) -> SearchRow:
    state, sentence = judge_state(trial)
    score = None
    if trial.values is not None:
        dice, relative, size = trial.values
        score = FileScore(dice, relative, int(size))
    return SearchRow(
        number=trial.number,
        state=state,
        choice=Choice(**trial.params),
        score=score,
        ms=None if score is None else round(score.relative * parent_ms, 4),
        seconds=trial.user_attrs.get(SECONDS),
        sentence=sentence,
    )
