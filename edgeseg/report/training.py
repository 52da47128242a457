"""The report of a training or a cross-validation: verdict, cases, what next, and everything else to unfold."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgeseg.bench.memory import FRAME_SIZE
from edgeseg.core.errors import EdgesegError
from edgeseg.core.files import read_rows, write_text
from edgeseg.core.marks import add_to_mark
from edgeseg.core.modelfile import find_members, read_model
from edgeseg.core.redact import show_name, to_one_line
from edgeseg.core.schema import SchemaError, from_plain, read_json_table
from edgeseg.core.stats import summarise_times
from edgeseg.data.dataset import open_dataset, read_case
from edgeseg.evaluation.classes import arrange_dataset
from edgeseg.evaluation.decide import explain_decision
from edgeseg.evaluation.label_doubts import LOOK_FIRST, LOOK_FIRST_SHEET
from edgeseg.evaluation.score import Evaluation
from edgeseg.frame.images import read_image
from edgeseg.inference.ensemble import EnsembleSegmenter, read_ensemble
from edgeseg.inference.segmenter import Segmenter
from edgeseg.model.spec import OWN
from edgeseg.report.cases import (
    ALARMS,
    Drawer,
    Gallery,
    draw_gallery,
    list_colours,
    pick_kinds,
    to_data_url,
)
from edgeseg.report.origin import describe_data
from edgeseg.report.page import (
    CAUTION,
    PAGE,
    Step,
    Table,
    Tile,
    Verdict,
    add_suffix,
    count,
    render_page,
    write_command,
)
from edgeseg.report.plots import draw_fold_histories, draw_history
from edgeseg.report.scores import CaseScores, describe_figures, read_scores
from edgeseg.report.verdict import (
    USELESS,
    Judged,
    describe_cases,
    explain_few,
    find_grade,
    list_fit,
    list_unfit,
    make_finding,
    make_quality,
)
from edgeseg.training.folds import CASES, SUMMARY, FoldSummary
from edgeseg.training.options import CONFIG, plan_longer
from edgeseg.training.run import MODEL, SPLIT, TEST_ROWS, RunRecord, read_run
from edgeseg.training.validation import EpochResult, read_history

_LOG = logging.getLogger(__name__)
# False alarms that are shown, frames that are timed, labels in doubt in the table, and the width of their picture.
SHOWN_ALARMS, TIMED, SHOWN_DOUBTS, DOUBTS_WIDTH = 2, 30, 12, 1400


def leave_report(folder: Path, out: Path | None = None) -> Path | None:
    """Write the report of a finished training or cross-validation; where that fails, say so and leave the rest alone.

    Args:
        folder: The run folder, or the folder of a cross-validation.
        out: Where it will be, for the commands; None: where it is.

    Returns:
        The page; None where there is none.
    """
    try:
        write_training_report(folder, out)
    except Exception as error:  # noqa: BLE001 - hours of training are whole, whatever is wrong with their picture
        _LOG.warning(
            "The training is whole, but its report.html could not be written: %s.", to_one_line(error), exc_info=False
        )
        _LOG.debug("why report.html could not be written", exc_info=True)
        return None
    return folder / PAGE


def write_training_report(folder: Path, out: Path | None = None) -> None:
    """Write report.html of a finished run, or of a cross-validation and each of its folds.

    Args:
        folder: The run folder, or the folder of a cross-validation.
        out: Where it will be, for the commands; None: where it is.
    """
    out = out or folder
    if not (folder / SUMMARY).is_file():
        write_text(folder / PAGE, render_page("training.html.j2", **describe_run(folder, out)))
        add_to_mark(folder, PAGE)
        return
    runs = [model.parent for model in find_members(folder)]
    for run in runs:
        write_training_report(run, out / run.name)
        add_to_mark(folder, f"{run.name}/{PAGE}")
    write_text(folder / PAGE, render_page("training.html.j2", **describe_folds(folder, runs, out)))
    add_to_mark(folder, PAGE)


def describe_run(run: Path, out: Path) -> dict[str, Any]:
    """Collect what the page of a run shows."""
    record, history, model = read_run(run), read_history(run), read_model(run / MODEL)
    scores = read_scores(run / TEST_ROWS)
    tested = _find_tested(record, record.evaluation, scores)
    segmenter = Segmenter(model)
    decision = model.card.decision
    return {
        "title": record.name,
        "kind": "Training report",
        "verdict": judge_run(record, tested, history, segmenter, (run / MODEL).stat().st_size),
        "gallery": draw_cases(run, record, scores, segmenter),
        "steps": list_steps(record, tested, history, out, (run / CONFIG).is_file()),
        "history": draw_history(history, record.best_epoch),
        "history_note": f"epoch {record.best_epoch} of {history[-1].epoch} was kept",
        "folds": None,
        **describe_figures(tested.evaluation, decision, "validation cases"),
        "doubts": None,
        "doubts_note": "",
        "doubts_picture": "",
        **describe_data(record, run),
    }


def describe_folds(folder: Path, runs: Sequence[Path], out: Path) -> dict[str, Any]:
    """Collect what the page of a cross-validation shows: all cases, each judged by the network without its group."""
    summary = from_plain(FoldSummary, read_json_table(folder / SUMMARY), allow_unknown=True)
    records = [read_run(run) for run in runs]
    scores = read_scores(folder / CASES)
    tested = dataclasses.replace(_find_tested(records[0], None, scores), evaluation=summary.evaluation)
    doubts = read_rows(folder / LOOK_FIRST) if (folder / LOOK_FIRST).is_file() else []
    return {
        "title": f"{records[0].name}, {len(runs)} folds",
        "kind": "Cross-validation report",
        "verdict": judge_folds(summary, tested),
        "gallery": draw_cases(runs[0], records[0], scores, _open_out_of_fold(folder, runs)),
        "steps": list_fold_steps(records, runs, out),
        "history": draw_fold_histories([read_history(run) for run in runs], [one.best_epoch for one in records]),
        "history_note": "validation Dice of every fold",
        "folds": _list_folds(records, summary),
        **describe_figures(tested.evaluation, summary.decision, "all cases, each by the network without its group"),
        "doubts": _list_doubts(doubts),
        "doubts_note": f"{count(len(doubts), 'label')} in doubt",
        "doubts_picture": _show_sheet(folder / LOOK_FIRST_SHEET),
        **describe_data(records[0], runs[0]),
    }


def _find_tested(record: RunRecord, table: Mapping[str, Any] | None, scores: CaseScores) -> Judged:
    return Judged(
        _read_evaluation(table),
        tuple(spec.name for spec in record.output.classes),
        tuple(scores.dice.values()),
        scores.groups,
        record.near_duplicates,
    )


def _read_evaluation(table: Mapping[str, Any] | None) -> Evaluation | None:
    """Read an evaluation from a record; older versions left some figures out."""
    if table is None:
        return None
    try:
        return from_plain(Evaluation, table, allow_unknown=True)
    except SchemaError as error:
        _LOG.warning("The record's evaluation cannot be read, so that the report has no figures: %s.", error)
        return None


def judge_run(
    record: RunRecord, tested: Judged, history: Sequence[EpochResult], segmenter: Segmenter, size: int
) -> Verdict:
    """Judge the float model of a run, whose file has this size in bytes."""
    card = segmenter.card
    tiles = (
        make_quality(tested),
        Tile(
            "Speed",
            f"{_time_frame(segmenter):.1f} ms",
            "for a 640x480 frame on this machine, float32 (median); no budget yet",
        ),
        Tile("Size", f"{size / 1000:,.0f} kB", f"float32, {count(card.parameters, 'parameter')}; not compressed yet"),
        make_finding(tested.evaluation),
    )
    notices = [*_list_notices(tested), *(explain_decision(card.decision) if card.decision is not None else [])]
    if _still_rises(record, history):
        notices.append("Validation Dice still rose in the last epochs: more epochs may give more.")
    sentence = _summarise(
        tested,
        f"After {record.best_epoch} of {count(history[-1].epoch, 'epoch')} the masks overlap those drawn by hand by a "
        "Dice of {mean:.3f} on average, over {cases} that it has never seen; half of them reach {median:.3f} or more.",
    )
    return _make_verdict(tested, sentence, tiles, notices)


def _time_frame(segmenter: Segmenter) -> float:
    """Measure the median time of a frame in milliseconds; noise costs the network as much as a picture."""
    height, width = FRAME_SIZE
    spec = segmenter.card.input
    frame = np.random.default_rng(0).integers(0, 255, (height, width, max(3, spec.channels)), dtype=np.uint8)
    frame = frame[:, :, : spec.channels] if spec.channels > 1 else np.ascontiguousarray(frame[:, :, 0])
    return summarise_times([segmenter.segment(frame).times.total for _ in range(TIMED)]).p50


def judge_folds(summary: FoldSummary, tested: Judged) -> Verdict:
    """Judge a cross-validation."""
    spread = f"{min(summary.dice):.3f} to {max(summary.dice):.3f}"
    tiles = (
        make_quality(tested),
        Tile("Folds", spread, f"test Dice of the {len(summary.dice)} networks; standard deviation {summary.std:.3f}"),
        Tile(
            "Labels in doubt",
            str(summary.labels_in_doubt),
            "cases whose label the network without them contradicts",
            CAUTION if summary.labels_in_doubt else "",
        ),
        make_finding(tested.evaluation),
    )
    notices = [*_list_notices(tested), *(explain_decision(summary.decision) if summary.decision is not None else [])]
    sentence = _summarise(
        tested,
        f"{len(summary.dice)} networks judged every case once, each the groups that it has never seen: the mean Dice "
        "is {mean:.3f} over {cases}; half of them reach {median:.3f} or more.",
    )
    return _make_verdict(tested, sentence, tiles, notices)


def _make_verdict(tested: Judged, sentence: str, tiles: tuple[Tile, ...], notices: Sequence[str]) -> Verdict:
    return Verdict(
        pills=(find_grade(tested).pill,),
        sentence=sentence,
        tiles=tiles,
        fit=tuple(list_fit(tested)),
        unfit=tuple(list_unfit(tested)),
        few=explain_few(tested),
        warnings=tuple(notices),
    )


def _summarise(tested: Judged, form: str) -> str:
    evaluation = tested.evaluation
    if evaluation is None or evaluation.dice is None:
        return "No test case shows anything to find, so nothing is known of the masks."
    if find_grade(tested) is USELESS:
        return evaluation.notices[0]
    return form.format(mean=evaluation.dice.mean, median=evaluation.dice.median, cases=describe_cases(tested))


def _list_notices(tested: Judged) -> list[str]:
    """List the warnings of an evaluation, without the one that the sentence of a useless model repeats."""
    evaluation = tested.evaluation
    if evaluation is None:
        return []
    return list(evaluation.notices[1:] if evaluation.useless else evaluation.notices)


def _still_rises(record: RunRecord, history: Sequence[EpochResult]) -> bool:
    return record.best_epoch == history[-1].epoch


def draw_cases(run: Path, record: RunRecord, scores: CaseScores, segmenter: Segmenter) -> Gallery:
    """Draw worst, median and best test cases, and false alarms; without the data say so."""
    if not scores.dice:
        return Gallery(absence="No test case shows anything to find.")
    kinds = pick_kinds(scores.dice)
    if scores.alarms:
        kinds.append((ALARMS, scores.alarms[:SHOWN_ALARMS]))
    classes = segmenter.card.output.classes
    try:
        dataset = open_dataset(run / record.data, record.split.layout, record.split.group_pattern)
        cases = {case.stem: case for case in arrange_dataset(dataset, classes).cases}
        return draw_gallery(
            kinds,
            lambda stem: read_case(cases[stem], record.input),
            (Drawer("prediction", segmenter),),
            lambda stem: scores.figures[stem],
            list_colours(classes),
        )
    except (EdgesegError, KeyError) as error:
        _LOG.debug("no pictures in the report: %s", to_one_line(error))
        return Gallery(absence="The images are not where they were during the training, so there are no pictures.")


def _open_out_of_fold(folder: Path, runs: Sequence[Path]) -> EnsembleSegmenter:
    """Open the networks of a cross-validation, each for the cases that its fold tested."""
    segmenter = EnsembleSegmenter(read_ensemble(folder))
    rows = [(row, number) for number, run in enumerate(runs) for row in read_rows(run / SPLIT)]
    segmenter.judge_out_of_fold({row["stem"]: number for row, number in rows if row["part"] == "test"})
    return segmenter


def list_steps(
    record: RunRecord, tested: Judged, history: Sequence[EpochResult], out: Path, has_config: bool
) -> list[Step]:
    """List what to do after a training, with the commands.

    Args:
        record: Of the run.
        tested: Its test cases.
        history: Its epochs.
        out: The run folder.
        has_config: Whether the folder holds the options as a file.
    """
    data, epochs = out / record.data, str(_choose_longer(record, history[-1].epoch))
    again = ("edgeseg", "train", "--config", out / CONFIG) if has_config else _name_options(record, data)
    longer = Step("Train for longer.", write_command(*again, "--out", add_suffix(out, "longer"), "--epochs", epochs))
    if find_grade(tested) is USELESS or tested.evaluation is None:
        look = Step(
            "Look at the labels first: a network learns what they show.",
            write_command("edgeseg", "data", "check", data, "--sheet", "labels.png"),
        )
        return [look, longer]
    steps = [
        Step(
            "Make a small, fast file of it, and see what that costs.",
            write_command("edgeseg", "compress", out, "--out", add_suffix(out, "small")),
        ),
        Step(
            "Draw masks for your own images, and look at them.",
            write_command("edgeseg", "predict", out, "IMAGES", "--out", "MASKS", "--overlay"),
        ),
    ]
    if _still_rises(record, history):
        steps.append(longer)
    if tested.few and not record.split.folds:
        folds = write_command(*again, "--out", add_suffix(out, "folds"), "--folds", "5")
        steps.append(Step("Judge every case once, by five trainings: the interval becomes narrower.", folds))
    return steps


def _choose_longer(record: RunRecord, epochs: int) -> int:
    parts = record.data_summary.parts if record.data_summary else ()
    images = next((part.cases for part in parts if part.name == "train"), 0)
    return plan_longer(epochs, images, record.options.batch, record.options.encoder)


def _name_options(record: RunRecord, data: Path) -> tuple[str | Path, ...]:
    """Begin the command of a training on the same data with a network of the same size."""
    options = record.options
    encoder = () if options.encoder == OWN else ("--encoder", options.encoder)
    return "edgeseg", "train", data, "--model", options.model, *encoder, "--size", str(options.size)


def list_fold_steps(records: Sequence[RunRecord], runs: Sequence[Path], out: Path) -> list[Step]:
    """List what to do after a cross-validation, with the commands."""
    best = max(range(len(runs)), key=lambda number: records[number].validation_dice)
    again = _name_options(records[0], out / runs[0].name / records[0].data)
    return [
        Step(
            f"Make a small, fast file of the network whose validation cases it fits best, fold {best + 1}.",
            write_command("edgeseg", "compress", out / runs[best].name, "--out", add_suffix(out, "small")),
        ),
        Step(
            "Draw masks for your own images with all networks together, and look at them.",
            write_command("edgeseg", "predict", out, "IMAGES", "--out", "MASKS", "--overlay"),
        ),
        Step(
            "Or train one network that follows all of these, and compare: whether it gains depends on the data.",
            write_command(*again, "--out", add_suffix(out, "taught"), "--teacher", out),
        ),
    ]


def _list_folds(records: Sequence[RunRecord], summary: FoldSummary) -> Table:
    rows = []
    for number, (record, dice) in enumerate(zip(records, summary.dice, strict=True), start=1):
        cases = (record.evaluation or {}).get("cases", "n/a")
        rows.append(
            (f"fold {number}", str(cases), f"{dice:.3f}", f"{record.validation_dice:.3f}", str(record.best_epoch))
        )
    return Table(("fold", "test cases", "test Dice", "validation Dice", "epoch kept"), tuple(rows))


def _list_doubts(rows: Sequence[Mapping[str, str]]) -> Table | None:
    if not rows:
        return None
    columns = tuple(name for name in ("rank", "stem", "class", "reason", "near_duplicate", "doubt") if name in rows[0])
    shown = tuple(tuple(show_name(row[name]) for name in columns) for row in rows[:SHOWN_DOUBTS])
    return Table(tuple(name.replace("_", " ") for name in columns), shown, words=True)


def _show_sheet(path: Path) -> str:
    """Give a sheet as a picture that the page holds; empty where there is none."""
    if not path.is_file():
        return ""
    sheet = read_image(path, colour=True)
    height = round(sheet.shape[0] * DOUBTS_WIDTH / sheet.shape[1])
    small = (
        sheet
        if sheet.shape[1] <= DOUBTS_WIDTH
        else cv2.resize(sheet, (DOUBTS_WIDTH, height), interpolation=cv2.INTER_AREA)
    )
    return to_data_url(small)
