"""`edgeseg search`: which pruning and number format give the best masks within a time budget."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeseg.cli.common import (
    GATE_NOT_HELD,
    MaxDropOption,
    ThreadsOption,
    keep_inputs,
    need_training_packages,
    usage_errors,
)
from edgeseg.cli.tables import print_table, print_variants
from edgeseg.cli.terminal import repeatable
from edgeseg.cli.usage import SHORTEST_MS, take_run

if TYPE_CHECKING:
    from edgeseg.search.recipes import RecipeReport


def search(
    run: Annotated[Path, typer.Argument(help="A finished run, made by edgeseg train.")],
    out: Annotated[Path, typer.Option(help="The search's folder; an existing search is continued.")],
    budget_ms: Annotated[
        float, typer.Option(help="Latency budget on this machine in ms (median of one inference).", min=SHORTEST_MS)
    ],
    trials: Annotated[int, typer.Option(help="Total number of trials, over all calls.", min=1)] = 20,
    threads: ThreadsOption = 1,
    max_drop: MaxDropOption = 0.01,
) -> None:
    """Search the file to deploy: how far to prune a run, and in which number format to compute.

    Each trial is a file, judged on the validation cases only and timed in turn with the run's plain int8 file. The
    pick has the highest validation Dice within the budget; in the end it is reported on the test cases. The same
    command continues an interrupted search; another budget picks anew among the trials that are there. Exit code 3
    when no trial is fast enough or the pick loses too much.

    Example: `edgeseg search runs/first --out runs/first-search --budget-ms 1.0`
    """
    run = take_run(run, "edgeseg train DATA --out RUN, then edgeseg search RUN --out DIR --budget-ms N")
    need_training_packages()
    with repeatable():
        from edgeseg.compression.gate import Gate
        from edgeseg.search.recipes import run_search

        with usage_errors():
            gate = Gate(max_drop, budget_ms)
        keep_inputs([run], [out])
        report = run_search(run, out, gate, trials, threads)
    print_search(out, report)
    if not report.gate["held"]:
        typer.echo(report.advice, err=True)
        raise typer.Exit(GATE_NOT_HELD)


def print_search(out: Path, report: RecipeReport) -> None:
    """Print the Pareto front, what failed, and the figures of the pick on the test cases."""
    from edgeseg.search.recipes import FILES
    from edgeseg.search.report import list_front, list_outcomes

    print_table(f"Pareto front of {out} (* the pick)", list(FILES.columns), list_front(report, FILES))
    print("\n".join(list_outcomes(report, FILES)) + f"; see {out}.")
    if report.pick is not None:
        print_variants(report.judged, report.pick.choice.name)
        print(f"pick: {out / 'pick' / report.judged[-1].file}\nmake it again:  {report.command}")
