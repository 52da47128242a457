"""Overlay pictures of judged cases: the worst, the median and the best, false positives, and all of them on sheets.

The pictures of `write_overlays` number their cases and hold no names, which may identify patients; `overlays.csv` has
them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeseg.core.files import write_rows
from edgeseg.core.progress import Advance, ignore
from edgeseg.core.spec import ClassSpec
from edgeseg.data.dataset import LabelledImage
from edgeseg.data.pictures import TILE, Mark, Picture, draw_marks, list_truth
from edgeseg.data.sheets import (
    PER_PAGE,
    Legend,
    Tile,
    add_caption,
    add_legend,
    can_write,
    count_pages,
    draw_page,
    name_page,
    write_pages,
)
from edgeseg.evaluation.score import ScoredCase
from edgeseg.frame.images import write_image
from edgeseg.inference.segmenter import Segmenter

# Cases per kind; pixels of a picture's side.
SHOWN, SIDE = 6, 640
WORST, MEDIAN, BEST, FALSE = "worst", "median", "best", "false-positive"
INDEX, SHEET, ALL = "overlays.csv", "sheet.png", "all.png"
COLUMNS = ("number", "picture", "page", "stem", "group", "dice", "caption")
TRUTH, PREDICTION = "truth", "prediction"
GetImage = Callable[[int], LabelledImage]


@dataclass(frozen=True)
class NotableCase:
    """A notable case: its kind, its rank from 1 within that, and its index among all cases."""

    kind: str
    rank: int
    number: int
    caption: str

    @property
    def file(self) -> str:
        """The name of the picture's file."""
        return f"{self.kind}-{self.rank}.png"


def pick_notable_cases(scored: Sequence[ScoredCase], shown: int = SHOWN) -> list[NotableCase]:
    """Pick the worst, median and best cases by Dice, no case twice, and empty cases with a false positive."""
    ranked = [number for number in rank_cases(scored) if not scored[number].empty]
    # few cases are split between the kinds, so that none is shown twice
    worst = ranked[: min(shown, -(-len(ranked) // 3))]
    best = ranked[len(worst) :][::-1][: min(shown, (len(ranked) - len(worst) + 1) // 2)]
    between = ranked[len(worst) : len(ranked) - len(best)]
    first = max(0, (len(between) - shown) // 2)
    false = [number for number, case in enumerate(scored) if case.empty and case.false_positives][:shown]
    kinds = ((WORST, worst), (MEDIAN, between[first : first + shown]), (BEST, best), (FALSE, false))
    return [
        NotableCase(kind, rank, number, _caption(kind, rank, scored[number]))
        for kind, numbers in kinds
        for rank, number in enumerate(numbers, start=1)
    ]


def _caption(kind: str, rank: int, case: ScoredCase) -> str:
    return f"false positive {rank}" if kind == FALSE else f"{kind} {rank}   {describe_score(case)}"


def rank_cases(scored: Sequence[ScoredCase]) -> list[int]:
    """Rank all cases, the worst first: false positives, then by Dice, then empty cases that stay empty."""
    return sorted(range(len(scored)), key=lambda number: (_rate(scored[number]), number))


def _rate(case: ScoredCase) -> tuple[int, float]:
    if case.empty:
        return (0, 0.0) if case.false_positives else (2, 0.0)
    return 1, case.mean("dice")


def describe_score(case: ScoredCase) -> str:
    """Say under a picture how good its mask is."""
    if case.empty:
        return "false positive" if case.false_positives else "empty, nothing marked"
    return f"Dice {case.mean('dice'):.3f}"


def write_overlays(
    folder: Path,
    segmenter: Segmenter,
    scored: Sequence[ScoredCase],
    get_image: GetImage,
    on_case: Advance = ignore,
) -> None:
    """Write a picture of every notable case, contact sheets of these and of all cases, and a table of their names.

    Args:
        folder: Where to write.
        segmenter: The model.
        scored: The scores of all cases.
        get_image: Returns the image of a case by its index.
        on_case: Called with the name of each case on the sheets of all.
    """
    classes = segmenter.card.output.classes
    ranked = rank_cases(scored)
    numbers = {number: place for place, number in enumerate(ranked, start=1)}
    notable = pick_notable_cases(scored)
    tiles = []
    for one in notable:
        image = get_image(one.number)
        marks = mark_case(segmenter, image)
        caption = f"{one.caption}   case {numbers[one.number]}"
        picture = add_caption(draw_marks(image.frame, marks, SIDE), caption)
        write_image(folder / one.file, add_legend(picture, _explain(classes), list_shown(marks, classes)))
        tiles.append(make_tile(image, marks, classes, caption))
    write_image(folder / SHEET, _draw_rows(notable, tiles, classes))
    _write_all(folder, segmenter, scored, get_image, on_case)
    files = {one.number: one for one in notable}
    rows = [_make_row(place, scored[number], files.get(number)) for place, number in enumerate(ranked, start=1)]
    write_rows(folder / INDEX, COLUMNS, rows)


def count_drawn(scored: Sequence[ScoredCase]) -> int:
    """Count the cases on the sheets of all."""
    return min(len(scored), count_pages(len(scored)) * PER_PAGE)


def describe_overlays(folder: Path, cases: int) -> str:
    """Say in a sentence what `write_overlays` has written for so many cases."""
    pages = count_pages(cases)
    files = ALL if pages <= 1 else f"{ALL} to {name_page(Path(ALL), pages).name}"
    shown = pages * PER_PAGE
    which = "all cases (the worst first)" if cases <= shown else f"the worst {shown:,} of {cases:,} cases"
    return (
        f"Pictures in {folder}: the worst, median and best cases and false positives in {SHEET}, {which} in {files}, "
        f"their names in {INDEX}."
    )


def _write_all(
    folder: Path, segmenter: Segmenter, scored: Sequence[ScoredCase], get_image: GetImage, on_case: Advance
) -> None:
    """Write the pages of all cases, the worst first; of more than the most pages hold, the worst."""
    classes, ranked = segmenter.card.output.classes, rank_cases(scored)
    pages = count_pages(len(ranked))
    shown = ranked[: count_drawn(scored)]
    part = "" if len(shown) == len(ranked) else f"the worst {len(shown):,} of "

    def draw(place: int, number: int) -> Tile:
        image = get_image(number)
        on_case(image.case.stem)
        caption = f"{place}   {describe_score(scored[number])}"
        return make_tile(image, mark_case(segmenter, image), classes, caption)

    write_pages(
        [folder / name_page(Path(ALL), number).name for number in range(1, pages + 1)],
        (draw(place, number) for place, number in enumerate(shown, start=1)),
        lambda page: _explain(classes, f"{part}{len(ranked):,} cases, the worst first: page {page + 1} of {pages}"),
    )


def _make_row(place: int, case: ScoredCase, one: NotableCase | None) -> tuple[object, ...]:
    page = (place - 1) // PER_PAGE + 1
    sheet = name_page(Path(ALL), page).name if page <= count_pages(place) else ""
    dice = "" if case.empty else f"{case.mean('dice'):.4f}"
    caption = describe_score(case) if one is None else one.caption
    return place, "" if one is None else one.file, sheet, case.stem, case.group, dice, caption


def draw_sheet(segmenter: Segmenter, notable: Sequence[NotableCase], get_image: GetImage) -> Picture:
    """Draw the contact sheet of notable cases with their names: a row for each kind, under a legend."""
    classes = segmenter.card.output.classes
    tiles = []
    for one in notable:
        image = get_image(one.number)
        stem = image.case.stem
        lines = (one.caption, stem if can_write(stem) else f"case {one.number + 1} of the test cases")
        tiles.append(make_tile(image, mark_case(segmenter, image), classes, *lines))
    return _draw_rows(notable, tiles, classes)


def _draw_rows(notable: Sequence[NotableCase], tiles: Sequence[Tile], classes: Sequence[ClassSpec]) -> Picture:
    blank = Tile(np.zeros((TILE, TILE, 3), np.uint8), ())
    columns = max((one.rank for one in notable), default=1)
    grid = []
    for kind in dict.fromkeys(one.kind for one in notable):
        line = [tile for one, tile in zip(notable, tiles, strict=True) if one.kind == kind]
        # rows of equal length for the grid
        grid += [*line, *[blank] * (columns - len(line))]
    return draw_page(grid or [blank], _explain(classes), columns)


def _explain(classes: Sequence[ClassSpec], title: str = "") -> Legend:
    return Legend(title, tuple(classes), TRUTH, PREDICTION)


def make_tile(image: LabelledImage, marks: Sequence[Mark], classes: Sequence[ClassSpec], *lines: str) -> Tile:
    """Draw a case with its marks into a tile of a sheet."""
    return Tile(draw_marks(image.frame, marks, TILE, square=True), lines, list_shown(marks, classes))


def mark_case(segmenter: Segmenter, image: LabelledImage) -> list[Mark]:
    """Segment a case, and list its predicted and its true masks."""
    labels = segmenter.for_case(image.case.stem).segment(image.frame).labels
    classes = segmenter.card.output.classes
    predicted = [
        Mark(np.asarray(labels == number, dtype=np.uint8), spec.colour, predicted=True)
        for number, spec in enumerate(classes, start=1)
    ]
    return [*predicted, *list_truth(image, classes)]


def list_shown(marks: Sequence[Mark], classes: Sequence[ClassSpec]) -> tuple[int, ...]:
    """List the indices of the classes that marks show; each class has one mark of either kind."""
    return tuple(sorted({place % len(classes) for place, mark in enumerate(marks) if mark.mask.any()}))
