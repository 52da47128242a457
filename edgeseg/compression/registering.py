"""Compress a registering run: a file per recipe, judged by its distance from the true place on clips kept apart.

The recipes are those of segmenting runs. Those that prune or sparsify are refused: their budgets are chosen on masks.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

import edgeseg
from edgeseg.backends.select import select_backend
from edgeseg.compression.context import BATCH
from edgeseg.compression.finetune import check_layers, quantise_model, set_ranges
from edgeseg.compression.recipe import CALIBRATED, PARENT, Recipe, add_plain_recipe, check_names
from edgeseg.convert.registering import build_registration_card, make_registration_golden
from edgeseg.convert.tflite import compact_flatbuffer, convert_model
from edgeseg.core.errors import RecipeError
from edgeseg.core.files import write_bytes, write_json
from edgeseg.core.modelfile import COMPRESSION, RUN_FILE, RegistrationFile, read_registering, write_model
from edgeseg.core.progress import progress_bar
from edgeseg.core.schema import to_plain
from edgeseg.core.stats import Estimate, estimate_mean, summarise_times
from edgeseg.frame.preprocess import pixels_to_tensor
from edgeseg.model.keras import keras, read_weights
from edgeseg.model.unet import build_unet
from edgeseg.registration.learned import read_numbers
from edgeseg.training.frame_pairs import Clips, PairFeed, ValidationPairs
from edgeseg.training.loop import TrainingSchedule
from edgeseg.training.registration import (
    RegistrationJudge,
    RegistrationRecord,
    describe_errors,
    find_crop,
    fit_registering,
    measure_errors,
    read_registering_run,
    reopen_pairs,
)
from edgeseg.training.run import WEIGHTS

# What a file may be further from the true place than its float parent, in pixels, to be chosen.
MOST_RISE_PX = 0.1
# Batches of pairs that calibrate, and the steps of an epoch of QAT.
_CALIBRATION_BATCHES, _QAT_STEPS = 4, 50
_TIMED = 50


@dataclass(frozen=True)
class RegistrationVariant:
    """One file, on pairs of clips that were kept apart."""

    name: str
    file: str
    bytes: int
    error_px: Estimate
    rise_px: Estimate
    """Over the float parent, in pixels."""
    milliseconds: float
    """Of one inference, the median."""


@dataclass(frozen=True)
class RegistrationReport:
    """The content of compress.json."""

    run: str
    variants: tuple[RegistrationVariant, ...]
    chosen: str
    held: bool
    most_rise_px: float
    threads: int
    edgeseg: str = edgeseg.__version__
    task: str = "register"


def compress_registering(
    run: Path, folder: Path, recipes: Sequence[Recipe], threads: int = 1, most_rise_px: float = MOST_RISE_PX
) -> RegistrationReport:
    """Make every recipe's file and compare it with the float parent.

    Args:
        run: A finished run of a registering network.
        folder: An existing folder for the files.
        recipes: The recipes; plain int8 is added to recipes with QAT.
        threads: CPU threads for the timing.
        most_rise_px: How much further from the true place a file may be than its float parent.
    """
    recipes = add_plain_recipe(tuple(recipes))
    check_names(recipes)
    for recipe in recipes:
        if recipe.prune is not None or recipe.sparsify is not None or recipe.keep_float:
            raise RecipeError(
                f"Expected a recipe that quantises a registering run, got {recipe.name}, which prunes, sparsifies or "
                "keeps layers in float.",
                "Take float16, int8-ptq or int8-qat.",
            )
    record = read_registering_run(run)
    parent = read_registering(run / RUN_FILE)
    learned, pairs = reopen_pairs(run, record)
    keras.utils.set_random_seed(record.options.seed)
    model = build_unet(record.spec)
    read_weights(run / WEIGHTS, model)
    write_bytes(folder / f"{PARENT}.tflite", (run / RUN_FILE).read_bytes())
    with progress_bar("Making files", len(recipes)) as advance:
        for recipe in recipes:
            flatbuffer = _make_flatbuffer(record, model, recipe, learned, pairs)
            _write_variant(folder / f"{recipe.name}.tflite", flatbuffer, record, recipe.name, pairs)
            advance(recipe.name)
    errors = _list_errors(parent, pairs)
    variants = [_judge(folder, name, pairs, errors, threads) for name in (PARENT, *(r.name for r in recipes))]
    held = [variant for variant in variants[1:] if variant.rise_px.mean <= most_rise_px]
    chosen = min(held or variants[1:], key=lambda variant: variant.milliseconds if held else variant.rise_px.mean)
    report = RegistrationReport(record.name, tuple(variants), chosen.name, bool(held), most_rise_px, threads)
    write_json(folder / COMPRESSION, to_plain(report))
    return report


def _make_flatbuffer(
    record: RegistrationRecord, parent: Any, recipe: Recipe, learned: Clips, pairs: ValidationPairs
) -> bytes:
    model, calibration = parent, None
    images = pick_calibration_pairs(record, learned)
    if recipe.qat is not None:
        model = _train_quantised(record, parent, recipe, learned, pairs, images)
    elif recipe.precision in CALIBRATED:
        calibration = images[: recipe.calibration_images]
    return compact_flatbuffer(convert_model(model, recipe.precision, calibration))


def pick_calibration_pairs(record: RegistrationRecord, learned: Clips) -> NDArray[np.float32]:
    """Pick whole pairs for calibration; one holds black and white, so that the input's range is 0 to 1."""
    side = min(record.spec.height, record.spec.width)
    feed = PairFeed(learned, BATCH, record.options.seed + 1, side, record.spec.output_stride)
    images = np.concatenate([feed.make_batch(number)[0] for number in range(_CALIBRATION_BATCHES)])
    images[0, 0, 0], images[0, 0, 1] = 0.0, 1.0
    return images


def _train_quantised(
    record: RegistrationRecord,
    parent: Any,
    recipe: Recipe,
    learned: Clips,
    pairs: ValidationPairs,
    images: NDArray[np.float32],
) -> Any:
    """Run QAT on crops; the result is never worse on the validation pairs than the untrained copy."""
    if recipe.qat is None:
        return parent
    check_layers(parent, keep_sparsity=False)
    side = find_crop(record.spec)
    small = build_unet(dataclasses.replace(record.spec, height=side, width=side))
    small.set_weights(parent.get_weights())
    model, whole = quantise_model(small), quantise_model(parent)
    set_ranges(model, parent, images)
    set_ranges(whole, parent, images)
    feed = PairFeed(learned, BATCH, record.options.seed + 2, side, record.spec.output_stride)
    schedule = TrainingSchedule(recipe.qat.epochs, recipe.qat.learning_rate)
    with tempfile.TemporaryDirectory() as place:
        judge = RegistrationJudge(pairs, whole, record.reach_px, Path(place))
        # epoch 0: the initial weights count, too
        judge.evaluate(0)
        fit_registering(model, feed, judge, schedule, "Training for int8", _QAT_STEPS)
    return whole


def _write_variant(
    path: Path, flatbuffer: bytes, record: RegistrationRecord, recipe: str, pairs: ValidationPairs
) -> None:
    card = build_registration_card(
        flatbuffer, f"{record.name}-{recipe}", record.input, record.reach_px, record.provenance(recipe)
    )
    file = RegistrationFile(path, flatbuffer, card, ())
    metrics = describe_errors(measure_errors(_run(file, pairs), pairs, record.reach_px), pairs)
    card = dataclasses.replace(card, metrics=metrics)
    write_model(path, flatbuffer, card, make_registration_golden(flatbuffer, card))


def _run(file: RegistrationFile, pairs: ValidationPairs) -> NDArray[np.float32]:
    """Run a file on all validation pairs as a device does."""
    backend = select_backend(file, "cpu").backend
    found = []
    for pixels in pairs.inputs:
        (output,) = backend.invoke(pixels_to_tensor(pixels, file.card.input_quantisation))
        found.append(read_numbers(output, file.card))
    return np.stack(found)


def _list_errors(file: RegistrationFile, pairs: ValidationPairs) -> list[float]:
    fields = (_run(file, pairs) - np.float32(0.5)) * np.float32(2 * file.card.reach_px)
    far = np.hypot(*np.moveaxis(fields - pairs.truths[..., :2], -1, 0))
    known = pairs.truths[..., 2] > 0.9
    return [float(np.mean(far[n][known[n]])) if known[n].any() else 0.0 for n in range(len(known))]


def _judge(folder: Path, name: str, pairs: ValidationPairs, parent: list[float], threads: int) -> RegistrationVariant:
    path = folder / f"{name}.tflite"
    file = read_registering(path)
    errors = _list_errors(file, pairs)
    backend = select_backend(file, "cpu", threads).backend
    tensor = pixels_to_tensor(pairs.inputs[0], file.card.input_quantisation)
    times = []
    for _ in range(_TIMED):
        start = perf_counter()
        backend.invoke(tensor)
        times.append(1e3 * (perf_counter() - start))
    rises = [error - before for error, before in zip(errors, parent, strict=True)]
    return RegistrationVariant(
        name,
        path.name,
        path.stat().st_size,
        estimate_mean(errors, pairs.clip),
        estimate_mean(rises, pairs.clip),
        round(summarise_times(times).p50, 3),
    )
