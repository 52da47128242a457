"""From a finished run to a folder of verified files: make, judge, time, choose."""

from __future__ import annotations

import dataclasses
import gzip
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.bench.measure import time_segmenters
from edgeseg.compress.gate import Gate, choose_variant
from edgeseg.compress.qat import train_quantised
from edgeseg.compress.recipe import Recipe
from edgeseg.compress.variant import Variant
from edgeseg.convert.package import build_card, make_golden
from edgeseg.convert.tflite import convert_model
from edgeseg.core.card import Metrics
from edgeseg.core.errors import DataError
from edgeseg.core.files import write_json
from edgeseg.core.modelfile import ModelFile, read_model, write_model
from edgeseg.core.progress import progress_bar
from edgeseg.core.schema import to_plain
from edgeseg.core.stats import Percentiles
from edgeseg.data.augment import choose_variations
from edgeseg.data.dataset import Case
from edgeseg.evaluate.score import ScoredCase, estimate_drop, score_cases, summarise_cases
from edgeseg.graph.operators import measure_sparsity
from edgeseg.model.keras import keras
from edgeseg.model.unet import build_unet
from edgeseg.runtime.segmenter import Segmenter
from edgeseg.train.arrays import GridArrays, to_grid, to_reals
from edgeseg.train.loading import LoadedData, load_same_data
from edgeseg.train.run import MODEL, RECORD, WEIGHTS, RunRecord, read_run

PARENT = "float32"
RESULT = "compress.json"
TIMED_RUNS = 100


@dataclass(frozen=True)
class CompressReport:
    """What compress found out; `chosen` names the variant to deploy."""

    run: str
    variants: tuple[Variant, ...]
    chosen: str
    gate: dict[str, Any]
    threads: int


@dataclass(frozen=True)
class Outcome:
    """The report, and each test case's Dice with the float parent and with the chosen file, for pictures."""

    report: CompressReport
    cases: tuple[ComparedCase, ...]


@dataclass(frozen=True)
class ComparedCase:
    """One test case with something to find."""

    case: Case
    parent_dice: float
    chosen_dice: float


@dataclass(frozen=True)
class Workshop:
    """A run opened for compression: its record, model and data."""

    record: RunRecord
    model: Any
    data: LoadedData
    train: GridArrays
    validation: GridArrays


def compress_run(run: Path, folder: Path, recipes: Sequence[Recipe], gate: Gate, threads: int = 1) -> Outcome:
    """Make every recipe's file and compare them with the float parent.

    Args:
        run: A finished run.
        folder: Where the files go; it exists and is empty.
        recipes: What to make.
        gate: What the chosen file must hold.
        threads: CPU threads for the timing.
    """
    shop = open_run(run)
    (folder / f"{PARENT}.tflite").write_bytes((run / MODEL).read_bytes())
    with progress_bar("Making files", len(recipes)) as advance:
        for recipe in recipes:
            _make_file(shop, recipe, folder)
            advance(recipe.name)
    names = [PARENT, *(recipe.name for recipe in recipes)]
    variants, scored = _judge_files(shop, {name: folder / f"{name}.tflite" for name in names}, threads)
    chosen, held = choose_variant(variants[1:], gate)
    report = CompressReport(
        run=shop.record.name,
        variants=tuple(variants),
        chosen=chosen.name,
        gate={"max_drop": gate.max_drop, "budget_ms": gate.budget_ms, "held": held},
        threads=threads,
    )
    write_json(folder / RESULT, to_plain(report))
    return Outcome(report, _compare_cases(shop, scored[PARENT], scored[chosen.name]))


def _compare_cases(
    shop: Workshop, parent: Sequence[ScoredCase], chosen: Sequence[ScoredCase]
) -> tuple[ComparedCase, ...]:
    return tuple(
        ComparedCase(shop.data.images[before.stem].case, before.mean("dice"), after.mean("dice"))
        for before, after in zip(parent, chosen, strict=True)
        if not before.empty
    )


def open_run(run: Path) -> Workshop:
    """Open a finished run with the data it was trained on; changed data are refused."""
    record = read_run(run)
    root = Path(os.path.normpath(run / record.data))
    if not root.is_dir():
        raise DataError(
            f"Expected the data that {run} was trained on at {root}, got nothing there.",
            f'Move the folder back, or correct "data" in {run / RECORD}.',
        )
    data = load_same_data(root, record, run)
    keras.utils.set_random_seed(record.options.seed)
    model = build_unet(record.spec)
    model.load_weights(run / WEIGHTS)
    train, validation = (to_grid(data.part(part), record.input) for part in ("train", "val"))
    return Workshop(record, model, data, train, validation)


def _make_file(shop: Workshop, recipe: Recipe, folder: Path) -> None:
    flatbuffer = _make_flatbuffer(shop, recipe)
    record = shop.record
    name = f"{record.name}-{recipe.name}"
    card = build_card(flatbuffer, name, (record.input, record.output), record.provenance(recipe.name))
    write_model(folder / f"{recipe.name}.tflite", flatbuffer, card, make_golden(flatbuffer, card))


def _make_flatbuffer(shop: Workshop, recipe: Recipe) -> bytes:
    if recipe.qat is not None:
        options = shop.record.options
        augment = choose_variations(options.augment)
        model = train_quantised(shop.model, recipe.qat, shop.train, shop.validation, options.seed, augment)
        return convert_model(model, recipe.precision)
    calibration = pick_calibration(shop.train, recipe.calibration_images) if recipe.precision == "int8" else None
    return convert_model(shop.model, recipe.precision, calibration)


def pick_calibration(train: GridArrays, count: int) -> NDArray[np.float32]:
    """Pick calibration images evenly; the brightest is stretched to white, so that the input's range is 0 to 1."""
    if len(train) < min(count, 8):
        raise DataError(f"Expected at least 8 training images for calibration, got {len(train)}.", "Give more cases.")
    images = to_reals(train.images[np.linspace(0, len(train) - 1, min(count, len(train))).astype(int)])
    brightest = int(images.reshape(len(images), -1).max(axis=1).argmax())
    images[brightest] /= max(float(images[brightest].max()), 1e-6)
    return images


def _judge_files(
    shop: Workshop, files: dict[str, Path], threads: int
) -> tuple[list[Variant], dict[str, list[ScoredCase]]]:
    models = {name: read_model(path) for name, path in files.items()}
    segmenters = {name: Segmenter(model, "cpu", threads) for name, model in models.items()}
    test, validation = shop.data.part("test"), shop.data.part("val")
    with progress_bar("Judging files", len(models)) as advance:
        scored, kept = {}, {}
        for name, segmenter in segmenters.items():
            scored[name] = score_cases(segmenter, test)
            kept[name] = summarise_cases(score_cases(segmenter, validation), shop.record.output.classes).dice.mean
            advance(name)
    times = time_segmenters(list(segmenters.values()), TIMED_RUNS)
    variants = []
    for (name, model), timed in zip(models.items(), times, strict=True):
        metrics = _write_metrics(model, scored[PARENT], scored[name])
        variants.append(_describe(name, model, metrics, kept[name], timed["invoke"]))
    return variants, scored


def _write_metrics(model: ModelFile, parent: list[ScoredCase], child: list[ScoredCase]) -> Metrics:
    classes = model.card.output.classes
    before, after = summarise_cases(parent, classes), summarise_cases(child, classes)
    metrics = Metrics(after.cases, before.dice, after.dice, estimate_drop(parent, child))
    write_model(model.path, model.flatbuffer, dataclasses.replace(model.card, metrics=metrics), model.golden)
    return metrics


def _describe(name: str, model: ModelFile, metrics: Metrics, validation_dice: float, latency: Percentiles) -> Variant:
    data = model.path.read_bytes()
    return Variant(
        name=name,
        file=model.path.name,
        bytes=len(data),
        gzip_bytes=len(gzip.compress(data, mtime=0)),
        params=model.card.parameters,
        macs=model.card.macs,
        sparsity=round(measure_sparsity(model.flatbuffer), 4),
        dice=metrics.dice,
        dice_drop=metrics.drop,
        validation_dice=validation_dice,
        latency_ms=latency,
        lint=model.card.lint,
    )
