"""Draw how a training went: loss and validation Dice over the epochs, with the best epoch marked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeseg.core.palette import ACCENT, INK
from edgeseg.train.history import EpochResult

CURVE = "curve.png"


def paint_history(figure: Any, history: Sequence[EpochResult], best: EpochResult) -> None:
    """Paint a history into a figure, and mark the epoch whose weights were kept."""
    left = figure.subplots()
    epochs = [row.epoch for row in history]
    left.plot(epochs, [row.loss for row in history], color=INK)
    left.set(xlabel="epoch", ylabel="training loss")
    right = left.twinx()
    right.plot(epochs, [row.validation_dice for row in history], color=ACCENT)
    right.plot(best.epoch, best.validation_dice, "o", color=ACCENT)
    right.annotate(f"best: {best.epoch}", (best.epoch, best.validation_dice), (0, -16), textcoords="offset points")
    right.set(ylim=(0, 1))
    right.set_ylabel("validation Dice", color=ACCENT)


def draw_curve(folder: Path, history: Sequence[EpochResult], best: EpochResult) -> None:
    """Draw a run's curve as a picture in its folder."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    paint_history(figure, history, best)
    figure.savefig(folder / CURVE, dpi=120)
