"""The trials on disk: Optuna proposes, its journal remembers, and processes share it through one lock.

Every write happens under FOLDER/study.lock, and who runs a trial holds FOLDER/trials/NNNN.lock. A trial that is said to
run while nobody holds its lock was interrupted: it is marked so, and its values are tried again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Generic

import numpy as np
from optuna.samplers import RandomSampler, TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState

from edgeseg.core.files import explained_writes, partial_path
from edgeseg.core.marks import remove_folder
from edgeseg.core.progress import progress_bar
from edgeseg.core.schema import to_plain
from edgeseg.trials.locks import hold_lock, is_held
from edgeseg.trials.opening import JOURNAL, LOCK, TRIALS, mend_journal, open_study, refuse_other_plan, refuse_strangers
from edgeseg.trials.results import FAILED, FINISHED, INTERRUPTED, RUNNING, TrialResult
from edgeseg.trials.states import ATTEMPT, ATTEMPTS, REPEATED, SECONDS, SENTENCE, judge_state
from edgeseg.trials.task import Claim, Options, Task

PROPOSALS = 64
"""So often chance is asked for something new; when it finds nothing, there is hardly anything left to try."""
_PLAN = "plan"
Sampler = type[TPESampler] | type[RandomSampler]


class TrialJournal(Generic[Options]):
    """A folder of trials that several processes may work on at the same time."""

    def __init__(self, folder: Path, task: Task[Options]) -> None:
        """Open a folder of trials or begin it."""
        refuse_strangers(folder)
        self._folder, self._task = folder, task
        with explained_writes(folder):
            (folder / TRIALS).mkdir(parents=True, exist_ok=True)
        with self.locked():
            mend_journal(folder / JOURNAL)
            self._study = open_study(folder / JOURNAL, task.directions)
            plan = to_plain(task.plan)
            refuse_other_plan(folder, self.recall(_PLAN, plan), plan)

    @property
    def path(self) -> Path:
        """Name the file in which everything is remembered."""
        return self._folder / JOURNAL

    def recall(self, name: str, value: Any) -> Any:
        """Remember a value when the folder is begun, and give that one ever after; call it under the lock."""
        if name not in self._study.user_attrs:
            self._study.set_user_attr(name, value)
        return self._study.user_attrs[name]

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep the other processes from changing the trials within the block."""
        with hold_lock(self._folder / LOCK):
            yield

    def list_trials(self) -> list[FrozenTrial]:
        """List the trials that were begun."""
        return [trial for trial in self._study.get_trials(deepcopy=False) if self._is_begun(trial)]

    def count(self, *states: str) -> int:
        """Count the trials in any of these states."""
        return sum(judge_state(trial)[0] in states for trial in self.list_trials())

    @contextmanager
    def claim(self, trials: int) -> Iterator[Claim[Options] | None]:
        """Take the next trial and hold it within the block; None when there are enough or nothing new is left."""
        with ExitStack() as held:
            with self.locked():
                self._retry_interrupted()
                claim = None if self.count(FINISHED, FAILED, RUNNING) >= trials else self._ask()
                if claim is not None:
                    held.enter_context(hold_lock(self._name_lock(claim.trial.number)))
            yield claim

    def finish(self, claim: Claim[Options], result: TrialResult) -> None:
        """Write down what came of a trial."""
        with self.locked():
            for name, value in {SECONDS: result.seconds, **result.notes}.items():
                claim.trial.set_user_attr(name, value)
            if result.score is None:
                claim.trial.set_user_attr(SENTENCE, result.sentence)
                self._study.tell(claim.trial, state=TrialState.FAIL)
                remove_folder(partial_path(claim.folder))
            else:
                self._study.tell(claim.trial, result.score.values)
            self._name_lock(claim.trial.number).unlink()

    def run_all(self, trials: int, run_next: Callable[[int], bool]) -> None:
        """Run trials until there are as many as asked for.

        Args:
            trials: How many there shall be in all, over all processes.
            run_next: Runs one more, and says whether there was one to run.
        """
        done = self.count(FINISHED, FAILED)
        with progress_bar("Trials", max(0, trials - done)) as advance:
            while run_next(trials):
                before, done = done, self.count(FINISHED, FAILED)
                for _ in range(done - before):
                    advance("")

    def _ask(self) -> Claim[Options] | None:
        """Ask for the next trial; what was tried before would come out the same, and chance finds something else."""
        self._queue_first()
        samplers: list[Sampler] = [TPESampler, *[RandomSampler] * PROPOSALS]
        for sampler in samplers:
            trial = self._propose(sampler)
            options = self._task.propose(trial)
            if not self._is_repeated(trial):
                return Claim(trial, options, self.name_folder(trial.number))
            trial.set_user_attr(REPEATED, True)
            self._study.tell(trial, state=TrialState.FAIL)
        return None

    def _queue_first(self) -> None:
        """Queue the next of the parameters that come first, behind what waits to be tried again."""
        trials = self._study.get_trials(deepcopy=False)
        tried = [trial.params for trial in trials]
        untried = [values for values in self._task.first if values not in tried]
        if untried and not any(trial.state == TrialState.WAITING for trial in trials):
            self._study.enqueue_trial(untried[0])

    def _propose(self, sampler: Sampler) -> Trial:
        """Let Optuna propose by seed and number alone, so that a continued search proposes nothing twice."""
        number = len(self._study.get_trials(deepcopy=False))
        seed = int(np.random.SeedSequence((self._task.seed, number)).generate_state(1)[0])
        self._study.sampler = sampler(seed=seed)
        return self._study.ask()

    def _is_repeated(self, proposed: Trial) -> bool:
        return any(
            trial.number != proposed.number and trial.params == proposed.params and judge_state(trial)[0] != INTERRUPTED
            for trial in self.list_trials()
        )

    def _is_begun(self, trial: FrozenTrial) -> bool:
        """Say whether a trial has all its values, and does not only wait to be tried and is no repetition."""
        waits = trial.state == TrialState.WAITING or REPEATED in trial.user_attrs
        return not waits and trial.params.keys() == self._task.parameters

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
        folder = self.name_folder(number)
        for path in (folder, partial_path(folder)):
            remove_folder(path)
        self._name_lock(number).unlink(missing_ok=True)

    def name_folder(self, number: int) -> Path:
        """Name the folder of a trial."""
        return self._folder / TRIALS / f"{number:04d}"

    def _name_lock(self, number: int) -> Path:
        return self._folder / TRIALS / f"{number:04d}.lock"
