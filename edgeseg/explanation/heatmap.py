"""Pictures of explanations: heat map, margin and levels of every class, side by side, with legend and verdict in words.

Orange speaks for the mask and blue against it: both kinds of colour blindness tell them apart. Where the map is not
better than one that asks no network, the picture says so in red.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.spec import ClassSpec, Region
from edgeseg.data.pictures import GAP, TILE, Picture, scale_frame
from edgeseg.data.sheets import Tile, can_write, fit_text, write_line
from edgeseg.explanation.explain import Explanation, LevelEffect, Reason
from edgeseg.explanation.margin import BANDS, Margin
from edgeseg.explanation.options import MASK
from edgeseg.explanation.targets import Map
from edgeseg.frame.outlines import draw_prediction, scale_contours, trace_contours

# Pixels of a panel's longer side, and of a line of text.
SIDE, _LINE = 480, 18
# RGB: for, against, a warning, and the shades of the margin from the thinnest on.
FOR, AGAINST, WARNING, WHITE = (255, 140, 0), (40, 120, 255), (255, 80, 80), (255, 255, 255)
SHADES = ((255, 255, 255), (240, 120, 200), (110, 60, 160))
_OPAQUE = 0.75
# The value with full colour: single cells may be higher.
_TOP = 99.5
_BAR = 12
_INK, _SOFT = (235, 235, 235), (165, 165, 165)


def draw_explanation(explanation: Explanation, frame: NDArray[Any]) -> Picture:
    """Draw the explanation of a frame: heat map, margin and levels of every class, with legend and verdict, as BGR.

    Args:
        explanation: What speaks for the frame's masks.
        frame: The frame: grey or BGR, 8 or 16 bit.
    """
    rows = [_draw_row(explanation, reason, frame) for reason in explanation.reasons]
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, GAP), (0, width - row.shape[1]), (0, 0))) for row in rows]
    return np.concatenate(padded)


def draw_tile(explanation: Explanation, frame: NDArray[Any], label: str, side: int = TILE) -> Tile:
    """Draw the heat map of the first class into a tile of a sheet, with its verdict in two words."""
    reason = explanation.reasons[0]
    heat = draw_heat(explanation, reason, frame, side)
    square = np.zeros((side, side, 3), np.uint8)
    top, left = (side - heat.shape[0]) // 2, (side - heat.shape[1]) // 2
    square[top : top + heat.shape[0], left : left + heat.shape[1]] = heat
    return Tile(square, (label, describe_briefly(reason)))


def describe_briefly(reason: Reason) -> str:
    """Say under a small picture what its map is worth."""
    worth = "better than random, edges" if reason.faithfulness.is_better else "NOT better: do not rely on it"
    return worth if reason.target.found else f"nothing marked; {worth}"


def draw_heat(explanation: Explanation, reason: Reason, frame: NDArray[Any], side: int) -> Picture:
    """Draw the map over the frame, with the outline of the mask."""
    picture = _make_grey(frame, side)
    factor = side / max(frame.shape[:2])
    spot = _place(explanation.region, factor, picture)
    _tint(picture[spot], reason.map)
    _outline(picture, explanation, reason, factor)
    return picture


def _draw_row(explanation: Explanation, reason: Reason, frame: NDArray[Any]) -> Picture:
    spec = explanation.segmentation.classes[reason.target.number]
    heat = draw_heat(explanation, reason, frame, SIDE)
    panels = [_add_words(heat, *_describe_heat(reason, spec), bar=_draw_bar(heat.shape[1]))]
    if reason.margin is not None:
        margin = _draw_margin(explanation, reason.margin, frame)
        panels.append(_add_words(margin, *_describe_margin(reason.margin), bar=_draw_shades(margin.shape[1])))
    if reason.levels:
        panels.append(_draw_levels(reason.levels, heat.shape[0]))
    height = max(panel.shape[0] for panel in panels)
    return np.concatenate([np.pad(one, ((0, height - one.shape[0]), (0, GAP), (0, 0))) for one in panels], axis=1)


def _make_grey(frame: NDArray[Any], side: int) -> Picture:
    """Scale a frame, without colours of its own, which would be taken for those of the map."""
    grey = cv2.cvtColor(scale_frame(frame, side), cv2.COLOR_BGR2GRAY)
    return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), np.uint8)


def _place(region: Region, factor: float, picture: Picture) -> tuple[slice, slice]:
    top, left = round(region.y * factor), round(region.x * factor)
    bottom = min(picture.shape[0], max(top + 1, round((region.y + region.height) * factor)))
    right = min(picture.shape[1], max(left + 1, round((region.x + region.width) * factor)))
    return slice(min(top, bottom - 1), bottom), slice(min(left, right - 1), right)


def _tint(part: NDArray[np.uint8], found: Map) -> None:
    """Tint a part of a picture by a map."""
    size = (part.shape[1], part.shape[0])
    values = np.asarray(cv2.resize(found, size, interpolation=cv2.INTER_LINEAR))
    top = float(np.percentile(np.abs(found), _TOP))
    strength = np.clip(np.abs(values) / top, 0, 1) if top > 0 else np.zeros_like(values)
    colours = np.where(values[:, :, None] > 0, FOR[::-1], AGAINST[::-1])
    # squared: most of a map is nearly nothing, and a veil over the picture says nothing
    weight = (_OPAQUE * strength**1.5)[:, :, None]
    part[:] = np.clip((1 - weight) * part + weight * colours + 0.5, 0, 255).astype(np.uint8)


def _outline(picture: Picture, explanation: Explanation, reason: Reason, factor: float) -> None:
    """Draw the mask's outline in white: the colour of its class could be one of the map's."""
    mask = np.asarray(explanation.segmentation.labels == reason.target.number + 1, np.uint8)
    draw_prediction(picture, scale_contours(trace_contours(mask), factor), WHITE, 1)


def _draw_margin(explanation: Explanation, margin: Margin, frame: NDArray[Any]) -> Picture:
    """Draw where a few steps decide, the thinnest places brightest."""
    factor = SIDE / max(frame.shape[:2])
    picture = _make_grey(frame, SIDE)
    part = picture[_place(explanation.region, factor, picture)]
    size = (part.shape[1], part.shape[0])
    steps = cv2.resize(margin.steps.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    # half a step: marked scores begin at 0, the others at -1
    distance = np.abs(steps + 0.5)
    for width, shade in reversed(list(zip(BANDS, SHADES, strict=True))):
        near = distance <= width
        part[near] = (0.3 * part[near] + 0.7 * np.array(shade[::-1])).astype(np.uint8)
    return picture


def _draw_levels(levels: tuple[LevelEffect, ...], height: int) -> Picture:
    """Draw what the target loses without each level, as bars."""
    row, width = 34, 300
    panel = np.zeros((max(height, row * (len(levels) + 2)), width, 3), np.uint8)
    write_line(panel, "confidence lost without a level", (6, _LINE - 4), _INK)
    for number, level in enumerate(levels):
        top = (number + 1) * row
        label = f"{level.name} ({level.width}x{level.height}): {level.score_drop:+.2f}, Dice {level.dice:.2f}"
        write_line(panel, fit_text(label, width - 8), (6, top), _SOFT)
        length = round((width - 12) * float(np.clip(abs(level.score_drop), 0, 1)))
        colour = FOR if level.score_drop >= 0 else AGAINST
        cv2.rectangle(panel, (6, top + 5), (6 + length, top + 14), colour[::-1], cv2.FILLED)
    return panel


def _describe_heat(reason: Reason, spec: ClassSpec) -> tuple[list[str], str]:
    name = spec.name if can_write(spec.name) else f"class {reason.target.number + 1}"
    what = f"confidence {reason.score:.2f}" if reason.target.of == MASK else f"finding probability {reason.score:.2f}"
    f = reason.faithfulness
    gaps = f"gap {f.areas.gap:.2f}; random {f.random.gap:.2f}, edges {f.edges.gap:.2f}, mask {f.mask.gap:.2f}"
    head = f"{name}: {what}, by {reason.method}"
    if not reason.target.found:
        head = f"Nothing is marked; highest scores of {head}"
    return [head, gaps], f.sentence if f.is_better else f"! {f.sentence}"


def _describe_margin(margin: Margin) -> tuple[list[str], str]:
    band = margin.bands[0]
    head = f"Margin in steps of {margin.step:.4f}; mask {margin.area_px:,} px"
    return [head, f"if all scores moved by {band.steps} steps: {band.least_px:,} to {band.most_px:,} px"], ""


def _draw_bar(width: int) -> Picture:
    strip = np.zeros((_BAR + _LINE + 6, width, 3), np.uint8)
    bar = np.full((_BAR, width, 3), 90, np.uint8)
    _tint(bar, np.linspace(-1, 1, max(2, width), dtype=np.float32)[None])
    strip[3 : 3 + _BAR] = bar
    words = (
        "against" if width < 330 else "speaks against",
        "for" if width < 330 else "speaks for the mask (white line)",
    )
    write_line(strip, words[0], (2, _BAR + _LINE), _SOFT)
    right = cv2.getTextSize(words[1], cv2.FONT_HERSHEY_SIMPLEX, 0.4, 1)[0][0]
    write_line(strip, words[1], (width - right - 4, _BAR + _LINE), _SOFT)
    return strip


def _draw_shades(width: int) -> Picture:
    strip = np.zeros((_BAR + _LINE + 6, width, 3), np.uint8)
    share = width // len(BANDS)
    for number, (steps, shade) in enumerate(zip(BANDS, SHADES, strict=True)):
        strip[3 : 3 + _BAR, number * share : (number + 1) * share] = shade[::-1]
        write_line(strip, f"within {steps}", (number * share + 2, _BAR + _LINE), _SOFT)
    return strip


def _add_words(picture: Picture, lines: list[str], verdict: str, bar: Picture) -> Picture:
    """Add a bar and lines of text under a panel; the verdict is broken into lines, red where it warns."""
    width = picture.shape[1]
    broken = _break_text(verdict, width - 8) if verdict else []
    strip = np.zeros((_LINE * (len(lines) + len(broken)) + 6, width, 3), np.uint8)
    warning = verdict.startswith("!")
    for number, line in enumerate([*lines, *broken], start=1):
        colour = (WARNING[::-1] if warning else _INK) if number > len(lines) else (_INK if number == 1 else _SOFT)
        write_line(strip, fit_text(line, width - 6), (2, number * _LINE - 4), colour)
    return np.concatenate([picture, bar, strip])


def _break_text(text: str, width: int) -> list[str]:
    """Break a sentence into lines that fit a width; a single longer word is shortened when it is written."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and fit_text(longer, width) == longer:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
