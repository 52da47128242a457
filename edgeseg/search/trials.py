"""What a folder's trials look for, and one of them in work."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Generic, Literal, Protocol, TypeVar

import numpy as np
import optuna
from optuna.samplers import RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from edgeseg.core.errors import EdgesegError, OutputError, RecipeError, RunError, TrainingError
from edgeseg.core.files import explained_writes, partial_path
from edgeseg.core.limits import TABLE_BYTES, read_regular
from edgeseg.core.marks import remove_folder
from edgeseg.core.progress import progress_bar
from edgeseg.core.schema import to_plain
from edgeseg.model.keras import tf

Options = TypeVar("Options")
Direction = Literal["maximize", "minimize"]
FINISHED, FAILED, RUNNING, INTERRUPTED = "finished", "failed", "running", "interrupted"
ATTEMPTS = 3
OFTEN_INTERRUPTED = f"Its process ended before it was finished, {ATTEMPTS} times; perhaps the memory is not enough."
ATTEMPT, SECONDS, SENTENCE, REPEATED = "attempt", "seconds", "sentence", "repeated"
"""What a trial's attributes in the journal are called."""
TRIAL_FAILURES = (TrainingError, RecipeError, MemoryError, tf.errors.OpError)
JOURNAL, LOCK, TRIALS = "journal.log", "study.lock", "trials"
STUDY = "edgeseg"
_OWN_LOCK = f"{JOURNAL}.lock"
"""Optuna's own lock, which a process that ended may have left; what counts is LOCK, which the system opens then."""
PROPOSALS = 64
"""So often chance is asked for something new; when it finds nothing, there is hardly anything left to try."""
_PLAN = "plan"
Sampler = type[TPESampler] | type[RandomSampler]


@dataclass(frozen=True)
class Task(Generic[Options]):
    """What a folder's trials look for."""

    plan: Mapping[str, Any]
    """What makes two searches the same one, by name; a folder that was begun with another plan is refused."""
    seed: int
    """Leads the proposals."""
    directions: tuple[Direction, ...]
    parameters: frozenset[str]
    propose: Callable[[Trial], Options]
    """Lets Optuna choose these parameters, and makes of them what a trial tries."""
    first: tuple[dict[str, Any], ...] = ()
    """Parameters to try before any are proposed."""


@dataclass(frozen=True)
class Claim(Generic[Options]):
    """A trial that this process runs."""

    trial: Trial
    options: Options
    folder: Path


class Score(Protocol):
    """What a finished trial is judged by."""

    @property
    def values(self) -> tuple[float, ...]:
        """Give what the journal remembers, in the order of its directions."""


class Stated(Protocol):
    """A trial as far as its state goes."""

    @property
    def state(self) -> str:
        """Name the state."""


@dataclass(frozen=True)
class TrialResult:
    """What a trial found, or why it failed."""

    seconds: float
    score: Score | None = None
    sentence: str = ""
    notes: Mapping[str, float] = field(default_factory=dict)
    """What else the journal is to remember of it."""


def count_state(rows: Sequence[Stated], *states: str) -> int:
    """Count the trials in any of these states."""
    return sum(row.state in states for row in rows)


def judge_state(trial: FrozenTrial) -> tuple[str, str]:
    """Say how a trial stands, and why where it failed."""
    if trial.state == TrialState.COMPLETE:
        return FINISHED, ""
    if trial.state == TrialState.RUNNING:
        return RUNNING, ""
    if SENTENCE in trial.user_attrs:
        return FAILED, trial.user_attrs[SENTENCE]
    if trial.user_attrs.get(ATTEMPT, 1) >= ATTEMPTS:
        return FAILED, OFTEN_INTERRUPTED
    return INTERRUPTED, ""


def explain_failure(error: BaseException) -> str:
    """Say in one sentence why a trial failed."""
    if isinstance(error, EdgesegError):
        return error.message
    first = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {first}" if first else "The memory was not enough."


@contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Hold the lock on a file within the block, after waiting for it."""
    with _open(path) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_held(path: Path) -> bool:
    """Say whether somebody holds the lock on a file."""
    if not path.exists():
        return False
    with _open(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _open(path: Path) -> IO[bytes]:
    """Open the file of a lock; what it holds does not matter, and a FIFO in its place is not waited for."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    return os.fdopen(handle, "r+b", buffering=0)


optuna.logging.set_verbosity(optuna.logging.WARNING)


def refuse_strangers(folder: Path) -> None:
    """Refuse a folder that holds something else."""
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if found - {LOCK, TRIALS, _OWN_LOCK} and JOURNAL not in found:
        raise OutputError(f"Expected a study or an empty folder at {folder}, got other files.", "Name another --out.")


def mend_journal(path: Path) -> None:
    """Take away what a process that was killed while it wrote has left: half a line, and Optuna's own lock."""
    path.with_name(_OWN_LOCK).unlink(missing_ok=True)
    if not path.exists():
        return
    text = read_regular(path, TABLE_BYTES)
    if not text.endswith(b"\n"):
        os.truncate(path, text.rfind(b"\n") + 1)


def open_study(path: Path, directions: tuple[Direction, ...]) -> optuna.Study:
    """Open Optuna's study, or begin it; a journal with lines of another hand is refused."""
    with readable_journal(path):
        storage = JournalStorage(JournalFileBackend(str(path)))
        study = optuna.create_study(storage=storage, study_name=STUDY, directions=directions, load_if_exists=True)
        if [direction.name.lower() for direction in study.directions] != list(directions):
            raise ValueError("a search for something else")
    return study


@contextmanager
def readable_journal(path: Path) -> Iterator[None]:
    """Turn what reading a damaged journal ends with into a sentence."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, AssertionError) as error:
        raise RunError(
            f"Expected the journal of a search in {path}, got a file with lines that are none: "
            f"{type(error).__name__}: {str(error).partition(chr(10))[0][:80]}.",
            "Put back the file as it was, or begin a new search with another --out.",
        ) from error


def refuse_other_plan(folder: Path, begun: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse a plan that is not the one that the folder was begun with."""
    differing = next((name for name in wanted if wanted[name] != begun.get(name)), None)
    if differing is not None:
        raise RunError(
            f"Expected the search that {folder} was begun with, {differing} {begun.get(differing)}, "
            f"got {wanted[differing]}.",
            "Repeat the options it was begun with (--trials may grow), or name another --out.",
        )


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
