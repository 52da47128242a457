"""Draw the trials: validation Dice against work, with the front and the pick marked."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from edgeseg.core.palette import ACCENT, FAINT, SOFT
from edgeseg.report.plots import draw_png
from edgeseg.trials.results import FINISHED
from edgeseg.tune.results import TrialRow


def draw_trials(rows: Sequence[TrialRow], front: Sequence[TrialRow], pick: TrialRow | None) -> bytes:
    """Draw the finished trials as a PNG."""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        finished = _list_points([row for row in rows if row.state == FINISHED])
        axes.plot(*finished, "o", color=FAINT, markersize=4, label="trials")
        axes.step(*_list_points(front), "o-", where="post", color=SOFT, label="front")
        for row in front:
            colour = ACCENT if row == pick else SOFT
            (work,), (dice,) = _list_points([row])
            axes.plot(work, dice, "o", color=colour, label="pick" if row == pick else None)
            axes.annotate(row.label, (work, dice), (5, -11), color=colour, fontsize=8, textcoords="offset points")
        axes.set(xlabel="million MACs per frame", ylabel="validation Dice", xscale="log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.margins(x=0.2, y=0.15)
        axes.legend(frameon=False, loc="upper left")

    return draw_png(paint)


def _list_points(rows: Sequence[TrialRow]) -> tuple[list[float], list[float]]:
    return [(row.macs or 0) / 1e6 for row in rows], [row.validation_dice or 0.0 for row in rows]
