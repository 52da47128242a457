"""Findings as instances: connected regions of a label map, touching ones split, each with its measures.

Two regions that touch are split where their neck is narrow against both parts: with D the distance to the outline,
the neck's D must be below `NECK` times the largest D of the smaller part. That is an h-maximum of D whose h grows with
the part, so that a lobe of an irregular lesion is no second lesion. Pixels outside of the parts' cores go to the
nearest core, which draws the watershed of D.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.decision import DOUBTFUL, FOUND, NOTHING
from edgeseg.core.spec import ClassSpec, Region
from edgeseg.frame.postprocess import SCORE_ONE
from edgeseg.inference.confidence import ClassFinding, change, combine

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]

# The largest regions of a class are instances; a mask of specks has thousands, and none of them is looked at.
MOST_INSTANCES = 64
# Of more regions only those with the longest outlines are measured: thousands would take a tenth of a second.
_MOST_MEASURED = 4 * MOST_INSTANCES
# Of the smaller part's largest distance to the outline: measured on phantoms and real lesions (decisions/0070).
NECK = 0.75
# Nearly convex regions are one: two touching discs of any ratio down to 1 to 4 fill less of their hull.
_CONVEX = 0.95
# Regions are examined at most at this size, and with so many levels of D.
_SIDE, _LEVELS = 96, 20
# A part's largest D in pixels of the frame, below which it is a frayed edge.
_LEAST_DEPTH_PX = 3.0
# The outline runs through the centres of the outermost pixels: how far chords between them end inside of an ellipse,
# the mean over ellipses of any size and tilt. The shorter one is found in steps of a pixel.
_BEYOND_LONG, _BEYOND_SHORT = 0.36, 0.60
# Measures of an instance, for tables and JSON; those in millimetres are None where the pixel size is unknown.
MEASURES = ("area_px", "area_mm2", "long_px", "long_mm", "short_px", "short_mm")
# Digits of confidences in JSON and tables; they come from scores of 8 bits.
_DIGITS = 4
_EMPTY: Bytes = np.empty((0, 0), np.uint8)


@dataclass(frozen=True)
class Instance:
    """One region of a class in one frame; lengths and places in pixels of the frame."""

    name: str
    """Of the class."""
    number: int
    """In one frame 1 is the largest of its class; in a stream or clip the same finding keeps its number."""
    box: tuple[int, int, int, int]
    """x, y, width, height."""
    centroid: tuple[float, float]
    area_px: int
    long_px: float
    """The longest straight line between two points of the outline."""
    short_px: float
    """The longest one that is perpendicular to it."""
    area_mm2: float | None = None
    long_mm: float | None = None
    short_mm: float | None = None
    confidence: float | None = None
    """Of this region, from its own scores; None where the scores are not known."""
    state: str = FOUND
    """found or doubtful, by the operating point of its class; nothing on a frame that is out of distribution."""
    mask: Bytes = field(default_factory=lambda: _EMPTY, repr=False, compare=False)
    """Its pixels within the box, 0 and 1."""


@dataclass(frozen=True)
class InstanceList:
    """The instances of a frame, class by class, the largest first."""

    instances: tuple[Instance, ...]
    left_out: int = 0
    """Regions beyond the largest `MOST_INSTANCES` of each class."""


def describe_instance(one: Instance) -> dict[str, Any]:
    """Describe an instance for JSON, without its mask."""
    return {
        "class": one.name,
        "number": one.number,
        "state": one.state,
        "confidence": None if one.confidence is None else round(one.confidence, _DIGITS),
        "box": list(one.box),
        "centroid": list(one.centroid),
        **{name: getattr(one, name) for name in MEASURES},
    }


def scale_instances(found: InstanceList, mm_per_px: float | None) -> InstanceList:
    """Give instances their measures in millimetres."""
    if mm_per_px is None:
        return found
    scaled = (change(one, **_scale(one.area_px, one.long_px, one.short_px, mm_per_px)) for one in found.instances)
    return replace(found, instances=tuple(scaled))


def find_instances(
    labels: Bytes,
    classes: Sequence[ClassSpec],
    mm_per_px: float | None = None,
    findings: Sequence[ClassFinding] = (),
    grid: Bytes = _EMPTY,
    region: Region | None = None,
    splits: bool = True,
    corner: tuple[int, int] = (0, 0),
) -> InstanceList:
    """Find the instances of every class in a label map.

    Args:
        labels: 0 background, k the k-th class.
        classes: The classes.
        mm_per_px: The pixel size, where it is known.
        findings: Of the classes, for the instances' states and thresholds.
        grid: Clean scores (height, width, channels) over `region`, for confidences.
        region: The part of the frame that they cover.
        splits: Whether touching regions are split.
        corner: x and y of the map's first pixel in the frame, where it is a part of it.
    """
    if not labels.size:
        return InstanceList(())
    left, top, width, height = cv2.boundingRect(labels)
    if not width:
        return InstanceList(())
    part = np.ascontiguousarray(labels[top : top + height, left : left + width])
    place = corner[0] + left, corner[1] + top
    instances: list[Instance] = []
    left_out = 0
    for number in _list_present(part, len(classes)):
        regions, more = _trace_regions(np.asarray(cv2.inRange(part, number, number), np.uint8), place, splits)
        measured = [
            measure_instance(mask, first, classes[number - 1].name, count, mm_per_px, outline)
            for count, (mask, first, outline) in enumerate(regions, start=1)
        ]
        if len(findings) == len(classes):
            plane = grid[:, :, grid.shape[2] - len(classes) + number - 1] if grid.size else None
            measured = _judge(measured, findings[number - 1], plane, region)
        instances += measured
        left_out += more
    return InstanceList(tuple(instances), left_out)


def _list_present(labels: Bytes, classes: int) -> list[int]:
    """List the classes that a label map, which is not empty, shows."""
    if classes == 1:
        return [1]
    histogram = cv2.calcHist([labels], [0], None, [256], [0, 256]).ravel()
    return [int(number) for number in np.flatnonzero(histogram[1 : classes + 1]) + 1]


class _Region(NamedTuple):
    """One region of a class."""

    mask: Bytes
    """Of 0 and 1."""
    corner: tuple[int, int]
    """Of the mask's first pixel in the frame."""
    outline: NDArray[Any] | None
    """Every pixel along its edge, as [x, y] in the mask; None where it is a part of what was traced."""


def list_regions(
    mask: Bytes, corner: tuple[int, int] = (0, 0), splits: bool = True
) -> tuple[list[tuple[Bytes, tuple[int, int]]], int]:
    """List the regions of one class, the largest first, as masks of 0 and 1 with the place of their first pixel.

    Args:
        mask: Not 0 where the class is.
        corner: Where the mask begins in the frame.
        splits: Whether touching regions are split.

    Returns:
        The largest regions, and how many were left out.
    """
    regions, left_out = _trace_regions(mask, corner, splits)
    return [(one.mask, one.corner) for one in regions], left_out


def _trace_regions(mask: Bytes, corner: tuple[int, int], splits: bool) -> tuple[list[_Region], int]:
    """List the regions of one class with their outlines, which are traced once."""
    # several times as fast as connectedComponentsWithStats() for a few regions
    outlines, tree = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if tree is None:
        return [], 0
    outer = np.flatnonzero(tree[0, :, 3] < 0)
    count = len(outer)
    if count > _MOST_MEASURED:
        lengths = np.array([len(outline) for outline in outlines])[outer]
        outer = outer[np.argsort(-lengths, kind="stable")[:_MOST_MEASURED]]
    # Pick's theorem: the pixels that an outline encloses, itself included
    measured = [outlines[one] for one in outer.tolist()]
    sizes = np.array([cv2.contourArea(one) + len(one) / 2 + 1 for one in measured])
    boxes = np.array([cv2.boundingRect(one) for one in measured])
    order = np.argsort(-sizes, kind="stable")[:MOST_INSTANCES]
    found: list[_Region] = []
    for place in order.tolist():
        x, y, width, height = boxes[place].tolist()
        part = mask[y : y + height, x : x + width]
        own = np.asarray(cv2.threshold(part, 0, 1, cv2.THRESH_BINARY)[1], np.uint8)
        if count > len(outer) or (count > 1 and _count_overlaps(boxes, boxes[place]) > 1):
            own &= _draw_region(outlines, tree, int(outer[place]), boxes[place])
        first, outline = (corner[0] + x, corner[1] + y), measured[place] - boxes[place][:2]
        pieces = split_region(own, outline=outline) if splits else (own,)
        if len(pieces) == 1:
            found.append(_Region(own, first, outline))
            continue
        for piece in pieces:
            trimmed, (dx, dy) = _trim(piece)
            found.append(_Region(trimmed, (first[0] + dx, first[1] + dy), None))
    if len(found) > 1:
        found.sort(key=lambda one: -cv2.countNonZero(one.mask))
    kept = found[:MOST_INSTANCES]
    return kept, count - len(order) + len(found) - len(kept)


def _count_overlaps(boxes: NDArray[Any], own: NDArray[Any]) -> int:
    begin, end = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    return int(np.count_nonzero(((begin < own[:2] + own[2:]) & (end > own[:2])).all(axis=1)))


def _draw_region(outlines: Sequence[Any], tree: Any, place: int, box: NDArray[Any]) -> Bytes:
    """Draw one region without what lies in its holes."""
    canvas = np.zeros((int(box[3]), int(box[2])), np.uint8)
    drawn, hole = [outlines[place]], int(tree[0, place, 2])
    while hole >= 0:
        drawn.append(outlines[hole])
        hole = int(tree[0, hole, 0])
    # filled together, so that holes stay open
    cv2.drawContours(canvas, drawn, -1, 1, cv2.FILLED, offset=(-int(box[0]), -int(box[1])))
    return canvas


def _trim(mask: Bytes) -> tuple[Bytes, tuple[int, int]]:
    x, y, width, height = cv2.boundingRect(mask)
    return np.ascontiguousarray(mask[y : y + height, x : x + width]), (x, y)


def split_region(mask: Bytes, neck: float = NECK, outline: NDArray[Any] | None = None) -> tuple[Bytes, ...]:
    """Split a connected region into touching parts; most are one.

    Args:
        mask: Of 0 and 1, the region alone.
        neck: The widest neck that is cut, as a share of the smaller part.
        outline: Of the region, where it is known.
    """
    if min(mask.shape) < 2 * _LEAST_DEPTH_PX or _is_convex(_trace(mask) if outline is None else outline):
        return (mask,)
    scale = min(1.0, _SIDE / max(mask.shape))
    size = max(1, round(mask.shape[1] * scale)), max(1, round(mask.shape[0] * scale))
    small = mask if scale == 1.0 else np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST), np.uint8)
    padded = cv2.copyMakeBorder(_fill(small), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    depth = np.asarray(cv2.distanceTransform(padded, cv2.DIST_L2, 5))[1:-1, 1:-1]
    cores = _find_cores(depth, neck, _LEAST_DEPTH_PX * scale)
    if len(cores) < 2:
        return (mask,)
    return _grow(mask, cores)


def _trace(mask: Bytes) -> NDArray[Any]:
    """Trace every pixel along the edge of a region, as [x, y]; of several pieces all in one."""
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.concatenate(outlines)


def _is_convex(outline: NDArray[Any]) -> bool:
    hull = cv2.contourArea(cv2.convexHull(outline))
    return bool(cv2.contourArea(outline) >= _CONVEX * hull)


def _fill(mask: Bytes) -> Bytes:
    """Close the holes: a ring is one region."""
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(np.zeros_like(mask), outlines, -1, 1, cv2.FILLED), np.uint8)


def _find_cores(depth: NDArray[Any], neck: float, least: float) -> list[NDArray[np.bool_]]:
    """Find the parts' cores: what remains of each above the level of the neck that ties it to the others."""
    highest = float(depth.max())
    # above the last of these levels no part is deep enough to be cut off
    levels = [highest * step / _LEVELS for step in range(1, _LEVELS) if step / _LEVELS <= neck]
    waiting = [((depth > 0.0).view(np.uint8), 0)]
    cores: list[NDArray[np.bool_]] = []
    while waiting:
        core, begin = waiting.pop()
        parts, place = _cut_first(depth, core, levels, begin, neck, least)
        if parts:
            waiting += [(part, place + 1) for part in parts]
        else:
            cores.append(core > 0)
    return cores


def _cut_first(
    depth: NDArray[Any], core: Bytes, levels: Sequence[float], begin: int, neck: float, least: float
) -> tuple[list[Bytes], int]:
    """Cut a core at the first level that is a neck's; gives the parts, of which there are none without a neck."""
    for place, count in enumerate(_count_parts(depth, core, levels[begin:]), start=begin):
        if count > 1:
            parts = _list_parts(depth, core, levels[place], neck, least)
            if len(parts) != 1:
                return parts, place
        elif not count:
            break
    return [], len(levels)


def _count_parts(depth: NDArray[Any], core: Bytes, levels: Sequence[float]) -> list[int]:
    """Count the connected parts of a core above each level."""
    if not levels:
        return []
    rows, columns = core.shape
    # one below the other, with a free row between them: so that all are counted in one pass
    stack = np.zeros((len(levels), rows + 1, columns), np.uint8)
    limits = np.array(levels, depth.dtype)[:, None, None]
    np.logical_and(depth > limits, core, out=stack[:, :rows].view(np.bool_))
    _, numbers = cv2.connectedComponents(stack.reshape(-1, columns), connectivity=8, ltype=cv2.CV_16U)
    # parts are numbered from above to below, those of a level in a row
    last = np.asarray(numbers).reshape(len(levels), -1).max(axis=1)
    counts: list[int] = np.diff(np.maximum.accumulate(last), prepend=last.dtype.type(0)).tolist()
    return counts


def _list_parts(depth: NDArray[Any], core: Bytes, level: float, neck: float, least: float) -> list[Bytes]:
    """List the parts of a core above a level that are so much deeper than it that the level is a neck's."""
    above = np.asarray(cv2.bitwise_and(core, (depth > level).view(np.uint8)), np.uint8)
    count, labels = cv2.connectedComponents(above, connectivity=8, ltype=cv2.CV_16U)
    wanted = max(level / neck, least)
    parts = (np.asarray(labels == one).view(np.uint8) for one in range(1, count))
    return [part for part in parts if cv2.minMaxLoc(depth, part)[1] >= wanted]


def _grow(mask: Bytes, cores: Sequence[NDArray[np.bool_]]) -> tuple[Bytes, ...]:
    """Give every pixel of a region to the nearest core."""
    seeds = np.zeros(cores[0].shape, np.uint8)
    for number, core in enumerate(cores, start=1):
        seeds[core] = number
    if seeds.shape == mask.shape:
        nearest = _find_nearest(seeds)
    else:
        # the distance to each core is smooth, so resized ones meet in a smooth line
        away = [cv2.distanceTransform(np.asarray(seeds != one, np.uint8), cv2.DIST_L2, 5) for one in _numbers(cores)]
        nearest = _find_lowest([cv2.resize(one, mask.shape[::-1], interpolation=cv2.INTER_LINEAR) for one in away])
    pieces = tuple(np.asarray((nearest == one) & (mask > 0), np.uint8) for one in _numbers(cores))
    return tuple(piece for piece in pieces if piece.any())


def _numbers(cores: Sequence[Any]) -> range:
    return range(1, len(cores) + 1)


def _find_lowest(planes: Sequence[Any]) -> Bytes:
    """Find which plane is the lowest at every pixel, from 1; the first one wins a tie."""
    lowest, *others = planes
    found: Bytes = np.ones(lowest.shape, np.uint8)
    for number, plane in enumerate(others, start=2):
        # a fifth of the time of argmin() over planes
        found[plane < lowest] = number
        lowest = cv2.min(lowest, plane)
    return found


def _find_nearest(seeds: Bytes) -> Bytes:
    """Give every pixel the number of the nearest seed."""
    free = np.asarray(seeds == 0, np.uint8)
    _, places = cv2.distanceTransformWithLabels(free, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    table = np.zeros(int(places.max()) + 1, np.uint8)
    own = seeds > 0
    table[places[own]] = seeds[own]
    return np.asarray(table[places], np.uint8)


def measure_instance(
    mask: Bytes,
    corner: tuple[int, int],
    name: str,
    number: int,
    mm_per_px: float | None = None,
    outline: NDArray[Any] | None = None,
) -> Instance:
    """Measure a region.

    Args:
        mask: Of 0 and 1, no larger than the region.
        corner: x and y of its first pixel in the frame.
        name: Of the class.
        number: Of the instance.
        mm_per_px: The pixel size, where it is known.
        outline: Of the region, where it is known.
    """
    # in a quarter of the time of cv2.moments()
    columns, rows = (cv2.reduce(mask, axis, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel() for axis in (0, 1))
    area = int(columns.sum())
    centroid = corner[0] + _find_middle(columns, area), corner[1] + _find_middle(rows, area)
    long, short = measure_diameters(mask, outline)
    return Instance(
        name,
        number,
        (*corner, mask.shape[1], mask.shape[0]),
        (round(centroid[0], 2), round(centroid[1], 2)),
        area,
        round(long, 2),
        round(short, 2),
        mask=mask,
        **_scale(area, long, short, mm_per_px),
    )


def _find_middle(counts: NDArray[Any], area: int) -> float:
    return float(counts.dot(np.arange(len(counts)))) / area


def _scale(area: int, long: float, short: float, mm_per_px: float | None) -> dict[str, Any]:
    if mm_per_px is None:
        return {}
    return {
        "area_mm2": round(area * mm_per_px**2, 3),
        "long_mm": round(long * mm_per_px, 3),
        "short_mm": round(short * mm_per_px, 3),
    }


def measure_diameters(mask: Bytes, outline: NDArray[Any] | None = None) -> tuple[float, float]:
    """Measure the longest chord of a region's outline and the longest one perpendicular to it, in pixels."""
    traced = _trace(mask) if outline is None else outline
    hull = cv2.convexHull(traced).reshape(-1, 2).astype(np.float64)
    outline = traced.reshape(-1, 2).astype(np.float64)
    right, down = (np.subtract.outer(places, places) for places in hull.T)
    squares = right * right + down * down
    first, second = divmod(int(np.argmax(squares)), len(hull))
    length = math.sqrt(squares[first, second])
    axis = (hull[first] - hull[second]) / length if length else np.array((1.0, 0.0))
    along, across = outline @ axis, outline @ (-axis[1], axis[0])
    # the outline's pixels are neighbours, so every step along the axis has a point on each side
    steps = np.round(along - along.min()).astype(np.int64)
    low, high = np.full(steps.max() + 1, np.inf), np.full(steps.max() + 1, -np.inf)
    np.minimum.at(low, steps, across)
    np.maximum.at(high, steps, across)
    return max(1.0, length + _BEYOND_LONG), max(1.0, float(np.max(high - low)) + _BEYOND_SHORT)


def _judge(
    instances: list[Instance], finding: ClassFinding, plane: Bytes | None, region: Region | None
) -> list[Instance]:
    """Give the instances of a class their confidences and states; one alone has those of its class."""
    if finding.state == NOTHING:
        return [change(one, state=NOTHING) for one in instances]
    if len(instances) == 1:
        return [change(instances[0], confidence=finding.confidence, state=finding.state)]
    if plane is None or region is None:
        return [change(one, state=finding.state) for one in instances]
    values = [
        combine(value, finding.probability, finding.weight) for value in _measure_shares(instances, plane, region)
    ]
    least = finding.threshold
    states = [FOUND if least is None or value >= least else DOUBTFUL for value in values]
    return [
        change(one, confidence=value, state=state) for one, value, state in zip(instances, values, states, strict=True)
    ]


def _measure_shares(instances: Sequence[Instance], plane: Bytes, region: Region) -> list[float]:
    """Measure the soft Dice of each region with the scores that are nearer to it than to the others."""
    seeds = np.zeros(plane.shape, np.uint8)
    height, width = plane.shape
    # the smallest last, so that no other covers it on the coarse grid
    for number, one in enumerate(instances, start=1):
        x, y, wide, high = one.box
        left, right = _find_cells(x - region.x, wide, region.width, width)
        top, bottom = _find_cells(y - region.y, high, region.height, height)
        small = cv2.resize(one.mask, (right - left, bottom - top), interpolation=cv2.INTER_AREA)
        cv2.copyTo(np.full_like(small, number), small, seeds[top:bottom, left:right])
    nearest = _find_nearest(seeds).ravel()
    count = len(instances) + 1
    total = np.bincount(nearest, plane.ravel(), count)
    inside = np.bincount(seeds.ravel(), plane.ravel(), count)
    area = np.bincount(seeds.ravel(), minlength=count)
    bottom_line = total + SCORE_ONE * area
    values = 2.0 * inside / np.where(bottom_line > 0, bottom_line, 1.0)
    return [float(value) for value in values[1:]]


def _find_cells(begin: int, length: int, pixels: int, cells: int) -> tuple[int, int]:
    """Find the cells that a range of pixels covers: at least one."""
    scale = cells / pixels
    first = min(max(0, math.floor(begin * scale)), cells - 1)
    return first, max(first + 1, min(math.ceil((begin + length) * scale), cells))
