"""Where a model comes from, for a report: data, split, options and versions, and the command that repeats it."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import Any

from edgeseg.core.files import read_rows
from edgeseg.core.redact import show_name
from edgeseg.report.page import Table, count, join_names
from edgeseg.training.options import TrainOptions
from edgeseg.training.run import SPLIT, RunRecord
from edgeseg.training.weak_supervision import describe_kinds

# Classes that get a column in the table of the split.
SPLIT_CLASSES = 6
PART_WORDS = {"train": "training", "val": "validation", "test": "test"}


def describe_data(record: RunRecord, run: Path) -> dict[str, Any]:
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
    if record.labels is not None:
        data.append(("learned from", describe_kinds(record.labels.images)))
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
        ("network", f"{options.network}, {'-'.join(map(str, record.spec.widths))}, {grid.width}x{grid.height}"),
        ("training", f"{epochs} epochs, batch {options.batch}, learning rate {options.rate}"),
        ("split", f"seed {split.seed}, validation {split.validation}, test {split.test}"),
    ]


def write_train_command(record: RunRecord) -> str:
    """Write the command that repeats a training; folders are placeholders, as their names may be private."""
    return " ".join(("edgeseg train DATA --out RUN", *list_changed(record.options), *_list_others(record)))


def _list_others(record: RunRecord) -> list[str]:
    """List the options of layout, split and initial weights."""
    split = record.split
    others = {
        "--layout": shlex.quote(split.layout) if split.layout else None,
        "--group-pattern": shlex.quote(split.group_pattern) if split.group_pattern else None,
        "--folds": split.folds or None,
        "--init": "INIT" if record.init else None,
    }
    return [f"{option} {value}" for option, value in others.items() if value is not None]


def list_changed(options: TrainOptions) -> list[str]:
    """List the training options that differ from the defaults."""
    usual, chosen = dataclasses.asdict(TrainOptions()), dataclasses.asdict(options)
    return [f"--{name.replace('_', '-')} {value}" for name, value in chosen.items() if value != usual[name]]
