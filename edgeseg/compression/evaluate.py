"""Evaluate model files: Dice on the run's cases, latency, size, sparsity, and each layer's error against float."""

from __future__ import annotations

import dataclasses
import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

from edgeseg.bench.measure import count_blocks, time_segmenters
from edgeseg.compression.context import CompressContext
from edgeseg.compression.gate import CaseFigures, LayerError, Variant, compare_alarms
from edgeseg.compression.pruning import float_path, read_pruned
from edgeseg.compression.recipe import PARENT, Recipe
from edgeseg.convert.tflite import OUTPUTS
from edgeseg.core.card import Card, Metrics
from edgeseg.core.errors import RecipeError, UnknownNameError
from edgeseg.core.modelfile import ModelFile, read_model, write_model
from edgeseg.core.process import quiet_native_output
from edgeseg.core.progress import Advance, ignore, progress_bar
from edgeseg.core.spec import Quantisation
from edgeseg.core.stats import Percentiles, estimate_mean
from edgeseg.evaluation.decide import Target, change_decision, decide_model
from edgeseg.evaluation.score import (
    Evaluation,
    ScoredCase,
    estimate_drop,
    list_thresholds,
    score_cases,
    summarise_cases,
)
from edgeseg.frame.postprocess import dequantise
from edgeseg.frame.preprocess import pixels_to_tensor
from edgeseg.graph.operators import CONVERSIONS, read_graph
from edgeseg.graph.summary import count_operators, measure_sparsity, name_layer
from edgeseg.inference.segmenter import Segmenter

TIMED_RUNS = 100
# Training images on which layers are compared.
COMPARED_IMAGES = 4


@dataclass(frozen=True)
class FileEvaluation:
    """The evaluation of one file."""

    variant: Variant
    scored: tuple[ScoredCase, ...]
    """On the test cases."""
    test: Evaluation
    validation: Evaluation


def evaluate_files(
    context: CompressContext,
    files: Mapping[str, Path],
    recipes: Mapping[str, Recipe],
    threads: int,
    target: Target | None = None,
) -> dict[str, FileEvaluation]:
    """Evaluate the float parent and the files made from it, and write operating points and figures onto their cards.

    Args:
        context: The run they were made from.
        files: Every file by name, the parent first.
        recipes: The recipes they were made with; the parent has none.
        threads: CPU threads for the timing.
        target: The sensitivity or coverage to choose operating points for; None takes that of the run.
    """
    options = context.record.options
    target = target or Target(options.sensitivity, options.coverage)
    models = {name: read_model(path) for name, path in files.items()}
    own = models[PARENT].card.decision
    cases = len(context.data.split.test) + 2 * len(context.data.split.validation)
    scores, segmenters = {}, {}
    with progress_bar("Scoring files", len(models) * cases) as advance:
        for name, model in models.items():
            on_case = partial(_show_file, advance, name)
            # each file's own scores decide, since quantisation moves them
            decided = decide_model(model, context.data.part("val"), target, threads, on_case)
            # the training frames are those of the run, whatever became of its network
            decision = dataclasses.replace(decided.decision, known=own.known if own is not None else None)
            models[name] = change_decision(model, decision)
            segmenters[name] = Segmenter(models[name], "cpu", threads)
            tested = tuple(score_cases(segmenters[name], context.data.part("test"), on_case))
            scores[name] = {"test": tested, "val": decided.scored}
    with progress_bar("Timing", count_blocks(TIMED_RUNS)) as advance:
        # all files in turn, so that a slow moment of the machine hits all alike
        times = time_segmenters(list(segmenters.values()), TIMED_RUNS, advance)
    evaluated = {}
    for (name, model), timed in zip(models.items(), times, strict=True):
        one, parent, classes = scores[name], scores[PARENT], model.card.output.classes
        layers = _compare_layers(context, models[PARENT], model)
        figures = compare_cases(parent["val"], one["val"])
        metrics = _write_metrics(model, parent["test"], one["test"])
        variant = _describe(name, model, recipes.get(name), metrics, figures, layers, timed["invoke"])
        thresholds = list_thresholds(model.card)
        test, validation = (summarise_cases(one[part], classes, thresholds) for part in ("test", "val"))
        alarms = compare_alarms(parent["val"], one["val"]) if thresholds else None
        variant = dataclasses.replace(variant, alarms=alarms, point=test.operating_point)
        evaluated[name] = FileEvaluation(variant, one["test"], test, validation)
    return evaluated


def compare_cases(parent: Sequence[ScoredCase], child: Sequence[ScoredCase]) -> CaseFigures:
    """Estimate a file's Dice on the cases that are not empty, and its drop from the parent's."""
    filled = [case for case in child if not case.empty]
    dice = estimate_mean([case.mean("dice") for case in filled], [case.group for case in filled])
    return CaseFigures(dice, estimate_drop(parent, child))


def _show_file(advance: Advance, file: str, case: str) -> None:  # noqa: ARG001 - a case's name may identify a patient
    advance(file)


def _compare_layers(context: CompressContext, parent: ModelFile, model: ModelFile) -> tuple[LayerError, ...]:
    if model is parent:
        return ()
    # evenly over all training images: neighbours in the list often show the same patient
    picked = np.linspace(0, len(context.train) - 1, min(COMPARED_IMAGES, len(context.train))).astype(int)
    return compare_layers(_find_float(parent, model), model, context.train.images[picked])


def _find_float(parent: ModelFile, model: ModelFile) -> ModelFile:
    """Find the float file with the same layers: the pruned network's, or the parent."""
    pruned = float_path(model.path.parent, model.path.stem)
    return read_model(pruned) if pruned.is_file() else parent


def score_validation(context: CompressContext, segmenter: Segmenter, on_case: Advance = ignore) -> float:
    """Score a file on the validation cases, which all choices between files are made by."""
    scored = score_cases(segmenter, context.data.part("val"), on_case)
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
        # mtime=0: the same file always has the same size
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


@dataclass(frozen=True)
class _Step:
    """One operator that computes, and its output tensor."""

    operator: str
    node: str
    tensor: int
    shape: tuple[int, ...]
    quantisation: Quantisation
    name: str


class LayerReader:
    """Runs a model without XNNPACK, which would overwrite the outputs of inner layers."""

    def __init__(self, model: ModelFile) -> None:
        self._card: Card = model.card
        self._interpreter = _open_flatbuffer(model.flatbuffer)
        self.steps = _list_steps(self._interpreter)

    def read(self, pixels: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
        """Run one image (height, width, channels) and return every layer's output as real numbers."""
        (source,) = self._interpreter.get_input_details()
        self._interpreter.set_tensor(source["index"], pixels_to_tensor(pixels, self._card.input_quantisation))
        self._interpreter.invoke()
        return [dequantise(self._interpreter.get_tensor(step.tensor), step.quantisation) for step in self.steps]


def compare_layers(parent: ModelFile, child: ModelFile, images: NDArray[np.uint8]) -> tuple[LayerError, ...]:
    """Measure how far every layer's output is from the parent's.

    Args:
        parent: The float file.
        child: The file to compare.
        images: Pixels (n, height, width, channels) on the network's grid.

    Returns:
        One entry per layer; empty where the two files do not have the same layers.
    """
    readers = LayerReader(parent), LayerReader(child)
    kinds = [[(step.operator, step.shape) for step in reader.steps] for reader in readers]
    # the converter keeps the order of execution, so layers are matched by position (docs/decisions/0016)
    if kinds[0] != kinds[1]:
        return ()
    wrong, whole = np.zeros(len(kinds[0])), np.zeros(len(kinds[0]))
    for pixels in images:
        for index, (wanted, got) in enumerate(zip(*(reader.read(pixels) for reader in readers), strict=True)):
            wrong[index] += float(np.square(got - wanted).sum())
            whole[index] += float(np.square(wanted).sum())
    # a layer whose output is zero throughout has no relative error: avoid 0/0
    errors = np.sqrt(wrong / np.maximum(whole, np.finfo(np.float64).tiny))
    return tuple(
        LayerError(step.name, step.operator, round(float(error), 5))
        for step, error in zip(readers[0].steps, errors, strict=True)
    )


def find_nodes(flatbuffer: bytes, layers: Sequence[str]) -> tuple[str, ...]:
    """Find the output tensors of some layers; unknown layers are refused, and so is a list of all layers."""
    steps = _list_steps(_open_flatbuffer(flatbuffer))
    known = {step.name for step in steps}
    for layer in layers:
        if layer not in known:
            raise UnknownNameError("layer", layer, known)
    if known <= set(layers):
        raise RecipeError(
            "Expected layers that are left for int8 beside keep_float, got every layer kept in float.",
            "Keep fewer layers in float, or take the recipe float16.",
        )
    return tuple(step.node for step in steps if step.name in layers)


def _open_flatbuffer(flatbuffer: bytes) -> Any:
    with quiet_native_output():
        interpreter = Interpreter(
            model_content=flatbuffer,
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        interpreter.allocate_tensors()
    return interpreter


def _list_steps(interpreter: Any) -> tuple[_Step, ...]:
    details = {detail["index"]: detail for detail in interpreter.get_tensor_details()}
    # the operator behind the mask has been "logistic" before there were findings
    ends = {detail["index"]: OUTPUTS[1] for detail in interpreter.get_output_details()[1:]}
    steps = []
    # there is no public way to list operators with their tensors
    for operator in interpreter._get_ops_details():
        if operator["op_name"] in CONVERSIONS:
            continue
        result = details[operator["outputs"][0]]
        scale, zero_point = result["quantization"]
        shape = tuple(int(n) for n in result["shape"])
        name = ends.get(result["index"]) or name_layer(result["name"], operator["op_name"])
        quantisation = Quantisation(np.dtype(result["dtype"]).name, float(scale), int(zero_point))
        steps.append(_Step(operator["op_name"], result["name"], result["index"], shape, quantisation, name))
    return tuple(steps)
