"""Make the file of a recipe: train further where it says so, convert, and write it with card and golden pairs."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeseg.compress.cut import Network, wire_network
from edgeseg.compress.judge import score_validation
from edgeseg.compress.layers import find_nodes
from edgeseg.compress.lesson import Lesson
from edgeseg.compress.prune import prune_network
from edgeseg.compress.pruned import describe_pruned, name_float, read_pruned, write_pruned
from edgeseg.compress.qat import train_quantised
from edgeseg.compress.recipe import CALIBRATED, Recipe, format_recipe
from edgeseg.compress.sparsify import check_sparsity, sparsify_model
from edgeseg.compress.steps import FOLDER as UNFINISHED
from edgeseg.compress.steps import StepStore
from edgeseg.compress.workshop import Workshop, pick_calibration
from edgeseg.convert.pack import compact_flatbuffer
from edgeseg.convert.package import build_card, make_golden
from edgeseg.convert.tflite import convert_model
from edgeseg.core.card import Card
from edgeseg.core.files import write_text
from edgeseg.core.modelfile import ModelFile, write_model
from edgeseg.core.progress import progress_bar
from edgeseg.graph.summary import measure_sparsity
from edgeseg.runtime.segmenter import Segmenter

RECIPES = "recipes"


def name_file(recipe: str) -> str:
    """Name the file of a recipe."""
    return f"{recipe}.tflite"


def make_files(shop: Workshop, lesson: Lesson, recipes: Sequence[Recipe], folder: Path) -> None:
    """Make every recipe's file that is not there yet, and leave a copy of the recipe beside it."""
    with progress_bar("Making files", len(recipes)) as advance:
        for recipe in recipes:
            if not (folder / name_file(recipe.name)).is_file():
                make_file(shop, lesson, recipe, folder)
            advance(recipe.name)


def make_file(shop: Workshop, lesson: Lesson, recipe: Recipe, folder: Path) -> None:
    """Make one recipe's file; the recipe is written first, the file appears whole."""
    write_text(folder / RECIPES / f"{recipe.name}.toml", format_recipe(recipe))
    network = _thin_out(_prune(shop, lesson, recipe, folder), recipe, lesson, folder)
    flatbuffer = _quantise(shop, lesson, recipe, network, folder)
    card = _describe(shop, recipe, flatbuffer)
    write_model(folder / name_file(recipe.name), flatbuffer, card, make_golden(flatbuffer, card))
    shutil.rmtree(folder / UNFINISHED, ignore_errors=True)


def _describe(shop: Workshop, recipe: Recipe, flatbuffer: bytes) -> Card:
    record = shop.record
    name = f"{record.name}-{recipe.name}"
    return build_card(flatbuffer, name, (record.input, record.output), record.provenance(recipe.name))


def _prune(shop: Workshop, lesson: Lesson, recipe: Recipe, folder: Path) -> Network:
    """Give the network that the recipe goes on with, and leave a description of it where it is another one."""
    parent = wire_network(shop.record.spec, shop.model)
    if recipe.prune is None:
        return parent
    store = StepStore(folder / UNFINISHED / recipe.name / "prune")
    network = prune_network(parent.spec, parent.model, recipe.prune, lesson, store)
    write_pruned(folder, recipe.name, describe_pruned(parent, network))
    flatbuffer = convert_model(network.model, "float32")
    write_model(name_float(folder, recipe.name), flatbuffer, _describe(shop, recipe, flatbuffer))
    return network


def _thin_out(network: Network, recipe: Recipe, lesson: Lesson, folder: Path) -> Network:
    if recipe.sparsify is None:
        return network
    store = StepStore(folder / UNFINISHED / recipe.name / "sparsify")
    finished = store.load()
    if finished is not None:
        return finished[1]
    sparse = sparsify_model(network.model, recipe.sparsify, lesson)
    store.save(1, network.spec, sparse)
    return dataclasses.replace(network, model=sparse)


def _quantise(shop: Workshop, lesson: Lesson, recipe: Recipe, network: Network, folder: Path) -> bytes:
    """Make the flatbuffer; what pruning left is trained for int8 only where that is better than calibration alone."""
    flatbuffer = make_flatbuffer(shop, lesson, recipe, network.model)
    pruned = read_pruned(folder, recipe.name)
    if pruned is None or recipe.qat is None:
        return flatbuffer
    plain = make_flatbuffer(shop, lesson, dataclasses.replace(recipe, qat=None), network.model)
    if _score(shop, recipe, flatbuffer) > _score(shop, recipe, plain):
        return flatbuffer
    write_pruned(folder, recipe.name, dataclasses.replace(pruned, calibrated=True))
    return plain


def _score(shop: Workshop, recipe: Recipe, flatbuffer: bytes) -> float:
    model = ModelFile(Path(name_file(recipe.name)), flatbuffer, _describe(shop, recipe, flatbuffer), ())
    return score_validation(shop, Segmenter(model))


def make_flatbuffer(shop: Workshop, lesson: Lesson, recipe: Recipe, model: Any) -> bytes:
    """Train a pruned and thinned out model for int8 where the recipe says so, and convert it."""
    calibration = None
    if recipe.qat is not None:
        model = train_quantised(model, recipe.qat, lesson, keep_zeros=recipe.sparsify is not None)
    elif recipe.precision in CALIBRATED:
        calibration = pick_calibration(shop.train, recipe.calibration_images)
    kept = find_nodes(convert_model(model, "float32"), recipe.keep_float) if recipe.keep_float else ()
    flatbuffer = compact_flatbuffer(convert_model(model, recipe.precision, calibration, kept))
    if recipe.sparsify is not None:
        check_sparsity(measure_sparsity(flatbuffer), recipe.sparsify.target)
    return flatbuffer
