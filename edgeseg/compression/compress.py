"""Compress a run: make the file of every recipe, evaluate and time all files, choose one.

A recipe's steps run in a fixed order: prune channels, sparsify, quantise (docs/decisions/0017).
Every finished file and step stays in the partial result folder, so that `--resume` continues behind it.
"""

from __future__ import annotations

import dataclasses
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import edgeseg
from edgeseg.backends.cpu import CpuBackend
from edgeseg.bench.measure import describe_host
from edgeseg.compression.channels import Network, wire_network
from edgeseg.compression.context import (
    BATCH,
    CompressContext,
    DistillationData,
    open_run,
    pick_calibration,
    plan_distillation,
)
from edgeseg.compression.evaluate import FileEvaluation, evaluate_files, find_nodes, score_validation
from edgeseg.compression.finetune import (
    check_layers,
    check_reachable_sparsity,
    check_sparsity,
    sparsify_model,
    train_quantised,
)
from edgeseg.compression.gate import Gate, Variant, choose_variant, explain_choice, explain_doubt, list_remarks
from edgeseg.compression.pruning import (
    StepStore,
    check_pruning,
    describe_pruned,
    float_path,
    prune_network,
    read_pruned,
    write_pruned,
)
from edgeseg.compression.recipe import CALIBRATED, PARENT, Recipe, add_plain_recipe, check_names, format_recipe
from edgeseg.convert.package import build_card, make_golden
from edgeseg.convert.tflite import compact_flatbuffer, convert_model
from edgeseg.core.card import Card
from edgeseg.core.files import refuse_taken, staged_folder, write_bytes, write_json, write_text
from edgeseg.core.modelfile import ModelFile, read_model, write_model
from edgeseg.core.progress import progress_bar
from edgeseg.core.schema import to_plain
from edgeseg.data.dataset import Case
from edgeseg.evaluation.classes import Renaming
from edgeseg.evaluation.decide import Target
from edgeseg.evaluation.score import Evaluation
from edgeseg.graph.summary import measure_sparsity
from edgeseg.inference.segmenter import Segmenter
from edgeseg.training import trainer
from edgeseg.training.memory import check_further_training
from edgeseg.training.resume import COMPRESSION, begin_plan, find_partial
from edgeseg.training.run import MODEL, fingerprint_run
from edgeseg.training.teachers import Teachers, choose_teachers, fingerprint_teacher

_LOG = logging.getLogger(__name__)
LIBRARIES = (*trainer.LIBRARIES, "tensorflow-model-optimization", "ai-edge-litert")
# The same figures twice: under the name that other programs know, and beside report.html and report.md.
RESULTS = ("compress.json", "report.json")
# Folders in the result: the recipes as they were used, and the finished steps of the recipe that is being made.
RECIPES, UNFINISHED = "recipes", "unfinished"


@dataclass(frozen=True)
class CompressReport:
    """The content of compress.json; `chosen` names the variant to deploy."""

    run: str
    variants: tuple[Variant, ...]
    chosen: str
    gate: dict[str, Any]
    advice: str
    """What to do when the gate did not hold, or no int8 file held it; empty otherwise."""
    remarks: dict[str, str]
    """For each requested file: why it was not chosen, and where it differs from its recipe.

    Empty where the gate was not evaluated: then no file holds it.
    """
    notices: tuple[str, ...]
    """Warnings about the masks, to be read before the figures."""
    threads: int
    teacher: str | None
    recipes: tuple[Recipe, ...]
    seed: int
    data_fingerprint: str
    edgeseg: str
    libraries: dict[str, str]
    """The versions that compressed; those that trained are in the run's record."""
    host: dict[str, Any]
    target: dict[str, float | None] = field(default_factory=dict)
    """The sensitivity or coverage that was asked for beside the run's; empty where none was."""


@dataclass(frozen=True)
class ComparedCase:
    """One test case with something to find."""

    case: Case
    parent_dice: float
    chosen_dice: float


@dataclass(frozen=True)
class Outcome:
    """The report, and what its pictures show of the float parent and the chosen file on the test cases."""

    report: CompressReport
    cases: tuple[ComparedCase, ...]
    """The Dice of every case that shows something."""
    tested: Mapping[str, Evaluation] = field(default_factory=dict)
    """The evaluation of both files, by name."""


@contextmanager
def open_folder(out: Path, overwrite: bool = False, resume: bool = False) -> Iterator[Path]:
    """Open the staged result folder; finished files stay in it when the compression is interrupted.

    Args:
        out: The final folder.
        overwrite: Whether an existing result may be replaced.
        resume: Whether to continue an interrupted compression.
    """
    if not resume:
        refuse_taken(out, overwrite, COMPRESSION)
    else:
        resume = find_partial(out, COMPRESSION).expect(COMPRESSION)
    with staged_folder(out, overwrite, keep_partial=True, go_on=resume) as folder:
        yield folder


def compress_run(
    run: Path,
    folder: Path,
    recipes: Sequence[Recipe],
    gate: Gate,
    threads: int = 1,
    teacher: Path | None = None,
    renamed: Renaming | None = None,
    target: Target | None = None,
) -> Outcome:
    """Make every recipe's file and compare them with the float parent.

    Args:
        run: A finished run.
        folder: An existing folder for the files; files of an interrupted compression in it are kept.
        recipes: The recipes to make; plain int8 is added to recipes with QAT.
        gate: What the chosen file must hold.
        threads: CPU threads for the timing.
        teacher: A run or the folder of a cross-validation to distil from where a recipe trains; None distils from the
            run's own float model.
        renamed: Classes of the run that have another name in the teacher.
        target: The sensitivity or coverage that every file's operating point is chosen for; None takes the run's.
    """
    requested = frozenset(recipe.name for recipe in recipes)
    recipes = add_plain_recipe(tuple(recipes))
    check_names(recipes)
    context = open_run(run)
    check_recipes(recipes, context, run)
    tests, fingerprint = context.data.name_tests(), context.record.data_fingerprint
    teachers = choose_teachers(teacher, tests, fingerprint) if teacher is not None else None
    if teachers is None:
        distillation = plan_distillation(context)
    else:
        # who teaches is known before hours of work, and so is what its figures are worth
        for notice in teachers.notices:
            _LOG.warning("%s", notice)
        distillation = plan_distillation(context, teachers.runs, renamed, divided_alike=not teachers.ensemble)
    # after all checks: a refused compression must leave nothing to resume
    begin_plan(folder, describe_plan(run, recipes, teacher, renamed))
    # the parent is a variant, too: it is scored and timed in turn with the others
    write_bytes(folder / name_file(PARENT), (run / MODEL).read_bytes())
    make_files(context, distillation, recipes, folder)
    by_name = {recipe.name: recipe for recipe in recipes}
    paths = {name: folder / name_file(name) for name in (PARENT, *by_name)}
    evaluated = evaluate_files(context, paths, by_name, threads, target)
    evaluated = {name: _mark_requested(one, name in requested) for name, one in evaluated.items()}
    report = _report(context, evaluated, gate, threads, recipes, teachers)
    if target is not None:
        report = dataclasses.replace(report, target=to_plain(target))
    for name in RESULTS:
        write_json(folder / name, to_plain(report))
    tested = {name: evaluated[name].test for name in (PARENT, report.chosen)}
    return Outcome(report, _compare_cases(context, evaluated[PARENT], evaluated[report.chosen]), tested)


def check_recipes(recipes: Sequence[Recipe], context: CompressContext, run: Path) -> None:
    """Refuse recipes that this network cannot satisfy before anything is made: hours of training may follow."""
    for recipe in recipes:
        if recipe.keep_float:
            find_nodes(read_model(run / MODEL).flatbuffer, recipe.keep_float)
        if recipe.prune is not None:
            check_pruning(context.record.spec, context.model, recipe.prune)
        if recipe.sparsify is not None:
            check_reachable_sparsity(context.model, recipe.sparsify.target)
        if recipe.qat is not None:
            check_layers(context.model, keep_sparsity=recipe.sparsify is not None)
        if recipe.trains:
            check_further_training(context.model, BATCH, quantised=recipe.qat is not None)


def describe_plan(
    run: Path, recipes: Sequence[Recipe], teacher: Path | None, renamed: Renaming | None = None
) -> dict[str, Any]:
    """Describe what a compression makes; an interrupted one is only continued with an equal plan."""
    return {
        "run": fingerprint_run(run),
        "teacher": fingerprint_teacher(teacher) if teacher is not None else None,
        "recipes": to_plain(recipes),
        **({"map": dict(renamed)} if renamed else {}),
    }


def name_file(recipe: str) -> str:
    """Name the file of a recipe."""
    return f"{recipe}.tflite"


def make_files(
    context: CompressContext, distillation: DistillationData, recipes: Sequence[Recipe], folder: Path
) -> None:
    """Make the file of every recipe that has none yet."""
    with progress_bar("Making files", len(recipes)) as advance:
        for recipe in recipes:
            if not (folder / name_file(recipe.name)).is_file():
                make_file(context, distillation, recipe, folder)
            advance(recipe.name)


def make_file(context: CompressContext, distillation: DistillationData, recipe: Recipe, folder: Path) -> None:
    """Make one recipe's file, with a copy of the recipe; the model file is written last, and whole."""
    # a model file that exists is never made again, so everything else must be written before it
    write_text(folder / RECIPES / f"{recipe.name}.toml", format_recipe(recipe))
    network = _sparsify(_prune(context, distillation, recipe, folder), recipe, distillation, folder)
    flatbuffer = _quantise(context, distillation, recipe, network, folder)
    card = _build_card(context, recipe, flatbuffer)
    write_model(folder / name_file(recipe.name), flatbuffer, card, make_golden(flatbuffer, card))
    # the steps' weights are only needed until the recipe's file is whole
    shutil.rmtree(folder / UNFINISHED, ignore_errors=True)


def _build_card(context: CompressContext, recipe: Recipe, flatbuffer: bytes) -> Card:
    record = context.record
    name = f"{record.name}-{recipe.name}"
    ends = record.input, record.output
    return build_card(flatbuffer, name, ends, record.provenance(recipe.name), record.finding)


def _prune(context: CompressContext, distillation: DistillationData, recipe: Recipe, folder: Path) -> Network:
    """Prune as the recipe says; the pruned network's float file stays, to compare the quantised layers with."""
    parent = wire_network(context.record.spec, context.model)
    if recipe.prune is None:
        return parent
    store = StepStore(folder / UNFINISHED / recipe.name / "prune")
    network = prune_network(parent.spec, parent.model, recipe.prune, distillation, store)
    write_pruned(folder, recipe.name, describe_pruned(parent, network))
    flatbuffer = convert_model(network.model, "float32")
    write_model(float_path(folder, recipe.name), flatbuffer, _build_card(context, recipe, flatbuffer))
    return network


def _sparsify(network: Network, recipe: Recipe, distillation: DistillationData, folder: Path) -> Network:
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
    """Convert the network; a pruned one keeps its QAT only where that beats calibration on validation cases."""
    flatbuffer = make_flatbuffer(context, distillation, recipe, network.model)
    pruned = read_pruned(folder, recipe.name)
    if pruned is None or recipe.qat is None:
        return flatbuffer
    # the recovery has just trained this network: QAT may gain nothing more
    plain = make_flatbuffer(context, distillation, dataclasses.replace(recipe, qat=None), network.model)
    if _score(context, recipe, flatbuffer) > _score(context, recipe, plain):
        return flatbuffer
    write_pruned(folder, recipe.name, dataclasses.replace(pruned, calibrated=True))
    return plain


def _score(context: CompressContext, recipe: Recipe, flatbuffer: bytes) -> float:
    model = ModelFile(Path(name_file(recipe.name)), flatbuffer, _build_card(context, recipe, flatbuffer), ())
    return score_validation(context, Segmenter(model))


def make_flatbuffer(context: CompressContext, distillation: DistillationData, recipe: Recipe, model: Any) -> bytes:
    """Convert a model to the recipe's precision, after QAT or with calibration images."""
    calibration = None
    if recipe.qat is not None:
        model = train_quantised(model, recipe.qat, distillation, keep_sparsity=recipe.sparsify is not None)
    elif recipe.precision in CALIBRATED:
        calibration = pick_calibration(context.train, recipe.calibration_images)
    kept = find_nodes(convert_model(model, "float32"), recipe.keep_float) if recipe.keep_float else ()
    flatbuffer = compact_flatbuffer(convert_model(model, recipe.precision, calibration, kept))
    if recipe.sparsify is not None:
        check_sparsity(measure_sparsity(flatbuffer), recipe.sparsify.target)
    return flatbuffer


def _mark_requested(evaluation: FileEvaluation, requested: bool) -> FileEvaluation:
    return dataclasses.replace(evaluation, variant=dataclasses.replace(evaluation.variant, requested=requested))


def _report(
    context: CompressContext,
    evaluated: dict[str, FileEvaluation],
    gate: Gate,
    threads: int,
    recipes: tuple[Recipe, ...],
    teachers: Teachers | None,
) -> CompressReport:
    record, variants = context.record, tuple(evaluation.variant for evaluation in evaluated.values())
    # the parent itself cannot be chosen
    chosen, held = choose_variant(variants[1:], gate)
    parent = evaluated[PARENT]
    doubt = explain_doubt(parent.validation, parent.test, gate)
    return CompressReport(
        run=record.name,
        variants=variants,
        chosen=chosen.name,
        gate={**to_plain(gate), "held": held and not doubt, "judged": not doubt},
        advice=doubt or explain_choice(variants[1:], chosen, held, gate),
        notices=(*(teachers.notices if teachers is not None else ()), *list_notices(evaluated, chosen, gate)),
        remarks={} if doubt else list_remarks(variants[1:], chosen, gate),
        threads=threads,
        teacher=teachers.name if teachers is not None else None,
        recipes=recipes,
        seed=record.options.seed,
        data_fingerprint=record.data_fingerprint,
        edgeseg=edgeseg.__version__,
        libraries={name: version(name) for name in LIBRARIES},
        host=describe_host(CpuBackend.probe().detail),
    )


def list_notices(evaluated: Mapping[str, FileEvaluation], chosen: Variant, gate: Gate) -> tuple[str, ...]:
    """List warnings about the masks on the test cases: the parent's first, then what only other files have."""
    parent = evaluated[PARENT].test.notices
    others = [
        f"{name}: {notice}" for name, one in evaluated.items() for notice in one.test.notices if notice not in parent
    ]
    lost = chosen.dice_drop.mean
    more = f"On the test cases {chosen.name} loses {lost:.4f}, more than the {gate.max_drop} that may be lost."
    return (*parent, *others, *([more] if lost > gate.max_drop else []))


def _compare_cases(
    context: CompressContext, parent: FileEvaluation, chosen: FileEvaluation
) -> tuple[ComparedCase, ...]:
    return tuple(
        ComparedCase(context.data.images[before.stem].case, before.mean("dice"), after.mean("dice"))
        for before, after in zip(parent.scored, chosen.scored, strict=True)
        if not before.empty
    )
