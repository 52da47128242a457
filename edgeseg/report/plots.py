"""Draw figures: as SVG text that stands inside a page, or as PNG."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib.figure import Figure

from edgeseg.compress.variant import Variant
from edgeseg.core.palette import ACCENT, FAINT, INK, SOFT
from edgeseg.train.curve import paint_history
from edgeseg.train.history import EpochResult

_OFFSET: dict[str, Any] = {"textcoords": "offset points"}
_STYLE = {
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 10,
    "svg.fonttype": "none",
    "svg.hashsalt": "edgeseg",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def draw_history(history: Sequence[EpochResult]) -> str:
    """Draw how training loss and validation Dice went."""
    return _draw(partial(paint_history, history=history))


def draw_front(variants: Sequence[Variant], chosen: str) -> str:
    """Draw Dice against latency, each with its spread."""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for row, variant in enumerate(variants):
            colour = ACCENT if variant.name == chosen else SOFT
            dice, times = variant.dice, variant.latency_ms
            axes.plot(times.p50, dice.mean, "o", color=colour)
            axes.vlines(times.p50, *dice.ci95, color=colour)
            axes.hlines(dice.mean, times.p50, times.p90, color=colour)
            axes.annotate(variant.name, (times.p50, dice.mean), (6, 5 - 16 * (row % 2)), color=colour, **_OFFSET)
        axes.set(xlabel="ms per inference (median, bar to the 90th percentile)", ylabel="Dice, 95% interval")
        axes.set_xlim(left=0)
        axes.margins(x=0.2)

    return _draw(paint)


def draw_png(paint: Callable[[Figure], None]) -> bytes:
    """Draw a figure as the bytes of a PNG file."""
    return _save(paint, format="png", dpi=160)


def _draw(paint: Callable[[Figure], None]) -> str:
    metadata: dict[str, Any] = {"Date": None, "Creator": None}
    text = _save(paint, format="svg", transparent=True, metadata=metadata).decode("utf-8")
    return text[text.index("<svg") :]


def _save(paint: Callable[[Figure], None], **how: Any) -> bytes:
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(5.6, 3.4), layout="constrained")
        paint(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, **how)
    return buffer.getvalue()
