"""`edgeseg evaluate`: how good a model's masks are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeseg.cli.arguments import put_model_first, take_model
from edgeseg.cli.common import (
    BackendOption,
    ClassNameOption,
    CoverageOption,
    GroupPatternOption,
    ImagesOption,
    JsonOption,
    LayoutOption,
    MapOption,
    MasksOption,
    NoParityOption,
    SensitivityOption,
    ThreadsOption,
    join_layout,
    keep_inputs,
    save_json,
    usage_errors,
    warn_of_fallback,
)
from edgeseg.cli.evaluation_tables import print_beside, print_clips, print_evaluation
from edgeseg.cli.tables import tell_notices

if TYPE_CHECKING:
    from edgeseg.core.modelfile import ModelFile
    from edgeseg.data.reading import Case
    from edgeseg.evaluation.decide import Target
    from edgeseg.evaluation.score import ScoredCase
    from edgeseg.inference.segmenter import Segmenter


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
    images: ImagesOption = None,
    masks: MasksOption = None,
    class_name: ClassNameOption = None,
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
            help="Draw the worst, median and best cases, false positives, and sheets of all, into this folder.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing --overlays folder")] = False,
    sensitivity: SensitivityOption = None,
    coverage: CoverageOption = None,
    save_model: Annotated[
        Path | None,
        typer.Option(
            "--save-model",
            metavar="F",
            help="Write the model with the operating point of --sensitivity or --coverage on its card.",
            show_default=False,
        ),
    ] = None,
    without: Annotated[
        Path | None,
        typer.Option(
            metavar="F",
            help="A list of cases, one name in each line or the column stem of a table: figures with and without them.",
            show_default=False,
        ),
    ] = None,
    json_out: JsonOption = None,
) -> None:
    """Judge a model on labelled images, through the same runtime as on the device.

    Dice, IoU, precision, recall and the 95% surface distance, each with a bootstrap interval over groups. On the data
    it was trained on, only the test cases count; on other data, all of them. Classes are matched by name (--map), and
    what no case can tell is n/a. Masks that are useless, because they are no better than masks drawn without looking,
    are called so. Where the pixel size is known, distances
    come in millimetres too, and for fetal heads the error of the circumference. --overlays draws the worst, median and
    best cases and false positives, and all cases on sheets, the worst first. The pictures carry numbers and no names;
    overlays.csv beside them does.

    A mask counts as found where its confidence reaches the operating point on the model's card, else as doubtful:
    sensitivity, false alarms and the Dice of what is found are those of this operating point. --sensitivity and
    --coverage choose another one, on the validation cases of the model's own data, and --save-model keeps it. Clips
    beside the images (clips/NAME/images, as `data synth` writes them) are played in order for flicker and area jitter.

    Example: `edgeseg evaluate runs/first data/phantom`
    """
    from edgeseg.core.files import refuse_existing
    from edgeseg.core.modelfile import write_model
    from edgeseg.core.progress import progress_bar
    from edgeseg.core.schema import to_plain
    from edgeseg.data.dataset import read_cases
    from edgeseg.evaluation.classes import parse_renaming
    from edgeseg.evaluation.decide import Target
    from edgeseg.evaluation.exclusion import leave_out, read_stems
    from edgeseg.evaluation.out_of_fold import list_judged_thresholds, pick_judged
    from edgeseg.evaluation.score import score_cases, summarise_cases, write_cases
    from edgeseg.inference.ensemble import open_segmenter
    from edgeseg.inference.segmenter import Segmenter

    model, data = put_model_first(model, data)
    model = take_model(model, f"edgeseg evaluate MODEL {data}", ensembles=True)
    layout = join_layout(data, layout, images, masks, class_name)
    keep_inputs([model, data, without], [cases_out, overlays, json_out, save_model])
    with usage_errors():
        renamed = parse_renaming(renaming or ())
        target = Target(sensitivity, coverage)
        if save_model is not None:
            _check_saved(save_model, is_chosen=target != Target())
    if overlays is not None:
        refuse_existing(overlays, overwrite)
    stems = read_stems(without) if without is not None else ()
    changed: ModelFile | None = None
    if target == Target():
        segmenter = open_segmenter(model, backend, threads, not no_parity)
    else:
        changed = _choose_point(model, data, target, layout, group_pattern, renamed, save_model)
        segmenter = Segmenter(changed, backend, threads, not no_parity)
    warn_of_fallback(segmenter.selection)
    card = segmenter.card
    picked = pick_judged(segmenter, data, split, layout, group_pattern, renamed=renamed)
    staying = leave_out(picked.cases, stems, picked.known, without)
    classes = card.output.classes
    with progress_bar("Judging", len(picked.cases)) as advance:
        scored = score_cases(segmenter, read_cases(picked.cases, card.input), advance)
    thresholds = list_judged_thresholds(segmenter)
    table = to_plain(summarise_cases(scored, classes, thresholds))
    print_evaluation(f"{card.name} on {picked.part} cases of {data.name}", table)
    if stems:
        kept = [case for case in scored if case.stem in staying]
        others = to_plain(summarise_cases(kept, classes, thresholds))
        print_beside(table, others, len(scored) - len(kept))
        table["without"] = {"left_out": len(scored) - len(kept)} | others
    table |= _play_clips(segmenter, data)
    if cases_out is not None:
        write_cases(cases_out, scored, classes)
    if overlays is not None:
        _draw_overlays(overlays, overwrite, segmenter, scored, picked.cases)
    if save_model is not None and changed is not None:
        write_model(save_model, changed.flatbuffer, changed.card, changed.golden)
    ran_on = to_plain(segmenter.selection.report())
    save_json(json_out, {"model": card.name, "split": picked.part, "backend": ran_on} | table)


def _choose_point(
    model: Path,
    data: Path,
    target: Target,
    layout: str | None,
    group_pattern: str | None,
    renamed: Mapping[str, str],
    save_model: Path | None,
) -> ModelFile:
    """Choose another operating point on the validation cases of the model's own data."""
    from edgeseg.core.modelfile import find_model, read_model
    from edgeseg.evaluation.decide import change_decision, decide_by_own_data, explain_decision

    file = read_model(find_model(model))
    if save_model is not None and file.is_onnx:
        raise typer.BadParameter("expected a .tflite file beside --save-model, got ONNX: export it again instead")
    decision = decide_by_own_data(file, data, target, layout, group_pattern, renamed)
    tell_notices(explain_decision(decision))
    return change_decision(file, decision)


def _play_clips(segmenter: Segmenter, data: Path) -> dict[str, Any]:
    """Judge how steady the model is on the clips of a data folder, if it has any."""
    from edgeseg.core.progress import progress_bar
    from edgeseg.core.schema import to_plain
    from edgeseg.evaluation.clips import count_frames, evaluate_clips, list_clips

    # a clip holds one modality
    clips = [] if segmenter.card.input.is_stack else list_clips(data)
    if not clips:
        return {}
    with progress_bar("Playing clips", count_frames(clips)) as advance:
        figures = to_plain(evaluate_clips(segmenter, clips, advance))
    print_clips(figures)
    return {"clips": figures}


def _draw_overlays(
    out: Path, overwrite: bool, segmenter: Segmenter, scored: Sequence[ScoredCase], cases: Sequence[Case]
) -> None:
    from edgeseg.core.files import staged_folder
    from edgeseg.core.progress import progress_bar
    from edgeseg.core.redact import make_printable
    from edgeseg.data.dataset import read_case
    from edgeseg.evaluation.overlays import count_drawn, describe_overlays, write_overlays

    spec = segmenter.card.input
    with staged_folder(out, overwrite) as folder, progress_bar("Drawing", count_drawn(scored)) as advance:
        write_overlays(folder, segmenter, scored, lambda number: read_case(cases[number], spec), advance)
    print(make_printable(describe_overlays(out, len(scored))))


def _check_saved(path: Path, is_chosen: bool) -> None:
    if not is_chosen:
        raise ValueError("expected --sensitivity or --coverage beside --save-model, got neither")
    # under another name it would be read as another kind of file
    if path.suffix.lower() != ".tflite":
        raise ValueError(f"expected a name that ends in .tflite for --save-model, got {path.name}")
    if path.exists():
        _refuse_foreign(path)


def _refuse_foreign(path: Path) -> None:
    """Refuse to replace a file that is no model of edgeseg: somebody else's work would be lost."""
    from edgeseg.core.errors import EdgesegError, OutputError
    from edgeseg.core.modelfile import read_model

    try:
        read_model(path)
    except EdgesegError as error:
        raise OutputError(
            f"Expected a new name or a model of edgeseg for --save-model, got another file, {path}.",
            "Name another file, or move that one away.",
        ) from error
