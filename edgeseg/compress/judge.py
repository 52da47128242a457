"""Judge files: Dice on the run's own cases, time, size, sparsity, and where each layer departs from float."""

from __future__ import annotations

import dataclasses
import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from edgeseg.bench.measure import count_blocks, time_segmenters
from edgeseg.compress.layers import compare_layers
from edgeseg.compress.pruned import name_float, read_pruned
from edgeseg.compress.recipe import PARENT, Recipe
from edgeseg.compress.variant import CaseFigures, LayerError, Variant
from edgeseg.compress.workshop import Workshop
from edgeseg.core.card import Metrics
from edgeseg.core.modelfile import ModelFile, read_model, write_model
from edgeseg.core.progress import Advance, ignore, progress_bar
from edgeseg.core.stats import Percentiles, estimate_mean
from edgeseg.evaluate.score import Evaluation, ScoredCase, estimate_drop, score_cases, summarise_cases
from edgeseg.graph.operators import read_graph
from edgeseg.graph.summary import count_operators, measure_sparsity
from edgeseg.runtime.segmenter import Segmenter

TIMED_RUNS = 100
COMPARED_IMAGES = 4


@dataclass(frozen=True)
class Judgement:
    """What was found out about one file."""

    variant: Variant
    scored: tuple[ScoredCase, ...]
    """On the test cases."""
    test: Evaluation
    validation: Evaluation


@dataclass(frozen=True)
class _Tried:
    """How one file did on the cases."""

    test: tuple[ScoredCase, ...]
    validation: tuple[ScoredCase, ...]
    layers: tuple[LayerError, ...]


def judge_files(
    shop: Workshop, files: Mapping[str, Path], recipes: Mapping[str, Recipe], threads: int
) -> dict[str, Judgement]:
    """Judge the float parent and its children; the figures are written onto their cards.

    Args:
        shop: The run they were made from.
        files: Every file by its name, the parent first.
        recipes: What they were made by; the parent has none.
        threads: CPU threads for the timing.
    """
    models = {name: read_model(path) for name, path in files.items()}
    segmenters = {name: Segmenter(model, "cpu", threads) for name, model in models.items()}
    cases = len(shop.data.split.test) + len(shop.data.split.validation)
    with progress_bar("Judging files", len(models) * cases) as advance:
        tried = {
            name: _try_file(shop, segmenters[name], models[PARENT], model, partial(_tell, advance, name))
            for name, model in models.items()
        }
    with progress_bar("Timing", count_blocks(TIMED_RUNS)) as advance:
        times = time_segmenters(list(segmenters.values()), TIMED_RUNS, advance)
    judged = {}
    for (name, model), timed in zip(models.items(), times, strict=True):
        one, parent, classes = tried[name], tried[PARENT], model.card.output.classes
        test, validation = (summarise_cases(scored, classes) for scored in (one.test, one.validation))
        figures = compare_cases(parent.validation, one.validation)
        metrics = _write_metrics(model, parent.test, one.test)
        variant = _describe(name, model, recipes.get(name), metrics, figures, one.layers, timed["invoke"])
        judged[name] = Judgement(variant, one.test, test, validation)
    return judged


def compare_cases(parent: Sequence[ScoredCase], child: Sequence[ScoredCase]) -> CaseFigures:
    """Give a file's Dice on cases of which some show something, and what it loses of its parent's."""
    filled = [case for case in child if not case.empty]
    dice = estimate_mean([case.mean("dice") for case in filled], [case.group for case in filled])
    return CaseFigures(dice, estimate_drop(parent, child))


def _tell(advance: Advance, file: str, case: str) -> None:  # noqa: ARG001 - a case's name may tell too much
    advance(file)


def _try_file(shop: Workshop, segmenter: Segmenter, parent: ModelFile, model: ModelFile, on_case: Advance) -> _Tried:
    picked = np.linspace(0, len(shop.train) - 1, min(COMPARED_IMAGES, len(shop.train))).astype(int)
    layers = () if model is parent else compare_layers(_find_float(parent, model), model, shop.train.images[picked])
    test, validation = (tuple(score_cases(segmenter, shop.data.part(part), on_case)) for part in ("test", "val"))
    return _Tried(test, validation, layers)


def _find_float(parent: ModelFile, model: ModelFile) -> ModelFile:
    """Find the float file that is built like a file: what pruning left, or the parent."""
    pruned = name_float(model.path.parent, model.path.stem)
    return read_model(pruned) if pruned.is_file() else parent


def score_validation(shop: Workshop, segmenter: Segmenter, on_case: Advance = ignore) -> float:
    """Score a file on the validation cases, which decide between files."""
    scored = score_cases(segmenter, shop.data.part("val"), on_case)
    return compare_cases(scored, scored).dice.mean


def _write_metrics(model: ModelFile, parent: tuple[ScoredCase, ...], child: tuple[ScoredCase, ...]) -> Metrics:
    before, after = compare_cases(parent, parent), compare_cases(parent, child)
    cases = sum(not case.empty for case in child)
    metrics = Metrics(cases, before.dice, after.dice, after.dice_drop)
    write_model(model.path, model.flatbuffer, dataclasses.replace(model.card, metrics=metrics), model.golden)
    return metrics


def _describe(
    name: str,
    model: ModelFile,
    recipe: Recipe | None,
    metrics: Metrics,
    validation: CaseFigures,
    layers: tuple[LayerError, ...],
    latency: Percentiles,
) -> Variant:
    data, pruned = model.path.read_bytes(), read_pruned(model.path.parent, name)
    return Variant(
        name=name,
        file=model.path.name,
        precision=recipe.precision if recipe is not None else PARENT,
        trained=recipe is not None and recipe.trains,
        bytes=len(data),
        gzip_bytes=len(gzip.compress(data, mtime=0)),
        params=model.card.parameters,
        macs=model.card.macs,
        sparsity=round(measure_sparsity(model.flatbuffer), 4),
        operators=count_operators(read_graph(model.flatbuffer)),
        dice=metrics.dice,
        dice_drop=metrics.drop,
        validation_dice=validation.dice.mean,
        validation=validation,
        latency_ms=latency,
        lint=model.card.lint,
        layers=layers,
        channels=pruned.channels if pruned is not None else (),
        calibrated=pruned is not None and pruned.calibrated,
        kept_float=recipe.keep_float if recipe is not None else (),
        sparsified=recipe is not None and recipe.sparsify is not None,
    )
