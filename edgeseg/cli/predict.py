"""`edgeseg predict`: files in, masks out."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeseg.cli.arguments import is_model, take_model, with_options
from edgeseg.cli.common import (
    BackendOption,
    JsonOption,
    NoParityOption,
    OverwriteOption,
    ThreadsOption,
    keep_inputs,
    save_json,
    warn_of_fallback,
)
from edgeseg.cli.terminal import resumable
from edgeseg.core.redact import show_name
from edgeseg.prediction.options import FORMATS, PredictOptions

if TYPE_CHECKING:
    from edgeseg.prediction.folder import PredictResult

FAILED = 1
# Unreadable files that are named on the screen; the table has all of them.
_NAMED = 20


@with_options()
def predict(
    model: Annotated[
        str,
        typer.Argument(
            help="A .tflite or .onnx file, a run folder, or that of a cross-validation.", metavar="MODEL|RUN"
        ),
    ],
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Images, videos, DICOM files, folders with their subfolders, or patterns such as `exams/*/*.png`.",
            metavar="SOURCE...",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The folder to make.")],
    form: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            metavar="|".join(FORMATS),
            help="What is written about every frame; may be repeated. png, npy and nifti are label maps (0 background, "
            "k the k-th class); coco, labelme and yolo are polygons for labelling tools.",
            show_default="png",
        ),
    ] = None,
    *,
    options: PredictOptions,
    backend: BackendOption = "auto",
    threads: ThreadsOption = 1,
    no_parity: NoParityOption = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted prediction; what is finished is kept.")
    ] = False,
    overwrite: OverwriteOption = False,
    json_out: JsonOption = None,
) -> None:
    """Write a mask for every image of a folder, and for every frame of videos and DICOM files.

    Every file keeps its relative name below --out: a label map of the image's own size, with --overlay a picture of the
    masks over the image, and a row in predictions.csv with states, confidence, areas and boxes. Label maps look black
    in most viewers, since the first class is 1 of 255. Masks of labelled data, hidden files and earlier results are not
    taken as images. A file that cannot be read stops nothing: the end of the output and the table name it, and the exit
    code is 1.

    Example: `edgeseg predict runs/first exams --out masks --overlay`
    """
    if not is_model(Path(model)) and len(sources) == 1 and is_model(Path(sources[0])):
        from edgeseg.cli.arguments import put_model_first

        model, sources[0] = put_model_first(model, sources[0])
    file = take_model(Path(model), f"edgeseg predict MODEL {model} --out DIR", ensembles=True)
    keep_inputs([file, *map(Path, sources)], [out, json_out])
    if form:
        options = dataclasses.replace(options, formats=tuple(dict.fromkeys(form)))
    with resumable(out):
        from edgeseg.core.schema import to_plain
        from edgeseg.prediction.folder import load_networks, predict_sources

        networks = load_networks(file, backend, threads, options, not no_parity)
        warn_of_fallback(networks[0].selection)
        result = predict_sources(*networks, sources, out, options, resume, overwrite)
    save_json(json_out, to_plain(result.summary))
    _tell(result)


def _tell(result: PredictResult) -> None:
    """Print what came out, and end with exit code 1 where files could not be read."""
    summary = result.summary
    states = ", ".join(f"{count:,} {state}" for state, count in sorted(summary.states.items()))
    frames = f"{summary.frames:,} frames ({states})" if states else f"{summary.frames:,} frames"
    print(f"{summary.files:,} files, {frames} in {summary.seconds:.1f} s: {summary.frames_per_s:,.1f} a second.")
    print(f"Masks and predictions.csv: {result.folder}")
    if not result.failed:
        return
    print(f"edgeseg: {len(result.failed)} of {summary.files} files could not be read whole:", file=sys.stderr)
    for failure in result.failed[:_NAMED]:
        print(f"  {show_name(failure.file)}: {show_name(failure.reason)}", file=sys.stderr)
    if len(result.failed) > _NAMED:
        print(f"  and {len(result.failed) - _NAMED} more: see predictions.csv", file=sys.stderr)
    raise typer.Exit(FAILED)
