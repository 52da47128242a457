"""The search for the recipe of the file to deploy: how far to prune a run, and in which number format to compute.

FOLDER/parent  the run's plain int8 file, against which the trials are timed
FOLDER/pick    the pick's files, judged on the test cases
"""

from __future__ import annotations

import dataclasses
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeseg.backends.cpu import CpuBackend
from edgeseg.bench.measure import describe_host, time_segmenters
from edgeseg.compression.compress import RECIPES, make_file, name_file
from edgeseg.compression.context import CompressContext, DistillationData, open_run, plan_distillation
from edgeseg.compression.evaluate import FileEvaluation, evaluate_files, score_validation
from edgeseg.compression.gate import Gate, Variant, explain_doubt, explain_gate
from edgeseg.compression.pruning import check_pruning
from edgeseg.compression.recipe import PARENT, PruneStep, Recipe, load_recipe
from edgeseg.core.errors import RunError
from edgeseg.core.files import staged_folder, write_bytes
from edgeseg.core.marks import MARK, remove_folder
from edgeseg.core.modelfile import read_model
from edgeseg.core.schema import to_plain
from edgeseg.inference.segmenter import Segmenter
from edgeseg.model.keras import keras
from edgeseg.search.journal import Store, hold_lock, is_held
from edgeseg.search.results import (
    Objective,
    Presentation,
    Report,
    Trial,
    find_front,
    pick_trial,
    refuse_no_result,
    write_report,
)
from edgeseg.search.study import Claim, Problem, Study, TrialResult, try_trial
from edgeseg.training.run import MODEL, fingerprint_run

# Recipes that leave the network's channels alone; each is tried as it is, and after pruning.
PRECISIONS = ("float16", "dynamic-int8", "int8-ptq", "int8-qat")
UNPRUNED = 100
# Percent of the multiplications that are left, in the order of trials: a short search covers the whole range.
LEFT = (UNPRUNED, 50, 30, 70, 20, 40, 60, 80, 90)
# Short, since a search only compares; the pick's recipe can be made again with more.
PRUNE_STEPS, PRUNE_EPOCHS, RECOVERY_EPOCHS = 2, 2, 8
LEARNING_RATE, DISTILLATION = 5e-4, 0.5
# Inferences of each of the two files that are timed in turn.
TIMED_RUNS = 200
PLAIN_INT8, PARENT_FOLDER, PICK, SEARCH_LOCK = "int8-ptq", "parent", "pick", "search.lock"


@dataclass(frozen=True)
class RecipeChoice:
    """What one trial makes."""

    left: int
    """Percent of the multiplications that pruning leaves; 100 prunes nothing."""
    precision: str

    @property
    def name(self) -> str:
        """Name the recipe."""
        return self.precision if self.left == UNPRUNED else f"keep{self.left}-{self.precision}"

    @property
    def recipe(self) -> Recipe:
        """Give the recipe that makes the trial's file."""
        recipe = load_recipe(self.precision)
        if self.left == UNPRUNED:
            return recipe
        summary = f"{self.left}% of the multiplications left, recovered shortly, then {self.precision}."
        return dataclasses.replace(recipe, name=self.name, summary=summary, prune=_plan_pruning(self.left / 100))


def _plan_pruning(share: float) -> PruneStep:
    return PruneStep(
        macs=share,
        steps=PRUNE_STEPS,
        epochs=PRUNE_EPOCHS,
        recovery_epochs=RECOVERY_EPOCHS,
        learning_rate=LEARNING_RATE,
        distillation=DISTILLATION,
    )


VALUES = {"left": LEFT, "precision": PRECISIONS}
GRID = tuple(RecipeChoice(left, precision) for left in LEFT for precision in PRECISIONS)


@dataclass(frozen=True)
class FileScore:
    """What a file is compared by."""

    validation_dice: float
    relative: float
    """Its median time as a share of that of the run's int8 file, which was timed in turn with it."""
    bytes: int
    parent_ms: float
    """The int8 file's median time then."""
    ms: float
    """Its own median time then; in a report, what `align_times` makes of it."""

    @property
    def kilobytes(self) -> float:
        """Give the size in units of 1,000 bytes."""
        return self.bytes / 1e3


RecipeTrial = Trial[RecipeChoice, FileScore]
RecipeStudy = Study[RecipeChoice, FileScore]


@dataclass(frozen=True)
class RecipeReport(Report[RecipeChoice, FileScore]):
    """What the search has found so far, and whether the gate held."""

    run: str
    threads: int
    gate: dict[str, Any]
    host: dict[str, Any]
    judged: tuple[Variant, ...] = ()
    """The float parent and the pick with their figures on the test cases; empty until the pick is judged."""
    advice: str = ""
    """What to do where the gate did not hold."""


def _to_table(trial: RecipeTrial) -> dict[str, Any]:
    fields = ("validation_dice", "relative", "bytes")
    score = trial.score
    return {
        "number": trial.number,
        "state": trial.state,
        "choice": to_plain(trial.choice),
        "score": None if score is None else {name: getattr(score, name) for name in fields},
        "ms": None if score is None else score.ms,
        "seconds": trial.seconds,
        "sentence": trial.sentence,
    }


FILES = Presentation(
    file="search.json",
    score=FileScore,
    objectives=(Objective("validation_dice", maximize=True), Objective("relative"), Objective("bytes")),
    columns={
        "trial": "{.number}",
        "recipe": "{.choice.name}",
        "validation Dice": "{.score.validation_dice:.4f}",
        "ms": "{.score.ms:.2f}",
        "of int8's time": "{.score.relative:.2f}",
        "kB": "{.score.kilobytes:,.0f}",
    },
    description="{.choice.name}",
    x="ms",
    x_label="ms per inference (median)",
    x_scale="linear",
    command_does="make it again",
    to_table=_to_table,
    file_bytes=True,
)


def run_search(
    run: Path, out: Path, gate: Gate, trials: int, threads: int = 1, store: Store | None = None
) -> RecipeReport:
    """Search, or continue a search.

    Args:
        run: A finished run.
        out: The search's folder.
        gate: What the pick must hold: its budget is compared with median times. With another gate the same search
            picks anew among its trials.
        trials: How many trials there shall be in all, over all calls.
        threads: CPU threads for the timing.
        store: Where the trials are kept, for workers on several machines; by default a journal in the folder.
    """
    context = open_run(run)
    study = open_search(out, run, threads, store)
    _refuse_second_search(out)
    with hold_lock(out / SEARCH_LOCK):
        search = _Search(run, out, gate, open_bench(context, out, threads), study)
        study.run(trials, search.run_trial, search.report)
        return search.conclude()


def open_search(out: Path, run: Path, threads: int, store: Store | None = None) -> RecipeStudy:
    """Open a search or begin it; one over another run or with another number of threads is refused.

    Machines that share a search must have the same processor: files are compared by their share of the time of the
    int8 file, and that is not the same on another kind.
    """
    plan: dict[str, Any] = {"threads": threads}
    if store is not None:
        plan["cpu"] = describe_host("")["cpu"]
    problem = Problem("recipes", RecipeChoice, FileScore, propose_recipe, plan, fingerprint_run(run))
    study = Study(out, problem, store)
    if study.source != problem.source:
        raise RunError(
            f"Expected the run that the search in {store.name if store else out} was begun with, "
            f"got another one or a changed one, {run}.",
            "Give that run, or begin a new search with another --out.",
        )
    return study


def propose_recipe(trials: Sequence[RecipeTrial]) -> RecipeChoice | None:
    """Propose the next point of the grid."""
    tried = [trial.choice for trial in trials]
    return next((choice for choice in GRID if choice not in tried), None)


def _refuse_second_search(out: Path) -> None:
    if is_held(out / SEARCH_LOCK):
        raise RunError(
            f"Expected no other search at work in {out}, got one.",
            "Wait until it has ended: two at a time would spoil each other's timing.",
        )


@dataclass(frozen=True)
class Bench:
    """A run opened for trials, and its int8 file, against which they are timed."""

    context: CompressContext
    distillation: DistillationData
    parent: Segmenter
    threads: int


def open_bench(context: CompressContext, out: Path, threads: int) -> Bench:
    """Make the run's int8 file where it is not there yet, and load it."""
    distillation, folder = plan_distillation(context), out / PARENT_FOLDER
    if not (folder / name_file(PLAIN_INT8)).is_file():
        make_file(context, distillation, load_recipe(PLAIN_INT8), folder)
    return Bench(context, distillation, _load(folder / name_file(PLAIN_INT8), threads), threads)


def make_and_judge(bench: Bench, folder: Path, recipe: Recipe) -> FileScore:
    """Make a file and judge it on the validation cases; the test cases are not judged.

    Args:
        bench: The run.
        folder: Where the file goes, with its recipe and the description of its network.
        recipe: How it is made.
    """
    make_trial(bench, folder, recipe)
    return _judge_file(bench, folder / name_file(recipe.name))


def make_trial(bench: Bench, folder: Path, recipe: Recipe) -> None:
    """Make the file of a trial, with its recipe and the description of its network."""
    # the same seed before each trial: its file does not depend on the trials that ran before it in this process
    keras.utils.set_random_seed(bench.context.record.options.seed)
    with staged_folder(folder) as partial:
        if recipe.prune is not None:
            check_pruning(bench.context.record.spec, bench.context.model, recipe.prune)
        make_file(bench.context, bench.distillation, recipe, partial)


def _judge_file(bench: Bench, path: Path) -> FileScore:
    segmenter = _load(path, bench.threads)
    # test cases are judged once, for the pick; otherwise they would be validation cases (docs/decisions/0044)
    dice = score_validation(bench.context, segmenter)
    parent, child = (times["invoke"].p50 for times in time_segmenters([bench.parent, segmenter], TIMED_RUNS))
    return FileScore(round(dice, 5), round(child / parent, 4), path.stat().st_size, parent, child)


def _load(path: Path, threads: int) -> Segmenter:
    return Segmenter(read_model(path), "cpu", threads)


@dataclass(frozen=True)
class _Search:
    """A search that this process works on."""

    run: Path
    out: Path
    gate: Gate
    bench: Bench
    study: RecipeStudy

    def run_trial(self, claim: Claim[RecipeChoice]) -> TrialResult[FileScore]:
        return try_trial(lambda: make_and_judge(self.bench, claim.folder, claim.choice.recipe))

    def conclude(self) -> RecipeReport:
        """Judge the pick on the test cases, and write the search's files for the last time."""
        report = self.report()
        refuse_no_result(
            self.out, report.trials, "Correct what the sentence names, and begin a new search with another --out."
        )
        if report.pick is None:
            # a pick of an earlier, larger budget would be taken for the result of this one
            remove_folder(self.out / PICK)
            return self.report(advice=explain_late(report.front[0], self.gate))
        trial, recipe = self.study.trial_folder(report.pick.number), report.pick.choice.recipe
        if not trial.is_dir():  # another machine has made it; the same seed makes the same file
            make_trial(self.bench, trial, recipe)
        parent, pick = judge_pick(self.bench, self.run, self.out / PICK, trial, recipe)
        return self.report((parent.variant, pick.variant), explain_loss(parent, pick, self.gate))

    def report(self, judged: tuple[Variant, ...] = (), advice: str = "") -> RecipeReport:
        """Write the search's files as the trials are now."""
        with self.study.locked() as trials:
            report = summarise_search(self.bench.context.record.name, self.bench.threads, trials, self.gate)
        held = bool(judged) and not advice
        report = dataclasses.replace(
            report,
            command=self._name_command(report.pick),
            gate={**report.gate, "held": held},
            judged=judged,
            advice=advice,
        )
        write_report(self.out, report, FILES, self.gate.budget_ms)
        return report

    def _name_command(self, pick: RecipeTrial | None) -> str | None:
        """Name the command that makes the pick's file again."""
        if pick is None:
            return None
        recipe = self.study.trial_folder(pick.number) / RECIPES / f"{pick.choice.name}.toml"
        return shlex.join(["edgeseg", "compress", str(self.run), "--out", f"{self.out}-again", "--recipe", str(recipe)])


def summarise_search(run: str, threads: int, trials: Sequence[RecipeTrial], gate: Gate) -> RecipeReport:
    """Find the Pareto front, and on it the pick within the budget."""
    aligned = align_times(trials)
    front = find_front(aligned, FILES.objectives)
    pick = pick_trial([trial for trial in front if _keeps_budget(trial, gate)], FILES.objectives)
    judgement = {"budget_ms": gate.budget_ms, "max_drop": gate.max_drop, "held": False}
    host = describe_host(CpuBackend.probe().detail)
    return RecipeReport(tuple(aligned), front, pick, None, run, threads, judgement, host)


def align_times(trials: Sequence[RecipeTrial]) -> list[RecipeTrial]:
    """Restate the milliseconds as those of a machine on which the int8 file takes the median of all its times.

    Trials are timed hours apart, on a machine that is not always equally busy; what can be compared is their share of
    the int8 file's time in the same minute (docs/decisions/0023).
    """
    parent = [trial.score.parent_ms for trial in trials if trial.score is not None]
    parent_ms = float(np.median(parent)) if parent else 0.0
    return [
        dataclasses.replace(trial, score=dataclasses.replace(score, ms=round(score.relative * parent_ms, 4)))
        if (score := trial.score) is not None
        else trial
        for trial in trials
    ]


def _keeps_budget(trial: RecipeTrial, gate: Gate) -> bool:
    # medians: 99th percentiles of different hours cannot be compared
    return gate.budget_ms is None or (trial.score is not None and trial.score.ms <= gate.budget_ms)


def judge_pick(
    bench: Bench, run: Path, folder: Path, trial: Path, recipe: Recipe
) -> tuple[FileEvaluation, FileEvaluation]:
    """Copy the pick's files, and judge the float parent and the pick in the same way as `compress` does.

    Args:
        bench: The run, opened.
        run: Its folder.
        folder: Where the files go; a folder that is there already is replaced.
        trial: The folder of the picked trial.
        recipe: The picked trial's recipe.
    """
    with staged_folder(folder, overwrite=True) as growing:
        shutil.copytree(trial, growing, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MARK))
        write_bytes(growing / name_file(PARENT), (run / MODEL).read_bytes())
        files = {name: growing / name_file(name) for name in (PARENT, recipe.name)}
        judged = evaluate_files(bench.context, files, {recipe.name: recipe}, bench.threads)
    return judged[PARENT], judged[recipe.name]


def explain_late(fastest: RecipeTrial, gate: Gate) -> str:
    """Say that no trial is fast enough, and what to do."""
    taken = 0.0 if fastest.score is None else fastest.score.ms
    return (
        f"No trial stays within {gate.budget_ms:g} ms: the fastest, trial {fastest.number} ({fastest.choice.name}), "
        f"needs {taken:.2f} ms (median); raise --budget-ms, or train a smaller model or size."
    )


def explain_loss(parent: FileEvaluation, pick: FileEvaluation, gate: Gate) -> str:
    """Say what the pick loses on validation cases where that is too much, or why it is unknown; else empty."""
    if doubt := explain_doubt(parent.validation, parent.test, gate):
        return doubt
    held = gate.keeps_accuracy(pick.variant) and gate.keeps_silence(pick.variant)
    return "" if held else explain_gate(pick.variant, gate)
