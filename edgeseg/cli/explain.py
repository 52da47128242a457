"""`edgeseg explain`: which pixels speak for a mask, and whether that can be believed."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from edgeseg.cli.terminal import repeatable
from edgeseg.core.redact import show_name
from edgeseg.explanation.options import ExplainOptions

if TYPE_CHECKING:
    from edgeseg.explanation.writing import ExplanationWriter
    from edgeseg.prediction.inputs import FrameReader, InputFrame, Item
    from edgeseg.training.explaining import Explainer

FAILED = 1
# Frames, and files that could not be explained, that are named on the screen.
_NAMED = 20


@with_options()
def explain(
    model: Annotated[
        str,
        typer.Argument(
            help="A .tflite or .onnx file, a run folder, or that of a cross-validation.", metavar="MODEL|RUN"
        ),
    ],
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Images, videos, DICOM files, folders with their subfolders, or patterns.", metavar="IMAGE..."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The folder to make.")],
    *,
    options: ExplainOptions,
    backend: BackendOption = "auto",
    threads: ThreadsOption = 1,
    no_parity: NoParityOption = False,
    overwrite: OverwriteOption = False,
    json_out: JsonOption = None,
) -> None:
    """Show which pixels speak for a mask, where it is decided by little, and whether the map can be believed.

    Every frame gets a picture: a heat map (orange speaks for the mask, blue against it), the places where a few steps
    of the scores decide, and, for a run, what each level of the network contributes. Every map is tested: pixels are
    removed and brought back in its order, and it must do better than random maps and than edges, which ask no network.
    Where it does not, picture and table say so. explanation.json has the figures, sheet.png all frames.

    A map shows what the network uses, not whether it is right.

    Example: `edgeseg explain runs/first exam.png --out why`
    """
    from edgeseg.core.files import staged_folder
    from edgeseg.explanation.targets import check_target
    from edgeseg.explanation.writing import ExplanationWriter
    from edgeseg.prediction.inputs import list_inputs
    from edgeseg.prediction.partners import join_partners
    from edgeseg.training.explaining import open_explainer

    if not is_model(Path(model)) and len(sources) == 1 and is_model(Path(sources[0])):
        from edgeseg.cli.arguments import put_model_first

        model, sources[0] = put_model_first(model, sources[0])
    take_model(Path(model), f"edgeseg explain MODEL {model} --out DIR", ensembles=True)
    place = Path(model)
    keep_inputs([place, *map(Path, sources)], [out, json_out])
    with repeatable(kept=False), staged_folder(out, overwrite) as folder:
        found = list_inputs(sources, lambda one: not _is_result(one, out))
        explainer = open_explainer(place, options, backend, threads, not no_parity)
        items = join_partners(found, explainer.segmenter.card.input)
        warn_of_fallback(explainer.segmenter.selection)
        check_target(explainer.segmenter.card, options.of, options.only)
        writer = ExplanationWriter(folder, explainer.segmenter.card, options)
        failures = _explain_all(explainer, writer, items)
        record = writer.finish(Path(item.stem).name for item, _ in failures)
    save_json(json_out, record)
    _tell(record, out)
    _tell_failures(failures, len(items))


def _is_result(folder: Path, out: Path) -> bool:
    """Say whether a folder holds explanations, these or earlier ones, which are no images to explain."""
    from edgeseg.core.files import partial_path
    from edgeseg.core.marks import read_mark
    from edgeseg.explanation.writing import RECORD

    if folder in (out.absolute(), partial_path(out).absolute()):
        return True
    return (folder / RECORD).is_file() and read_mark(folder) is not None


def _explain_all(explainer: Explainer, writer: ExplanationWriter, items: Sequence[Item]) -> list[tuple[Item, str]]:
    """Explain every item; gives those that could not be, and why."""
    from edgeseg.core.errors import BackendError, EdgesegError, OutputError
    from edgeseg.core.progress import progress_bar
    from edgeseg.prediction.inputs import open_frames

    failures = []
    with progress_bar("Explaining", len(items)) as advance:
        for item in items:
            try:
                with open_frames(item, explainer.segmenter.card.input.in_colour) as reader:
                    for frame in _pick_frames(reader, writer.options.frames):
                        explanation = explainer(frame.image, reader.region)
                        number = frame.number if reader.is_clip else None
                        writer.add(Path(item.stem).name, number, frame.image, explanation)
            except (BackendError, OutputError):
                raise
            except EdgesegError as error:
                failures.append((item, error.message))
            advance("")
    return failures


def _pick_frames(reader: FrameReader, wanted: int) -> Iterator[InputFrame]:
    """Pick frames that are spread over a clip; the first ones of a clip that does not say how long it is."""
    announced = reader.announced or wanted
    left = sorted({(2 * number + 1) * announced // (2 * wanted) for number in range(wanted)})
    for frame in reader:
        if frame.number == left[0]:
            yield frame
            left.pop(0)
        if not left:
            return


def _tell(record: Mapping[str, Any], out: Path) -> None:
    """Print what the maps are worth, and what the levels contribute."""
    from edgeseg.cli.tables import print_table

    frames = record["frames"]
    shown = [(frame, one) for frame in frames for one in frame["classes"]]
    rows = [_make_row(frame, one) for frame, one in shown[:_NAMED]]
    if rows:
        columns = ("frame", "class", "score", "by", "deletion", "insertion", "gap", "random", "edges", "mask", "better")
        print_table(f"What speaks for the {record['of']}", columns, rows)
        if len(shown) > _NAMED:
            print(f"and {len(shown) - _NAMED} more: see explanation.json\n")
        print(
            "Deletion (low is good) and insertion (high is good): the score that is left when the map's first pixels\n"
            "are removed, or brought back. Gap: insertion less deletion, beside that of maps that ask no network. A\n"
            "gap no larger than the mask's says where the mask is, and no more.\n"
        )
    _tell_levels([one for _, one in shown])
    better = sum(
        one["faithfulness"]["better_than_random"] and one["faithfulness"]["better_than_edges"] for _, one in shown
    )
    print(
        f"{better} of {len(shown)} maps are better than random and edges. Pictures and figures: {show_name(str(out))}"
    )


def _make_row(frame: Mapping[str, Any], one: Mapping[str, Any]) -> tuple[str, ...]:
    worth = one["faithfulness"]
    name = frame["name"] if frame["frame"] is None else f"{frame['name']} {frame['frame']}"
    better = worth["better_than_random"] and worth["better_than_edges"]
    return (
        show_name(name),
        one["class"] if one["marked"] else f"{one['class']} (nothing marked)",
        f"{one['score']:.3f}",
        one["method"],
        f"{worth['map']['deletion']:.3f}",
        f"{worth['map']['insertion']:.3f}",
        *(f"{worth[key]['gap']:+.3f}" for key in ("map", "random", "edges", "mask")),
        "yes" if better else "NO",
    )


def _tell_levels(classes: Sequence[Mapping[str, Any]]) -> None:
    from statistics import fmean

    from edgeseg.cli.tables import print_table

    levels = [one["levels"] for one in classes if one["levels"]]
    if not levels:
        return
    rows = [
        (
            f"{same[0]['name']}, {same[0]['width']}x{same[0]['height']}, {same[0]['channels']} channels",
            f"{fmean(level['score_drop'] for level in same):+.3f}",
            f"{fmean(level['dice'] for level in same):.3f}",
        )
        for same in zip(*levels, strict=True)
    ]
    print_table("Without one level, mean of all maps", ("level", "score lost", "Dice with the whole network"), rows)


def _tell_failures(failures: Sequence[tuple[Item, str]], files: int) -> None:
    if not failures:
        return
    print(f"edgeseg: {len(failures)} of {files} files could not be explained:", file=sys.stderr)
    for item, reason in failures[:_NAMED]:
        print(f"  {show_name(item.name)}: {show_name(reason)}", file=sys.stderr)
    if len(failures) > _NAMED:
        print(f"  and {len(failures) - _NAMED} more", file=sys.stderr)
    raise typer.Exit(FAILED)
