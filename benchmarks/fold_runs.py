"""The trainings of folds.py: every recipe on every fold and seed, in processes of their own, none of them twice."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from few_labels import find_folds, make_subset

from edgeseg.core.files import partial_path

MODEL, INT8 = "model.tflite", "int8-ptq.tflite"
# In a recipe, a folder of its own fold.
_FOLDERS = ("{rest}", "{frames}", "{before}")


@dataclass(frozen=True)
class Recipe:
    """What is trained under one name."""

    name: str
    options: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    """A command of edgeseg that each training starts with; its result is {before}."""
    done: tuple[Path, ...] = ()
    """Finished folders of folds, one for each seed."""
    members: tuple[str, ...] = ()
    """Recipes whose scores are averaged."""

    @property
    def names_folders(self) -> bool:
        """Say whether it names folders of its fold, so that folds cannot be trained by one command."""
        return bool(self.before) or any(name in word for word in self.options for name in _FOLDERS)


@dataclass(frozen=True)
class FoldRun:
    """One trained network, and the data folder whose test cases it is judged on."""

    run: Path
    data: Path
    int8: Path
    """Where its int8 file is, or is to be made."""


@dataclass(frozen=True)
class Course:
    """How all recipes are trained."""

    data: Path
    out: Path
    folds: int = 5
    share: float | None = None
    seeds: tuple[int, ...] = (0,)
    int8: bool = False

    def trains_apart(self, recipe: Recipe) -> bool:
        """Say whether every fold is a training of its own, on a folder of links."""
        return self.share is not None or len(self.seeds) > 1 or recipe.names_folders


# For each seed its folds.
Runs = tuple[tuple[FoldRun, ...], ...]


def run_edgeseg(*words: str, allowed: Sequence[int] = (0,)) -> None:
    """Run a command of edgeseg in a process of its own, whose memory is free afterwards."""
    print("edgeseg", *words, flush=True)
    code = subprocess.run([sys.executable, "-m", "edgeseg", *words], check=False).returncode
    if code not in allowed:
        raise SystemExit(f"edgeseg {words[0]} ended with {code}")


def train(course: Course, recipe: Recipe) -> Runs:
    """Train a recipe on every fold and seed, or take what stands there."""
    if recipe.done:
        return tuple(_list_done(course, recipe, number, folder) for number, folder in enumerate(recipe.done))
    if not course.trains_apart(recipe):
        return (_train_together(course, recipe),)
    return tuple(_train_apart(course, recipe, seed) for seed in course.seeds)


def _list_done(course: Course, recipe: Recipe, number: int, folder: Path) -> tuple[FoldRun, ...]:
    runs = sorted(folder.glob("fold-*[0-9]"))
    if len(runs) != course.folds:
        raise SystemExit(f"expected {course.folds} finished folds in {folder}, got {len(runs)}")
    made = course.out / recipe.name / f"int8-{number}"
    own = {run: run / INT8 for run in runs}
    return tuple(FoldRun(run, course.data, own[run] if own[run].is_file() else made / run.name / INT8) for run in runs)


def _train_together(course: Course, recipe: Recipe) -> tuple[FoldRun, ...]:
    folder = course.out / recipe.name / "folds"
    if not folder.is_dir():
        begun = (partial_path(folder) / "plan.json").is_file()
        options = ("--resume",) if begun else ("--folds", str(course.folds), *recipe.options)
        run_edgeseg("train", str(course.data), "--out", str(folder), *options)
    return _list_done(course, recipe, 0, folder)


def _train_apart(course: Course, recipe: Recipe, seed: int) -> tuple[FoldRun, ...]:
    share = 1.0 if course.share is None else course.share
    runs = []
    for number, split in enumerate(find_folds(course.data, course.folds), start=1):
        place = f"seed-{seed}-share-{share:g}"
        subset = make_subset(course.data, course.out / "data" / place / f"fold-{number}", split, share, seed)
        folder = course.out / recipe.name / place
        run, before = folder / f"fold-{number}", folder / f"before-{number}"
        folders = {"rest": subset.rest, "frames": subset.frames, "before": before}
        if not (run / "run.json").is_file():
            if recipe.before and not before.is_dir():
                _run_before(recipe, folders)
            begun = (partial_path(run) / "checkpoint" / "checkpoint").is_file()
            words = ("--seed", str(seed), *_fill_in(recipe.options, folders))
            how = ("--resume",) if begun else (*words, *(("--overwrite",) if partial_path(run).is_dir() else ()))
            run_edgeseg("train", str(subset.labelled), "--out", str(run), *how)
        runs.append(FoldRun(run, subset.labelled, folder / f"int8-{number}" / INT8))
    return tuple(runs)


def _run_before(recipe: Recipe, folders: dict[str, Path]) -> None:
    begun = partial_path(folders["before"]).is_dir()
    how = ("--overwrite",) if begun else ()
    run_edgeseg(*_fill_in(recipe.before, folders), "--out", str(folders["before"]), *how)


def _fill_in(words: Sequence[str], folders: dict[str, Path]) -> list[str]:
    for name, folder in folders.items():
        words = [word.replace(f"{{{name}}}", str(folder)) for word in words]
    return list(words)


def choose_file(course: Course, fold: FoldRun) -> Path:
    """Give the file of a fold that is judged: the trained one, or its int8 file, which is made where it is missing."""
    if not course.int8:
        return fold.run / MODEL
    if not fold.int8.is_file():
        folder = fold.int8.parent
        begun = ("--resume",) if (partial_path(folder) / "plan.json").is_file() else ()
        # 3: a gate did not hold; folds are compared whatever they lost
        run_edgeseg(
            "compress", str(fold.run), "--out", str(folder), "--recipe", "int8-ptq", "--max-drop", "1", *begun,
            allowed=(0, 3),
        )  # fmt: skip
    return fold.int8
