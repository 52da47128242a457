"""Labels of whole frames (benign, malignant, normal): labels.csv, a column of groups.csv, or a layout's own folders."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeseg.core.errors import DataError
from edgeseg.core.limits import FRAME_CLASSES, NAME_LETTERS
from edgeseg.core.redact import is_printable
from edgeseg.data.defects import DataWarning, DefectError, missing_labels, one_label, unknown_labels
from edgeseg.data.groups import GROUPS, Row, read_table, refuse_misspelt
from edgeseg.data.reading import Case, plain_name

LABELS = "labels.csv"
COLUMNS = ("stem", "label")
# The column of groups.csv that labels frames where there is no labels.csv.
CLASS_COLUMN = "class"


@dataclass(frozen=True)
class Labelling:
    """Cases with their labels, and defects and warnings about them."""

    cases: tuple[Case, ...]
    defects: tuple[DefectError, ...] = ()
    warnings: tuple[DataWarning, ...] = ()


def label_cases(cases: Sequence[Case], root: Path) -> Labelling:
    """Label cases from labels.csv, else from the column class of groups.csv, else as the layout has labelled them.

    Cases without a label stay; fewer than two different labels are none.
    """
    refuse_misspelt(root, LABELS)
    path = root / LABELS
    if os.path.lexists(path):
        return _label_by_file(cases, path)
    labels = _read_class_column(root / GROUPS)
    labelled = _attach(cases, labels) if labels else tuple(cases)
    if len(list_labels(labelled)) < 2:
        labelled = tuple(dataclasses.replace(case, label="") for case in labelled)
    return Labelling(labelled, warnings=_warn_of_missing(labelled, root / GROUPS if labels else root))


def list_labels(cases: Sequence[Case]) -> tuple[str, ...]:
    """List the labels that cases have, by name."""
    return tuple(sorted({case.label for case in cases} - {""}))


def count_labels(cases: Sequence[Case]) -> dict[str, int]:
    """Count the cases of each label."""
    counts = Counter(case.label for case in cases if case.label)
    return {name: counts[name] for name in sorted(counts)}


def _label_by_file(cases: Sequence[Case], path: Path) -> Labelling:
    labels = _collect_labels(read_table(path, COLUMNS), "label", path)
    found = {case.stem for case in cases} | {plain_name(case.stem) for case in cases}
    unknown = sorted(stem for stem in labels if stem not in found and plain_name(stem) not in found)
    labelled = _attach(cases, labels)
    named = list_labels(labelled)
    defects = [unknown_labels(path, unknown)] if unknown else []
    if len(named) < 2 and not unknown:
        defects.append(one_label(path, named))
    return Labelling(labelled, tuple(defects), _warn_of_missing(labelled, path))


def _read_class_column(path: Path) -> dict[str, str]:
    """Read the column class of groups.csv; nothing where it holds too many different texts to be labels."""
    if not os.path.lexists(path):
        return {}
    rows = read_table(path, ("stem", "group"))
    if len({row[CLASS_COLUMN].strip() for row in rows}) > FRAME_CLASSES:
        return {}
    return _collect_labels(rows, CLASS_COLUMN, path)


def _collect_labels(rows: Sequence[Row], column: str, path: Path) -> dict[str, str]:
    """Collect the label of each name; empty cells are no labels, and two different ones are refused."""
    labels: dict[str, tuple[str, int]] = {}
    for row in rows:
        label = row[column].strip()
        if not label:
            continue
        if len(label) > NAME_LETTERS or not is_printable(label):
            raise DataError(
                f"Expected labels of at most {NAME_LETTERS} printable letters in {path}, got another in line "
                f"{row.line}.",
                "Correct the label.",
            )
        first, line = labels.setdefault(row["stem"], (label, row.line))
        if first != label:
            raise DataError(
                f"Expected one label for each image in {path}, got {first[:80]} and {label[:80]} for {row['stem']} "
                f"(lines {line}, {row.line}).",
                "Remove the wrong one.",
            )
    different = {label for label, _ in labels.values()}
    if len(different) > FRAME_CLASSES:
        raise DataError(
            f"Expected at most {FRAME_CLASSES} different labels in {path}, got {len(different)}.",
            "A label names the kind of a frame, such as benign or malignant, and many frames share it.",
        )
    return {stem: label for stem, (label, _) in labels.items()}


def _attach(cases: Sequence[Case], labels: Mapping[str, str]) -> tuple[Case, ...]:
    alike = {plain_name(stem): label for stem, label in labels.items()}
    return tuple(
        dataclasses.replace(case, label=labels.get(case.stem) or alike.get(plain_name(case.stem), "")) for case in cases
    )


def _warn_of_missing(cases: Sequence[Case], where: Path) -> tuple[DataWarning, ...]:
    without = [case.stem for case in cases if not case.label]
    return (missing_labels(where, without),) if 0 < len(without) < len(cases) else ()
