"""Which images belong together: groups.csv and group patterns, read and written in one place."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeseg.core.errors import DataError
from edgeseg.core.files import read_rows, write_rows
from edgeseg.data.case import GIVEN_PARTS, Case
from edgeseg.data.defects import DefectError, missing_rows

GROUPS = "groups.csv"
COLUMNS = ("stem", "group", "part", "pixel_size_mm", "head_circumference_mm")


@dataclass(frozen=True)
class GroupRow:
    """What groups.csv says about one image."""

    group: str
    part: str
    pixel_size_mm: float | None
    head_circumference_mm: float | None


def group_cases(
    cases: Sequence[Case], root: Path, pattern: str | None
) -> tuple[tuple[Case, ...], tuple[DefectError, ...]]:
    """Put cases into the groups of groups.csv and, where one is given, of a pattern; also tell what is missing."""
    path = root / GROUPS
    rows = read_groups(path)
    described = [_describe(case, rows.get(case.stem)) for case in cases]
    without = [case.stem for case in cases if rows and case.stem not in rows and pattern is None]
    if pattern is not None:
        expression = _compile(pattern)
        described = [dataclasses.replace(case, group=_match(expression, case.stem)) for case in described]
    _check_parts(described, root)
    return tuple(described), (missing_rows(path, without),) if without else ()


def read_groups(path: Path) -> dict[str, GroupRow]:
    """Read groups.csv; none where there is no such file."""
    if not path.is_file():
        return {}
    rows = read_rows(path)
    if rows and not {"stem", "group"} <= set(rows[0]):
        raise DataError(
            f"Expected the columns stem and group in {path}, got {', '.join(rows[0])}.",
            "Name the group (patient, exam or clip) that each image belongs to.",
        )
    return {row["stem"]: _read_row(row, path) for row in rows}


def write_groups(path: Path, cases: Sequence[Case]) -> None:
    """Write groups.csv with what is known about the cases; columns that nothing is known about are left out."""
    kept = [name for name in COLUMNS if any(getattr(case, name) not in ("", None) for case in cases)]
    write_rows(path, kept, ([getattr(case, name) for name in kept] for case in cases))


def _read_row(row: dict[str, str], path: Path) -> GroupRow:
    if not row["group"]:
        raise DataError(f"Expected a group for every image in {path}, got none for {row['stem']}.", "Fill the column.")
    part = row.get("part") or ""
    if part not in ("", *GIVEN_PARTS):
        raise DataError(
            f"Expected the part of {row['stem']} in {path} to be one of {', '.join(GIVEN_PARTS)}, got {part!r}.",
            "Correct the column part, or remove it.",
        )
    return GroupRow(row["group"], part, _pixel_size(row, path), _number(row, "head_circumference_mm", path))


def _pixel_size(row: dict[str, str], path: Path) -> float | None:
    """Read the pixel size at the image's own size, also from that of a larger original."""
    size = _number(row, "pixel_size_mm", path)
    original, *widths = (_number(row, name, path) for name in ("pixel_size_mm_original", "orig_width", "width"))
    if size is not None or original is None or widths[0] is None or widths[1] is None:
        return size
    return original * widths[0] / widths[1]


def _number(row: dict[str, str], column: str, path: Path) -> float | None:
    text = row.get(column)
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise DataError(
            f"Expected a number above 0 for {column} of {row['stem']} in {path}, got {text!r}.",
            "Correct it, or leave it empty where it is not known.",
        )
    return value


def _describe(case: Case, row: GroupRow | None) -> Case:
    if row is None:
        return case
    return dataclasses.replace(
        case,
        group=row.group,
        part=row.part or case.part,
        pixel_size_mm=row.pixel_size_mm or case.pixel_size_mm,
        head_circumference_mm=row.head_circumference_mm or case.head_circumference_mm,
    )


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise DataError(
            f"Expected a regular expression as group pattern, got {pattern!r}: {error}.", "Correct the pattern."
        ) from error
    if not expression.groups:
        raise DataError(
            f"Expected a group in parentheses in the group pattern, got {pattern!r}.",
            r"Put what names the patient, exam or clip in parentheses, as in '^(\d+)_'.",
        )
    return expression


def _match(expression: re.Pattern[str], stem: str) -> str:
    found = expression.search(stem)
    if found is None or not found.group(1):
        raise DataError(
            f"Expected the group pattern {expression.pattern!r} to find a group in every name, got none in {stem}.",
            "Widen the pattern, or write the groups into groups.csv.",
        )
    return found.group(1)


def _check_parts(cases: Sequence[Case], root: Path) -> None:
    free = [case.stem for case in cases if not case.part]
    if 0 < len(free) < len(cases):
        raise DataError(
            f"Expected a given part for all images of {root} or for none, got none for {free[0]}.",
            "Fill the column part of groups.csv, or remove it.",
        )
