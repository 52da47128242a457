"""What a search varies: how much of the network is left, and in which numbers its file computes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from optuna.trial import FrozenTrial, Trial

from edgeseg.compression.recipe import PruneStep, Recipe, load_recipe
from edgeseg.core.errors import RunError
from edgeseg.core.schema import to_plain
from edgeseg.core.stats import pareto_front
from edgeseg.search.trials import SECONDS, Task, TrialJournal, judge_state, readable_journal
from edgeseg.training.run import fingerprint_run

PRECISIONS = ("float16", "dynamic-int8", "int8-ptq", "int8-qat")
"""Recipes that leave the network's channels alone; each is tried as it is, and behind pruning."""
LEAST, STEP, WHOLE = 20, 10, 100
"""Percent of the multiplications that are left."""
PRUNE_STEPS, PRUNE_EPOCHS, RECOVERY_EPOCHS = 2, 2, 8
"""Short, since a search compares; the pick's recipe can be made again with more."""
LEARNING_RATE, DISTILLATION = 5e-4, 0.5
PARAMETERS = frozenset({"left", "precision"})
PARENT_MS = "parent_ms"
_RUN = "run"


@dataclass(frozen=True)
class Choice:
    """What one trial tries."""

    left: int
    """Percent of the multiplications that pruning leaves; 100 prunes nothing."""
    precision: str

    @property
    def recipe(self) -> Recipe:
        """Give the recipe that makes the trial's file."""
        recipe = load_recipe(self.precision)
        if self.left == WHOLE:
            return recipe
        return dataclasses.replace(
            recipe,
            name=self.name,
            summary=f"{self.left}% of the multiplications left, recovered shortly, then {self.precision}.",
            prune=_plan_pruning(self.left / WHOLE),
        )

    @property
    def name(self) -> str:
        """Name the recipe: what is left, then the number format."""
        return self.precision if self.left == WHOLE else f"keep{self.left}-{self.precision}"


FIRST = tuple(Choice(WHOLE, precision) for precision in PRECISIONS)
"""Nothing pruned: what every other trial has to beat."""


def propose_choice(trial: Trial) -> Choice:
    """Let Optuna choose what a trial makes."""
    left = trial.suggest_int("left", LEAST, WHOLE, step=STEP)
    return Choice(left, trial.suggest_categorical("precision", PRECISIONS))


def _plan_pruning(share: float) -> PruneStep:
    return PruneStep(
        macs=share,
        steps=PRUNE_STEPS,
        epochs=PRUNE_EPOCHS,
        recovery_epochs=RECOVERY_EPOCHS,
        learning_rate=LEARNING_RATE,
        distillation=DISTILLATION,
    )


@dataclass(frozen=True)
class FileScore:
    """What a trial's file is judged by."""

    validation_dice: float
    relative: float
    """Its median time as a share of that of the run's int8 file, which was timed in turn with it."""
    bytes: int

    @property
    def values(self) -> tuple[float, ...]:
        """Give what the journal remembers."""
        return self.validation_dice, self.relative, self.bytes

    @property
    def costs(self) -> tuple[float, ...]:
        """Give the same so that less is better everywhere."""
        return -self.validation_dice, self.relative, self.bytes


@dataclass(frozen=True)
class SearchRow:
    """One trial."""

    number: int
    state: str
    choice: Choice
    score: FileScore | None = None
    """None, as is the time, until it is finished."""
    ms: float | None = None
    """Its share of the int8 file's time, in milliseconds of that file."""
    seconds: float | None = None
    sentence: str = ""
    """Why it failed."""

    @property
    def name(self) -> str:
        """Name the recipe of the trial's file."""
        return self.choice.name


def find_front(rows: Sequence[SearchRow]) -> tuple[SearchRow, ...]:
    """Find the finished trials that no other one beats, the fastest first."""
    front = pareto_front([(score.costs, (score, row)) for row in rows if (score := row.score) is not None])
    return tuple(row for score, row in sorted(front, key=lambda pair: (pair[0].relative, pair[1].number)))


def pick_trial(front: Sequence[SearchRow], budget_ms: float) -> SearchRow | None:
    """Pick the highest validation Dice within the budget; None where none is fast enough.

    Of equal ones the fastest is picked, then the smallest, then the first.
    """
    scored = [
        ((*score.costs, row.number), row)
        for row in front
        if (score := row.score) is not None and row.ms is not None and row.ms <= budget_ms
    ]
    return min(scored, key=lambda pair: pair[0])[1] if scored else None


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
