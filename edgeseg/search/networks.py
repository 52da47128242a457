"""What a search varies, and what stays the same in all of its trials."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TypeVar

from optuna.trial import FrozenTrial, Trial

from edgeseg.core.card import SplitSpec
from edgeseg.core.errors import DataError
from edgeseg.core.limits import EPOCHS
from edgeseg.core.modelfile import read_model
from edgeseg.core.schema import to_plain
from edgeseg.core.stats import pareto_front
from edgeseg.model.keras import keras
from edgeseg.model.spec import find_size
from edgeseg.search.trials import (
    FINISHED,
    SECONDS,
    TRIAL_FAILURES,
    Task,
    TrialJournal,
    TrialResult,
    explain_failure,
    judge_state,
    readable_journal,
)
from edgeseg.training.options import TrainOptions
from edgeseg.training.run import MODEL
from edgeseg.training.trainer import train_run

Number = TypeVar("Number", int, float)
CHOICES = ("models", "sizes", "stems", "losses")
PARAMETERS = frozenset({"model", "size", "stem", "loss", "learning_rate"})
_DATA = "data_fingerprint"


@dataclass(frozen=True)
class SearchSpace:
    """The values that trials choose from; learning rates are a span, searched on a logarithmic scale."""

    models: tuple[str, ...] = ("nano", "micro", "small")
    sizes: tuple[int, ...] = (128, 192, 256)
    stems: tuple[str, ...] = ("quarter",)
    losses: tuple[str, ...] = ("bce-dice",)
    learning_rates: tuple[float, float] = (5e-4, 8e-3)

    def __post_init__(self) -> None:
        for name in CHOICES:
            _refuse_repeats(name, getattr(self, name))
        low, high = self.learning_rates
        if not 0.0 < low <= high < float("inf"):
            raise ValueError(f"expected learning rates LO,HI with 0 < LO <= HI, got {low:g},{high:g}")
        for model in self.models:
            find_size(model)
        for size in self.sizes:
            for stem in self.stems:
                TrainOptions(size=size, stem=stem)


@dataclass(frozen=True)
class StudyPlan:
    """What makes two searches the same one, so that a study can be continued and shared between processes."""

    space: SearchSpace
    split: SplitSpec
    epochs: int = 30

    def __post_init__(self) -> None:
        if not 1 <= self.epochs <= EPOCHS:
            raise ValueError(f"expected 1 to {EPOCHS} epochs, got {self.epochs}")

    @property
    def seed(self) -> int:
        """Give the seed that divides the cases, starts the networks and the search."""
        return self.split.seed


def refuse_changed_data(data: Path, begun: str, found: str) -> None:
    """Refuse data whose fingerprint is not the one that the study was begun on."""
    if found != begun:
        raise DataError(
            f"Expected the data that the study was begun on, got a changed folder {data}.",
            "Restore the folder, or begin a new study with another --out.",
        )


def parse_space(models: str, sizes: str, stems: str, losses: str, learning_rates: str) -> SearchSpace:
    """Read a search space from lists with commas, as they stand on the command line."""
    rates = tuple(_to_number(part, float, "learning rates") for part in _split_list(learning_rates))
    if len(rates) != 2:
        raise ValueError(f"expected two learning rates LO,HI, got {learning_rates!r}")
    return SearchSpace(
        models=_split_list(models),
        sizes=tuple(_to_number(part, int, "sizes") for part in _split_list(sizes)),
        stems=_split_list(stems),
        losses=_split_list(losses),
        learning_rates=(rates[0], rates[1]),
    )


def _split_list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


def _to_number(text: str, kind: Callable[[str], Number], name: str) -> Number:
    try:
        return kind(text)
    except ValueError as error:
        raise ValueError(f"expected {name} as numbers with commas between them, got {text!r}") from error


def _refuse_repeats(name: str, values: Sequence[object]) -> None:
    if not values or len(set(values)) < len(values):
        raise ValueError(f"expected {name} that differ, at least one, got {', '.join(map(str, values)) or 'none'}")


@dataclass(frozen=True)
class TrialRow:
    """One trial; what is measured stays None until it is finished."""

    number: int
    state: str
    model: str
    size: int
    stem: str
    loss: str
    learning_rate: float
    validation_dice: float | None = None
    macs: int | None = None
    seconds: float | None = None
    sentence: str = ""
    """Why it failed."""

    @property
    def label(self) -> str:
        """Name the trial's network in few words."""
        return f"{self.model} {self.size} {self.stem}"


@dataclass(frozen=True)
class Score:
    """What a finished trial is judged by."""

    validation_dice: float
    macs: int

    @property
    def values(self) -> tuple[float, ...]:
        """Give what the journal remembers."""
        return self.validation_dice, self.macs

    @property
    def costs(self) -> tuple[float, ...]:
        """Give the same so that less is better everywhere."""
        return -self.validation_dice, self.macs


def find_front(rows: Sequence[TrialRow]) -> tuple[TrialRow, ...]:
    """Find the finished trials that no other one beats, those with least work first."""
    front = pareto_front([(score.costs, row) for row in rows if (score := _read_score(row)) is not None])
    return tuple(sorted(front, key=lambda row: (row.macs or 0, row.number)))


def pick_trial(front: Sequence[TrialRow]) -> TrialRow | None:
    """Pick the trial with the highest validation Dice; of equal ones that with least work, then the first."""
    scored = [(score, row) for row in front if (score := _read_score(row)) is not None]
    return min(scored, key=lambda pair: (*pair[0].costs, pair[1].number))[1] if scored else None


def _read_score(row: TrialRow) -> Score | None:
    if row.state != FINISHED or row.validation_dice is None or row.macs is None:
        return None
    return Score(row.validation_dice, row.macs)


def propose_options(trial: Trial, plan: StudyPlan) -> TrainOptions:
    """Let Optuna choose what a trial trains."""
    space = plan.space
    rate = trial.suggest_float("learning_rate", *space.learning_rates, log=True)
    return TrainOptions(
        model=trial.suggest_categorical("model", space.models),
        size=trial.suggest_categorical("size", space.sizes),
        stem=trial.suggest_categorical("stem", space.stems),
        loss=trial.suggest_categorical("loss", space.losses),
        learning_rate=_round_rate(rate),
        epochs=plan.epochs,
        seed=plan.seed,
    )


def _round_rate(rate: float) -> float:
    """Keep three digits, so that the command on the screen trains what was tried."""
    return float(f"{rate:.3g}")


def read_row(trial: FrozenTrial) -> TrialRow:
    """Read from Optuna's trial what came of it."""
    dice, macs = trial.values or (None, None)
    state, sentence = judge_state(trial)
    return TrialRow(
        number=trial.number,
        state=state,
        **{**trial.params, "learning_rate": _round_rate(trial.params["learning_rate"])},
        validation_dice=dice,
        macs=None if macs is None else int(macs),
        seconds=trial.user_attrs.get(SECONDS),
        sentence=sentence,
    )


def run_trial(data: Path, folder: Path, plan: StudyPlan, options: TrainOptions, fingerprint: str) -> TrialResult:
    """Train once; the test cases are left alone.

    Args:
        data: Labelled images.
        folder: The run folder to make.
        plan: The study's plan.
        options: What this trial tries.
        fingerprint: The data the study was begun on.
    """
    start = monotonic()
    try:
        record = train_run(data, folder, options, split=plan.split, test=False)
        refuse_changed_data(data, fingerprint, record.data_fingerprint)
        score = Score(round(record.validation_dice, 5), read_model(folder / MODEL).card.macs)
        return TrialResult(round(monotonic() - start, 1), score)
    except TRIAL_FAILURES as error:
        return TrialResult(round(monotonic() - start, 1), sentence=explain_failure(error))
    finally:
        keras.backend.clear_session()


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
