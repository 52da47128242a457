"""Draw figures: as SVG text that stands inside a page, or as PNG."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from edgeseg.compress.variant import Variant
from edgeseg.core.front import keep_unbeaten
from edgeseg.core.palette import ACCENT, FAINT, INK, SOFT
from edgeseg.train.curve import paint_history
from edgeseg.train.history import EpochResult

PALETTE = (SOFT, ACCENT, "#64748b", "#7c3aed", "#ca8a04")
PLAIN, WIDE = (5.6, 3.4), (11.6, 3.8)
FAR_APART = 8.0
"""Times that differ by more than this factor are drawn on a logarithmic axis."""
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


def draw_history(history: Sequence[EpochResult], best_epoch: int) -> str:
    """Draw how training loss and validation Dice went."""
    best = next((row for row in history if row.epoch == best_epoch), history[-1])
    return _draw(partial(paint_history, history=history, best=best))


def draw_front(variants: Sequence[Variant], chosen: str) -> str:
    """Draw Dice against latency, each with its spread; what no file beats in both is joined by a line."""
    front = find_front(variants)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for row, variant in enumerate(variants):
            colour = ACCENT if variant.name == chosen else SOFT
            dice, times = variant.dice, variant.latency_ms
            fill = colour if variant in front else "none"
            axes.plot(times.p50, dice.mean, "o", color=colour, markerfacecolor=fill)
            axes.vlines(times.p50, *(dice.ci95 or (dice.mean, dice.mean)), color=colour)
            axes.hlines(dice.mean, times.p50, times.p90, color=colour)
            axes.annotate(variant.name, (times.p50, dice.mean), (6, 5 - 16 * (row % 2)), color=colour, **_OFFSET)
        places = [(variant.latency_ms.p50, variant.dice.mean) for variant in front]
        axes.plot(*zip(*places, strict=True), color=FAINT, zorder=0, gid="front")
        axes.set(xlabel="ms per inference (median, bar to the 90th percentile)", ylabel="test Dice, 95% interval")
        axes.margins(x=0.2)
        medians = [variant.latency_ms.p50 for variant in variants]
        if max(medians) > FAR_APART * min(medians):
            axes.set_xscale("log")
        else:
            axes.set_xlim(left=0)

    return _draw(paint)


def find_front(variants: Sequence[Variant]) -> list[Variant]:
    """Find the files that no other one beats in Dice and time, the fastest first."""
    front = keep_unbeaten([((-variant.dice.mean, variant.latency_ms.p50), variant) for variant in variants])
    return sorted(front, key=lambda variant: variant.latency_ms.p50)


def draw_layers(variants: Sequence[Variant]) -> str:
    """Draw how far each layer of each file is from float, side by side; empty where nothing could be compared."""
    compared = [variant for variant in variants if variant.layers and variant.precision != "float16"]
    if not compared:
        return ""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        places, width = range(len(compared[0].layers)), 0.8 / len(compared)
        for number, variant in enumerate(compared):
            errors = [layer.error for layer in variant.layers]
            left = [place + (number - (len(compared) - 1) / 2) * width for place in places]
            axes.bar(left, errors, width, color=PALETTE[number % len(PALETTE)], label=variant.name)
        axes.set_xticks(list(places), [layer.layer for layer in compared[0].layers], rotation=90, fontsize=8)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set(ylabel="error by layer's rms", xlim=(-0.7, len(places) - 0.3))
        axes.legend(frameon=False, ncols=len(compared), loc="lower left", bbox_to_anchor=(0, 1))

    return _draw(paint, WIDE)


def draw_channels(variants: Sequence[Variant]) -> str:
    """Draw how many channels every convolution kept in each pruned file; empty where none was pruned."""
    pruned = [variant for variant in variants if variant.channels]
    if not pruned:
        return ""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        layers, width = pruned[0].channels, 0.8 / len(pruned)
        places = range(len(layers))
        axes.bar(list(places), [kept.before for kept in layers], 0.9, color="none", edgecolor=FAINT, label="before")
        for number, variant in enumerate(pruned):
            left = [place + (number - (len(pruned) - 1) / 2) * width for place in places]
            after = [kept.after for kept in variant.channels]
            axes.bar(left, after, width, color=PALETTE[number % len(PALETTE)], label=variant.name)
        axes.set_xticks(list(places), [kept.layer for kept in layers], rotation=90, fontsize=8)
        axes.set(ylabel="channels kept", xlim=(-0.7, len(layers) - 0.3))
        axes.legend(frameon=False, ncols=len(pruned) + 1, loc="lower left", bbox_to_anchor=(0, 1))

    return _draw(paint, WIDE)


def draw_png(paint: Callable[[Figure], None]) -> bytes:
    """Draw a figure as the bytes of a PNG file."""
    return _save(paint, PLAIN, format="png", dpi=160)


def _draw(paint: Callable[[Figure], None], size: tuple[float, float] = PLAIN) -> str:
    metadata: dict[str, Any] = {"Date": None, "Creator": None}
    text = _save(paint, size, format="svg", transparent=True, metadata=metadata).decode("utf-8")
    return text[text.index("<svg") :]


def _save(paint: Callable[[Figure], None], size: tuple[float, float], **how: Any) -> bytes:
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        paint(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, **how)
    return buffer.getvalue()
