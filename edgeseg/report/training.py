"""The report of a training or a cross-validation: verdict, cases, what next, and everything else to unfold."""

from __future__ import annotations

import dataclasses
import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgeseg.bench.memory import FRAME_SIZE
from edgeseg.core.decision import Decision
from edgeseg.core.errors import EdgesegError
from edgeseg.core.files import read_rows, write_text
from edgeseg.core.marks import add_to_mark
from edgeseg.core.modelfile import find_members, read_model
from edgeseg.core.redact import show_name, to_one_line
from edgeseg.core.schema import SchemaError, from_plain, read_json_table
from edgeseg.core.stats import Estimate, show_interval, summarise_times
from edgeseg.data.dataset import open_dataset, read_case
from edgeseg.evaluation.classes import arrange_dataset
from edgeseg.evaluation.decide import explain_decision
from edgeseg.evaluation.label_doubts import LOOK_FIRST, LOOK_FIRST_SHEET
from edgeseg.evaluation.operating import PointFigures
from edgeseg.evaluation.score import Evaluation
from edgeseg.frame.images import read_image
from edgeseg.inference.ensemble import EnsembleSegmenter, read_ensemble
from edgeseg.inference.segmenter import Segmenter
from edgeseg.report.cases import (
    ALARMS,
    NAMED_CLASSES,
    Drawer,
    Gallery,
    draw_gallery,
    list_colours,
    pick_kinds,
    to_data_url,
)
from edgeseg.report.page import (
    CAUTION,
    PAGE,
    Step,
    Table,
    Tile,
    Verdict,
    add_suffix,
    count,
    join_names,
    render_page,
    write_command,
)
from edgeseg.report.plots import draw_fold_histories, draw_history, draw_reliability, draw_risk
from edgeseg.report.verdict import (
    USELESS,
    Tested,
    describe_cases,
    explain_few,
    find_grade,
    list_fit,
    list_unfit,
    make_finding,
    make_quality,
    show_share,
)
from edgeseg.training.folds import CASES, SUMMARY, FoldSummary
from edgeseg.training.options import CONFIG, TrainOptions
from edgeseg.training.run import MODEL, SPLIT, TEST_ROWS, RunRecord, read_run
from edgeseg.training.validation import EpochResult, read_history

_LOG = logging.getLogger(__name__)
# False alarms that are shown, frames that are timed, labels in doubt in the table, and the width of their picture.
SHOWN_ALARMS, TIMED, SHOWN_DOUBTS, DOUBTS_WIDTH = 2, 30, 12, 1400
# Classes that get a column in the table of the split.
SPLIT_CLASSES = 6
PART_WORDS = {"train": "training", "val": "validation", "test": "test"}
MEASURES = (
    ("dice", "Dice", ".3f"),
    ("iou", "IoU", ".3f"),
    ("precision", "precision", ".3f"),
    ("recall", "recall", ".3f"),
    ("hd95_px", "HD95 (px)", ".1f"),
    ("hd95_mm", "HD95 (mm)", ".2f"),
    ("circumference_error_mm", "circumference error (mm)", ".2f"),
    ("dice_all", "Dice, empty cases too", ".3f"),
)
BY_CLASS = MEASURES[:6]


@dataclass(frozen=True)
class CaseScores:
    """What the table of a run's test cases says."""

    dice: dict[str, float]
    """The mean over the classes of its truth, of every case that shows something."""
    figures: dict[str, str]
    """What is said below the pictures of a case."""
    alarms: tuple[str, ...]
    """Cases without anything to find in which something is found, the surest first."""
    groups: int
    """Of the cases that show something."""


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
        **_describe_figures(tested, decision, "validation cases"),
        "doubts": None,
        "doubts_note": "",
        "doubts_picture": "",
        **_describe_data(record, run),
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
        **_describe_figures(tested, summary.decision, "all cases, each by the network without its group"),
        "doubts": _list_doubts(doubts),
        "doubts_note": f"{count(len(doubts), 'label')} in doubt",
        "doubts_picture": _show_sheet(folder / LOOK_FIRST_SHEET),
        **_describe_data(records[0], runs[0]),
    }


def read_scores(path: Path) -> CaseScores:
    """Read the scores of test cases; an absent table has none."""
    rows: dict[str, list[dict[str, str]]] = {}
    for row in read_rows(path) if path.is_file() else []:
        rows.setdefault(row["stem"], []).append(row)
    dice = {}
    for stem, classes in rows.items():
        known = [float(row["dice"]) for row in classes if row["dice"]]
        if known:
            dice[stem] = sum(known) / len(known)
    alarms = {
        stem: max(float(row.get("confidence") or 0.0) for row in classes)
        for stem, classes in rows.items()
        if stem not in dice and any(_counts_as_found(row) for row in classes)
    }
    return CaseScores(
        dice,
        {stem: _describe_case(classes) for stem, classes in rows.items()},
        tuple(sorted(alarms, key=lambda stem: (-alarms[stem], stem))),
        len({rows[stem][0]["group"] for stem in dice}),
    )


def _counts_as_found(row: Mapping[str, str]) -> bool:
    # files without an operating point decide nothing: every mask counts
    return row["outcome"] == "false positive" and (row.get("state") or "found") == "found"


def _describe_case(classes: Sequence[Mapping[str, str]]) -> str:
    """Write the figures of a case in a line."""
    shown = [row for row in classes if row["dice"] or row["outcome"] == "false positive"]
    said = []
    for row in shown[:NAMED_CLASSES]:
        name = f"{join_names([show_name(row['class'])])}: " if len(classes) > 1 else ""
        figure = f"Dice {float(row['dice']):.2f}" if row["dice"] else "nothing is there"
        sure = f", {row['state']} at confidence {float(row['confidence']):.2f}" if row.get("confidence") else ""
        said.append(f"{name}{figure}{sure}")
    more = [f"{len(shown) - NAMED_CLASSES} more classes"] if len(shown) > NAMED_CLASSES else []
    return "; ".join([*said, *more])


def _find_tested(record: RunRecord, table: Mapping[str, Any] | None, scores: CaseScores) -> Tested:
    return Tested(
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
    record: RunRecord, tested: Tested, history: Sequence[EpochResult], segmenter: Segmenter, size: int
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
        f"After {record.best_epoch} of {count(history[-1].epoch, 'epoch')} the masks overlap those drawn by hand by a Dice "
        "of {mean:.3f} on average, over {cases} that it has never seen; half of the cases reach {median:.3f} or more.",
    )
    return _make_verdict(tested, sentence, tiles, notices)


def _time_frame(segmenter: Segmenter) -> float:
    """Measure the median time of a frame in milliseconds; noise costs the network as much as a picture."""
    height, width = FRAME_SIZE
    frame = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    frame = frame if segmenter.card.input.in_colour else np.ascontiguousarray(frame[:, :, 0])
    return summarise_times([segmenter.segment(frame).times.total for _ in range(TIMED)]).p50


def judge_folds(summary: FoldSummary, tested: Tested) -> Verdict:
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
        f"{len(summary.dice)} networks judged every case once, each the groups that it has never seen: the mean Dice is "
        "{mean:.3f} over {cases}; half of them reach {median:.3f} or more.",
    )
    return _make_verdict(tested, sentence, tiles, notices)


def _make_verdict(tested: Tested, sentence: str, tiles: tuple[Tile, ...], notices: Sequence[str]) -> Verdict:
    return Verdict(
        pills=(find_grade(tested).pill,),
        sentence=sentence,
        tiles=tiles,
        fit=tuple(list_fit(tested)),
        unfit=tuple(list_unfit(tested)),
        few=explain_few(tested),
        warnings=tuple(notices),
    )


def _summarise(tested: Tested, form: str) -> str:
    evaluation = tested.evaluation
    if evaluation is None or evaluation.dice is None:
        return "No test case shows anything to find, so nothing is known of the masks."
    if find_grade(tested) is USELESS:
        return evaluation.notices[0]
    return form.format(mean=evaluation.dice.mean, median=evaluation.dice.median, cases=describe_cases(tested))


def _list_notices(tested: Tested) -> list[str]:
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
            lambda stem: read_case(cases[stem], record.input.in_colour),
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
    record: RunRecord, tested: Tested, history: Sequence[EpochResult], out: Path, has_config: bool
) -> list[Step]:
    """List what to do after a training, with the commands.

    Args:
        record: Of the run.
        tested: Its test cases.
        history: Its epochs.
        out: The run folder.
        has_config: Whether the folder holds the options as a file.
    """
    data, epochs = out / record.data, str(2 * history[-1].epoch)
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
        steps.insert(0, longer)
    if tested.few and not record.split.folds:
        folds = write_command(*again, "--out", add_suffix(out, "folds"), "--folds", "5")
        steps.append(Step("Judge every case once, by five trainings: the interval becomes narrower.", folds))
    return steps


def _name_options(record: RunRecord, data: Path) -> tuple[str | Path, ...]:
    """Begin the command of a training on the same data with a network of the same size."""
    return "edgeseg", "train", data, "--model", record.options.model, "--size", str(record.options.size)


def list_fold_steps(records: Sequence[RunRecord], runs: Sequence[Path], out: Path) -> list[Step]:
    """List what to do after a cross-validation, with the commands."""
    best = max(range(len(runs)), key=lambda number: records[number].validation_dice)
    again = _name_options(records[0], out / runs[0].name / records[0].data)
    return [
        Step(
            "Train one network that learns from all of these.",
            write_command(*again, "--out", add_suffix(out, "taught"), "--teacher", out),
        ),
        Step(
            f"Or make a small, fast file of the network whose validation cases it fits best, fold {best + 1}.",
            write_command("edgeseg", "compress", out / runs[best].name, "--out", add_suffix(out, "small")),
        ),
        Step(
            "Draw masks for your own images with all networks together, and look at them.",
            write_command("edgeseg", "predict", out, "IMAGES", "--out", "MASKS", "--overlay"),
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


def _describe_figures(tested: Tested, decision: Decision | None, chosen_on: str) -> dict[str, Any]:
    """Collect the tables and plots of an evaluation."""
    evaluation = tested.evaluation
    if evaluation is None:
        empty = Table((), ())
        return {
            "measures": empty, "classes": empty, "points": empty, "chosen_on": "", "risk": "", "reliability": ""
        }  # fmt: skip
    known = [(label, getattr(evaluation, key), form) for key, label, form in MEASURES]
    measures = tuple(_list_estimate(label, one, form) for label, one, form in known if one is not None)
    return {
        "measures": Table(("", "mean", "95% interval", "median"), measures),
        "classes": _list_classes(evaluation),
        "points": _list_points(evaluation, decision),
        "chosen_on": chosen_on,
        "risk": draw_risk({"float32": evaluation}),
        "reliability": draw_reliability(evaluation),
    }


def _list_estimate(label: str, one: Estimate, form: str) -> tuple[str, ...]:
    return (label, f"{one.mean:{form}}", show_interval(one.ci95, form), f"{one.median:{form}}")


def _list_classes(evaluation: Evaluation) -> Table:
    classes = evaluation.per_class
    if len(classes) < 2:
        return Table((), ())
    used = [one for one in BY_CLASS if any(figures.get(one[0]) for figures in classes.values())]
    rows = []
    for name, figures in classes.items():
        cells = [f"{one.mean:{form}}" if (one := figures.get(key)) else "n/a" for key, _, form in used]
        rows.append((show_name(name), *cells))
    return Table(("class", *(label for _, label, _ in used)), tuple(rows))


def _list_points(evaluation: Evaluation, decision: Decision | None) -> Table:
    """List the operating point of every class, with its figures on the test cases."""
    point = evaluation.operating_point
    if point is None:
        return Table((), ())
    rules = {rule.name: rule.operating_point for rule in decision.classes} if decision is not None else {}
    by_class = dict(point.per_class) or dict.fromkeys(list(evaluation.per_class)[:1], point)
    rows = []
    for name, figures in by_class.items():
        rule = rules.get(name)
        asked = "n/a" if rule is None else f"{rule.target} {rule.wanted:.0%}"
        threshold = figures.threshold if figures.threshold is not None else rule.threshold if rule else None
        start = "n/a" if threshold is None else f"{threshold:.3f}"
        rows.append((show_name(name), start, asked, *_list_shares(figures)))
    columns = "class", "found from", "asked for", "sensitivity", "coverage", "false alarms", "Dice when found"
    return Table(columns, tuple(rows))


def _list_shares(figures: PointFigures) -> list[str]:
    shares = figures.sensitivity, figures.coverage, figures.false_alarm_rate
    dice = "n/a" if figures.dice_shown is None else f"{figures.dice_shown.mean:.3f}"
    return [*("n/a" if share is None else show_share(share) for share in shares), dice]


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


def _describe_data(record: RunRecord, run: Path) -> dict[str, Any]:
    """Collect what the page says of data, split and origin."""
    summary = record.data_summary
    data = [("classes", join_names([show_name(spec.name) for spec in record.output.classes], 12))]
    note = ""
    if summary is not None:
        sizes = [f"{size} ({count(number, 'image')})" for size, number in summary.sizes.items()]
        more = [f"{count(summary.other_sizes, 'image')} of further sizes"] if summary.other_sizes else []
        data += [
            ("layout", summary.layout),
            ("images", f"{summary.images:,} in {count(summary.groups, 'group')}"),
            ("sizes", ", ".join([*sizes, *more])),
            ("pixel size known", f"{summary.with_pixel_size:,} of {summary.images:,} images"),
        ]
        if summary.labels:
            data.append(("labels of frames", ", ".join(f"{show_name(n)} ({c:,})" for n, c in summary.labels.items())))
        note = f"{count(summary.images, 'image')} in {count(summary.groups, 'group')}"
    notices = list(summary.notices) if summary is not None else []
    if record.near_duplicates:
        notices.append(f"{count(record.near_duplicates, 'pair')} of nearly equal images lie in different groups.")
    return {
        "split": _list_split(record, run),
        "data": data,
        "data_note": note,
        "data_notices": notices,
        "repeat": write_train_command(record),
        "origin": [*list_network(record), *_list_origin(record)],
    }


def _list_split(record: RunRecord, run: Path) -> Table:
    """List the parts with cases and groups, and how many cases lack each class where the run remembers it."""
    if record.data_summary is not None:
        parts = record.data_summary.parts
        names = list(parts[0].lacking)[:SPLIT_CLASSES]
        rows = [
            (PART_WORDS[one.name], str(one.cases), str(one.groups), *(str(one.lacking.get(n, 0)) for n in names))
            for one in parts
        ]
        return Table(
            ("part", "cases", "groups", *(f"without {join_names([show_name(n)])}" for n in names)), tuple(rows)
        )
    groups: dict[str, list[str]] = {}
    for row in read_rows(run / SPLIT) if (run / SPLIT).is_file() else []:
        groups.setdefault(PART_WORDS.get(row["part"], row["part"]), []).append(row["group"])
    return Table(
        ("part", "cases", "groups"), tuple((part, str(len(all_)), str(len(set(all_)))) for part, all_ in groups.items())
    )


def _list_origin(record: RunRecord) -> list[tuple[str, str]]:
    timing = record.timing
    spent = [] if timing is None else [("time", f"{timing.seconds:,.0f} s, {timing.peak_memory_mb:,.0f} MB at most")]
    return [
        *spent,
        ("teachers", join_names([teacher.name for teacher in record.teachers]) or "none"),
        ("started from", record.init or "nothing"),
        ("data fingerprint", record.data_fingerprint),
        ("edgeseg", record.edgeseg),
        *record.libraries.items(),
    ]


def list_network(record: RunRecord) -> list[tuple[str, str]]:
    """List network, training and split of a run."""
    options, split, grid = record.options, record.split, record.input
    epochs = options.epochs or "the usual number of"
    return [
        ("network", f"{options.model}, {'-'.join(map(str, record.spec.widths))}, {grid.width}x{grid.height}"),
        ("training", f"{epochs} epochs, batch {options.batch}, learning rate {options.learning_rate}"),
        ("split", f"seed {split.seed}, validation {split.validation}, test {split.test}"),
    ]


def write_train_command(record: RunRecord) -> str:
    """Write the command that repeats a training; folders are placeholders, as their names may be private."""
    return " ".join(("edgeseg train DATA --out RUN", *_list_changed(record.options), *_list_others(record)))


def _list_others(record: RunRecord) -> list[str]:
    """List the options of layout, split and initial weights."""
    split = record.split
    others = {
        "--layout": split.layout,
        "--group-pattern": shlex.quote(split.group_pattern) if split.group_pattern else None,
        "--folds": split.folds or None,
        "--init": "INIT" if record.init else None,
    }
    return [f"{option} {value}" for option, value in others.items() if value is not None]


def _list_changed(options: TrainOptions) -> list[str]:
    """List the training options that differ from the defaults."""
    usual, chosen = dataclasses.asdict(TrainOptions()), dataclasses.asdict(options)
    return [f"--{name.replace('_', '-')} {value}" for name, value in chosen.items() if value != usual[name]]
