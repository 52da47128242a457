"""Tables that people write beside their images: CSV as spreadsheets save it, in any country."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeseg.core.errors import DataError
from edgeseg.core.images import read_bytes
from edgeseg.core.limits import TABLE_BYTES
from edgeseg.data.case import describe_range, is_within

SEPARATORS = (",", ";", "\t")
"""A comma; a semicolon where the comma is the decimal point; a tab in Excel's "Unicode text"."""
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_EXCEL_HINT = "sep="
"""Excel may write the separator into a line of its own, above the header."""


@dataclass(frozen=True)
class Row:
    """One line of a table: its number, counted from 1, and its cells by column; a missing cell is empty."""

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
    text = _decode(read_bytes(path, TABLE_BYTES), path)
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
    """Read a length in millimetres; None where the cell is empty.

    Args:
        row: The line.
        column: Where it stands.
        limits: The smallest and the largest that can be true.
        path: The table, for the message.
        name: What the line is about, for the message.
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


def _decode(data: bytes, path: Path) -> str:
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
    """Find the separator that gives the header its columns."""
    for separator in SEPARATORS:
        header = [name.strip() for _, cells in _split(line, separator, path) for name in cells]
        if set(needed) <= set(header):
            repeated = sorted({name for name in header if name and header.count(name) > 1})
            if repeated:
                raise DataError(f"Expected each column once in {path}, got {repeated[0]} twice.", "Remove one of them.")
            return header, separator
    raise DataError(
        f"Expected the columns {', '.join(needed[:-1])} and {needed[-1]} in {path}, "
        f"got {line.strip()[:200] or 'an empty table'}.",
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
    return Row(line, dict(zip(header, cells, strict=False)))
