"""One trial: a file made by the usual compression, judged on validation cases and timed in turn with plain int8."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from edgeseg.bench.measure import time_segmenters
from edgeseg.compress.judge import score_validation
from edgeseg.compress.lesson import Lesson, plan_lesson
from edgeseg.compress.make import make_file, name_file
from edgeseg.compress.prune import check_pruning
from edgeseg.compress.recipe import Recipe, load_recipe
from edgeseg.compress.workshop import Workshop
from edgeseg.core.files import staged_folder
from edgeseg.core.modelfile import read_model
from edgeseg.model.keras import keras
from edgeseg.runtime.segmenter import Segmenter
from edgeseg.search.journal import PARENT_MS
from edgeseg.search.results import FileScore
from edgeseg.trials.failures import TRIAL_FAILURES, explain_failure
from edgeseg.trials.results import TrialResult

PLAIN, PARENT = "int8-ptq", "parent"
TIMED_RUNS = 200


@dataclass(frozen=True)
class Bench:
    """A run opened for trials, and its int8 file, against which they are timed."""

    shop: Workshop
    lesson: Lesson
    parent: Segmenter
    threads: int


def open_bench(shop: Workshop, out: Path, threads: int) -> Bench:
    """Make the run's int8 file where it is not there yet, and load it."""
    lesson, folder = plan_lesson(shop), out / PARENT
    if not (folder / name_file(PLAIN)).is_file():
        make_file(shop, lesson, load_recipe(PLAIN), folder)
    return Bench(shop, lesson, _load(folder / name_file(PLAIN), threads), threads)


def run_trial(bench: Bench, folder: Path, recipe: Recipe) -> TrialResult:
    """Make a file and judge it; the test cases are left alone.

    Args:
        bench: The run.
        folder: Where the file goes, with its recipe and what describes its network.
        recipe: How it is made.
    """
    start = monotonic()
    keras.utils.set_random_seed(bench.shop.record.options.seed)
    try:
        with staged_folder(folder) as partial:
            if recipe.prune is not None:
                check_pruning(bench.shop.record.spec, bench.shop.model, recipe.prune)
            make_file(bench.shop, bench.lesson, recipe, partial)
        score, parent_ms = _judge_file(bench, folder / name_file(recipe.name))
    except TRIAL_FAILURES as error:
        return TrialResult(round(monotonic() - start, 1), sentence=explain_failure(error))
    finally:
        keras.backend.clear_session()
    return TrialResult(round(monotonic() - start, 1), score, notes={PARENT_MS: parent_ms})


def _judge_file(bench: Bench, path: Path) -> tuple[FileScore, float]:
    """Give a file's score, and the milliseconds of the int8 file at the same time."""
    segmenter = _load(path, bench.threads)
    dice = score_validation(bench.shop, segmenter)
    parent, child = (times["invoke"].p50 for times in time_segmenters([bench.parent, segmenter], TIMED_RUNS))
    return FileScore(round(dice, 5), round(child / parent, 4), path.stat().st_size), parent


def _load(path: Path, threads: int) -> Segmenter:
    return Segmenter(read_model(path), "cpu", threads)
