"""Draw the trials: validation Dice against time, areas by size, with the front, the pick and the budget."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from edgeseg.core.palette import ACCENT, FAINT, INK, SOFT
from edgeseg.report.plots import draw_png
from edgeseg.search.results import FileScore, SearchRow

LARGEST = 220.0
"""Area of the largest file's point, in square points."""


def draw_trials(
    rows: Sequence[SearchRow], front: Sequence[SearchRow], pick: SearchRow | None, budget_ms: float
) -> bytes:
    """Draw the finished trials as a PNG."""
    scored = [(row, row.score) for row in rows if row.score is not None]
    largest = max(score.bytes for _, score in scored)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.axvline(budget_ms, color=INK, linestyle=":", linewidth=1, label=f"budget, {budget_ms:g} ms")
        for row, score in scored:
            area = LARGEST * score.bytes / largest
            colour = ACCENT if row == pick else SOFT if row in front else FAINT
            label = "pick" if row == pick else None
            axes.scatter(row.ms or 0.0, score.validation_dice, area, colour, alpha=0.6, linewidths=0, label=label)
            if row in front:
                _name_point(axes, row, score, colour)
        axes.set(xlabel=f"ms per inference (median); largest area: {largest / 1e3:,.0f} kB", ylabel="validation Dice")
        axes.margins(x=0.25, y=0.15)
        axes.legend(frameon=False, loc="lower right")

    return draw_png(paint)


def _name_point(axes: Axes, row: SearchRow, score: FileScore, colour: str) -> None:
    place = (row.ms or 0.0, score.validation_dice)
    axes.annotate(row.name, place, (6, -11), color=colour, fontsize=7, textcoords="offset points")
