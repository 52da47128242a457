"""Which images belong together: groups.csv, and tables as any spreadsheet saves them."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeseg.core.errors import DataError
from edgeseg.core.files import write_rows
from edgeseg.core.limits import IMAGE_SIDE, TABLE_BYTES
from edgeseg.data.defects import DataWarning, DefectError, missing_rows, repeated_rows
from edgeseg.data.reading import CIRCUMFERENCE_MM, GIVEN_PARTS, PIXEL_MM, Case, describe_range, is_within, plain_name
from edgeseg.frame.images import read_bytes

# A comma; a semicolon where the comma is the decimal point; a tab in Excel's "Unicode text".
SEPARATORS = (",", ";", "\t")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
# Excel may write a line "sep=;" above the header.
_EXCEL_HINT = "sep="
GROUPS = "groups.csv"
COLUMNS = ("stem", "group", "part", "pixel_size_mm", "head_circumference_mm")


@dataclass(frozen=True)
class Row:
    """A line of a table: its number, counted from 1, and its cells by column; a missing cell is empty."""

    line: int
    cells: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        return self.cells.get(column, "")


def read_table(path: Path, needed: Sequence[str]) -> list[Row]:
    """Read a table with a header, in UTF-8 or UTF-16, separated by commas, semicolons or tabs.

    Args:
        path: The file.
        needed: The columns it must have.
    """
    text = decode_text(read_bytes(path, TABLE_BYTES), path)
    lines = text.splitlines(keepends=True)
    skipped = int(bool(lines) and lines[0].lower().startswith(_EXCEL_HINT))
    header, separator = _find_header("".join(lines[skipped : skipped + 1]), path, needed)
    body = _split("".join(lines[skipped:]), separator, path)
    next(body)
    rows = [_name_cells(line + skipped, cells, header, path) for line, cells in body if any(cells)]
    if not rows:
        raise DataError(f"Expected rows below the header of {path}, got none.", "Fill the table, or remove the file.")
    return rows


def read_length(row: Row, column: str, limits: tuple[float, float], path: Path, name: str) -> float | None:
    """Parse a length in millimetres; None if the cell is empty.

    Args:
        row: The line.
        column: Where it stands.
        limits: The smallest and largest plausible value.
        path: The table, for the message.
        name: The image of the line, for the message.
    """
    text = row[column].strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not is_within(value, limits):
        point = text.replace(",", ".", 1)
        raise DataError(
            f"Expected a number {describe_range(limits)} for {column} of {name} in {path}, line {row.line}, "
            f"got {text!r}.",
            f"Write it with a point: {point}."
            if "," in text
            else "Correct it, or leave it empty where it is not known.",
        )
    return value


def decode_text(data: bytes, path: Path) -> str:
    """Decode a table or list, in UTF-8 or, as spreadsheets write it, UTF-16."""
    encoding = "utf-16" if data.startswith(_UTF_16) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(
            f"Expected UTF-8 in {path}, got other bytes from position {error.start}.",
            "Save the table again as CSV in UTF-8.",
        ) from error
    if "\0" in text:
        raise DataError(f"Expected a text table in {path}, got NUL bytes.", "Save the table again as CSV in UTF-8.")
    return text


def _find_header(line: str, path: Path, needed: Sequence[str]) -> tuple[list[str], str]:
    """Find the separator that splits the header into the needed columns."""
    for separator in SEPARATORS:
        header = [name.strip() for _, cells in _split(line, separator, path) for name in cells]
        if set(needed) <= set(header):
            repeated = sorted({name for name in header if name and header.count(name) > 1})
            if repeated:
                raise DataError(f"Expected each column once in {path}, got {repeated[0]} twice.", "Remove one of them.")
            return header, separator
    first = f"columns {', '.join(needed[:-1])} and" if len(needed) > 1 else "column"
    raise DataError(
        f"Expected the {first} {needed[-1]} in {path}, got {line.strip()[:200] or 'an empty table'}.",
        "Name the columns in the first line, separated by commas.",
    )


def _split(text: str, separator: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        for cells in reader:
            yield reader.line_num, cells
    except csv.Error as error:
        raise DataError(
            f"Expected a table in {path}, got line {reader.line_num}, which cannot be read: {error}.",
            "Correct the line (a quotation mark that is not closed?), or save the table again as CSV.",
        ) from error


def _name_cells(line: int, cells: Sequence[str], header: Sequence[str], path: Path) -> Row:
    if any(cells[len(header) :]):
        raise DataError(
            f"Expected {len(header)} values in line {line} of {path}, got {len(cells)}.",
            "Put values that hold a comma into quotation marks, and write numbers with a point (0.07).",
        )
    # spreadsheets leave out empty cells at the end of a line
    return Row(line, dict(zip(header, cells, strict=False)))


@dataclass(frozen=True)
class GroupRow:
    """The row of one image in groups.csv."""

    group: str
    part: str
    pixel_size_mm: float | None
    head_circumference_mm: float | None


@dataclass(frozen=True)
class Grouping:
    """Cases in their groups, and defects and warnings about groups.csv."""

    cases: tuple[Case, ...]
    defects: tuple[DefectError, ...] = ()
    warnings: tuple[DataWarning, ...] = ()


def group_cases(cases: Sequence[Case], root: Path, pattern: str | None) -> Grouping:
    """Assign groups from groups.csv, or from a pattern if one is given, and collect missing and repeated rows."""
    path = root / GROUPS
    refuse_misspelt(root, GROUPS)
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
    """Read groups.csv; no rows if there is no such file.

    Returns:
        The row of each name, and the names with several equal rows.
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


def refuse_misspelt(root: Path, name: str) -> None:
    """Refuse Groups.csv and the like, which would be ignored silently."""
    alike = sorted(path.name for path in root.iterdir() if path.name.lower() == name and path.name != name)
    if alike:
        raise DataError(f"Expected the name {name} in {root}, got {alike[0]}.", "Rename the file.")


def _match_rows(cases: Sequence[Case], rows: Mapping[str, GroupRow]) -> dict[str, GroupRow]:
    """Find the row of each case by its name; outer spaces and the Unicode form of accents may differ."""
    alike = {plain_name(stem): row for stem, row in rows.items()}
    found = {case.stem: rows.get(case.stem) or alike.get(plain_name(case.stem)) for case in cases}
    return {stem: row for stem, row in found.items() if row is not None}


def write_groups(path: Path, cases: Sequence[Case]) -> None:
    """Write groups.csv for cases; columns without any value are left out."""
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
    """Parse the pixel size of the image, or compute it from that of a larger original."""
    stem = row["stem"]
    size = read_length(row, "pixel_size_mm", PIXEL_MM, path, stem)
    original = read_length(row, "pixel_size_mm_original", PIXEL_MM, path, stem)
    widths = [read_length(row, name, (1, IMAGE_SIDE), path, stem) for name in ("orig_width", "width")]
    if size is not None or original is None or widths[0] is None or widths[1] is None:
        return size
    # scaled to width / orig_width of its size, an image has pixels that are larger by orig_width / width
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


def find_group(pattern: str, stem: str) -> str:
    """Find the group in an image's name.

    Args:
        pattern: A regular expression whose first group it is.
        stem: The name without ending.
    """
    return _match(_compile(pattern), stem)


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
