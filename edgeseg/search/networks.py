"""The search for the network to train: each trial is a short training with another size, input, stem, loss or rate."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import RandomSampler, TPESampler

from edgeseg.core.card import SplitSpec
from edgeseg.core.errors import DataError
from edgeseg.core.limits import EPOCHS
from edgeseg.core.modelfile import read_model
from edgeseg.core.schema import to_plain
from edgeseg.data.dataset import fingerprint_dataset, open_dataset
from edgeseg.model.losses import find_loss
from edgeseg.model.spec import find_size
from edgeseg.search.database import Shape, describe_search
from edgeseg.search.journal import Store
from edgeseg.search.results import (
    Objective,
    Presentation,
    Report,
    Trial,
    find_front,
    flatten_trial,
    pick_trial,
    refuse_no_result,
    write_report,
)
from edgeseg.search.study import Claim, Problem, Study, TrialResult, try_trial
from edgeseg.training.options import TrainOptions
from edgeseg.training.run import MODEL
from edgeseg.training.trainer import train_run

Number = TypeVar("Number", int, float)
# Random proposals after a repeated one; when none of them is new, hardly anything is left to try.
PROPOSALS = 64
_LISTS = ("models", "sizes", "stems", "losses")
optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True)
class SearchSpace:
    """The values that trials choose from; learning rates are a range, searched on a logarithmic scale."""

    models: tuple[str, ...] = ("nano", "micro", "small")
    sizes: tuple[int, ...] = (128, 192, 256)
    stems: tuple[str, ...] = ("quarter",)
    losses: tuple[str, ...] = ("bce-dice",)
    learning_rates: tuple[float, float] = (5e-4, 8e-3)

    def __post_init__(self) -> None:
        for name in _LISTS:
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
    """What is searched, on which split of the cases, and how long each trial trains."""

    space: SearchSpace
    split: SplitSpec
    epochs: int = 30

    def __post_init__(self) -> None:
        if not 1 <= self.epochs <= EPOCHS:
            raise ValueError(f"expected 1 to {EPOCHS} epochs, got {self.epochs}")

    @property
    def seed(self) -> int:
        """Give the seed of the split, the networks and the search."""
        return self.split.seed


def parse_space(models: str, sizes: str, stems: str, losses: str, learning_rates: str) -> SearchSpace:
    """Read a search space from the comma-separated lists of the command line."""
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
class NetworkChoice:
    """What one trial trains."""

    model: str
    size: int
    stem: str
    loss: str
    learning_rate: float

    @property
    def name(self) -> str:
        """Name the network in few words."""
        return f"{self.model} {self.size} {self.stem}"


@dataclass(frozen=True)
class NetworkScore:
    """What a trained network is compared by."""

    validation_dice: float
    macs: int

    @property
    def million_macs(self) -> float:
        """Give the multiplications and additions for one image in millions."""
        return self.macs / 1e6


NetworkTrial = Trial[NetworkChoice, NetworkScore]
NetworkStudy = Study[NetworkChoice, NetworkScore]


@dataclass(frozen=True)
class NetworkReport(Report[NetworkChoice, NetworkScore]):
    """What the search has found so far, and what it searches."""

    data_fingerprint: str
    plan: StudyPlan


NETWORKS = Presentation(
    file="study.json",
    score=NetworkScore,
    objectives=(Objective("validation_dice", maximize=True), Objective("macs")),
    columns={
        "trial": "{.number}",
        "model": "{.choice.model}",
        "size": "{.choice.size}",
        "stem": "{.choice.stem}",
        "loss": "{.choice.loss}",
        "learning rate": "{.choice.learning_rate:g}",
        "million MACs": "{.score.million_macs:,.1f}",
        "validation Dice": "{.score.validation_dice:.4f}",
    },
    description="{0.choice.name}, learning rate {0.choice.learning_rate:g}",
    x="million_macs",
    x_label="million MACs per frame",
    x_scale="log",
    command_does="train it",
    to_table=partial(flatten_trial, score=NetworkScore),
)


def run_study(data: Path, out: Path, plan: StudyPlan, trials: int, store: Store | None = None) -> NetworkReport:
    """Search, or continue a search; other processes may do the same at the same time.

    Args:
        data: Labelled images.
        out: The study's folder.
        plan: What is searched.
        trials: How many trials there shall be in all, over all processes and calls.
        store: Where the trials are kept, for workers on several machines; by default a journal in the folder.
    """
    for loss in plan.space.losses:
        find_loss(loss)  # raises an error for an unknown name before any hours are spent
    fingerprint = fingerprint_dataset(open_dataset(data, plan.split.layout, plan.split.group_pattern))
    study = open_study(out, data, plan, fingerprint, store)

    def run_trial(claim: Claim[NetworkChoice]) -> TrialResult[NetworkScore]:
        return try_trial(lambda: train_network(data, claim.folder, plan, claim.choice, fingerprint))

    def report() -> NetworkReport:
        with study.locked() as found:  # so that no other process writes an older report over this one
            report = summarise_study(data, out, plan, fingerprint, found)
            write_report(out, report, NETWORKS)
        return report

    study.run(trials, run_trial, report)
    final = report()
    refuse_no_result(
        out, final.trials, "Begin a new study with another --out and lower --learning-rates or smaller --sizes."
    )
    return final


def open_study(out: Path, data: Path, plan: StudyPlan, fingerprint: str, store: Store | None = None) -> NetworkStudy:
    """Open a study or begin it; one that was begun with another plan or on other data is refused.

    Args:
        out: The study's folder.
        data: Where the labelled images lie, for messages.
        plan: What is searched.
        fingerprint: Identifies the labelled images.
        store: Where the trials are kept; by default in a journal in the folder.
    """
    problem = Problem(
        kind="networks",
        choice=NetworkChoice,
        score=NetworkScore,
        propose=partial(propose_network, plan.space, plan.seed),
        plan={"epochs": plan.epochs, **to_plain(plan.space), **to_plain(plan.split)},
        source=fingerprint,
    )
    study = Study(out, problem, store)
    _refuse_changed_data(data, study.source, fingerprint)
    return study


def describe_space(space: SearchSpace) -> Shape:
    """Describe the search to Optuna's own tools."""
    values = {"model": space.models, "size": space.sizes, "stem": space.stems, "loss": space.losses}
    return describe_search(values, {"learning_rate": space.learning_rates}, NETWORKS)


def propose_network(space: SearchSpace, seed: int, trials: Sequence[NetworkTrial]) -> NetworkChoice | None:
    """Let Optuna propose a network that was not tried yet.

    The seed and the number of trials alone decide, so that a continued search does not repeat its first proposals.
    """
    tried = [trial.choice for trial in trials]
    study = _recall_study(space, trials)
    for attempt in range(1 + PROPOSALS):
        entropy = np.random.SeedSequence((seed, len(trials), attempt))
        # TPE repeats itself in a small space; the same choice and seed train the same network, so chance proposes then
        sampler = TPESampler if attempt == 0 else RandomSampler
        study.sampler = sampler(seed=int(entropy.generate_state(1)[0]))
        params = study.ask(_list_distributions(space)).params
        choice = NetworkChoice(**{**params, "learning_rate": _round_rate(params["learning_rate"], space)})
        if choice not in tried:
            return choice
    return None


def _recall_study(space: SearchSpace, trials: Sequence[NetworkTrial]) -> optuna.Study:
    """Tell an Optuna study in memory what was found so far."""
    # TPE (Bergstra et al. 2011; with several objectives Ozaki et al. 2022) learns from finished trials only
    study = optuna.create_study(directions=("maximize", "minimize"))
    for trial in trials:
        if trial.score is not None:
            params, values = to_plain(trial.choice), list(to_plain(trial.score).values())
            study.add_trial(optuna.create_trial(params=params, distributions=_list_distributions(space), values=values))
    return study


def _list_distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    return {
        # the order counts: each value takes the next random number of the seeded sampler
        "learning_rate": FloatDistribution(*space.learning_rates, log=True),
        "model": CategoricalDistribution(space.models),
        "size": CategoricalDistribution(space.sizes),
        "stem": CategoricalDistribution(space.stems),
        "loss": CategoricalDistribution(space.losses),
    }


def _round_rate(rate: float, space: SearchSpace) -> float:
    """Keep three digits, so that the printed command trains what was tried, but stay within the space."""
    low, high = space.learning_rates
    return min(max(float(f"{rate:.3g}"), low), high)


def train_network(data: Path, folder: Path, plan: StudyPlan, choice: NetworkChoice, fingerprint: str) -> NetworkScore:
    """Train once; the test cases are not judged.

    Args:
        data: Labelled images.
        folder: The run folder to make.
        plan: The study's plan.
        choice: What this trial tries.
        fingerprint: The data that the study was begun on.
    """
    options = TrainOptions(**to_plain(choice), epochs=plan.epochs, seed=plan.seed)
    record = train_run(data, folder, options, split=plan.split, test=False)
    # somebody may have changed the folder since the study was opened, hours ago
    _refuse_changed_data(data, fingerprint, record.data_fingerprint)
    return NetworkScore(round(record.validation_dice, 5), read_model(folder / MODEL).card.macs)


def _refuse_changed_data(data: Path, begun: str, found: str) -> None:
    if found != begun:
        raise DataError(
            f"Expected the data that the study was begun on, got a changed folder {data}.",
            "Restore the folder, or begin a new study with another --out.",
        )


def summarise_study(
    data: Path, out: Path, plan: StudyPlan, fingerprint: str, trials: Sequence[NetworkTrial]
) -> NetworkReport:
    """Find the Pareto front, the pick and the command that trains it."""
    front = find_front(trials, NETWORKS.objectives)
    pick = pick_trial(front, NETWORKS.objectives)
    command = None if pick is None else train_command(data, out, plan.split, pick.choice)
    return NetworkReport(tuple(trials), front, pick, command, fingerprint, plan)


def train_command(data: Path, study: Path, split: SplitSpec, pick: NetworkChoice) -> str:
    """Name the command that trains the pick with all epochs, on the same split."""
    words = ["edgeseg", "train", str(data), "--out", f"{study}-best", "--model", pick.model, "--size", str(pick.size)]
    words += ["--stem", pick.stem, "--loss", pick.loss, "--learning-rate", f"{pick.learning_rate:g}"]
    words += ["--seed", str(split.seed)]
    for option, value in (("--layout", split.layout), ("--group-pattern", split.group_pattern)):
        words += [option, value] if value is not None else []
    return shlex.join(words)
