"""`Shape`: what labelling tools draw, as polygons; from masks and back without losing a pixel.

Points are (x, y) in pixels from the image's upper left corner, and a pixel covers a square of side 1: the pixel in the
corner lies between 0 and 1, its centre at 0.5. Formats that mean centres of pixels convert.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.spec import BOXES, MASKS, POINTS, SCRIBBLES
from edgeseg.data.weak_labels import WeakLabels, draw_marks

Points = NDArray[np.float64]
Mask = NDArray[np.uint8]
# Beyond this distance from the image a point is a typing error, and its numbers would exhaust a rasteriser.
FARTHEST = 1e6
_FEWEST_POINTS = 3
# What a shape is: an outline or mask, the box around something, or a point or a line on it.
AREA, BOX, POINT, LINE = "area", "box", "point", "line"
# The class of points and lines that lie on nothing; LabelMe's own name for it.
BACKGROUND = ("background", "_background_")


@dataclass(frozen=True)
class Shape:
    """One labelled object: its class, and closed polygons of which an inner one is a hole (even-odd rule).

    A box is a polygon of four corners in turn; points and lines are one open polygon.
    """

    class_name: str
    polygons: tuple[Points, ...]
    score: float | None = None
    """How sure a model is, 0 to 1; None for what a person drew."""
    kind: str = AREA

    def __post_init__(self) -> None:
        if not self.polygons:
            raise ValueError("expected a polygon, got none")
        for points in self.polygons:
            fewest = 1 if self.kind in (POINT, LINE) else _FEWEST_POINTS
            if points.ndim != 2 or points.shape[1] != 2 or len(points) < fewest:
                raise ValueError(f"expected at least {fewest} points (x, y), got the shape {points.shape}")
            if not np.all(np.abs(points) <= FARTHEST):  # NaN fails, too
                raise ValueError(f"expected points within {FARTHEST:g} pixels, got others")

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Compute the smallest x, y, width, height around it."""
        points = np.concatenate(self.polygons)
        low, high = points.min(axis=0), points.max(axis=0)
        return float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1])


@dataclass(frozen=True)
class AnnotatedImage:
    """The labels of one image; no shapes mean that somebody looked and nothing is there."""

    name: str
    """The file's name relative to the folder of images, with slashes."""
    width: int
    height: int
    shapes: tuple[Shape, ...]


def draw_shapes(shapes: Iterable[Shape], classes: Sequence[str], size: tuple[int, int]) -> tuple[Mask, ...]:
    """Draw shapes as one mask of 0 and 1 for each class; parts outside the image are cut off.

    Args:
        shapes: What to draw; those of one class are joined.
        classes: Names of the classes, in the order of the masks.
        size: Height and width.
    """
    masks = {name: np.zeros(size, np.uint8) for name in classes}
    for shape in shapes:
        if shape.class_name in masks:
            masks[shape.class_name] |= draw_shape(shape, size)
    return tuple(masks.values())


def draw_shape(shape: Shape, size: tuple[int, int]) -> Mask:
    """Draw a shape as a mask: areas and boxes filled, points as discs, lines of their thickness."""
    if shape.kind in (POINT, LINE):
        return draw_marks(shape.polygons, size, joined=shape.kind == LINE)
    return fill_polygons(shape.polygons, size)


def find_kind(kinds: Collection[str]) -> str:
    """Name what an image is labelled with, from the kinds of its shapes; an image without shapes shows nothing."""
    if BOX in kinds:
        return BOXES
    return SCRIBBLES if LINE in kinds else POINTS if POINT in kinds else MASKS


def find_weak(shapes: Sequence[Shape], classes: Sequence[str], size: tuple[int, int]) -> WeakLabels | None:
    """Find what shapes leave open; None where all are areas.

    A class without a shape is not there. Of a class with points or lines and no box, nothing is known but what they and
    areas mark, and what shapes of other classes and of the background mark.
    """
    kind = find_kind({shape.kind for shape in shapes})
    if kind == MASKS:
        return None
    empty = np.zeros(size, np.uint8)
    sure, filled = ({name: empty.copy() for name in classes} for _ in range(2))
    boxes: dict[str, list[Points]] = {name: [] for name in classes}
    marked, known = set(), empty.copy()
    for shape in shapes:
        drawn = draw_shape(shape, size)
        if shape.kind == BOX and shape.class_name in boxes:
            filled[shape.class_name] |= drawn
            boxes[shape.class_name].append(shape.polygons[0])
        elif shape.kind != BOX:
            known |= drawn
            if shape.class_name in sure:
                sure[shape.class_name] |= drawn
            if shape.kind in (POINT, LINE):
                marked.add(shape.class_name)
    unknown = []
    for name in classes:
        open_pixels = filled[name] if boxes[name] else empty + 1 if name in marked else empty
        unknown.append(np.asarray(open_pixels * (1 - known), np.uint8))
    return WeakLabels(kind, tuple(unknown), tuple(tuple(boxes[name]) for name in classes))


def fill_polygons(polygons: Iterable[Points], size: tuple[int, int]) -> Mask:
    """Mark the pixels whose centre lies inside an odd number of polygons."""
    height, width = size
    toggles = np.zeros((height, width + 1), np.uint8)
    for points in polygons:
        _toggle_crossings(toggles, np.asarray(points, np.float64))
    return np.bitwise_xor.accumulate(toggles, axis=1)[:, :width]


def crop_shape(shape: Shape, size: tuple[int, int]) -> tuple[int, int, Mask]:
    """Draw a shape into the smallest rectangle of whole pixels that holds its part inside the image.

    Args:
        shape: What to draw.
        size: Height and width of the image.

    Returns:
        Left, top, and the mask; outside the image a mask of one empty pixel.
    """
    x, y, width, height = shape.box
    left, top = int(np.clip(np.floor(x), 0, size[1] - 1)), int(np.clip(np.floor(y), 0, size[0] - 1))
    right, bottom = min(int(np.ceil(x + width)), size[1]), min(int(np.ceil(y + height)), size[0])
    moved = [points - (left, top) for points in shape.polygons]
    return left, top, fill_polygons(moved, (max(bottom - top, 1), max(right - left, 1)))


def _toggle_crossings(toggles: Mask, points: Points) -> None:
    """Note where the line through the centres of each row enters or leaves a polygon."""
    height, width = toggles.shape[0], toggles.shape[1] - 1
    x, y = points.T
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    # each edge from its upper end: a seam that is drawn there and back must round alike both times
    falls = next_y < y
    x, y, next_x, next_y = (np.where(falls, a, b) for a, b in ((next_x, x), (next_y, y), (x, next_x), (y, next_y)))
    # rows whose centre lies in [lower end, upper end) of an edge: each corner counts once
    first = np.clip(np.ceil(np.minimum(y, next_y) - 0.5), 0, height).astype(np.int64)
    after = np.clip(np.ceil(np.maximum(y, next_y) - 0.5), 0, height).astype(np.int64)
    counts = after - first
    edges = np.repeat(np.arange(len(x)), counts)
    rows = np.arange(len(edges)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edges]
    share = (rows + 0.5 - y[edges]) / (next_y - y)[edges]
    crossing = x[edges] + share * (next_x - x)[edges]
    columns = np.clip(np.ceil(crossing - 0.5), 0, width).astype(np.int64)
    np.bitwise_xor.at(toggles, (rows, columns), np.uint8(1))


def trace_mask(mask: NDArray[Any], class_name: str, score: float | None = None) -> tuple[Shape, ...]:
    """Trace every region of a mask along the edges of its pixels, with its holes; drawn again, it is the same mask.

    Args:
        mask: What is not 0 is marked.
        class_name: The class of the shapes.
        score: How sure a model is of them.
    """
    # at twice the size a border pixel tells on which side of its pixel the edge lies
    double = np.repeat(np.repeat(np.asarray(mask != 0, np.uint8), 2, axis=0), 2, axis=1)
    found, tree = cv2.findContours(double, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if not found or tree is None:
        return ()
    corners = [_to_corners(np.asarray(outline)) for outline in found]
    holes: dict[int, list[Points]] = {}
    for points, (_, _, _, parent) in zip(corners, tree[0], strict=True):
        if parent >= 0:
            holes.setdefault(int(parent), []).append(points)
    return tuple(
        Shape(class_name, (points, *holes.get(number, ())), score)
        for number, (points, (_, _, _, parent)) in enumerate(zip(corners, tree[0], strict=True))
        if parent < 0
    )


def _to_corners(outline: NDArray[Any]) -> Points:
    """Convert border pixels at twice the size to corners of pixels, without points inside straight lines."""
    points = (outline.reshape(-1, 2) + 1) // 2
    kept = points[np.any(points != np.roll(points, 1, axis=0), axis=1)]
    before, after = kept - np.roll(kept, 1, axis=0), np.roll(kept, -1, axis=0) - kept
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    return np.asarray(kept[turns], np.float64)


def trace_labels(labels: Mask, classes: Sequence[str], scores: Sequence[float | None] = ()) -> tuple[Shape, ...]:
    """Trace a label map, where k is the k-th class.

    Args:
        labels: The label map.
        classes: Names of the classes.
        scores: How sure a model is of each class.
    """
    given = [*scores, *[None] * (len(classes) - len(scores))]
    return tuple(
        shape
        for number, (name, score) in enumerate(zip(classes, given, strict=True), start=1)
        for shape in trace_mask(labels == number, name, score)
    )
