"""The folder of an explanation: a picture of every frame, contact sheets, figures, and the maps where they are wanted.

OUT/NAME.png          heat map, margin and levels of a frame, with legend and verdict
OUT/NAME.maps.npy     the maps (classes, rows, columns) over the segmented region, with --maps
OUT/sheet.png         all frames, on as many pages as they need
OUT/explanation.json  the figures; of a file's name only the stem, since folders may be named after patients
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.card import Card
from edgeseg.core.files import open_whole, write_json
from edgeseg.core.redact import show_name
from edgeseg.core.schema import to_plain
from edgeseg.data.sheets import MOST_PAGES, PER_PAGE, Legend, Tile, can_write, draw_page, name_page, write_page
from edgeseg.explanation.explain import Explanation, Reason
from edgeseg.explanation.faithfulness import Areas, Faithfulness
from edgeseg.explanation.heatmap import draw_explanation, draw_tile
from edgeseg.explanation.margin import Margin
from edgeseg.explanation.options import ExplainOptions
from edgeseg.frame.images import write_image

RECORD, SHEET = "explanation.json", "sheet.png"
SCHEMA = 1
# File systems allow 255 bytes for a name; the rest is for endings.
_NAME_BYTES = 200
# Names of our own files, which no frame's picture may take.
_OWN = re.compile(r"(sheet|explanation)(-\d+)?")


@dataclass
class ExplanationWriter:
    """Writes one explanation after the other into a folder; only a page of the sheet is kept in memory."""

    folder: Path
    card: Card
    options: ExplainOptions
    entries: list[dict[str, Any]] = field(default_factory=list)
    """The figures of every frame."""
    _names: dict[str, int] = field(default_factory=dict)
    _tiles: list[Tile] = field(default_factory=list)
    _pages: int = 0

    def add(self, stem: str, number: int | None, frame: NDArray[Any], explanation: Explanation) -> dict[str, Any]:
        """Write a frame.

        Args:
            stem: The name of its file, without folders and ending.
            number: Of the frame in its clip; None for an image.
            frame: The frame.
            explanation: What speaks for its masks.

        Returns:
            Its figures.
        """
        name = self._choose_name(stem if number is None else f"{stem}-{number:06d}")
        write_image(self.folder / f"{name}.png", draw_explanation(explanation, frame))
        entry = {"name": show_name(stem), "frame": number, "picture": f"{name}.png"} | describe(explanation)
        if self.options.maps:
            entry["maps"] = f"{name}.maps.npy"
            with open_whole(self.folder / entry["maps"]) as file:
                np.save(file, np.stack([reason.map for reason in explanation.reasons]), allow_pickle=False)
        self.entries.append(entry)
        label = f"{len(self.entries)}  {name}" if can_write(name) else str(len(self.entries))
        self._tiles.append(draw_tile(explanation, frame, label))
        if len(self._tiles) == PER_PAGE:
            self._write_page()
        return entry

    def finish(self, failed: Iterable[str] = ()) -> dict[str, Any]:
        """Write the last page and the figures of all frames.

        Args:
            failed: Stems of the files that could not be explained.

        Returns:
            The content of explanation.json.
        """
        self._write_page()
        record = {
            "schema": SCHEMA,
            "model": self.card.name,
            "method": self.options.method,
            "of": self.options.of,
            "frames": self.entries,
            "failed": [show_name(stem) for stem in failed],
        }
        write_json(self.folder / RECORD, record)
        return record

    def _choose_name(self, name: str) -> str:
        """Choose a file's name: files of the same name in several folders are numbered."""
        short = name.encode("utf-8", "replace")[:_NAME_BYTES].decode("utf-8", "ignore")
        short = short.replace("/", "_").lstrip(".") or "frame"
        if _OWN.fullmatch(short.casefold()):
            short = f"frame-{short}"
        # file systems of macOS and Windows would merge names that differ in case alone
        key, tried = short.casefold(), short
        while tried.casefold() in self._names:
            self._names[key] += 1
            tried = f"{short}-{self._names[key]}"
        self._names[tried.casefold()] = 1
        return tried

    def _write_page(self) -> None:
        if self._tiles and self._pages < MOST_PAGES:
            self._pages += 1
            legend = Legend("orange speaks for the mask (white line), blue against it")
            page = draw_page(self._tiles, legend)
            write_page(self.folder / name_page(Path(SHEET), self._pages).name, page, SHEET)
        self._tiles.clear()


def describe(explanation: Explanation) -> dict[str, Any]:
    """Collect the figures of one frame."""
    return {
        "region": to_plain(explanation.region),
        "inferences": explanation.inferences,
        "seconds": round(explanation.seconds, 3),
        "classes": [_describe_reason(reason) for reason in explanation.reasons],
    }


def _describe_reason(reason: Reason) -> dict[str, Any]:
    return {
        "class": reason.name,
        "marked": reason.target.found,
        "score": reason.score,
        "method": reason.method,
        "sentence": reason.sentence,
        "faithfulness": _describe_faithfulness(reason.faithfulness),
        "margin": None if reason.margin is None else _describe_margin(reason.margin),
        "levels": to_plain(reason.levels),
    }


def _describe_faithfulness(found: Faithfulness) -> dict[str, Any]:
    areas = {"map": found.areas, "random": found.random, "edges": found.edges, "mask": found.mask}
    return {name: _describe_areas(one) for name, one in areas.items()} | {
        "better_than_random": found.better_than_random,
        "better_than_edges": found.better_than_edges,
        "better_than_mask": found.better_than_mask,
    }


def _describe_areas(areas: Areas) -> dict[str, float]:
    return {"deletion": areas.deletion, "insertion": areas.insertion, "gap": round(areas.gap, 5)}


def _describe_margin(margin: Margin) -> dict[str, Any]:
    return {"step": margin.step, "area_px": margin.area_px, "bands": to_plain(margin.bands)}
