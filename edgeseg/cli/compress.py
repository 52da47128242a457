"""`edgeseg compress`: from a run to smaller files that are proven to draw the same masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeseg.cli.arguments import SHORTEST_MS, take_run
from edgeseg.cli.common import (
    GATE_NOT_HELD,
    CoverageOption,
    MapOption,
    MaxDropOption,
    OverwriteOption,
    SensitivityOption,
    ThreadsOption,
    keep_inputs,
    need_training_packages,
    usage_errors,
)
from edgeseg.cli.tables import print_table, print_variants, tell_notices
from edgeseg.cli.terminal import resumable

if TYPE_CHECKING:
    from edgeseg.compression.compress import CompressReport
    from edgeseg.compression.recipe import Recipe

DEFAULT_RECIPES = "float16,int8-ptq,int8-qat"


def compress(
    run: Annotated[Path, typer.Argument(help="A finished run, made by edgeseg train.")],
    out: Annotated[Path, typer.Option(help="The folder to make.")],
    recipe: Annotated[
        str | None,
        typer.Option(help="Recipes to compare: names or files, separated by commas.", show_default=DEFAULT_RECIPES),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="Use this board's recipes and budget, and choose only files that it can run; see edgeseg devices.",
            show_default=False,
        ),
    ] = None,
    max_drop: MaxDropOption = 0.01,
    budget_ms: Annotated[
        float | None,
        typer.Option(
            help="Latency budget on this machine in ms (p99 of one inference).", min=SHORTEST_MS, show_default=False
        ),
    ] = None,
    teacher: Annotated[
        Path | None,
        typer.Option(
            help="Teacher for knowledge distillation: a finished run or a cross-validation, for recipes that train.",
            show_default=False,
        ),
    ] = None,
    renaming: MapOption = None,
    sensitivity: SensitivityOption = None,
    coverage: CoverageOption = None,
    threads: ThreadsOption = 1,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted compression; its finished files are kept.")
    ] = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Compress a run by one or several recipes, and measure what each costs.

    Every file is judged on the run's own cases through the device's runtime, and timed beside the float parent. The
    fastest file whose Dice on the validation cases holds the gate is chosen; the test cases only report. Every file
    gets an operating point of its own on its card, chosen on the validation cases, and one that raises the false-alarm
    rate there by more than 0.05 is refused, too. Exit code 3
    when no file that was asked for holds the gate, or when nothing can be promised because the float model itself is
    useless or the validation cases are too few; files and report are there anyway.

    Example: `edgeseg compress runs/first --out runs/first-small`
    """
    run = take_run(run, "edgeseg train DATA --out RUN, then edgeseg compress RUN --out DIR")
    need_training_packages()
    from edgeseg.training.registration import is_registering

    if is_registering(run):
        masks: dict[str, object] = {
            "--teacher": teacher,
            "--map": renaming,
            "--sensitivity": sensitivity,
            "--coverage": coverage,
        }
        masks |= {"--resume": resume or None, "--device": device, "--budget-ms": budget_ms}
        _compress_registering(run, out, recipe, threads, overwrite, masks)
        return
    with resumable(out):
        from edgeseg.compression.compress import compress_run, open_folder
        from edgeseg.compression.gate import Gate
        from edgeseg.compression.recipe import load_recipe
        from edgeseg.evaluation.classes import parse_renaming
        from edgeseg.evaluation.decide import Target
        from edgeseg.machine.boards import load_board, name_board
        from edgeseg.report.compression import write_compression_report

        board = load_board(device) if device else None
        if recipe is None:
            recipe = ",".join(board.recommended.recipes) if board is not None else DEFAULT_RECIPES
        if board is not None and budget_ms is None:
            budget_ms = board.recommended.budget_ms
        targets, named = (board.recommended.backends, name_board(str(device))) if board is not None else ((), None)
        recipes = [load_recipe(name.strip()) for name in recipe.split(",")]
        with usage_errors():
            gate = Gate(max_drop, budget_ms, targets, named)
            check_teacher_use(teacher, recipes)
            renamed = parse_renaming(renaming or ())
            target = Target(sensitivity, coverage) if sensitivity or coverage else None
        keep_inputs([run, teacher], [out])
        with open_folder(out, overwrite, resume) as folder:
            outcome = compress_run(run, folder, recipes, gate, threads, teacher, renamed, target)
            write_compression_report(folder, run, outcome, out=out)
    tell_outcome(outcome.report, out)


def _compress_registering(
    run: Path, out: Path, recipe: str | None, threads: int, overwrite: bool, others: Mapping[str, object]
) -> None:
    """Compress the run of a registering network; options that concern masks are refused."""
    from edgeseg.compression.recipe import load_recipe
    from edgeseg.compression.registering import compress_registering
    from edgeseg.core.files import refuse_taken, staged_folder
    from edgeseg.core.stats import show_interval
    from edgeseg.training.resume import COMPRESSION

    given = next((name for name, value in others.items() if value), None)
    with usage_errors():
        if given is not None:
            raise ValueError(f"expected {given} with a run that draws masks, got one that registers pairs of images")
    keep_inputs([run], [out])
    refuse_taken(out, overwrite, COMPRESSION)
    recipes = [load_recipe(name.strip()) for name in (recipe or DEFAULT_RECIPES).split(",")]
    with staged_folder(out, overwrite) as folder:
        report = compress_registering(run, folder, recipes, threads)
    rows = [
        (
            variant.name,
            f"{variant.bytes / 1024:,.0f}",
            f"{variant.error_px.mean:.2f} ({show_interval(variant.error_px.ci95, '.2f')})",
            f"{variant.rise_px.mean:+.3f} ({show_interval(variant.rise_px.ci95, '+.3f')})",
            f"{variant.milliseconds:.2f}",
        )
        for variant in report.variants
    ]
    print_table("Files", ("file", "KiB", "distance px", "rise px", "ms"), rows)
    if not report.held:
        typer.echo(f"No file is within {report.most_rise_px} px of the float parent.", err=True)
        raise typer.Exit(GATE_NOT_HELD)
    print(f"chosen: {out / report.chosen}.tflite")


def tell_outcome(report: CompressReport, out: Path) -> None:
    """Print what came out, and end with the gate's exit code where it did not hold."""
    print_variants(report.variants, report.chosen)
    tell_notices(report.notices)
    for remark in report.remarks.values():
        print(remark)
    if report.advice:
        typer.echo(report.advice, err=True)
    if not report.gate["held"]:
        raise typer.Exit(GATE_NOT_HELD)
    chosen = next(v for v in report.variants if v.name == report.chosen)
    print(f"chosen: {out / chosen.file}   report: {out / 'report.html'}")


def check_teacher_use(teacher: Path | None, recipes: Sequence[Recipe]) -> None:
    """Refuse a teacher when no recipe trains."""
    if teacher is not None and not any(recipe.trains for recipe in recipes):
        raise ValueError("expected a recipe that trains (int8-qat) beside --teacher, got none")
