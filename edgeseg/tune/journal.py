"""The study on disk: Optuna proposes, its journal remembers, and processes share it through one lock.

Every write happens under STUDY/study.lock, and who runs a trial holds STUDY/trials/NNNN.lock. A trial that is said to
run while nobody holds its lock was interrupted: it is marked so, and its values are tried again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from edgeseg.core.errors import OutputError, RunError
from edgeseg.core.files import explained_writes, partial_path
from edgeseg.core.schema import to_plain
from edgeseg.train.run import TrainOptions
from edgeseg.tune.locks import hold_lock, is_held
from edgeseg.tune.results import FAILED, FINISHED, RUNNING, TrialResult, TrialRow, count_state
from edgeseg.tune.space import StudyPlan, refuse_changed_data
from edgeseg.tune.values import ATTEMPT, ATTEMPTS, SECONDS, SENTENCE, is_begun, propose_options, read_row

JOURNAL, LOCK, TRIALS = "journal.log", "study.lock", "trials"
_PLAN, _DATA = "plan", "data_fingerprint"

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True)
class Claim:
    """A trial that this process runs."""

    trial: optuna.Trial
    options: TrainOptions
    folder: Path


class Journal:
    """A study that several processes may work on at the same time."""

    def __init__(self, folder: Path, data: Path, plan: StudyPlan, fingerprint: str) -> None:
        """Open a study or begin it.

        Args:
            folder: The study's folder.
            data: Where the labelled images lie, for messages.
            plan: What is searched; a study that was begun with another plan is refused.
            fingerprint: What the labelled images are; a study of other ones is refused.
        """
        _refuse_strangers(folder)
        self._folder, self._plan = folder, plan
        with explained_writes(folder):
            (folder / TRIALS).mkdir(parents=True, exist_ok=True)
        with self.locked():
            _mend_journal(folder / JOURNAL)
            self._study = _open_study(folder / JOURNAL)
            _refuse_other_plan(self._study, folder, to_plain(plan))
            refuse_changed_data(data, self._study.user_attrs.get(_DATA, fingerprint), fingerprint)
            self._remember({_PLAN: to_plain(plan), _DATA: fingerprint})

    def _remember(self, attributes: dict[str, Any]) -> None:
        for key in attributes.keys() - self._study.user_attrs.keys():
            self._study.set_user_attr(key, attributes[key])

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep the other processes from changing the study within the block."""
        with hold_lock(self._folder / LOCK):
            yield

    def read_rows(self) -> list[TrialRow]:
        """Read how the trials stand."""
        return [read_row(trial) for trial in self._study.get_trials(deepcopy=False) if is_begun(trial)]

    @contextmanager
    def claim(self, trials: int) -> Iterator[Claim | None]:
        """Take the next trial and hold it within the block; None when the study has as many as were asked for."""
        with ExitStack() as held:
            with self.locked():
                self._retry_interrupted()
                enough = count_state(self.read_rows(), FINISHED, FAILED, RUNNING) >= trials
                claim = None if enough else self._ask()
                if claim is not None:
                    held.enter_context(hold_lock(self._name_lock(claim.trial.number)))
            yield claim

    def finish(self, claim: Claim, result: TrialResult) -> None:
        """Write down what came of a trial."""
        with self.locked():
            claim.trial.set_user_attr(SECONDS, result.seconds)
            if result.score is None:
                claim.trial.set_user_attr(SENTENCE, result.sentence)
                self._study.tell(claim.trial, state=TrialState.FAIL)
                shutil.rmtree(partial_path(claim.folder), ignore_errors=True)
            else:
                self._study.tell(claim.trial, (result.score.validation_dice, result.score.macs))
            self._name_lock(claim.trial.number).unlink()

    def _ask(self) -> Claim:
        """Ask for the next trial; by seed and number alone, so that a continued study proposes nothing twice."""
        number = len(self._study.get_trials(deepcopy=False))
        seed = int(np.random.SeedSequence((self._plan.seed, number)).generate_state(1)[0])
        self._study.sampler = optuna.samplers.TPESampler(seed=seed)
        trial = self._study.ask()
        return Claim(trial, propose_options(trial, self._plan), self._name_folder(trial.number))

    def _retry_interrupted(self) -> None:
        for trial in self._study.get_trials(states=(TrialState.RUNNING,)):
            if is_held(self._name_lock(trial.number)):
                continue
            self._study.tell(trial.number, state=TrialState.FAIL)
            self._discard(trial.number)
            attempt = trial.user_attrs.get(ATTEMPT, 1)
            if attempt < ATTEMPTS:
                self._study.enqueue_trial(trial.params, user_attrs={ATTEMPT: attempt + 1})

    def _discard(self, number: int) -> None:
        folder = self._name_folder(number)
        for path in (folder, partial_path(folder)):
            shutil.rmtree(path, ignore_errors=True)
        self._name_lock(number).unlink(missing_ok=True)

    def _name_folder(self, number: int) -> Path:
        return self._folder / TRIALS / f"{number:04d}"

    def _name_lock(self, number: int) -> Path:
        return self._folder / TRIALS / f"{number:04d}.lock"


def _refuse_strangers(folder: Path) -> None:
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if found - {LOCK, TRIALS} and JOURNAL not in found:
        raise OutputError(f"Expected a study or an empty folder at {folder}, got other files.", "Name another --out.")


def _mend_journal(path: Path) -> None:
    """Take away what a process that was killed while it wrote has left: half a line, and Optuna's own lock."""
    path.with_name(path.name + ".lock").unlink(missing_ok=True)
    if path.is_file() and not (text := path.read_bytes()).endswith(b"\n"):
        os.truncate(path, text.rfind(b"\n") + 1)


def _open_study(path: Path) -> optuna.Study:
    storage = JournalStorage(JournalFileBackend(str(path)))
    return optuna.create_study(
        storage=storage, study_name="edgeseg", directions=("maximize", "minimize"), load_if_exists=True
    )


def _refuse_other_plan(study: optuna.Study, folder: Path, plan: dict[str, Any]) -> None:
    begun = study.user_attrs.get(_PLAN, plan)
    flat, wanted = ({"epochs": table["epochs"], **table["space"], **table["split"]} for table in (begun, plan))
    differing = next((name for name in wanted if wanted[name] != flat[name]), None)
    if differing is not None:
        raise RunError(
            f"Expected the search that {folder} was begun with, {differing} {flat[differing]}, "
            f"got {wanted[differing]}.",
            "Repeat the options it was begun with (--trials may grow), or name another --out.",
        )
