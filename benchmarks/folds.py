r"""Which of two or more recipes is better? Every case of a data set, judged by the fold that has not seen its group.

    python benchmarks/folds.py DATA OUT --recipe base="--epochs 60 --batch 16" \
        --recipe head="--epochs 60 --batch 16 --findings auto" [--int8] [--folds 5] [--done base=FOLDS]

A recipe is what `edgeseg train --folds` is given. The first one is the one that the others are compared with, case by
case. What is trained is not trained again; an interrupted training goes on. --done takes a finished folder of folds
instead of training; given twice for one name, its folders are seeds of that recipe. --together both=base+head adds the
mean of the scores of several recipes, as one network.

With --share each fold keeps the labels of a share of its training groups, and all of its test cases; --seeds draws that
share, and the first weights, several times. A recipe may then name folders of images of its fold: {rest} has those that
lost their labels, {frames} all training images. --before NAME="pretrain {frames}" runs another command of edgeseg
first, once for each fold and seed, and {before} in the recipe is the folder that it made.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from fold_figures import Figures, Judged, measure_figures
from fold_runs import Course, FoldRun, Recipe, Runs, choose_file, train
from numpy.typing import NDArray
from trained import describe_place, show_estimate, write_results

from edgeseg.bench.measure import load_models, time_segmenters
from edgeseg.core.files import write_json
from edgeseg.core.modelfile import read_model
from edgeseg.core.schema import from_plain, to_plain
from edgeseg.core.stats import Estimate
from edgeseg.data.dataset import read_cases
from edgeseg.evaluation.score import ScoredCase, list_thresholds, pick_cases, score_segmentation
from edgeseg.frame.postprocess import clean_scores, grid_to_patch, paste_labels
from edgeseg.frame.preprocess import place_frame
from edgeseg.inference.confidence import decide_findings, measure_confidences
from edgeseg.inference.segmenter import Segmentation, Segmenter

RUNS = 200
# The heading and the digits of every figure, in the order of the table.
COLUMNS = {
    "dice": ("Dice", 3),
    "missed": ("Dice below 0.5", 3),
    "marked_empty": ("marked on empty cases", 2),
    "sensitivity": ("found at the operating point", 2),
    "false_alarm_rate": ("false alarms there", 2),
    "dice_shown": ("Dice shown there", 3),
    "false_alarms_at_80": ("false alarms at 80% found", 2),
    "false_alarms_at_90": ("false alarms at 90% found", 2),
    "dice_at_80": ("Dice of the surest 80%", 3),
    "rank_correlation": ("rank correlation", 2),
    "auc_confidence": ("AUC, confidence", 3),
    "auc_finding": ("AUC, finding", 3),
}
COMPARED = ("dice", "marked_empty", "false_alarms_at_90", "auc_confidence")
_NAME = re.compile(r"[\w.-]+")


@dataclass(frozen=True)
class Result:
    """A recipe's networks and what they found."""

    recipe: Recipe
    runs: Runs
    figures: Figures
    estimates: dict[str, Estimate]
    against: dict[str, Estimate]
    """Differences to the first recipe; empty for the first one."""
    minutes: float
    """Of training all folds once."""
    milliseconds: float | None = None


def judge(
    course: Course, place: str, seed: int, files: Sequence[Sequence[Path]], folds: Sequence[FoldRun]
) -> list[Judged]:
    """Judge every case by the network of its fold, or read what that gave before.

    Args:
        course: How all are trained.
        place: The folder for what it gave, in the results' folder.
        seed: Its number.
        files: For each fold the files whose scores are averaged.
        folds: The folds.
    """
    kept = course.out / place / f"{'int8' if course.int8 else 'float32'}-{seed}.json"
    hashes = [[read_model(path).card.sha256 for path in paths] for paths in files]
    if kept.is_file():
        known = json.loads(kept.read_text(encoding="utf-8"))
        if known["files"] == hashes:
            return [from_plain(Judged, row) for row in known["cases"]]
    rows: list[Judged] = []
    for paths, fold in zip(files, folds, strict=True):
        print("judging", *paths, flush=True)
        rows += judge_fold(paths, fold.data)
    write_json(kept, {"files": hashes, "cases": to_plain(rows)})
    return rows


def judge_fold(paths: Sequence[Path], data: Path) -> list[Judged]:
    """Judge the test cases of one fold."""
    segmenters = [Segmenter(read_model(path)) for path in paths]
    card = segmenters[0].card
    if len({segmenter.card.provenance.split_fingerprint for segmenter in segmenters}) > 1:
        raise SystemExit(
            f"expected {paths[0]} and {paths[1]} to have seen the same cases, got another division of them"
        )
    cases = pick_cases(card, data, "test").cases
    segment = segmenters[0].segment if len(segmenters) == 1 else average_scores(segmenters)
    # a threshold was chosen for one network, not for the mean of several
    decided = len(segmenters) == 1 and bool(list_thresholds(card))
    return [
        judge_case(score_segmentation(segment(image.frame), image, card), decided)
        for image in read_cases(cases, card.input.in_colour)
    ]


def judge_case(scored: ScoredCase, decided: bool) -> Judged:
    """Keep what the figures are made of."""
    return Judged(
        stem=scored.stem,
        group=scored.group,
        marked=bool(scored.marked_share > 0.0),
        outcomes=scored.outcomes,
        decided=decided,
        frame_class=scored.frame_class,
        frame_classes=scored.frame_classes,
    )


def average_scores(segmenters: Sequence[Segmenter]) -> Callable[[NDArray[Any]], Segmentation]:
    """Let several networks of the same output size decide together: scores and probabilities are averaged."""
    card = segmenters[0].card
    spec = card.input

    def segment(frame: NDArray[Any]) -> Segmentation:
        results = [segmenter.segment(frame) for segmenter in segmenters]
        scores = np.asarray(np.mean([result.scores for result in results], axis=0) + 0.5, dtype=np.uint8)
        placement = place_frame(spec, *frame.shape[:2])
        grid = clean_scores(scores, placement, (spec.height, spec.width), card.output)
        labels = paste_labels(grid_to_patch(grid, placement, card.output), *frame.shape[:2])
        told = [[one.probability for one in result.findings if one.probability is not None] for result in results]
        probabilities = np.mean(told, axis=0).tolist() if all(told) else ()
        findings = decide_findings(measure_confidences(grid, card.output), probabilities, card.output.classes, None)
        return replace(results[0], labels=labels, scores=scores, grid=grid, findings=findings, frame_classes={})

    return segment


def measure(course: Course, recipe: Recipe, trained: dict[str, Runs], first: Result | None) -> Result:
    """Judge a recipe, or several together, and compare it with the first one."""
    members = recipe.members or (recipe.name,)
    runs = trained[members[0]]
    seeds = min(len(trained[name]) for name in members)
    rows = []
    for seed in range(seeds):
        files = [[choose_file(course, trained[name][seed][fold]) for name in members] for fold in range(course.folds)]
        rows.append(judge(course, f"{recipe.name}/cases", seed, files, runs[seed]))
    seconds = sum(_read_seconds(run.run) for name in members for folds in trained[name][:seeds] for run in folds)
    figures = measure_figures(rows)
    against = {} if first is None else figures.compare(first.figures)
    return Result(recipe, runs[:seeds], figures, figures.estimate(), against, minutes=seconds / 60 / seeds)


def _read_seconds(run: Path) -> float:
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    return float((record.get("timing") or {}).get("seconds", 0.0))


def time_results(course: Course, results: Sequence[Result]) -> list[Result]:
    """Time the first fold's file of every recipe in turn, on one thread."""
    alone = [result for result in results if not result.recipe.members]
    loaded = load_models([choose_file(course, result.runs[0][0]) for result in alone], "cpu", (1,))
    times = time_segmenters([model.segmenter for model in loaded], RUNS)
    took = {result.recipe.name: time["total"].p50 for result, time in zip(alone, times, strict=True)}
    return [replace(result, milliseconds=took.get(result.recipe.name)) for result in results]


def list_cells(result: Result) -> dict[str, str]:
    """Put a result into the table's columns; those that its files do not fill are left out."""
    cells = {"recipe": result.recipe.name}
    for name, (heading, digits) in name_columns(result.figures).items():
        if name in result.estimates:
            cells[heading] = _show(result.estimates[name], digits)
        if name in COMPARED and name in result.against:
            cells[f"{heading}, against the first"] = _show(result.against[name], digits, signed=True)
    cells["training, min"] = f"{result.minutes:.0f}"
    if result.milliseconds is not None:
        cells["ms per frame"] = f"{result.milliseconds:.2f}"
    return cells


def name_columns(figures: Figures) -> dict[str, tuple[str, int]]:
    """Name the columns of all figures; pairs of frame classes come last."""
    pairs = [name for name in figures.statistics if name not in COLUMNS]
    return COLUMNS | {name: (name.replace("auc_", "AUC, ").replace("_", " against "), 3) for name in pairs}


def _show(estimate: Estimate, digits: int, signed: bool = False) -> str:
    text = show_estimate(estimate, digits)
    return f"+{text}" if signed and estimate.mean >= 0 else text


def list_headings(results: Sequence[Result], tables: Sequence[dict[str, str]]) -> list[str]:
    """List the columns that any row fills, in their order."""
    known = ["recipe"]
    for heading in dict.fromkeys(heading for result in results for heading, _ in name_columns(result.figures).values()):
        known += [heading, f"{heading}, against the first"]
    return [name for name in (*known, "training, min", "ms per frame") if any(name in table for table in tables)]


def describe_course(course: Course, results: Sequence[Result]) -> list[str]:
    """Say what was compared, as the lines above the table."""
    share = "" if course.share is None else f" {course.share:.0%} of the training groups keep their labels."
    return [
        f"`{course.data.name}`, {course.folds} folds by group, {'int8' if course.int8 else 'float32'} files.{share}",
        "Every case is judged by the network that has not seen its group. In brackets 95% intervals (bootstrap over",
        "groups). Differences are paired by case: an interval that holds zero says that these cases cannot tell. False",
        "alarms at a share found: with the one threshold of the confidence that finds so many over all folds.",
        "Milliseconds: one frame of 640x480 on one thread, all files in turn.",
        "",
        *(f"- {result.recipe.name}: {_describe(result)}" for result in results),
    ]


def _describe(result: Result) -> str:
    recipe, seeds = result.recipe, len(result.runs)
    averaged = "" if seeds == 1 else f"; {seeds} seeds, averaged"
    if recipe.members:
        return f"the mean of the scores of {' and '.join(recipe.members)}{averaged}"
    if recipe.done:
        return f"`{read_options(recipe.done[0])}`{averaged}"
    before = f"`{_write_command(*recipe.before)}`, then " if recipe.before else ""
    return f"{before}`{_write_command('train', 'DATA', *recipe.options)}`{averaged}"


def _write_command(*words: str) -> str:
    # paths on this machine are nobody's business
    return shlex.join(["edgeseg", *(Path(word).name if Path(word).is_absolute() else word for word in words)])


def read_options(folder: Path) -> str:
    """Read the command that a finished folder of folds was trained with."""
    config = folder / "config.toml"
    lines = config.read_text(encoding="utf-8").splitlines() if config.is_file() else []
    command = next((line for line in lines if line.startswith("#     edgeseg train") and "--config" not in line), "")
    words = shlex.split(command.removeprefix("#     "))
    return _write_command("train", "DATA", *words[5:]) if len(words) > 4 else folder.name


def read_recipes(chosen: argparse.Namespace) -> list[Recipe]:
    """Read the recipes from the command line, in the order of their names there."""
    recipes: dict[str, Recipe] = {}
    for name, folder in chosen.done:
        known = recipes.get(name, Recipe(name))
        recipes[name] = replace(known, done=(*known.done, Path(folder)))
    for name, text in chosen.recipe:
        if name in recipes:
            raise SystemExit(f"expected one recipe {name}, got two")
        recipes[name] = Recipe(name, tuple(shlex.split(text)))
    for name, text in chosen.before:
        recipes[name] = replace(_find(recipes, name), before=tuple(shlex.split(text)))
    for name, text in chosen.together:
        members = tuple(text.split("+"))
        for member in members:
            _find(recipes, member)
        recipes[name] = Recipe(name, members=members)
    if len(recipes) < 1:
        raise SystemExit("expected at least one --recipe or --done, got none")
    return list(recipes.values())


def _find(recipes: dict[str, Recipe], name: str) -> Recipe:
    if name not in recipes:
        raise SystemExit(f"expected one of {', '.join(recipes)}, got {name}")
    return recipes[name]


def named(text: str) -> tuple[str, str]:
    """Read NAME=TEXT."""
    name, sign, value = text.partition("=")
    if not sign or not _NAME.fullmatch(name) or not value.strip():
        raise argparse.ArgumentTypeError(f"expected NAME=..., got {text!r}")
    return name, value


def read_share(text: str) -> float:
    """Read a share above 0 and at most 1."""
    share = float(text)
    if not 0.0 < share <= 1.0:
        raise argparse.ArgumentTypeError(f"expected a share above 0 and at most 1, got {text}")
    return share


def main() -> None:
    """Train and judge every recipe, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--recipe", type=named, action="append", default=[], metavar="NAME=OPTIONS")
    parser.add_argument("--done", type=named, action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--before", type=named, action="append", default=[], metavar="NAME=COMMAND")
    parser.add_argument("--together", type=named, action="append", default=[], metavar="NAME=ONE+OTHER")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--share", type=read_share, help="of the training groups that keep their labels")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--int8", action="store_true", help="judge int8 files, by calibration alone")
    parser.add_argument("--title", default="Recipes compared by folds")
    parser.add_argument("--name", default="folds", help="of the files that are written into OUT")
    chosen = parser.parse_args()
    course = Course(
        chosen.data.resolve(), chosen.out.resolve(), chosen.folds, chosen.share, tuple(chosen.seeds), chosen.int8
    )
    recipes = read_recipes(chosen)
    course.out.mkdir(parents=True, exist_ok=True)
    trained = {recipe.name: train(course, recipe) for recipe in recipes if not recipe.members}
    results: list[Result] = []
    for recipe in recipes:
        results.append(measure(course, recipe, trained, results[0] if results else None))
    results = time_results(course, results)
    tables = [list_cells(result) for result in results]
    headings = list_headings(results, tables)
    notes = [f"# {chosen.title}", "", *describe_course(course, results)]
    # a figure in every line: beside each other they would be too wide to read
    rows = [[name, *(table.get(name, "") for table in tables)] for name in headings[1:]]
    write_results(course.out, chosen.name, notes, ["figure", *(table["recipe"] for table in tables)], rows)
    write_json(course.out / f"{chosen.name}.json", describe_results(course, results))


def describe_results(course: Course, results: Sequence[Result]) -> dict[str, Any]:
    """Describe all figures for other programs."""
    return {
        "measured": describe_place(),
        "data": course.data.name,
        "folds": course.folds,
        "share": course.share,
        "precision": "int8" if course.int8 else "float32",
        "recipes": [
            {
                "name": result.recipe.name,
                "recipe": _describe(result),
                "figures": to_plain(result.estimates),
                "against_first": to_plain(result.against),
                "training_minutes": round(result.minutes, 1),
                "milliseconds": result.milliseconds,
            }
            for result in results
        ],
    }


if __name__ == "__main__":
    main()
