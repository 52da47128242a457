"""The search: trials until there are enough, then the pick and its judgement.

DIR/journal.log  everything that was tried
DIR/parent       the run's int8 file, against which trials are timed
DIR/trials/NNNN  the file of a trial, and its recipe
DIR/pick         the pick's files, judged on the test cases
"""

from __future__ import annotations

import dataclasses
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from edgeseg.bench.measure import time_segmenters
from edgeseg.compression.compress import RECIPES, make_file, name_file
from edgeseg.compression.context import CompressContext, DistillationData, open_run, plan_distillation
from edgeseg.compression.evaluate import FileEvaluation, evaluate_files, score_validation
from edgeseg.compression.gate import Variant
from edgeseg.compression.pruning import check_pruning
from edgeseg.compression.recipe import PARENT, Recipe, load_recipe
from edgeseg.core.errors import RunError
from edgeseg.core.files import staged_folder, write_bytes
from edgeseg.core.marks import MARK, remove_folder
from edgeseg.core.modelfile import read_model
from edgeseg.inference.segmenter import Segmenter
from edgeseg.model.keras import keras
from edgeseg.search.compressions import PARENT_MS, FileScore, SearchJournal, SearchRow
from edgeseg.search.report import Promise, SearchReport, explain_late, explain_loss, summarise_search, write_report
from edgeseg.search.trials import TRIAL_FAILURES, TrialResult, explain_failure, hold_lock, is_held
from edgeseg.training.run import MODEL

PLAIN, PARENT_FOLDER = "int8-ptq", "parent"
TIMED_RUNS = 200
PICK = "pick"
ALONE = "search.lock"


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
    if not (folder / name_file(PLAIN)).is_file():
        make_file(context, distillation, load_recipe(PLAIN), folder)
    return Bench(context, distillation, _load(folder / name_file(PLAIN), threads), threads)


def run_trial(bench: Bench, folder: Path, recipe: Recipe) -> TrialResult:
    """Make a file and judge it; the test cases are left alone.

    Args:
        bench: The run.
        folder: Where the file goes, with its recipe and what describes its network.
        recipe: How it is made.
    """
    start = monotonic()
    keras.utils.set_random_seed(bench.context.record.options.seed)
    try:
        with staged_folder(folder) as partial:
            if recipe.prune is not None:
                check_pruning(bench.context.record.spec, bench.context.model, recipe.prune)
            make_file(bench.context, bench.distillation, recipe, partial)
        score, parent_ms = _judge_file(bench, folder / name_file(recipe.name))
    except TRIAL_FAILURES as error:
        return TrialResult(round(monotonic() - start, 1), sentence=explain_failure(error))
    finally:
        keras.backend.clear_session()
    return TrialResult(round(monotonic() - start, 1), score, notes={PARENT_MS: parent_ms})


def _judge_file(bench: Bench, path: Path) -> tuple[FileScore, float]:
    """Give a file's score, and the milliseconds of the int8 file at the same time."""
    segmenter = _load(path, bench.threads)
    dice = score_validation(bench.context, segmenter)
    parent, child = (times["invoke"].p50 for times in time_segmenters([bench.parent, segmenter], TIMED_RUNS))
    return FileScore(round(dice, 5), round(child / parent, 4), path.stat().st_size), parent


def _load(path: Path, threads: int) -> Segmenter:
    return Segmenter(read_model(path), "cpu", threads)


def name_compression(run: Path, out: Path, trial: Path, row: SearchRow) -> str:
    """Name the command that makes a trial's file again."""
    recipe = trial / RECIPES / f"{row.name}.toml"
    return shlex.join(["edgeseg", "compress", str(run), "--out", f"{out}-again", "--recipe", str(recipe)])


def judge_pick(bench: Bench, run: Path, folder: Path, trial: Path, row: SearchRow) -> tuple[FileEvaluation, ...]:
    """Copy the pick's files, and judge them beside the float parent as a compression would.

    Args:
        bench: The run, opened.
        run: Its folder.
        folder: Where the files go; what stands there is replaced.
        trial: The folder of the picked trial.
        row: The picked trial.
    """
    recipe = row.choice.recipe
    with staged_folder(folder, overwrite=True) as growing:
        shutil.copytree(trial, growing, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MARK))
        write_bytes(growing / name_file(PARENT), (run / MODEL).read_bytes())
        files = {name: growing / name_file(name) for name in (PARENT, recipe.name)}
        judged = evaluate_files(bench.context, files, {recipe.name: recipe}, bench.threads)
    return tuple(judged.values())


@dataclass(frozen=True)
class _Searcher:
    """One search at work."""

    run: Path
    out: Path
    promise: Promise
    bench: Bench
    journal: SearchJournal

    def run_next(self, trials: int) -> bool:
        """Run one more trial and renew the search's files; says whether there was one to run."""
        with self.journal.claim(trials) as claim:
            if claim is None:
                return False
            self.journal.finish(claim, run_trial(self.bench, claim.folder, claim.options.recipe))
        self.report()
        return True

    def conclude(self) -> SearchReport:
        """Judge the pick on the test cases, and write the search's files for good."""
        report = self.report()
        if not report.front:
            raise _none_finished(self.out, report)
        if report.pick is None:
            remove_folder(self.out / PICK)
            return self.report(advice=explain_late(report.front[0], self.promise))
        trial = self.journal.name_folder(report.pick.number)
        judged = judge_pick(self.bench, self.run, self.out / PICK, trial, report.pick)
        variants = tuple(judgement.variant for judgement in judged)
        return self.report(variants, explain_loss(judged[0], judged[-1], self.promise))

    def report(self, judged: tuple[Variant, ...] = (), advice: str = "") -> SearchReport:
        """Write the search's files as the trials stand now."""
        record = self.bench.context.record
        report = summarise_search(record.name, self.bench.threads, self.journal.read_rows(), self.promise)
        held = bool(judged) and not advice
        gate = {**report.gate, "held": held}
        command = self._name_command(report.pick)
        report = dataclasses.replace(report, gate=gate, command=command, judged=judged, advice=advice)
        write_report(self.out, report)
        return report

    def _name_command(self, pick: SearchRow | None) -> str | None:
        if pick is None:
            return None
        return name_compression(self.run, self.out, self.journal.name_folder(pick.number), pick)


def run_search(run: Path, out: Path, promise: Promise, trials: int, threads: int = 1) -> SearchReport:
    """Search, or go on with a search.

    Args:
        run: A finished run.
        out: The search's folder.
        promise: What the pick must hold; another one picks anew among the trials that are there.
        trials: How many trials there shall be in all, over all calls.
        threads: CPU threads for the timing.
    """
    context = open_run(run)
    journal = SearchJournal(out, run, context.record.options.seed, threads)
    _refuse_company(out)
    with hold_lock(out / ALONE):
        searcher = _Searcher(run, out, promise, open_bench(context, out, threads), journal)
        journal.run_all(trials, searcher.run_next)
        return searcher.conclude()


def _refuse_company(out: Path) -> None:
    if is_held(out / ALONE):
        raise RunError(
            f"Expected no other search at work in {out}, got one.",
            "Wait until it has ended: two at a time would spoil each other's timing.",
        )


def _none_finished(out: Path, report: SearchReport) -> RunError:
    sentence = next((row.sentence for row in report.trials if row.sentence), "every one was interrupted.")
    return RunError(
        f"Expected at least one trial of {out} to be finished, got none: {sentence}",
        "Mend what the sentence names, and begin a new search with another --out.",
    )
