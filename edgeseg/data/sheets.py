"""Contact sheets: captioned tiles on numbered pages under a legend, and a table of the names beside them.

Pages carry a mark of their own, so that those of an earlier, longer sheet are removed and no other file is.
"""

from __future__ import annotations

import itertools
import math
import os
import re
import struct
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import OutputError
from edgeseg.core.files import write_bytes
from edgeseg.core.spec import ClassSpec
from edgeseg.data.pictures import FILL, Picture, lay_tiles
from edgeseg.frame.images import encode_png
from edgeseg.frame.outlines import draw_prediction, draw_truth, fill_mask

# Tiles of a page. More pages than these nobody looks through; they would also take an hour to draw.
COLUMNS, ROWS, MOST_PAGES = 7, 6, 100
PER_PAGE = COLUMNS * ROWS
_INK, _SOFT = (235, 235, 235), (165, 165, 165)
_FONT, _SCALE, _LINE = cv2.FONT_HERSHEY_SIMPLEX, 0.4, 16
# Height of a line of the legend, and the most lines that names of classes take.
_ROW, _MOST_ROWS = 24, 4
_NARROWEST, _FEW_CLASSES = 420, 12
_SAMPLE = 28
_ELLIPSIS = ".."
# Behind the signature and the header of a PNG, which have 8 and 25 bytes.
_BEHIND_HEADER = 33


@dataclass(frozen=True)
class Tile:
    """A picture of a sheet, the lines of text under it, and the indices of the classes that it shows."""

    picture: Picture
    lines: tuple[str, ...]
    classes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Legend:
    """What a sheet explains above its tiles."""

    title: str
    classes: tuple[ClassSpec, ...] = ()
    truth: str = ""
    """What dashed lines are; empty where there are none."""
    prediction: str = ""
    """What solid lines are; empty where there are none."""


def draw_page(tiles: Sequence[Tile], legend: Legend, columns: int = COLUMNS) -> Picture:
    """Draw one page: its legend, and the tiles with their captions."""
    most = max(len(tile.lines) for tile in tiles)
    captioned = [add_caption(tile.picture, *tile.lines, *([""] * (most - len(tile.lines)))) for tile in tiles]
    page = lay_tiles(captioned, min(columns, len(tiles)))
    return add_legend(page, legend, {number for tile in tiles for number in tile.classes})


def add_caption(picture: Picture, *lines: str) -> Picture:
    """Add lines of text under a picture, shortened in the middle to its width."""
    strip = np.zeros((_LINE * len(lines) + 2, picture.shape[1], 3), np.uint8)
    for number, line in enumerate(lines, start=1):
        write_line(strip, fit_text(line, strip.shape[1] - 4), (2, number * _LINE - 4), _SOFT if number > 1 else _INK)
    return np.concatenate([picture, strip])


def number_case(number: int, stem: str) -> str:
    """Name a case in a picture: by its number and, where OpenCV has the letters, its name."""
    return f"{number}  {stem}" if can_write(stem) else str(number)


def fit_text(text: str, width: int) -> str:
    """Shorten a text in the middle until it fits into a width in pixels."""
    if _measure(text) <= width:
        return text
    for letters in range(len(text) - 1, 1, -1):
        short = text[: (letters + 1) // 2] + _ELLIPSIS + text[len(text) - letters // 2 :]
        if _measure(short) <= width:
            return short
    return ""


def add_legend(picture: Picture, legend: Legend, shown: Collection[int] = ()) -> Picture:
    """Add a legend above a picture: the title, samples of both kinds of lines, and the colours of the classes.

    Args:
        picture: A BGR picture.
        legend: What to explain.
        shown: The indices of the classes in the picture; of many classes only these are explained.
    """
    width = max(picture.shape[1], _NARROWEST)
    lines = ((legend.truth, True), (legend.prediction, False))
    head = [_draw_text(legend.title)] if legend.title else []
    head += [_draw_sample(text, is_truth) for text, is_truth in lines if text]
    named = list(enumerate(legend.classes))
    if len(named) > _FEW_CLASSES:
        named = [(number, spec) for number, spec in named if number in shown]
    entries = [_draw_class(number, spec) for number, spec in named]
    if len(entries) <= _FEW_CLASSES:
        rows = _wrap([*head, *entries], width)
    else:
        rows = _wrap(head, width) + _limit_rows(_wrap(entries, width), width)
    strip = np.concatenate([_join(row, width) for row in rows]) if rows else np.zeros((0, width, 3), np.uint8)
    padded = np.pad(picture, ((0, 0), (0, width - picture.shape[1]), (0, 0)))
    return np.concatenate([strip, padded])


def _wrap(entries: Sequence[Picture], width: int) -> list[list[Picture]]:
    """Divide entries into rows."""
    rows: list[list[Picture]] = []
    left = 0
    for entry in entries:
        if not rows or left + entry.shape[1] > width:
            rows.append([])
            left = 0
        rows[-1].append(entry)
        left += entry.shape[1]
    return rows


def _limit_rows(rows: list[list[Picture]], width: int) -> list[list[Picture]]:
    """Replace the last entries by their number where there are too many of them."""
    if len(rows) <= _MOST_ROWS:
        return rows
    left_out = sum(len(row) for row in rows[_MOST_ROWS:])
    last = rows[_MOST_ROWS - 1]
    note = _draw_text(f"and {left_out + 2} more")
    while last and sum(entry.shape[1] for entry in last) + note.shape[1] > width:
        last, left_out = last[:-1], left_out + 1
    return [*rows[: _MOST_ROWS - 1], [*last, _draw_text(f"and {left_out} more")]]


def _join(row: Sequence[Picture], width: int) -> Picture:
    joined = np.concatenate(row, axis=1)[:, :width]
    return np.pad(joined, ((0, 0), (0, width - joined.shape[1]), (0, 0)))


def _draw_text(text: str, left: int = 4) -> Picture:
    text = text if can_write(text) else _replace_letters(text)
    entry = np.zeros((_ROW, left + _measure(text) + 18, 3), np.uint8)
    write_line(entry, text, (left, _ROW - 8), _INK)
    return entry


def _draw_sample(text: str, is_truth: bool) -> Picture:
    entry = _draw_text(text, _SAMPLE + 8)
    box = np.array([(4, 5), (_SAMPLE, 5), (_SAMPLE, _ROW - 6), (4, _ROW - 6)])
    if is_truth:
        draw_truth(entry, [box], _SOFT, 1)
    else:
        fill_mask(entry, _fill_box(entry, box), _SOFT, FILL)
        draw_prediction(entry, [box], _SOFT, 1)
    return entry


def _draw_class(number: int, spec: ClassSpec) -> Picture:
    entry = _draw_text(spec.name if can_write(spec.name) else f"class {number + 1}", _SAMPLE)
    cv2.rectangle(entry, (6, 6), (_SAMPLE - 8, _ROW - 7), spec.colour[::-1], cv2.FILLED)
    return entry


def _fill_box(entry: Picture, box: NDArray[Any]) -> Picture:
    mask = np.zeros(entry.shape[:2], np.uint8)
    cv2.fillPoly(mask, [box.astype(np.int32)], 1)
    return mask


def write_line(picture: Picture, text: str, place: tuple[int, int], colour: tuple[int, ...] = _INK) -> None:
    """Write a line of text into a BGR picture, its lower left corner at a place (x, y)."""
    cv2.putText(picture, text, place, _FONT, _SCALE, colour, 1, cv2.LINE_AA)


def _measure(text: str) -> int:
    return int(cv2.getTextSize(text, _FONT, _SCALE, 1)[0][0])


def can_write(text: str) -> bool:
    """Say whether OpenCV's fonts have all letters of a text."""
    return text.isascii() and text.isprintable()


def _replace_letters(text: str) -> str:
    return "".join(letter if can_write(letter) else "?" for letter in text)


def write_pages(
    places: Sequence[Path],
    tiles: Iterable[Tile],
    explain: Callable[[int], Legend],
    columns: int = COLUMNS,
    first: str = "",
) -> None:
    """Draw and write page after page, so that only one is in memory.

    Args:
        places: Where each page goes.
        tiles: The tiles, drawn when they are needed; as many as the pages hold.
        explain: Makes the legend of a page from its index.
        columns: Tiles in a row.
        first: The name of the sheet's first page, where that is not among them.
    """
    left: Iterator[Tile] = iter(tiles)
    for number, place in enumerate(places):
        page = list(itertools.islice(left, columns * ROWS))
        write_page(place, draw_page(page, explain(number), columns), first or places[0].name)


def write_page(path: Path, picture: Picture, first: str) -> None:
    """Write a picture as PNG with a mark that says which sheet it is a page of, by the name of the first page."""
    data = encode_png(picture)
    chunk = b"tEXt" + _make_mark(first)
    whole = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    write_bytes(path, data[:_BEHIND_HEADER] + whole + data[_BEHIND_HEADER:])


def _make_mark(first: str) -> bytes:
    # text of a PNG is Latin-1, and names are not
    return b"Software\0edgeseg contact sheet %08x" % zlib.crc32(first.encode("utf-8", "surrogateescape"))


def is_page(path: Path, first: str) -> bool:
    """Say whether a file is a page that edgeseg wrote of the sheet whose first page has a name."""
    mark = b"tEXt" + _make_mark(first)
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(_BEHIND_HEADER + 4 + len(mark)).endswith(mark)


def name_page(path: Path, number: int) -> Path:
    """Name the page of a number: F.png, F-2.png, F-3.png."""
    return path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")


def count_pages(tiles: int, per_page: int = PER_PAGE) -> int:
    """Count the pages of so many tiles."""
    return min(MOST_PAGES, math.ceil(tiles / per_page))


def refuse_taken_pages(path: Path, pages: Sequence[Path]) -> None:
    """Refuse to write pages whose names nobody has given where other files than pages of the same sheet stand."""
    for place in pages:
        if os.path.lexists(place) and not is_page(place, path.name):
            raise OutputError(
                f"Expected a free name for a page of the contact sheet, got another file, {place}.",
                "Give the sheet another name, or move that file away.",
            )


def remove_later_pages(path: Path, pages: int) -> None:
    """Remove the pages of an earlier, longer sheet of the same name."""
    pattern = re.compile(re.escape(path.stem) + r"-([1-9]\d{0,5})" + re.escape(path.suffix))
    later = [other for other in path.parent.iterdir() if (m := pattern.fullmatch(other.name)) and int(m[1]) > pages]
    for other in later if pages else [path, *later]:
        if is_page(other, path.name):
            other.unlink()
