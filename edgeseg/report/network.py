"""A picture of a network: its stages under the names of their layers, from image to mask."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from edgeseg.core.files import write_bytes
from edgeseg.frame.images import ACCENT, INK, SOFT
from edgeseg.model.spec import UNetSpec
from edgeseg.model.unet import StageSummary

# All lengths are inches. Distance of neighbouring stages: on one level, and of one level from the next.
_BESIDE, _STEP_X, _STEP_Y = 1.5, 0.95, 1.12
_HALF_X, _HALF_Y = 0.57, 0.39
_MARGIN, _TITLE = 0.25, 0.75
_FILLS = {"down": "#d5e8e4", "up": "#fbe3d4", "stem": "#e5e7eb", "head": "#e5e7eb", "finding": "#e0e7ff"}
_DOTS_PER_INCH = 150
Place = tuple[float, float]


def save_network_picture(path: Path, spec: UNetSpec, stages: Sequence[StageSummary]) -> None:
    """Draw a network into a PNG file.

    Args:
        path: The file to write.
        spec: The network's spec.
        stages: The stages as built.
    """
    depth = len(spec.widths)
    left, right = -2 * _BESIDE - _HALF_X, 2 * (depth - 1) * _STEP_X + 2 * _BESIDE + _HALF_X
    low, high = -(depth - 1) * _STEP_Y - _HALF_Y - _MARGIN, _HALF_Y + _TITLE
    with mpl.rc_context({"font.size": 9, "text.color": INK}):
        figure = Figure(figsize=(right - left, high - low))
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set(xlim=(left, right), ylim=(low, high))
        axes.set_axis_off()
        _paint(axes, spec, stages)
        axes.text(left + _MARGIN, high - _MARGIN, _write_title(spec, stages), va="top", fontsize=10.5)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=_DOTS_PER_INCH)
    write_bytes(path, buffer.getvalue())


def _paint(axes: Any, spec: UNetSpec, stages: Sequence[StageSummary]) -> None:
    depth = len(spec.widths)
    places = {stage.name: _place_stage(stage.name, depth) for stage in stages}
    for stage in stages:
        lines = (_show_shape(stage), f"{stage.parameters:,} parameters", f"{stage.macs / 1e6:,.1f} MMACs")
        _draw_box(axes, places[stage.name], stage.name, lines)
    first, last = places[stages[0].name], places["head"]
    image, mask = (first[0] - _BESIDE, 0.0), (last[0] + _BESIDE, 0.0)
    _write_end(axes, image, "image", f"{spec.height}x{spec.width}x{spec.channels}")
    _draw_arrow(axes, (image[0] + _HALF_X, 0.0), (first[0] - _HALF_X, 0.0), INK)
    _write_end(axes, mask, "mask", spec.activation)
    _draw_arrow(axes, (last[0] + _HALF_X, 0.0), (mask[0] - _HALF_X, 0.0), INK)
    for begin, end in pairwise([stage.name for stage in stages if stage.name != "finding"]):
        _draw_arrow(axes, *_find_ends(places[begin], places[end]), INK)
    for number in range(depth - 1):
        (x, y), (goal, _) = places[f"down{number}"], places[f"up{number}"]
        _draw_arrow(axes, (x + _HALF_X, y), (goal - _HALF_X, y), SOFT, "dashed")
        axes.text((x + goal) / 2, y + 0.06, spec.skip, ha="center", color=SOFT, fontsize=8)
    if "finding" in places:
        _paint_finding(axes, places[f"down{depth - 1}"], places["finding"])


def _paint_finding(axes: Any, deepest: Place, finding: Place) -> None:
    """Draw the way from the deepest stage to the finding output."""
    end = (finding[0] + _BESIDE, finding[1])
    _draw_arrow(axes, (deepest[0] + _HALF_X, deepest[1]), (finding[0] - _HALF_X, finding[1]), INK)
    _draw_arrow(axes, (finding[0] + _HALF_X, finding[1]), (end[0] - _HALF_X, end[1]), INK)
    _write_end(axes, end, "finding", "sigmoid")


def _place_stage(name: str, depth: int) -> Place:
    """Place a stage: encoder on the left, decoder on the right, the other ones beside where they take from."""
    if name == "stem":
        return (-_BESIDE, 0.0)
    if name == "head":
        return (2 * (depth - 1) * _STEP_X + _BESIDE, 0.0)
    if name == "finding":
        return ((depth - 1) * _STEP_X + _BESIDE, -(depth - 1) * _STEP_Y)
    number = int(name.lstrip("downup"))
    column = number if name.startswith("down") else 2 * (depth - 1) - number
    return (column * _STEP_X, -number * _STEP_Y)


def _show_shape(stage: StageSummary) -> str:
    return f"{stage.height}x{stage.width}x{stage.channels}"


def _draw_box(axes: Any, place: Place, name: str, lines: Sequence[str]) -> None:
    x, y = place
    corner = (x - _HALF_X, y - _HALF_Y)
    fill = _FILLS[name.rstrip("0123456789")]
    style = "round,pad=0,rounding_size=0.08"
    axes.add_patch(
        FancyBboxPatch(corner, 2 * _HALF_X, 2 * _HALF_Y, boxstyle=style, facecolor=fill, edgecolor=INK, linewidth=0.8)
    )
    shape, parameters, macs = lines
    axes.text(x, y + 0.24, name, ha="center", va="center", fontsize=10.5, fontweight="bold")
    axes.text(x, y + 0.06, shape, ha="center", va="center", fontsize=8.5)
    axes.text(x, y - 0.10, parameters, ha="center", va="center", fontsize=6.5)
    axes.text(x, y - 0.25, macs, ha="center", va="center", fontsize=7, color=ACCENT)


def _write_end(axes: Any, place: Place, name: str, below: str) -> None:
    """Write what goes in or comes out, without a box: it has no weights."""
    x, y = place
    axes.text(x, y + 0.09, name, ha="center", va="center", fontsize=10.5, fontweight="bold")
    axes.text(x, y - 0.1, below, ha="center", va="center", fontsize=8.5)


def _find_ends(start: Place, goal: Place) -> tuple[Place, Place]:
    """Find the ends of the arrow to the next stage: sideways on the same level, else from edge to edge."""
    (x, y), (goal_x, goal_y) = start, goal
    if y == goal_y:
        return (x + _HALF_X, y), (goal_x - _HALF_X, y)
    if goal_y < y:
        return (x + _HALF_X / 2, y - _HALF_Y), (goal_x - _HALF_X / 2, goal_y + _HALF_Y)
    return (x + _HALF_X / 2, y + _HALF_Y), (goal_x - _HALF_X / 2, goal_y - _HALF_Y)


def _draw_arrow(axes: Any, start: Place, end: Place, colour: str, line: str = "solid") -> None:
    axes.add_patch(
        FancyArrowPatch(
            start, end, arrowstyle="-|>", mutation_scale=9, color=colour, linestyle=line, shrinkA=1, shrinkB=1
        )
    )


def _write_title(spec: UNetSpec, stages: Sequence[StageSummary]) -> str:
    parameters, macs = sum(stage.parameters for stage in stages), sum(stage.macs for stage in stages)
    return (
        f"U-Net: {parameters:,} parameters, {macs / 1e6:,.1f} million MACs\n"
        f"{spec.convolution} convolutions, {spec.upsampling} upsampling; dashed: skip connections ({spec.skip})"
    )
