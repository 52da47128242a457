"""Overlay pictures of notable cases: the worst, the best and the false positives.

The pictures hold no case names, which may identify patients; `overlays.csv` has them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edgeseg.core.files import write_rows
from edgeseg.data.dataset import LabelledImage
from edgeseg.data.pictures import Mark, Picture, draw_marks, lay_tiles, list_truth, pad_square
from edgeseg.evaluation.score import ScoredCase
from edgeseg.frame.images import write_image
from edgeseg.inference.segmenter import Segmenter

# RGB, blue and orange: also distinct for people with red-green colour blindness.
TRUTH, PREDICTION = (0, 200, 255), (255, 150, 0)
# Cases per kind; pixels of a picture's and of a tile's side.
SHOWN, SIDE, TILE = 6, 640, 288
WORST, BEST, FALSE = "worst", "best", "false-positive"
INDEX, SHEET = "overlays.csv", "sheet.png"
_STRIP, _SCALE = 24, 0.45
_INK = (235, 235, 235)
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
    """Pick the worst and best cases by Dice, no case twice, and empty cases with a false positive."""
    filled = [number for number, case in enumerate(scored) if not case.empty]
    ranked = sorted(filled, key=lambda number: scored[number].mean("dice"))
    # few cases are split between both kinds, so that none is shown twice
    worst = ranked[: min(shown, (len(ranked) + 1) // 2)]
    best = ranked[len(worst) :][::-1][:shown]
    false = [number for number, case in enumerate(scored) if case.empty and case.false_positives][:shown]
    return [
        NotableCase(kind, rank, number, _caption(kind, rank, scored[number]))
        for kind, numbers in ((WORST, worst), (BEST, best), (FALSE, false))
        for rank, number in enumerate(numbers, start=1)
    ]


def _caption(kind: str, rank: int, case: ScoredCase) -> str:
    return f"false positive {rank}" if kind == FALSE else f"{kind} {rank}   Dice {case.mean('dice'):.3f}"


def write_overlays(folder: Path, segmenter: Segmenter, scored: Sequence[ScoredCase], get_image: GetImage) -> None:
    """Write a picture of every notable case, a contact sheet and a table of their names.

    Args:
        folder: Where to write.
        segmenter: The model.
        scored: The scores of all cases.
        get_image: Returns the image of a case by its index.
    """
    notable = pick_notable_cases(scored)
    for one in notable:
        picture = draw_comparison(segmenter, get_image(one.number), SIDE)
        write_image(folder / one.file, add_legend(add_caption(picture, one.caption)))
    write_image(folder / SHEET, draw_sheet(segmenter, notable, get_image))
    rows = [(one.file, scored[one.number].stem, scored[one.number].group, one.caption) for one in notable]
    write_rows(folder / INDEX, ("picture", "stem", "group", "caption"), rows)


def draw_sheet(segmenter: Segmenter, notable: Sequence[NotableCase], get_image: GetImage) -> Picture:
    """Draw the contact sheet: a row for each kind, under a legend."""
    blank = np.zeros((TILE + _STRIP, TILE, 3), np.uint8)
    columns = max((one.rank for one in notable), default=1)
    tiles = []
    for kind in dict.fromkeys(one.kind for one in notable):
        line = [one for one in notable if one.kind == kind]
        pictures = [pad_square(draw_comparison(segmenter, get_image(one.number), TILE), TILE) for one in line]
        tiles += [add_caption(picture, one.caption) for picture, one in zip(pictures, line, strict=True)]
        # rows of equal length for the grid
        tiles += [blank] * (columns - len(line))
    return add_legend(lay_tiles(tiles or [blank], columns))


def draw_comparison(segmenter: Segmenter, image: LabelledImage, side: int) -> Picture:
    """Draw a case with its true and its predicted masks."""
    labels = segmenter.for_case(image.case.stem).segment(image.frame).labels
    classes = segmenter.card.output.classes
    predicted = [
        Mark(np.asarray(labels == number, dtype=np.uint8), spec.colour, predicted=True)
        for number, spec in enumerate(classes, start=1)
    ]
    return draw_marks(image.frame, [*predicted, *list_truth(image, classes)], side)


def add_caption(picture: Picture, text: str) -> Picture:
    """Add a line of text above a picture."""
    strip = _make_strip(picture)
    _write(strip, text, 6, _INK)
    return np.concatenate([strip, picture])


def add_legend(picture: Picture) -> Picture:
    """Add a legend of the two outlines above a picture."""
    strip = _make_strip(picture)
    _write(strip, "truth", 6, TRUTH[::-1])
    _write(strip, "prediction", 64, PREDICTION[::-1])
    return np.concatenate([strip, picture])


def _make_strip(picture: Picture) -> Picture:
    return np.zeros((_STRIP, picture.shape[1], 3), np.uint8)


def _write(strip: Picture, text: str, left: int, colour: tuple[int, ...]) -> None:
    cv2.putText(strip, text, (left, _STRIP - 8), cv2.FONT_HERSHEY_SIMPLEX, _SCALE, colour, 1, cv2.LINE_AA)
