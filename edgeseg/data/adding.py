"""Add labelled images to a data set in the plain layout: with their groups, and all of them or none.

The new files are made whole in DATA/.adding first. A plan beside them lists where they go; from then on an interruption
is made good by the next call, and until then nobody reads the data set. What stands there is never overwritten, save
groups.csv and labels.csv, which keep their rows and columns.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeseg.core.errors import DataError, OutputError
from edgeseg.core.files import explained_writes, write_json, write_rows
from edgeseg.core.marks import held_folder
from edgeseg.core.progress import Advance, ignore
from edgeseg.core.schema import from_plain, read_json_table, to_plain
from edgeseg.data.dataset import ADDING, ADDING_PLAN, Dataset, drop_equal_channels, open_dataset, read_cases
from edgeseg.data.frame_labels import CLASS_COLUMN, LABELS, label_cases, list_labels
from edgeseg.data.frame_labels import COLUMNS as LABEL_COLUMNS
from edgeseg.data.groups import COLUMNS, GROUPS, group_cases, read_table
from edgeseg.data.layouts.base import class_folder
from edgeseg.data.layouts.folders import FIRST
from edgeseg.data.reading import Case, plain_name
from edgeseg.frame.images import write_image

_TRAIN = "train"
# Names that a message lists.
_NAMED = 8


def add_dataset(new: Dataset, root: Path, on_case: Advance = ignore) -> Dataset:
    """Add labelled images to a data folder; an interrupted call is finished by the next one.

    Where the folder has given parts, an image goes to the part of its group, and a new group is trained on.

    Args:
        new: What to add.
        root: A folder in the plain layout.
        on_case: Called with each new case's name when it was written.

    Returns:
        The data set with the new images.

    Raises:
        DataError: Names, classes or parts do not fit; nothing was changed.
    """
    with held_folder(root), explained_writes(root, among_others=True):
        finished = finish_adding(root)
        # the interrupted command, started again
        new = dataclasses.replace(new, cases=tuple(case for case in new.cases if case.stem not in finished))
        old = open_dataset(root)
        if not new.cases:
            return old
        _check_kind(old, new)
        _check_names(old, new)
        staging = root / ADDING
        try:
            staging.mkdir()
            cases = _give_parts(old.cases, new.cases)
            files = list(_write_images(old, new, staging, on_case))
            tables = _write_tables(old, cases, staging)
            _check_tables(staging, (*old.cases, *(case for case, _ in cases)))
            # from here on the images are added, whatever happens
            write_json(staging / ADDING_PLAN, to_plain(AddingPlan(tuple(files), tuple(tables))))
        except BaseException:
            if not (staging / ADDING_PLAN).is_file():
                shutil.rmtree(staging, ignore_errors=True)
            raise
        finish_adding(root)
    return open_dataset(root)


@dataclass(frozen=True)
class AddingPlan:
    """Where the new files go, by their names in both folders, and the tables that replace the old ones."""

    files: tuple[str, ...]
    tables: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in self.files:
            folder, slash, file = name.partition("/")
            if not slash or folder.startswith(".") or "/" in file or file in ("", ".", ".."):
                raise ValueError(f"expected files such as {FIRST}/NAME.png, got {name[:200]!r}")
        if not {GROUPS, LABELS}.issuperset(self.tables):
            raise ValueError(f"expected {GROUPS} or {LABELS}, got {', '.join(self.tables)[:200]!r}")


def finish_adding(root: Path) -> frozenset[str]:
    """Finish what an interrupted call began, or throw away what it had not made whole.

    Returns:
        The names of the images that were added.
    """
    staging = root / ADDING
    if staging.is_symlink() or not staging.is_dir():
        return frozenset()
    added: frozenset[str] = frozenset()
    if (staging / ADDING_PLAN).is_file():
        plan = _read_plan(staging / ADDING_PLAN)
        for name in plan.files:
            _move(staging / name, root / name)
        for name in plan.tables:
            if (staging / name).is_file():
                (staging / name).replace(root / name)
        # last: without the plan the rest is thrown away
        (staging / ADDING_PLAN).unlink()
        added = frozenset(Path(name).stem for name in plan.files)
    shutil.rmtree(staging)
    return added


def _read_plan(path: Path) -> AddingPlan:
    try:
        return from_plain(AddingPlan, read_json_table(path))
    except ValueError as error:
        raise DataError(
            f"Expected the plan of an interrupted import in {path}, got another file: {error}.",
            f"Move {path.parent} away, and see which of its images are missing.",
        ) from error


def _move(source: Path, target: Path) -> None:
    if not source.is_file():
        return  # moved before the interruption
    if target.exists():
        raise OutputError(
            f"Expected no file at {target}, got one that was put there while images were being added.",
            "Move it away, and start the same command again.",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)


def _check_kind(old: Dataset, new: Dataset) -> None:
    if old.layout != "plain" or old.cases[0].modalities or new.cases[0].modalities:
        what = f"the layout {old.layout}" if old.layout != "plain" else "several modalities in one image"
        raise DataError(
            f"Expected a data set in the plain layout to add to, got {what} in {old.root}.",
            f"Bring it into that layout first: edgeseg data import {old.root} NEW",
        )
    ours, theirs = [spec.name for spec in old.classes], [spec.name for spec in new.classes]
    unknown = [name for name in theirs if name not in ours]
    if unknown:
        raise DataError(
            f"Expected the classes of {old.root}, {', '.join(ours)}, got {', '.join(unknown)} in {new.root}.",
            "Give the class its name there, or add a class to all images of the data set first.",
        )


def _check_names(old: Dataset, new: Dataset) -> None:
    """Refuse names that are there already; file systems of macOS and Windows do not tell upper from lower case."""
    known = {plain_name(case.stem).casefold() for case in old.cases}
    clashing = sorted(case.stem for case in new.cases if plain_name(case.stem).casefold() in known)
    if clashing:
        more = f" and {len(clashing) - _NAMED} more" if len(clashing) > _NAMED else ""
        raise DataError(
            f"Expected names that {old.root} does not have yet, got {', '.join(clashing[:_NAMED])}{more}.",
            "They were added before, or other images have their names: rename the new ones, also in groups.csv.",
        )


def _give_parts(old: Sequence[Case], new: Sequence[Case]) -> list[tuple[Case, str]]:
    """Give every new case the part of its group, where the data set has parts."""
    if not old[0].part:
        return [(case, "") for case in new]
    part_of = {case.group: case.part for case in old}
    return [(case, part_of.get(case.group, _TRAIN)) for case in new]


def _write_images(old: Dataset, new: Dataset, staging: Path, on_case: Advance) -> Iterator[str]:
    """Write images, and a mask for every class of the data set; give their names relative to it."""
    places = {spec.name: place for place, spec in enumerate(new.classes)}
    for image in read_cases(new.cases, True):
        name = f"{image.case.stem}.png"
        for spec in old.classes:
            place = places.get(spec.name)
            mask = np.zeros(image.frame.shape[:2], np.uint8) if place is None else image.masks[place]
            written = f"{class_folder(spec.name)}/{name}"
            write_image(staging / written, mask * np.uint8(255))
            yield written
        write_image(staging / FIRST / name, drop_equal_channels(image.frame))
        yield f"{FIRST}/{name}"
        on_case(image.case.stem)


def _write_tables(old: Dataset, new: Sequence[tuple[Case, str]], staging: Path) -> list[str]:
    """Write groups.csv and, where there are labels, labels.csv with the rows of old and new cases."""
    rows = _read_cells(old.root / GROUPS) or [{"stem": case.stem, "group": case.group} for case in old.cases]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    in_groups = CLASS_COLUMN in columns and not (old.root / LABELS).is_file() and bool(list_labels(old.cases))
    # a table of all patients may have the row already: what it says of the image stays
    known_names = {plain_name(row["stem"]) for row in rows}
    described = [_describe(case, part, in_groups) for case, part in new if plain_name(case.stem) not in known_names]
    columns += [name for name in COLUMNS if name not in columns and any(row.get(name) for row in described)]
    rows += described
    write_rows(staging / GROUPS, columns, ([row.get(name, "") for name in columns] for row in rows))
    labels = [{"stem": case.stem, "label": case.label} for case, _ in new if case.label]
    if in_groups or not labels:
        return [GROUPS]
    known = _read_cells(old.root / LABELS)
    columns = list(dict.fromkeys((*LABEL_COLUMNS, *(name for row in known for name in row))))
    write_rows(staging / LABELS, columns, ([row.get(name, "") for name in columns] for row in [*known, *labels]))
    return [GROUPS, LABELS]


def _check_tables(staging: Path, cases: Sequence[Case]) -> None:
    """Refuse tables that would not be read afterwards."""
    grouping = group_cases(cases, staging, None)
    for defect in (*grouping.defects, *label_cases(grouping.cases, staging).defects):
        raise defect


def _read_cells(path: Path) -> list[dict[str, Any]]:
    return [dict(row.cells) for row in read_table(path, ("stem",))] if path.is_file() else []


def _describe(case: Case, part: str, labelled: bool) -> dict[str, Any]:
    given = {name: getattr(case, name) for name in COLUMNS if getattr(case, name) not in ("", None)}
    return {**given, "part": part, **({CLASS_COLUMN: case.label} if labelled else {})}
