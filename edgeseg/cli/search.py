"""The two searches: `edgeseg tune` for the network to train, `edgeseg search` for the file to deploy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeseg.cli.arguments import SHORTEST_MS, take_run
from edgeseg.cli.common import (
    GATE_NOT_HELD,
    ClassNameOption,
    GroupPatternOption,
    ImagesOption,
    JsonOption,
    LayoutOption,
    MasksOption,
    MaxDropOption,
    ThreadsOption,
    join_layout,
    keep_inputs,
    need_training_packages,
    need_tune_packages,
    save_json,
    usage_errors,
)
from edgeseg.cli.tables import print_table, print_variants
from edgeseg.cli.terminal import repeatable

if TYPE_CHECKING:
    from edgeseg.search.database import StorageAddress
    from edgeseg.search.networks import NetworkReport
    from edgeseg.search.recipes import RecipeReport


STORAGE = "EDGESEG_STORAGE"
StorageOption = Annotated[
    str,
    typer.Option(
        metavar="URL",
        help="Database for workers on several machines, such as postgresql://USER:PASSWORD@HOST/DATABASE.",
        envvar=STORAGE,
        show_envvar=True,
        show_default=False,
    ),
]
StudyOption = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="Name of the search in the database; by default that of --out.", show_default=False
    ),
]


def search(
    run: Annotated[Path, typer.Argument(help="A finished run, made by edgeseg train.")],
    out: Annotated[Path, typer.Option(help="The search's folder; an existing search is continued.")],
    budget_ms: Annotated[
        float, typer.Option(help="Latency budget on this machine in ms (median of one inference).", min=SHORTEST_MS)
    ],
    trials: Annotated[int, typer.Option(help="Total number of trials, over all calls.", min=1)] = 20,
    threads: ThreadsOption = 1,
    max_drop: MaxDropOption = 0.01,
    storage: StorageOption = "",
    study: StudyOption = "",
) -> None:
    """Search the file to deploy: how far to prune a run, and in which number format to compute.

    Each trial is a file, judged on the validation cases only and timed in turn with the run's plain int8 file. The
    pick has the highest validation Dice within the budget; in the end it is reported on the test cases. The same
    command continues an interrupted search; another budget picks anew among the trials that are there. With --storage,
    machines of one kind share the work. Exit code 3 when no trial is fast enough or the pick loses too much.

    Example: `edgeseg search runs/first --out runs/first-search --budget-ms 1.0`
    """
    run = take_run(run, "edgeseg train DATA --out RUN, then edgeseg search RUN --out DIR --budget-ms N")
    need_training_packages()
    with repeatable():
        from edgeseg.compression.gate import Gate
        from edgeseg.search.recipes import FILES, VALUES, run_search

        with usage_errors():
            gate = Gate(max_drop, budget_ms)
        keep_inputs([run], [out])
        store, address = None, _find_storage(storage, study, out)
        if address is not None:
            from edgeseg.search.database import DatabaseStore, describe_search

            store = DatabaseStore(out, address, describe_search(VALUES, {}, FILES))
        report = run_search(run, out, gate, trials, threads, store)
    print_search(out, report)
    if not report.gate["held"]:
        typer.echo(report.advice, err=True)
        raise typer.Exit(GATE_NOT_HELD)


def _find_storage(url: str, study: str, out: Path) -> StorageAddress | None:
    """Read where the trials are kept for several machines; None where a journal in the folder has them."""
    if not url:
        if study:
            raise typer.BadParameter(f"expected --storage beside --study, or its address in {STORAGE}")
        return None
    need_tune_packages()
    from edgeseg.search.database import StorageAddress

    with usage_errors():
        # a secret that was read from a file ends with the file's line end
        return StorageAddress(url.strip(), study or out.resolve().name)


def print_search(out: Path, report: RecipeReport) -> None:
    """Print the Pareto front, what failed, and the figures of the pick on the test cases."""
    from edgeseg.search.recipes import FILES
    from edgeseg.search.results import list_front, list_outcomes

    print_table(f"Pareto front of {out} (* the pick)", list(FILES.columns), list_front(report, FILES))
    print("\n".join(list_outcomes(report, FILES)) + f"; see {out}.")
    if report.pick is not None:
        print_variants(report.judged, report.pick.choice.name)
        print(f"pick: {out / 'pick' / report.judged[-1].file}\nmake it again:  {report.command}")


def tune(
    data: Annotated[Path, typer.Argument(help="Folder of labelled images, in any known layout.")],
    out: Annotated[Path, typer.Option(help="The study's folder; an existing study is continued.")],
    models: Annotated[str, typer.Option(metavar="A,B", help="Sizes of the U-Net to try.")] = "nano,micro,small",
    sizes: Annotated[str, typer.Option(metavar="N,N", help="Input sizes to try.")] = "128,192,256",
    stems: Annotated[str, typer.Option(metavar="A,B", help="Stems to try, of those of train.")] = "quarter",
    losses: Annotated[str, typer.Option(metavar="A,B", help="Losses to try.")] = "bce-dice",
    learning_rates: Annotated[
        str, typer.Option(metavar="LO,HI", help="Range of learning rates to search.")
    ] = "5e-4,8e-3",
    trials: Annotated[int, typer.Option(help="Total number of trials, over all processes and calls.", min=1)] = 20,
    epochs: Annotated[int, typer.Option(help="Number of epochs of each trial.", min=1)] = 30,
    seed: Annotated[
        int, typer.Option(help="Random seed of the data split, the initial weights and the search.", min=0)
    ] = 0,
    layout: LayoutOption = None,
    images: ImagesOption = None,
    masks: MasksOption = None,
    class_name: ClassNameOption = None,
    group_pattern: GroupPatternOption = None,
    storage: StorageOption = "",
    study: StudyOption = "",
    json_file: JsonOption = None,
) -> None:
    """Search the network to train: high validation Dice for few multiplications.

    Each trial is a short training, judged on the validation cases only: the test cases are kept for the network that
    is trained in the end. The same command continues an interrupted study; run it in several terminals to share the
    work, or with --storage on several machines.

    Example: `edgeseg tune data/phantom --out studies/phantom --trials 20 --epochs 30`
    """
    need_tune_packages()
    with repeatable():
        from edgeseg.search.database import DatabaseStore
        from edgeseg.search.networks import NETWORKS, StudyPlan, describe_space, parse_space, run_study
        from edgeseg.search.results import to_json
        from edgeseg.training.trainer import plain_split

        with usage_errors():
            space = parse_space(models, sizes, stems, losses, learning_rates)
            layout = join_layout(data, layout, images, masks, class_name)
            plan = StudyPlan(space, plain_split(seed, layout, group_pattern), epochs)
        keep_inputs([data], [out, json_file])
        address = _find_storage(storage, study, out)
        # before all images are read: a database that is missing is told at once
        store = None if address is None else DatabaseStore(out, address, describe_space(space))
        report = run_study(data, out, plan, trials, store)
    print_study(out, report)
    save_json(json_file, to_json(report, NETWORKS))


def print_study(out: Path, report: NetworkReport) -> None:
    """Print the Pareto front, what failed or still runs, and the command that trains the pick."""
    from edgeseg.search.networks import NETWORKS
    from edgeseg.search.results import list_front, list_outcomes

    if report.front:
        print_table(f"Pareto front of {out} (* the pick)", list(NETWORKS.columns), list_front(report, NETWORKS))
    print("\n".join(list_outcomes(report, NETWORKS)) + f"; see {out}.")
    if report.command is not None:
        print(f"Train the pick:  {report.command}")
