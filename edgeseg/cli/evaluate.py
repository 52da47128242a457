"""`edgeseg evaluate`: how good a model's masks are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeseg.cli.arguments import put_model_first, take_model
from edgeseg.cli.common import (
    BackendOption,
    GroupPatternOption,
    JsonOption,
    LayoutOption,
    MapOption,
    NoParityOption,
    ThreadsOption,
    keep_inputs,
    save_json,
    usage_errors,
    warn_of_fallback,
)
from edgeseg.cli.tables import print_evaluation


def evaluate(
    model: Annotated[
        Path,
        typer.Argument(
            help="A .tflite or .onnx file, a run folder, or that of a cross-validation.", metavar="MODEL|RUN"
        ),
    ],
    data: Annotated[Path, typer.Argument(help="Folder of labelled images, in any known layout.")],
    split: Annotated[
        str | None,
        typer.Option(
            help="Cases to use: train, val, test or all. By default test on the model's own data, else all.",
            show_default=False,
        ),
    ] = None,
    layout: LayoutOption = None,
    group_pattern: GroupPatternOption = None,
    renaming: MapOption = None,
    backend: BackendOption = "auto",
    threads: ThreadsOption = 1,
    no_parity: NoParityOption = False,
    cases_out: Annotated[
        Path | None,
        typer.Option("--cases", metavar="F", help="Write the metrics of every case as CSV.", show_default=False),
    ] = None,
    overlays: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Draw the worst and best cases and the false positives into this folder.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing --overlays folder.")] = False,
    json_out: JsonOption = None,
) -> None:
    """Judge a model on labelled images, through the same runtime as on the device.

    Dice, IoU, precision, recall and the 95% surface distance, each with a bootstrap interval over groups. On the data
    it was trained on, only the test cases count; on other data, all of them. Classes are matched by name (--map), and
    what no case can tell is n/a. Masks that are useless, because they are no better than masks drawn without looking,
    are called so. Where the pixel size is known, distances
    come in millimetres too, and for fetal heads the error of the circumference. The pictures of --overlays carry no
    names; overlays.csv beside them does.

    Example: `edgeseg evaluate runs/first data/phantom`
    """
    from edgeseg.core.files import refuse_existing, staged_folder
    from edgeseg.core.progress import progress_bar
    from edgeseg.core.schema import to_plain
    from edgeseg.data.dataset import read_case, read_cases
    from edgeseg.evaluation.classes import parse_renaming
    from edgeseg.evaluation.out_of_fold import pick_judged
    from edgeseg.evaluation.overlays import write_overlays
    from edgeseg.evaluation.score import score_cases, summarise_cases, write_cases
    from edgeseg.inference.ensemble import open_segmenter

    model, data = put_model_first(model, data)
    model = take_model(model, f"edgeseg evaluate MODEL {data}", ensembles=True)
    keep_inputs([model, data], [cases_out, overlays, json_out])
    with usage_errors():
        renamed = parse_renaming(renaming or ())
    if overlays is not None:
        refuse_existing(overlays, overwrite)
    segmenter = open_segmenter(model, backend, threads, not no_parity)
    warn_of_fallback(segmenter.selection)
    card = segmenter.card
    picked = pick_judged(segmenter, data, split, layout, group_pattern, renamed=renamed)
    colour = card.input.in_colour
    with progress_bar("Judging", len(picked.cases)) as advance:
        scored = score_cases(segmenter, read_cases(picked.cases, colour), advance)
    table = to_plain(summarise_cases(scored, card.output.classes))
    print_evaluation(f"{card.name} on {picked.part} cases of {data.name}", table)
    if cases_out is not None:
        write_cases(cases_out, scored, card.output.classes)
    if overlays is not None:
        with staged_folder(overlays, overwrite) as folder:
            write_overlays(folder, segmenter, scored, lambda number: read_case(picked.cases[number], colour))
    ran_on = to_plain(segmenter.selection.report())
    save_json(json_out, {"model": card.name, "split": picked.part, "backend": ran_on} | table)
