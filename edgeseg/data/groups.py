"""Which images belong together: groups.csv and group patterns, read and written in one place."""

from __future__ import annotations

import dataclasses
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeseg.core.errors import DataError
from edgeseg.core.files import write_rows
from edgeseg.core.limits import IMAGE_SIDE
from edgeseg.data.case import CIRCUMFERENCE_MM, GIVEN_PARTS, PIXEL_MM, Case, describe_range, is_within
from edgeseg.data.defects import DataWarning, DefectError, missing_rows, repeated_rows
from edgeseg.data.tables import Row, read_length, read_table

GROUPS = "groups.csv"
COLUMNS = ("stem", "group", "part", "pixel_size_mm", "head_circumference_mm")


@dataclass(frozen=True)
class GroupRow:
    """What groups.csv says about one image."""

    group: str
    part: str
    pixel_size_mm: float | None
    head_circumference_mm: float | None


@dataclass(frozen=True)
class Grouping:
    """Cases in their groups, and what is wrong or should be known about groups.csv."""

    cases: tuple[Case, ...]
    defects: tuple[DefectError, ...] = ()
    warnings: tuple[DataWarning, ...] = ()


def group_cases(cases: Sequence[Case], root: Path, pattern: str | None) -> Grouping:
    """Put cases into the groups of groups.csv and, where one is given, of a pattern; also tell what is missing."""
    path = root / GROUPS
    _refuse_misspelt(root)
    rows, repeated = read_groups(path)
    matched = _match_rows(cases, rows)
    described = [_describe(case, matched.get(case.stem)) for case in cases]
    without = [case.stem for case in cases if rows and case.stem not in matched and pattern is None]
    if pattern is not None:
        expression = _compile(pattern)
        described = [dataclasses.replace(case, group=_match(expression, case.stem)) for case in described]
    _check_parts(described, root)
    defects = (missing_rows(path, without),) if without else ()
    return Grouping(tuple(described), defects, (repeated_rows(path, repeated),) if repeated else ())


def read_groups(path: Path) -> tuple[dict[str, GroupRow], list[str]]:
    """Read groups.csv; no rows where there is no such file.

    Returns:
        What is said about each name, and which names stand there twice, with the same words.
    """
    if not os.path.lexists(path):
        return {}, []
    lines: dict[str, list[Row]] = {}
    for row in read_table(path, ("stem", "group")):
        lines.setdefault(row["stem"], []).append(row)
    found = {stem: [_read_row(row, path) for row in rows] for stem, rows in lines.items()}
    for stem, several in found.items():
        if any(one != several[0] for one in several):
            raise DataError(
                f"Expected one row for each image in {path}, got {len(several)} that differ for {stem} "
                f"(lines {_list_lines(lines[stem])}).",
                "Remove all but the right one.",
            )
    repeated = [f"{stem} (lines {_list_lines(rows)})" for stem, rows in lines.items() if len(rows) > 1]
    return {stem: several[0] for stem, several in found.items()}, repeated


def _list_lines(rows: Sequence[Row]) -> str:
    return ", ".join(str(row.line) for row in rows)


def _refuse_misspelt(root: Path) -> None:
    """Refuse Groups.csv and its like, which would be passed over without a word."""
    alike = sorted(path.name for path in root.iterdir() if path.name.lower() == GROUPS and path.name != GROUPS)
    if alike:
        raise DataError(f"Expected the name {GROUPS} in {root}, got {alike[0]}.", "Rename the file.")


def _match_rows(cases: Sequence[Case], rows: Mapping[str, GroupRow]) -> dict[str, GroupRow]:
    """Find the row of each case: by its name, else by one that differs in outer spaces or in how accents are stored."""
    alike = {_plain_name(stem): row for stem, row in rows.items()}
    found = {case.stem: rows.get(case.stem) or alike.get(_plain_name(case.stem)) for case in cases}
    return {stem: row for stem, row in found.items() if row is not None}


def _plain_name(stem: str) -> str:
    return unicodedata.normalize("NFC", stem.strip())


def write_groups(path: Path, cases: Sequence[Case]) -> None:
    """Write groups.csv with what is known about the cases; columns that nothing is known about are left out."""
    kept = [name for name in COLUMNS if any(getattr(case, name) not in ("", None) for case in cases)]
    write_rows(path, kept, ([getattr(case, name) for name in kept] for case in cases))


def _read_row(row: Row, path: Path) -> GroupRow:
    stem, group, part = row["stem"], row["group"].strip(), row["part"].strip()
    if not group:
        raise DataError(f"Expected a group for every image in {path}, got none for {stem}.", "Fill the column.")
    if part not in ("", *GIVEN_PARTS):
        raise DataError(
            f"Expected the part of {stem} in {path} to be one of {', '.join(GIVEN_PARTS)}, got {part!r}.",
            "Correct the column part, or remove it.",
        )
    circumference = read_length(row, "head_circumference_mm", CIRCUMFERENCE_MM, path, stem)
    return GroupRow(group, part, _pixel_size(row, path), circumference)


def _pixel_size(row: Row, path: Path) -> float | None:
    """Read the pixel size at the image's own size, also from that of a larger original."""
    stem = row["stem"]
    size = read_length(row, "pixel_size_mm", PIXEL_MM, path, stem)
    original = read_length(row, "pixel_size_mm_original", PIXEL_MM, path, stem)
    widths = [read_length(row, name, (1, IMAGE_SIDE), path, stem) for name in ("orig_width", "width")]
    if size is not None or original is None or widths[0] is None or widths[1] is None:
        return size
    size = original * widths[0] / widths[1]
    if not is_within(size, PIXEL_MM):
        raise DataError(
            f"Expected a pixel size {describe_range(PIXEL_MM)} mm for {stem} in {path}, line {row.line}, "
            f"got {size:g} from {original:g} * {widths[0]:g} / {widths[1]:g}.",
            "Correct pixel_size_mm_original, orig_width or width.",
        )
    return size


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
