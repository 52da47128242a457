"""A study: a folder of trials that one process or several work on, that survives kills and can be continued.

FOLDER/journal.log       what was tried, by all processes
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
from edgeseg.search.journal import Beginning, Ending, Header, Journal, hold_lock, is_held, readable_journal
from edgeseg.search.results import FAILED, FINISHED, INTERRUPTED, RUNNING, ChoiceT, ScoreT, Trial, count_state

JOURNAL, LOCK, TRIALS = "journal.log", "study.lock", "trials"
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

    def __init__(self, folder: Path, problem: Problem[ChoiceT, ScoreT]) -> None:
        """Open a study, or begin it."""
        _refuse_other_files(folder)
        self._folder, self._problem = folder, problem
        self._journal = Journal(folder / JOURNAL)
        with explained_writes(folder):
            (folder / TRIALS).mkdir(parents=True, exist_ok=True)
        with hold_lock(folder / LOCK):
            self._journal.repair()
            self.source = self._open().source

    def _open(self) -> Header:
        wanted = Header(self._problem.kind, to_plain(self._problem.plan), self._problem.source)
        begun = self._journal.read().header
        if begun is None:
            self._journal.append(wanted)
            return wanted
        _refuse_other_plan(self._folder, begun, wanted)
        return begun

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
            claim = None
            with self.locked() as trials:
                # not when the study is opened: other processes may be interrupted at any time
                self._remove_interrupted(trials)
                choice = self._choose(trials, total)
                if choice is not None:
                    claim = Claim(len(trials), choice, self.trial_folder(len(trials)))
                    # the lock comes first: a trial that has begun without one counts as interrupted
                    held.enter_context(hold_lock(self._trial_lock(claim.number)))
                    self._journal.append(Beginning(claim.number, to_plain(choice)))
            yield claim

    def finish(self, claim: Claim[ChoiceT], result: TrialResult[ScoreT]) -> None:
        """Write down the result of a trial."""
        with hold_lock(self._folder / LOCK):
            self._journal.append(Ending(claim.number, result.seconds, to_plain(result.score), result.sentence))
            if result.score is None:
                # a training that fails keeps what it has for a resumption, which no trial ever gets
                remove_folder(partial_path(claim.folder))
            self._trial_lock(claim.number).unlink()

    @contextmanager
    def locked(self) -> Iterator[list[Trial[ChoiceT, ScoreT]]]:
        """Give the trials, and keep other processes from changing them within the block."""
        with hold_lock(self._folder / LOCK):
            yield self._read_trials()

    def trial_folder(self, number: int) -> Path:
        """Name the folder of a trial."""
        return self._folder / TRIALS / f"{number:04d}"

    def _trial_lock(self, number: int) -> Path:
        return self._folder / TRIALS / f"{number:04d}.lock"

    def _count_done(self) -> int:
        with self.locked() as trials:
            return count_state(trials, FINISHED, FAILED)

    def _read_trials(self) -> list[Trial[ChoiceT, ScoreT]]:
        entries = self._journal.read()
        with readable_journal(self._journal.path):
            choices = [from_plain(self._problem.choice, entry.choice) for entry in entries.begun]
            ended = {entry.trial: self._make_ended(entry, choices[entry.trial]) for entry in entries.ended}
        return [ended.get(number) or self._make_unended(number, choices) for number in range(len(choices))]

    def _make_ended(self, entry: Ending, choice: ChoiceT) -> Trial[ChoiceT, ScoreT]:
        score = None if entry.score is None else from_plain(self._problem.score, entry.score)
        state = FAILED if score is None else FINISHED
        return Trial(entry.trial, state, choice, score, entry.seconds, entry.sentence)

    def _make_unended(self, number: int, choices: Sequence[ChoiceT]) -> Trial[ChoiceT, ScoreT]:
        """Tell a trial that runs from one whose process has ended by its lock."""
        choice = choices[number]
        # not by a process id in a file: the id may belong to another process by now, or to one on another machine
        if is_held(self._trial_lock(number)):
            return Trial(number, RUNNING, choice)
        if choices[: number + 1].count(choice) >= ATTEMPTS:
            return Trial(number, FAILED, choice, sentence=OFTEN_INTERRUPTED)
        return Trial(number, INTERRUPTED, choice)

    def _choose(self, trials: Sequence[Trial[ChoiceT, ScoreT]], total: int) -> ChoiceT | None:
        """Choose what to try next: first of all what was interrupted and not yet tried again."""
        if count_state(trials, FINISHED, FAILED, RUNNING) >= total:
            return None
        choices = [trial.choice for trial in trials]
        for trial in trials:
            if trial.state == INTERRUPTED and trial.choice not in choices[trial.number + 1 :]:
                return trial.choice
        return self._problem.propose(trials)

    def _remove_interrupted(self, trials: Sequence[Trial[ChoiceT, ScoreT]]) -> None:
        for trial in trials:
            if trial.seconds is None and trial.state != RUNNING:
                folder = self.trial_folder(trial.number)
                remove_folder(folder)
                remove_folder(partial_path(folder))
                self._trial_lock(trial.number).unlink(missing_ok=True)


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


def _refuse_other_files(folder: Path) -> None:
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if found - {LOCK, TRIALS} and JOURNAL not in found:
        raise OutputError(f"Expected a study or an empty folder at {folder}, got other files.", "Name another --out.")


def _refuse_other_plan(folder: Path, begun: Header, wanted: Header) -> None:
    """Name the first difference between the plan of the study in a folder and the one that is asked for."""
    old, new = {"kind": begun.kind, **begun.plan}, {"kind": wanted.kind, **wanted.plan}
    differing = next((name for name in new if new[name] != old.get(name)), None)
    if differing is not None:
        raise RunError(
            f"Expected the search that {folder} was begun with, {differing} {old.get(differing)}, "
            f"got {new[differing]}.",
            "Repeat the options it was begun with (--trials may grow), or name another --out.",
        )
