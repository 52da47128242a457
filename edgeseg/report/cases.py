"""Worst, median and best cases of a report, with truth and prediction drawn over the image, and a legend."""

from __future__ import annotations

import base64
import dataclasses
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
from numpy.typing import NDArray

from edgeseg.core.errors import EdgesegError
from edgeseg.core.redact import show_name, to_one_line
from edgeseg.core.spec import ClassSpec
from edgeseg.data.dataset import LabelledImage
from edgeseg.data.pictures import draw_marks
from edgeseg.evaluation.overlays import list_shown, mark_case
from edgeseg.explanation.explain import explain_frame
from edgeseg.explanation.heatmap import draw_heat
from edgeseg.explanation.options import ExplainOptions
from edgeseg.inference.segmenter import Segmenter

# Longer side of a picture in pixels: sharp at the width of half a phone.
SIDE, QUALITY = 480, 86
# Classes that a legend and a case's figures name.
SHOWN_CLASSES, NAMED_CLASSES = 12, 3
WORST, MEDIAN, BEST, LOST, ALARMS = "Worst", "Median", "Best", "Largest loss", "Found where nothing is"
ONLY = "The only case"
# Kinds of cases that are explained, what the picture is called, and milliseconds of an inference from which on they are
# not: an explanation takes about 900 of them.
EXPLAINED, WHY, SLOWEST_MS = (WORST, ONLY), "what speaks for the mask", 5.0
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shot:
    """One picture as a data URL, and what it shows."""

    label: str
    url: str


@dataclass(frozen=True)
class CaseCard:
    """One case: its name, its figures and its pictures."""

    name: str
    figures: str
    shots: tuple[Shot, ...]
    why: str = ""
    """What the explanation among the pictures is worth; empty without one."""


@dataclass(frozen=True)
class CaseRow:
    """The cases of one kind."""

    kind: str
    cards: tuple[CaseCard, ...]


@dataclass(frozen=True)
class LegendEntry:
    """A class, and its colour for CSS."""

    name: str
    colour: str


@dataclass(frozen=True)
class Gallery:
    """What a page shows of single cases."""

    rows: tuple[CaseRow, ...] = ()
    legend: tuple[LegendEntry, ...] = ()
    more_classes: int = 0
    """Classes in the pictures that the legend has no room for."""
    absence: str = ""
    """Why there are no pictures; empty where there are."""


@dataclass(frozen=True)
class Drawer:
    """A model whose masks are drawn, and what its pictures are called."""

    label: str
    segmenter: Segmenter


def pick_kinds(
    dice: Mapping[str, float], lost: Mapping[str, float] | None = None, each: int = 2
) -> list[tuple[str, tuple[str, ...]]]:
    """Pick the names of the worst, median and best cases, no case twice.

    Args:
        dice: Of every case that shows something, by name.
        lost: What a compressed file loses of it; the largest loss is picked, too.
        each: How many of a kind.
    """
    ranked = sorted(dice, key=lambda name: (dice[name], name))
    if len(ranked) == 1:
        return [(ONLY, (ranked[0],))]
    middle = sorted(range(len(ranked)), key=lambda place: (abs(place - (len(ranked) - 1) / 2), place))
    wanted = {
        WORST: ranked[:each],
        BEST: ranked[::-1][:each],
        LOST: sorted(lost or (), key=lambda name: (-(lost or {})[name], name))[:1],
        MEDIAN: [ranked[place] for place in middle],
    }
    seen: set[str] = set()
    picked = {}
    for kind, names in wanted.items():
        picked[kind] = tuple([name for name in names if name not in seen][:each])
        seen.update(picked[kind])
    return [(kind, picked[kind]) for kind in (WORST, LOST, MEDIAN, BEST) if picked[kind]]


def draw_gallery(
    kinds: Sequence[tuple[str, Sequence[str]]],
    get_image: Callable[[str], LabelledImage],
    drawers: Sequence[Drawer],
    describe: Callable[[str], str],
    colours: Mapping[str, str],
) -> Gallery:
    """Draw the picked cases: the image, for each model truth and prediction over it; for the worst what speaks for it.

    Args:
        kinds: Names of cases by kind.
        get_image: Reads a case.
        drawers: The models.
        describe: Gives the figures of a case.
        colours: Of the classes, for the legend.
    """
    shown: dict[str, None] = {}
    rows = []
    for kind, names in kinds:
        cards = []
        for name in names:
            image = get_image(name)
            card, classes = _draw_card(name, image, drawers, describe(name))
            cards.append(_add_why(card, image, drawers[-1].segmenter) if kind in EXPLAINED else card)
            shown.update(dict.fromkeys(classes))
        rows.append(CaseRow(kind, tuple(cards)))
    named = [name for name in colours if name in shown]
    legend = tuple(LegendEntry(show_name(name), colours[name]) for name in named[:SHOWN_CLASSES])
    return Gallery(tuple(rows), legend, len(named) - len(legend))


def _draw_card(name: str, image: LabelledImage, drawers: Sequence[Drawer], figures: str) -> tuple[CaseCard, list[str]]:
    shots, seen = [Shot("image", to_data_url(draw_marks(image.frame, (), SIDE)))], []
    for drawer in drawers:
        marks, classes = mark_case(drawer.segmenter, image), drawer.segmenter.card.output.classes
        shots.append(Shot(drawer.label, to_data_url(draw_marks(image.frame, marks, SIDE))))
        seen += [classes[number].name for number in list_shown(marks, classes)]
    return CaseCard(name_case(name), figures, tuple(shots)), seen


def _add_why(card: CaseCard, image: LabelledImage, segmenter: Segmenter) -> CaseCard:
    """Add what speaks for the last model's mask, where that takes a second and not a minute."""
    judge = segmenter.for_case(image.case.stem)
    # the fastest of three, since a busy machine is no slow network
    if min(judge.segment(image.frame).times.invoke for _ in range(3)) > SLOWEST_MS:
        return card
    try:
        explanation = explain_frame(judge, image.frame, ExplainOptions())
    except EdgesegError as error:
        _LOG.debug("no explanation of a case in the report: %s", to_one_line(error))
        return card
    reason = explanation.reasons[0]
    shot = Shot(WHY, to_data_url(draw_heat(explanation, reason, image.frame, SIDE)))
    areas = reason.faithfulness.areas
    words = f"{reason.sentence} Deletion {areas.deletion:.2f}, insertion {areas.insertion:.2f}."
    return dataclasses.replace(card, shots=(*card.shots, shot), why=words)


def name_case(stem: str) -> str:
    """Name a case by its file alone: folders above it may be names of patients."""
    return show_name(stem.rsplit("/", 1)[-1])


def list_colours(classes: Iterable[ClassSpec]) -> dict[str, str]:
    """List the colours of classes for CSS."""
    return {spec.name: f"rgb({', '.join(map(str, spec.colour))})" for spec in classes}


def to_data_url(picture: NDArray[Any]) -> str:
    """Encode a BGR picture as a JPEG that a page holds."""
    # thin coloured lines need their colour at full resolution
    sampling = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY, *sampling])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")
