"""Make the file of a recipe: train further where it says so, convert, and write it with card and golden pairs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeseg.compress.cut import wire_network
from edgeseg.compress.layers import find_nodes
from edgeseg.compress.lesson import Lesson
from edgeseg.compress.prune import prune_network
from edgeseg.compress.pruned import describe_pruned, write_pruned
from edgeseg.compress.qat import train_quantised
from edgeseg.compress.recipe import CALIBRATED, Recipe, SparsifyStep, format_recipe
from edgeseg.compress.sparsify import check_sparsity, sparsify_model
from edgeseg.compress.workshop import Workshop, pick_calibration
from edgeseg.convert.package import build_card, make_golden
from edgeseg.convert.tflite import convert_model
from edgeseg.core.files import write_text
from edgeseg.core.modelfile import write_model
from edgeseg.core.progress import progress_bar
from edgeseg.graph.summary import measure_sparsity

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
    flatbuffer = make_flatbuffer(shop, lesson, recipe, _prune(shop, lesson, recipe, folder))
    record = shop.record
    name = f"{record.name}-{recipe.name}"
    card = build_card(flatbuffer, name, (record.input, record.output), record.provenance(recipe.name))
    write_model(folder / name_file(recipe.name), flatbuffer, card, make_golden(flatbuffer, card))


def _prune(shop: Workshop, lesson: Lesson, recipe: Recipe, folder: Path) -> Any:
    """Give the network that the recipe goes on with, and leave a description of it where it is another one."""
    if recipe.prune is None:
        return shop.model
    network = prune_network(shop.record.spec, shop.model, recipe.prune, lesson)
    write_pruned(folder, recipe.name, describe_pruned(wire_network(shop.record.spec, shop.model), network))
    return network.model


def make_flatbuffer(shop: Workshop, lesson: Lesson, recipe: Recipe, network: Any) -> bytes:
    """Train a network further where the recipe says so, and convert it."""
    model = _thin_out(network, recipe.sparsify, lesson)
    calibration = None
    if recipe.qat is not None:
        model = train_quantised(model, recipe.qat, lesson, keep_zeros=recipe.sparsify is not None)
    elif recipe.precision in CALIBRATED:
        calibration = pick_calibration(shop.train, recipe.calibration_images)
    kept = find_nodes(convert_model(model, "float32"), recipe.keep_float) if recipe.keep_float else ()
    flatbuffer = convert_model(model, recipe.precision, calibration, kept)
    if recipe.sparsify is not None:
        check_sparsity(measure_sparsity(flatbuffer), recipe.sparsify.target)
    return flatbuffer


def _thin_out(model: Any, step: SparsifyStep | None, lesson: Lesson) -> Any:
    return model if step is None else sparsify_model(model, step, lesson)
