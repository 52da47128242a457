"""From a finished run to a folder of verified files: make, judge, time, choose."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import edgeseg
from edgeseg.backends.cpu import CpuBackend
from edgeseg.bench.measure import describe_host
from edgeseg.compression.context import BATCH, CompressContext, open_run, plan_distillation
from edgeseg.compression.finetune import check_layers, check_reach
from edgeseg.compression.gate import Gate, Variant, choose_variant, explain_choice, explain_doubt, list_remarks
from edgeseg.compression.judge import Judgement, find_nodes, judge_files
from edgeseg.compression.make import make_files, name_file
from edgeseg.compression.pruning import check_pruning
from edgeseg.compression.recipe import PARENT, Recipe, add_plain_recipe, check_names
from edgeseg.compression.resume import begin_plan
from edgeseg.core.files import write_bytes, write_json
from edgeseg.core.modelfile import read_model
from edgeseg.core.schema import to_plain
from edgeseg.data.dataset import Case
from edgeseg.evaluation.classes import Renaming
from edgeseg.training import trainer
from edgeseg.training.memory import check_further_training
from edgeseg.training.run import MODEL, read_run

LIBRARIES = (*trainer.LIBRARIES, "tensorflow-model-optimization", "ai-edge-litert")
RESULTS = ("compress.json", "report.json")
"""The same figures twice: under the name that other programs know, and beside report.html and report.md."""


@dataclass(frozen=True)
class CompressReport:
    """What compress found out; `chosen` names the variant to deploy."""

    run: str
    variants: tuple[Variant, ...]
    chosen: str
    gate: dict[str, Any]
    advice: str
    """What to do when the gate did not hold, or no int8 file held it; empty when all is well."""
    remarks: dict[str, str]
    """Why a file was not chosen, for each that was asked for, and what else differs from its recipe.

    Empty where the gate was not judged: nothing then holds it.
    """
    notices: tuple[str, ...]
    """What must be known of the masks before the figures are believed."""
    threads: int
    teacher: str | None
    recipes: tuple[Recipe, ...]
    seed: int
    data_fingerprint: str
    edgeseg: str
    libraries: dict[str, str]
    """The versions that compressed; those that trained stand in the run's record."""
    host: dict[str, Any]


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


def compress_run(
    run: Path,
    folder: Path,
    recipes: Sequence[Recipe],
    gate: Gate,
    threads: int = 1,
    teacher: Path | None = None,
    renamed: Renaming | None = None,
) -> Outcome:
    """Make every recipe's file and compare them with the float parent.

    Args:
        run: A finished run.
        folder: Where the files go; it exists, and what an interrupted compression left there is used.
        recipes: What to make; plain int8 is made beside recipes that train for int8.
        gate: What the chosen file must hold.
        threads: CPU threads for the timing.
        teacher: A run whose masks are followed where a recipe trains; None follows the run's own.
        renamed: Classes of the run that go by another name in the teacher.
    """
    asked = frozenset(recipe.name for recipe in recipes)
    recipes = add_plain_recipe(tuple(recipes))
    check_names(recipes)
    context = open_run(run)
    check_recipes(recipes, context, run)
    distillation = plan_distillation(context, teacher, renamed)
    begin_plan(folder, run, recipes, teacher, renamed)
    write_bytes(folder / name_file(PARENT), (run / MODEL).read_bytes())
    make_files(context, distillation, recipes, folder)
    by_name = {recipe.name: recipe for recipe in recipes}
    judged = judge_files(context, {name: folder / name_file(name) for name in (PARENT, *by_name)}, by_name, threads)
    judged = {name: _mark_requested(judgement, name in asked) for name, judgement in judged.items()}
    report = _report(context, judged, gate, threads, recipes, teacher)
    for name in RESULTS:
        write_json(folder / name, to_plain(report))
    return Outcome(report, _compare_cases(context, judged[PARENT], judged[report.chosen]))


def check_recipes(recipes: Sequence[Recipe], context: CompressContext, run: Path) -> None:
    """Refuse what the network cannot give before anything is made: layers, budgets, zeros, training for int8."""
    for recipe in recipes:
        if recipe.keep_float:
            find_nodes(read_model(run / MODEL).flatbuffer, recipe.keep_float)
        if recipe.prune is not None:
            check_pruning(context.record.spec, context.model, recipe.prune)
        if recipe.sparsify is not None:
            check_reach(context.model, recipe.sparsify.target)
        if recipe.qat is not None:
            check_layers(context.model, keep_zeros=recipe.sparsify is not None)
        if recipe.trains:
            check_further_training(context.model, BATCH, quantised=recipe.qat is not None)


def _mark_requested(judgement: Judgement, requested: bool) -> Judgement:
    return dataclasses.replace(judgement, variant=dataclasses.replace(judgement.variant, requested=requested))


def _report(
    context: CompressContext,
    judged: dict[str, Judgement],
    gate: Gate,
    threads: int,
    recipes: tuple[Recipe, ...],
    teacher: Path | None,
) -> CompressReport:
    record, variants = context.record, tuple(judgement.variant for judgement in judged.values())
    chosen, held = choose_variant(variants[1:], gate)
    parent = judged[PARENT]
    doubt = explain_doubt(parent.validation, parent.test, gate)
    return CompressReport(
        run=record.name,
        variants=variants,
        chosen=chosen.name,
        gate={**to_plain(gate), "held": held and not doubt, "judged": not doubt},
        advice=doubt or explain_choice(variants[1:], chosen, held, gate),
        notices=list_doubts(judged, chosen, gate),
        remarks={} if doubt else list_remarks(variants[1:], chosen, gate),
        threads=threads,
        teacher=read_run(teacher).name if teacher is not None else None,
        recipes=recipes,
        seed=record.options.seed,
        data_fingerprint=record.data_fingerprint,
        edgeseg=edgeseg.__version__,
        libraries={name: version(name) for name in LIBRARIES},
        host=describe_host(CpuBackend.probe().detail),
    )


def list_doubts(judged: Mapping[str, Judgement], chosen: Variant, gate: Gate) -> tuple[str, ...]:
    """Say what is wrong with the masks on the test cases: of the parent first, of a file what the parent has not."""
    parent = judged[PARENT].test.notices
    others = [
        f"{name}: {notice}" for name, one in judged.items() for notice in one.test.notices if notice not in parent
    ]
    lost = chosen.dice_drop.mean
    more = f"On the test cases {chosen.name} loses {lost:.4f}, more than the {gate.max_drop} that may be lost."
    return (*parent, *others, *([more] if lost > gate.max_drop else []))


def _compare_cases(context: CompressContext, parent: Judgement, chosen: Judgement) -> tuple[ComparedCase, ...]:
    return tuple(
        ComparedCase(context.data.images[before.stem].case, before.mean("dice"), after.mean("dice"))
        for before, after in zip(parent.scored, chosen.scored, strict=True)
        if not before.empty
    )
