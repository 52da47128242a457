"""A study: a folder of trials that one process or several work on, that survives kills and can be continued.

FOLDER/journal.log       what was tried, by all processes of this machine; with --storage a database has it instead
FOLDER/study.lock        held while a process reads or writes the journal
FOLDER/trials/NNNN       what a trial has made
FOLDER/trials/NNNN.lock  held while the trial runs
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Generic

from edgeseg.core.errors import EdgesegError, OutputError, RecipeError, RunError, TrainingError
from edgeseg.core.files import explained_writes, partial_path
from edgeseg.core.marks import remove_folder
from edgeseg.core.progress import progress_bar
from edgeseg.core.schema import from_plain, to_plain
from edgeseg.model.keras import keras, tf
from edgeseg.search.journal import (
    JOURNAL,
    LOCK,
    TRIALS,
    Ending,
    Header,
    JournalStore,
    Record,
    Store,
    is_held,
    readable_journal,
    trial_lock,
)
from edgeseg.search.results import FAILED, FINISHED, INTERRUPTED, RUNNING, ChoiceT, ScoreT, Trial, count_state

# A trial whose process ended this often is not tried again: the system kills what needs too much memory.
ATTEMPTS = 3
OFTEN_INTERRUPTED = f"Its process ended before it was finished, {ATTEMPTS} times; perhaps the memory is not enough."
# Errors that end a trial; all others end the search.
TRIAL_FAILURES = (TrainingError, RecipeError, MemoryError, tf.errors.OpError)


@dataclass(frozen=True)
class Problem(Generic[ChoiceT, ScoreT]):
    """What a study searches."""

    kind: str
    choice: type[ChoiceT]
    score: type[ScoreT]
    propose: Callable[[Sequence[Trial[ChoiceT, ScoreT]]], ChoiceT | None]
    """Proposes what to try after these trials; None where nothing new is left."""
    plan: Mapping[str, Any]
    """A study that was begun with another plan is refused."""
    source: str
    """Fingerprint of the data or the run that the trials use; the caller compares it with the study's."""


@dataclass(frozen=True)
class Claim(Generic[ChoiceT]):
    """A trial that this process runs."""

    number: int
    choice: ChoiceT
    folder: Path


@dataclass(frozen=True)
class TrialResult(Generic[ScoreT]):
    """The score of a trial, or why it failed."""

    seconds: float
    score: ScoreT | None = None
    sentence: str = ""


class Study(Generic[ChoiceT, ScoreT]):
    """A folder of trials that several processes may work on at the same time; `source` is what it was begun on."""

    def __init__(self, folder: Path, problem: Problem[ChoiceT, ScoreT], store: Store | None = None) -> None:
        """Open a study, or begin it.

        Args:
            folder: What the trials make goes here.
            problem: What is searched.
            store: Where the trials are kept; by default in a journal in the folder.
        """
        _refuse_other_files(folder, journal=store is None)
        self._folder, self._problem = folder, problem
        self._store: Store = store or JournalStore(folder)
        with explained_writes(folder):
            (folder / TRIALS).mkdir(parents=True, exist_ok=True)
        with self._store.locked():
            wanted = Header(problem.kind, to_plain(problem.plan), problem.source)
            begun = self._store.open(wanted)
            _refuse_other_plan(self._store.name, begun, wanted)
            self.source = begun.source

    def run(
        self,
        total: int,
        run_trial: Callable[[Claim[ChoiceT]], TrialResult[ScoreT]],
        report: Callable[[], object],
    ) -> None:
        """Run trials until there are enough or nothing new is left.

        Args:
            total: How many there shall be in all, over all processes and calls.
            run_trial: Runs one.
            report: Called after each.
        """
        done = self._count_done()
        with progress_bar("Trials", max(0, total - done)) as advance:
            while True:
                with self.claim(total) as claim:
                    if claim is None:
                        return
                    self.finish(claim, run_trial(claim))
                report()
                before, done = done, self._count_done()
                for _ in range(done - before):  # more than one where other processes work on the study, too
                    advance("")

    @contextmanager
    def claim(self, total: int) -> Iterator[Claim[ChoiceT] | None]:
        """Take the next trial and hold it within the block; None where there are enough or nothing new is left."""
        with ExitStack() as held:
            with self._store.locked():
                claim = self._take(total, held)
            yield claim

    def _take(self, total: int, held: ExitStack) -> Claim[ChoiceT] | None:
        while True:
            trials = self._read_trials()
            # not when the study is opened: other processes may be interrupted at any time
            self._remove_interrupted(trials)
            choice = self._choose(trials, total)
            if choice is None:
                return None
            beginning = held.enter_context(ExitStack())
            number = self._store.begin(to_plain(choice), beginning)
            if not self._store.shared or self._is_first(number, choice, total):
                return Claim(number, choice, self.trial_folder(number))
            self._store.withdraw(number)
            beginning.close()

    def _is_first(self, number: int, choice: ChoiceT, total: int) -> bool:
        """Say whether no trial with a lower number is the same one, or the last that is needed."""
        earlier = [trial for trial in self._read_trials() if trial.number < number and trial.state != INTERRUPTED]
        return len(earlier) < total and all(trial.choice != choice for trial in earlier)

    def finish(self, claim: Claim[ChoiceT], result: TrialResult[ScoreT]) -> None:
        """Write down the result of a trial."""
        with self._store.locked():
            self._store.end(Ending(claim.number, result.seconds, to_plain(result.score), result.sentence))
            if result.score is None:
                # a training that fails keeps what it has for a resumption, which no trial ever gets
                remove_folder(partial_path(claim.folder))
            trial_lock(self._folder, claim.number).unlink()

    @contextmanager
    def locked(self) -> Iterator[list[Trial[ChoiceT, ScoreT]]]:
        """Give the trials, and keep other processes from changing them within the block."""
        with self._store.locked():
            yield self._read_trials()

    def trial_folder(self, number: int) -> Path:
        """Name the folder of a trial."""
        return self._folder / TRIALS / f"{number:04d}"

    def _count_done(self) -> int:
        with self.locked() as trials:
            return count_state(trials, FINISHED, FAILED)

    def _read_trials(self) -> list[Trial[ChoiceT, ScoreT]]:
        records = self._store.read()
        with readable_journal(self._store.name):
            choices = [from_plain(self._problem.choice, record.choice) for record in records]
            return [self._make_trial(record, choices[: place + 1]) for place, record in enumerate(records)]

    def _make_trial(self, record: Record, choices: Sequence[ChoiceT]) -> Trial[ChoiceT, ScoreT]:
        """Tell finished, failed, running and interrupted trials apart; `choices` are those up to this one."""
        choice, ended = choices[-1], record.ended
        if ended is not None:
            score = None if ended.score is None else from_plain(self._problem.score, ended.score)
            state = FAILED if score is None else FINISHED
            return Trial(record.number, state, choice, score, ended.seconds, ended.sentence)
        if record.running:
            return Trial(record.number, RUNNING, choice)
        if choices.count(choice) >= ATTEMPTS:
            return Trial(record.number, FAILED, choice, sentence=OFTEN_INTERRUPTED)
        return Trial(record.number, INTERRUPTED, choice)

    def _choose(self, trials: Sequence[Trial[ChoiceT, ScoreT]], total: int) -> ChoiceT | None:
        """Choose what to try next: first of all what was interrupted and not yet tried again."""
        if count_state(trials, FINISHED, FAILED, RUNNING) >= total:
            return None
        choices = [trial.choice for trial in trials]
        for place, trial in enumerate(trials):
            if trial.state == INTERRUPTED and trial.choice not in choices[place + 1 :]:
                return trial.choice
        return self._problem.propose(trials)

    def _remove_interrupted(self, trials: Sequence[Trial[ChoiceT, ScoreT]]) -> None:
        for trial in trials:
            folder, lock = self.trial_folder(trial.number), trial_lock(self._folder, trial.number)
            # a process that lost the database works on, and holds its lock
            if trial.seconds is None and trial.state != RUNNING and not is_held(lock):
                remove_folder(folder)
                remove_folder(partial_path(folder))
                lock.unlink(missing_ok=True)


def try_trial(measure: Callable[[], ScoreT]) -> TrialResult[ScoreT]:
    """Run what a trial does; an error that concerns this trial alone becomes its result."""
    start = monotonic()
    try:
        score = measure()
    except TRIAL_FAILURES as error:
        return TrialResult(round(monotonic() - start, 1), sentence=_explain_failure(error))
    finally:
        keras.backend.clear_session()  # Keras keeps every network in memory until then
    return TrialResult(round(monotonic() - start, 1), score)


def _explain_failure(error: BaseException) -> str:
    if isinstance(error, EdgesegError):
        return error.message
    first = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {first}" if first else "The memory was not enough."


def _refuse_other_files(folder: Path, journal: bool) -> None:
    """Refuse a folder of something else, or of a study whose trials are kept in the other way."""
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if JOURNAL in found and not journal:
        raise OutputError(
            f"Expected a folder without a journal, since a database keeps the trials, got {folder} with one.",
            "Leave out --storage to go on with it, or name another --out.",
        )
    own = TRIALS in found and not journal
    if found - {LOCK, TRIALS} and JOURNAL not in found and not own:
        raise OutputError(f"Expected a study or an empty folder at {folder}, got other files.", "Name another --out.")


def _refuse_other_plan(name: str, begun: Header, wanted: Header) -> None:
    """Name the first difference between the plan of a study and the one that is asked for."""
    old, new = {"kind": begun.kind, **begun.plan}, {"kind": wanted.kind, **wanted.plan}
    differing = next((name for name in new if new[name] != old.get(name)), None)
    if differing is not None:
        raise RunError(
            f"Expected the search that {name} was begun with, {differing} {old.get(differing)}, got {new[differing]}.",
            "Repeat the options it was begun with (--trials may grow), or name another --out; in a database, another "
            "--study.",
        )
