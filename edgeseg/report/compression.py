"""The page that says what compression cost and gained: table, figures and pictures in one file."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.compress.plan import ComparedCase, CompressReport, Outcome
from edgeseg.compress.recipe import PARENT
from edgeseg.core.files import write_text
from edgeseg.core.images import encode_png, to_bgr
from edgeseg.core.modelfile import read_model
from edgeseg.data.dataset import read_case
from edgeseg.report.markdown import list_facts, say_verdict, write_markdown
from edgeseg.report.page import render_page
from edgeseg.report.plots import draw_channels, draw_front, draw_history, draw_layers
from edgeseg.report.repeat import write_commands
from edgeseg.report.table import COLUMNS, list_operators, list_rows, list_worst_layers
from edgeseg.runtime.overlay import draw_overlay
from edgeseg.runtime.segmenter import Segmenter
from edgeseg.runtime.stream import StreamReport
from edgeseg.train.history import read_history
from edgeseg.train.run import read_run

PAGE, TEXT = "report.html", "report.md"
SHOWN_WIDTH = 256


@dataclass(frozen=True)
class PictureRow:
    """One case: why it is shown, and its pictures as data addresses."""

    caption: str
    pictures: tuple[tuple[str, str], ...]


def write_compression_report(folder: Path, run: Path, outcome: Outcome, stream: StreamReport | None = None) -> None:
    """Write report.html and report.md.

    Args:
        folder: Where the files of the report lie; these go there too.
        run: The run they were made from.
        outcome: What compress found out.
        stream: How a stream with the chosen file went, where there was one.
    """
    report, record = outcome.report, read_run(run)
    page = render_page(
        title=f"{report.run}: compression",
        report=report,
        record=record,
        verdict=say_verdict(report),
        columns=list(COLUMNS),
        table=list_rows(report),
        operators=list_operators(report),
        worst_layers=list_worst_layers(report),
        layers=draw_layers(report.variants),
        channels=draw_channels(report.variants),
        history=draw_history(read_history(run), read_run(run).best_epoch),
        front=draw_front(report.variants, report.chosen),
        rows=draw_cases(folder, report, outcome.cases),
        stream=stream,
        commands=write_commands(report, record),
        facts=list_facts(report, record),
    )
    write_text(folder / PAGE, page)
    write_text(folder / TEXT, write_markdown(report, record))


def draw_cases(folder: Path, report: CompressReport, cases: Sequence[ComparedCase]) -> list[PictureRow]:
    """Draw telling test cases: truth, float mask and chosen mask side by side."""
    parent = Segmenter(read_model(folder / f"{PARENT}.tflite"))
    chosen = Segmenter(read_model(folder / f"{report.chosen}.tflite"))
    return [_draw_case(caption, case, parent, chosen, report.chosen) for caption, case in pick_cases(cases)]


def pick_cases(cases: Sequence[ComparedCase]) -> list[tuple[str, ComparedCase]]:
    """Pick the cases worth looking at: worst, median, best, and the one that lost most; each once."""
    if not cases:
        return []
    ranked = sorted(cases, key=lambda case: case.chosen_dice)
    lost = max(cases, key=lambda case: case.parent_dice - case.chosen_dice)
    picked = [
        ("Worst case", ranked[0]),
        ("Second worst", ranked[min(1, len(ranked) - 1)]),
        ("Largest loss from float", lost),
        ("Median case", ranked[len(ranked) // 2]),
        ("Best case", ranked[-1]),
    ]
    seen: dict[str, tuple[str, ComparedCase]] = {}
    for caption, case in picked:
        seen.setdefault(case.case.stem, (caption, case))
    return list(seen.values())


def _draw_case(
    caption: str, compared: ComparedCase, parent: Segmenter, chosen: Segmenter, chosen_name: str
) -> PictureRow:
    image, classes = read_case(compared.case, parent.card.input.in_colour), parent.card.output.classes
    masks = {
        "truth": image.labels,
        f"float32, Dice {compared.parent_dice:.3f}": parent.segment(image.frame).labels,
        f"{chosen_name}, Dice {compared.chosen_dice:.3f}": chosen.segment(image.frame).labels,
    }
    pictures = [("image", _to_address(to_bgr(image.frame)))]
    pictures += [(label, _to_address(draw_overlay(image.frame, mask, classes))) for label, mask in masks.items()]
    return PictureRow(caption, tuple(pictures))


def _to_address(image: NDArray[np.uint8]) -> str:
    height = round(image.shape[0] * SHOWN_WIDTH / image.shape[1])
    small = np.asarray(cv2.resize(image, (SHOWN_WIDTH, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return "data:image/png;base64," + base64.b64encode(encode_png(small)).decode("ascii")
