"""`edgeseg compress`: from a run to smaller files that are proven to draw the same masks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeseg.cli.common import (
    GATE_NOT_HELD,
    OverwriteOption,
    ThreadsOption,
    need_training_packages,
    usage_errors,
)
from edgeseg.cli.tables import print_variants

DEFAULT_RECIPES = "float16,int8-ptq,int8-qat"


def compress(
    run: Annotated[Path, typer.Argument(help="A finished run, made by edgeseg train.")],
    out: Annotated[Path, typer.Option(help="The folder to make.")],
    recipe: Annotated[str, typer.Option(help="Recipes to compare, by name or file, with commas.")] = DEFAULT_RECIPES,
    device: Annotated[
        str | None, typer.Option(help="Take this board's recipes and budget; see edgeseg devices.", show_default=False)
    ] = None,
    max_drop: Annotated[float, typer.Option(help="Dice that may be lost, at the bad end of the interval.")] = 0.01,
    budget_ms: Annotated[
        float | None, typer.Option(help="Time one inference may take on this machine (p99).", show_default=False)
    ] = None,
    threads: ThreadsOption = 1,
    overwrite: OverwriteOption = False,
) -> None:
    """Compress a run by one or several recipes, and prove what it cost.

    Every file is judged on the run's own test cases through the device's runtime, and timed beside the float parent.
    The fastest file whose Dice holds the gate is chosen. Exit code 3 when none holds it; the files are there anyway.

    Example: `edgeseg compress runs/first --out runs/first-small`
    """
    need_training_packages()
    from edgeseg.compress.gate import Gate, explain_gate
    from edgeseg.compress.plan import compress_run
    from edgeseg.compress.recipe import load_recipe
    from edgeseg.core.board import load_board
    from edgeseg.core.files import staged_folder
    from edgeseg.report.compression import write_compression_report

    board = load_board(device) if device else None
    if board is not None and recipe == DEFAULT_RECIPES:
        recipe = ",".join(board.recommended.recipes)
    recipes = [load_recipe(name.strip()) for name in recipe.split(",")]
    with usage_errors():
        gate = Gate(max_drop, budget_ms)
    with staged_folder(out, overwrite) as folder:
        outcome = compress_run(run, folder, recipes, gate, threads)
        write_compression_report(folder, run, outcome)
    report = outcome.report
    print_variants(report.variants, report.chosen)
    chosen = next(v for v in report.variants if v.name == report.chosen)
    if not report.gate["held"]:
        typer.echo(explain_gate(chosen, gate), err=True)
        raise typer.Exit(GATE_NOT_HELD)
    print(f"chosen: {out / chosen.file}   report: {out / 'report.html'}")
