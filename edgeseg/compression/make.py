"""Make the file of a recipe: train further where it says so, convert, and write it with card and golden pairs."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeseg.compression.channels import Network, wire_network
from edgeseg.compression.context import CompressContext, DistillationData, pick_calibration
from edgeseg.compression.finetune import check_sparsity, sparsify_model, train_quantised
from edgeseg.compression.judge import find_nodes, score_validation
from edgeseg.compression.pruning import prune_network
from edgeseg.compression.recipe import CALIBRATED, Recipe, format_recipe
from edgeseg.compression.resume import FOLDER as UNFINISHED
from edgeseg.compression.resume import StepStore, describe_pruned, float_path, read_pruned, write_pruned
from edgeseg.convert.package import build_card, make_golden
from edgeseg.convert.tflite import compact_flatbuffer, convert_model
from edgeseg.core.card import Card
from edgeseg.core.files import write_text
from edgeseg.core.modelfile import ModelFile, write_model
from edgeseg.core.progress import progress_bar
from edgeseg.graph.summary import measure_sparsity
from edgeseg.inference.segmenter import Segmenter

RECIPES = "recipes"


def name_file(recipe: str) -> str:
    """Name the file of a recipe."""
    return f"{recipe}.tflite"


def make_files(
    context: CompressContext, distillation: DistillationData, recipes: Sequence[Recipe], folder: Path
) -> None:
    """Make every recipe's file that is not there yet, and leave a copy of the recipe beside it."""
    with progress_bar("Making files", len(recipes)) as advance:
        for recipe in recipes:
            if not (folder / name_file(recipe.name)).is_file():
                make_file(context, distillation, recipe, folder)
            advance(recipe.name)


def make_file(context: CompressContext, distillation: DistillationData, recipe: Recipe, folder: Path) -> None:
    """Make one recipe's file; the recipe is written first, the file appears whole."""
    write_text(folder / RECIPES / f"{recipe.name}.toml", format_recipe(recipe))
    network = _thin_out(_prune(context, distillation, recipe, folder), recipe, distillation, folder)
    flatbuffer = _quantise(context, distillation, recipe, network, folder)
    card = _describe(context, recipe, flatbuffer)
    write_model(folder / name_file(recipe.name), flatbuffer, card, make_golden(flatbuffer, card))
    shutil.rmtree(folder / UNFINISHED, ignore_errors=True)


def _describe(context: CompressContext, recipe: Recipe, flatbuffer: bytes) -> Card:
    record = context.record
    name = f"{record.name}-{recipe.name}"
    return build_card(flatbuffer, name, (record.input, record.output), record.provenance(recipe.name))


def _prune(context: CompressContext, distillation: DistillationData, recipe: Recipe, folder: Path) -> Network:
    """Give the network that the recipe goes on with, and leave a description of it where it is another one."""
    parent = wire_network(context.record.spec, context.model)
    if recipe.prune is None:
        return parent
    store = StepStore(folder / UNFINISHED / recipe.name / "prune")
    network = prune_network(parent.spec, parent.model, recipe.prune, distillation, store)
    write_pruned(folder, recipe.name, describe_pruned(parent, network))
    flatbuffer = convert_model(network.model, "float32")
    write_model(float_path(folder, recipe.name), flatbuffer, _describe(context, recipe, flatbuffer))
    return network


def _thin_out(network: Network, recipe: Recipe, distillation: DistillationData, folder: Path) -> Network:
    if recipe.sparsify is None:
        return network
    store = StepStore(folder / UNFINISHED / recipe.name / "sparsify")
    finished = store.load()
    if finished is not None:
        return finished[1]
    sparse = sparsify_model(network.model, recipe.sparsify, distillation)
    store.save(1, network.spec, sparse)
    return dataclasses.replace(network, model=sparse)


def _quantise(
    context: CompressContext, distillation: DistillationData, recipe: Recipe, network: Network, folder: Path
) -> bytes:
    """Make the flatbuffer; what pruning left is trained for int8 only where that is better than calibration alone."""
    flatbuffer = make_flatbuffer(context, distillation, recipe, network.model)
    pruned = read_pruned(folder, recipe.name)
    if pruned is None or recipe.qat is None:
        return flatbuffer
    plain = make_flatbuffer(context, distillation, dataclasses.replace(recipe, qat=None), network.model)
    if _score(context, recipe, flatbuffer) > _score(context, recipe, plain):
        return flatbuffer
    write_pruned(folder, recipe.name, dataclasses.replace(pruned, calibrated=True))
    return plain


def _score(context: CompressContext, recipe: Recipe, flatbuffer: bytes) -> float:
    model = ModelFile(Path(name_file(recipe.name)), flatbuffer, _describe(context, recipe, flatbuffer), ())
    return score_validation(context, Segmenter(model))


def make_flatbuffer(context: CompressContext, distillation: DistillationData, recipe: Recipe, model: Any) -> bytes:
    """Train a pruned and thinned out model for int8 where the recipe says so, and convert it."""
    calibration = None
    if recipe.qat is not None:
        model = train_quantised(model, recipe.qat, distillation, keep_zeros=recipe.sparsify is not None)
    elif recipe.precision in CALIBRATED:
        calibration = pick_calibration(context.train, recipe.calibration_images)
    kept = find_nodes(convert_model(model, "float32"), recipe.keep_float) if recipe.keep_float else ()
    flatbuffer = compact_flatbuffer(convert_model(model, recipe.precision, calibration, kept))
    if recipe.sparsify is not None:
        check_sparsity(measure_sparsity(flatbuffer), recipe.sparsify.target)
    return flatbuffer
