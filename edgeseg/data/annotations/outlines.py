"""Which pixels an outline marks, as each tool's own library draws it.

LabelMe and YOLO: a point lies in the pixel (floor of x, floor of y), between points runs a line of pixels, and what the
outline touches is marked (Pillow's polygon, OpenCV's fillPoly). An outline at the centres of a region's outermost
pixels is therefore drawn as that region.

COCO and CVAT: points are edges of pixels, and an outline is traced on a grid five times as fine (pycocotools).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from edgeseg.data.annotations.shapes import Mask, Points, Shape, trace_mask

# Coordinates with six decimals of a share are up to 0.02 pixels off, and would fall into the pixel before.
_ROUNDING = 0.02
_CENTRE = 0.5
# Points of an outline that are compared at once with all corners of its holes.
_BLOCK = 64
# pycocotools draws on a grid that is finer by this factor; an outline of more points there is drawn by its edges.
_FINE, _FINE_POINTS = 5.0, 4_000_000


def draw_touched(polygons: Iterable[Points], size: tuple[int, int]) -> Mask:
    """Mark the pixels inside outlines and on them.

    Args:
        polygons: Outlines, joined by the even-odd rule.
        size: Height and width.
    """
    mask = np.zeros(size, np.uint8)
    cv2.fillPoly(mask, [np.floor(points + _ROUNDING).astype(np.int32) for points in polygons], (1,))
    return mask


def trace_touched(points: Points, class_name: str, size: tuple[int, int]) -> tuple[Shape, ...]:
    """Convert an outline through pixels to shapes between edges of pixels.

    Args:
        points: The outline.
        class_name: Its class.
        size: Height and width of the image.
    """
    low = np.clip(np.floor(points.min(axis=0)) - 1, 0, (size[1], size[0])).astype(np.int64)
    high = np.clip(np.floor(points.max(axis=0)) + 2, 0, (size[1], size[0])).astype(np.int64)
    width, height = (high - low).tolist()
    if not width or not height:
        return ()
    traced = trace_mask(draw_touched([points - low], (height, width)), class_name)
    return tuple(Shape(class_name, tuple(one + low for one in shape.polygons)) for shape in traced)


def trace_between(
    points: Points, class_name: str, size: tuple[int, int], score: float | None = None
) -> tuple[Shape, ...]:
    """Convert an outline between pixels to shapes that cover what pycocotools marks.

    Args:
        points: The outline.
        class_name: Its class.
        size: Height and width of the image.
        score: How sure a model is of it.
    """
    mask = draw_between(points, size)
    return (Shape(class_name, (points,), score),) if mask is None else trace_mask(mask, class_name, score)


def draw_between(points: Points, size: tuple[int, int]) -> Mask | None:
    """Mark the pixels of an outline as rleFrPoly of pycocotools' maskApi.c does; None for one far outside the image."""
    height, width = size
    fine = np.trunc(_FINE * points + 0.5)
    start, end = fine, np.roll(fine, -1, axis=0)
    lengths = np.abs(end - start).max(axis=1).astype(np.int64) + 1
    if lengths.sum() > _FINE_POINTS:
        return None
    along = (np.abs(end - start)[:, 0] >= np.abs(end - start)[:, 1]).astype(np.int64)[:, np.newaxis]
    # the coordinate that changes more is counted up, the other one is rounded
    lead = np.where(along, start, start[:, ::-1]), np.where(along, end, end[:, ::-1])
    flip = lead[0][:, 0] > lead[1][:, 0]
    low, high = np.where(flip[:, np.newaxis], lead[1], lead[0]), np.where(flip[:, np.newaxis], lead[0], lead[1])
    slope = (high[:, 1] - low[:, 1]) / np.maximum(high[:, 0] - low[:, 0], 1)
    edge = np.repeat(np.arange(len(points)), lengths)
    step = np.arange(len(edge)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    step = np.where(flip[edge], lengths[edge] - 1 - step, step)
    first, second = step + low[edge, 0], np.trunc(low[edge, 1] + slope[edge] * step + 0.5)
    u, v = np.where(along[edge, 0], first, second), np.where(along[edge, 0], second, first)
    column = (np.where(u[1:] < u[:-1], u[1:], u[1:] - 1) + 0.5) / _FINE - 0.5
    row = np.ceil(np.clip((np.minimum(v[1:], v[:-1]) + 0.5) / _FINE - 0.5, 0, height))
    kept = (u[1:] != u[:-1]) & (np.floor(column) == column) & (column >= 0) & (column <= width - 1)
    toggles = np.zeros(height * width + 1, np.uint8)
    np.bitwise_xor.at(toggles, (column[kept] * height + row[kept]).astype(np.int64), np.uint8(1))
    return np.ascontiguousarray(np.bitwise_xor.accumulate(toggles)[:-1].reshape(width, height).T)


def outline_mask(mask: Mask) -> list[Points]:
    """Find outlines through the centres of pixels that `draw_touched` draws as the mask, each on its own.

    A hole is joined to its outline by a seam, there and back. Where a seam cannot be drawn without marking a pixel of a
    hole, the mask is cut in two.
    """
    found, tree = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if not found or tree is None:
        return []
    points = [np.asarray(one, np.float64).reshape(-1, 2) + _CENTRE for one in found]
    holes: dict[int, list[Points]] = {}
    for one, (_, _, _, parent) in zip(points, tree[0], strict=True):
        holes.setdefault(int(parent), []).append(one)
    outlines = [
        join_by_seams([points[number], *holes.get(number, ())])
        for number in range(len(points))
        if tree[0][number][3] < 0
    ]
    drawn = np.zeros_like(mask)
    for outline in outlines:
        drawn |= draw_touched([outline], (mask.shape[0], mask.shape[1]))
    if np.array_equal(drawn, mask) or mask.shape[1] < 2:
        return outlines
    middle = mask.shape[1] // 2
    right = [one + np.asarray([middle, 0]) for one in outline_mask(np.ascontiguousarray(mask[:, middle:]))]
    return [*outline_mask(np.ascontiguousarray(mask[:, :middle])), *right]


def join_by_seams(polygons: Sequence[Points]) -> Points:
    """Join polygons to one by seams between their nearest corners, the nearest polygon first.

    The segments of an object are joined like that by ultralytics, too.
    """
    joined, inner = polygons[0], polygons[1:]
    if inner:
        corners = np.concatenate(inner)
        owners = np.repeat(np.arange(len(inner)), [len(one) for one in inner])
        nearest = _Nearest(corners)
        nearest.relax(joined)
        for _ in inner:
            corner = int(nearest.distances.argmin())
            number = int(owners[corner])
            start = int(np.flatnonzero(np.all(joined == nearest.points[corner], axis=1))[0])
            turned = np.roll(inner[number], int(np.flatnonzero(owners == number)[0]) - corner, axis=0)
            # to the inner polygon, once around it, and back
            joined = np.concatenate([joined[: start + 1], turned, turned[:1], joined[start:]])
            nearest.relax(turned)
            nearest.distances[owners == number] = np.inf
            nearest.done[owners == number] = True
    # three points make a polygon for every tool
    return np.concatenate([joined, *[joined[:1]] * (3 - len(joined))]) if len(joined) < 3 else joined


class _Nearest:
    """For each corner that is not joined yet, the nearest one that is."""

    def __init__(self, corners: Points) -> None:
        self._corners = corners
        self.points = np.zeros_like(corners)
        self.distances = np.full(len(corners), np.inf)
        self.done = np.zeros(len(corners), bool)

    def relax(self, points: Points) -> None:
        """Add joined points, some at a time: all distances at once would fill the memory."""
        for block in np.array_split(points, len(points) // _BLOCK + 1):
            distances = np.sum((block[:, np.newaxis] - self._corners) ** 2, axis=2)
            best = distances.argmin(axis=0)
            least = distances[best, np.arange(len(best))]
            closer = (least < self.distances) & ~self.done
            self.distances[closer], self.points[closer] = least[closer], block[best[closer]]
