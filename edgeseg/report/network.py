"""Draw a U-Net: stages as boxes, resolutions and widths beside them, skips as arrows."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from edgeseg.core.files import write_bytes
from edgeseg.core.palette import ACCENT, INK, SOFT
from edgeseg.model.spec import UNetSpec
from edgeseg.model.summary import StageSummary

_STEP_X, _STEP_Y = 1.75, 1.3
_BOX_HEIGHT = 0.62
_NARROWEST, _WIDEST = 0.55, 1.45
_FILLS = {"down": "#d5e8e4", "up": "#fbe3d4", "stem": "#e5e7eb", "head": "#e5e7eb"}
_DOTS_PER_INCH = 150

Place = tuple[float, float]


def save_network_picture(path: Path, spec: UNetSpec, stages: Sequence[StageSummary]) -> None:
    """Draw a network into a PNG file.

    Args:
        path: Where the picture goes.
        spec: What was asked for.
        stages: The stages as they were built.
    """
    with mpl.rc_context({"font.size": 9, "text.color": INK}):
        columns, rows = 2 * len(spec.widths) + 2, len(spec.widths)
        figure = Figure(figsize=(0.95 * columns + 1, 1.0 * rows + 1.4))
        axes = figure.subplots()
        _paint(axes, spec, stages)
        axes.set_axis_off()
        axes.set_aspect("equal")
        axes.autoscale_view()
        axes.set_title(_write_title(spec, stages), loc="left", fontsize=11)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=_DOTS_PER_INCH, bbox_inches="tight", pad_inches=0.2)
    write_bytes(path, buffer.getvalue())


def _paint(axes: Any, spec: UNetSpec, stages: Sequence[StageSummary]) -> None:
    places = {stage.name: _place_stage(stage.name, len(spec.widths)) for stage in stages}
    widest = max(stage.channels for stage in stages)
    halves = {stage.name: _box_width(stage.channels, widest) / 2 for stage in stages}
    for stage in stages:
        _draw_box(axes, stage, places[stage.name], halves[stage.name])
    names = [stage.name for stage in stages]
    for first, second in pairwise(names):
        _draw_arrow(axes, *_ends(first, second, places, halves), INK)
    for number in range(len(spec.widths) - 1):
        (x, y), (goal, _) = places[f"down{number}"], places[f"up{number}"]
        start, end = (x + halves[f"down{number}"], y), (goal - halves[f"up{number}"], y)
        _draw_arrow(axes, start, end, SOFT, "dashed")
        axes.text((start[0] + end[0]) / 2, y + 0.1, spec.skip, ha="center", color=SOFT, fontsize=8)


def _place_stage(name: str, depth: int) -> Place:
    """Place a stage: the way down on the left, the way up on the right, the ends beside the uppermost stages."""
    if name == "stem":
        return (-_STEP_X, 0.0)
    if name == "head":
        return ((2 * depth - 1) * _STEP_X, 0.0)
    number = int(name.lstrip("downup"))
    column = number if name.startswith("down") else 2 * (depth - 1) - number
    return (column * _STEP_X, -number * _STEP_Y)


def _box_width(channels: int, widest: int) -> float:
    """Let the box grow with the logarithm of the channels."""
    return _NARROWEST + (_WIDEST - _NARROWEST) * math.log2(channels + 1) / math.log2(widest + 1)


def _draw_box(axes: Any, stage: StageSummary, place: Place, half: float) -> None:
    x, y = place
    kind = stage.name.rstrip("0123456789")
    corner = (x - half, y - _BOX_HEIGHT / 2)
    style = "round,pad=0,rounding_size=0.08"
    axes.add_patch(FancyBboxPatch(corner, 2 * half, _BOX_HEIGHT, boxstyle=style, facecolor=_FILLS[kind], edgecolor=INK))
    axes.text(x, y + 0.11, str(stage.channels), ha="center", va="center", fontsize=11, fontweight="bold")
    axes.text(x, y - 0.15, f"{stage.height}x{stage.width}", ha="center", va="center", fontsize=7.5)
    axes.text(x, y + _BOX_HEIGHT / 2 + 0.06, stage.name, ha="center", va="bottom", fontsize=7.5, color="#64748b")
    below = f"{stage.macs / 1e6:,.1f} MMACs"
    axes.text(x, y - _BOX_HEIGHT / 2 - 0.06, below, ha="center", va="top", fontsize=7, color=ACCENT)


def _ends(first: str, second: str, places: dict[str, Place], halves: dict[str, float]) -> tuple[Place, Place]:
    """Find where the arrow to the next stage leaves and arrives: sideways on the same level, else from side to edge."""
    (x, y), (goal_x, goal_y) = places[first], places[second]
    if y == goal_y:
        return (x + halves[first], y), (goal_x - halves[second], y)
    towards = _BOX_HEIGHT / 2 if goal_y > y else -_BOX_HEIGHT / 2
    return (x + halves[first], y + towards / 2), (goal_x - halves[second], goal_y - towards / 2)


def _draw_arrow(axes: Any, start: Place, end: Place, colour: str, line: str = "solid") -> None:
    axes.add_patch(
        FancyArrowPatch(
            start, end, arrowstyle="-|>", mutation_scale=9, color=colour, linestyle=line, shrinkA=1, shrinkB=1
        )
    )


def _write_title(spec: UNetSpec, stages: Sequence[StageSummary]) -> str:
    parameters, macs = sum(stage.parameters for stage in stages), sum(stage.macs for stage in stages)
    return (
        f"U-Net for {spec.width}x{spec.height}x{spec.channels}: {parameters:,} parameters, {macs / 1e6:,.1f} "
        f"million MACs\n{spec.convolution} convolutions, {spec.upsampling} upsampling, {spec.activation} mask"
    )
