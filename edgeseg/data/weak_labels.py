"""Weak labels: boxes, points or scribbles in place of masks; what they say of each pixel, and how masks become them.

A box says that everything outside all boxes of its class is something else; within, it is taken for the ellipse that
touches its sides, whose rim is left open. Points and scribbles say something of the pixels that they cover alone.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.spec import BOXES, POINTS, SCRIBBLES, WEAK_KINDS, InputSpec
from edgeseg.frame.preprocess import mask_to_grid, place_frame

Mask = NDArray[np.uint8]
Corners = NDArray[np.float64]
Bits = NDArray[np.bool_]

# A pixel of a label map of scribbles of which nothing is known.
UNLABELLED = 255
# What points and lines mark, as a share of the image's longer side: a click is rarely more exact.
MARK_SHARE = 0.01
# The rim of a box's ellipse, as shares of the one that touches its sides (docs/decisions/0071).
CORE, REACH = 0.85, 1.15
# Points of the background that an image gets beside one for each region, when masks are made into points.
_BACKGROUND_POINTS = 5
# Distance of a background scribble from what is marked, as a share of the image's longer side.
_SCRIBBLE_DISTANCE = 0.06
# Regions of masks with fewer pixels are specks that nobody would draw a box around.
_SMALLEST_REGION = 4


@dataclass(frozen=True)
class WeakLabels:
    """What weak labels leave open in one image; beside them, its masks say what is marked."""

    kind: str
    """boxes, points or scribbles."""
    unknown: tuple[Mask, ...]
    """For each class the pixels of which nothing is known: 0 and 1, at the image's size."""
    boxes: tuple[tuple[Corners, ...], ...]
    """For each class the four corners of its boxes, (x, y) between pixels, in turn around the box."""

    def __post_init__(self) -> None:
        if self.kind not in WEAK_KINDS:
            raise ValueError(f"expected one of {', '.join(WEAK_KINDS)}, got {self.kind!r}")
        if len(self.unknown) != len(self.boxes):
            raise ValueError(f"expected boxes for {len(self.unknown)} classes, got {len(self.boxes)}")

    def reorder(self, order: Sequence[int]) -> WeakLabels:
        """Bring the classes into another order."""
        unknown = tuple(self.unknown[number] for number in order)
        return WeakLabels(self.kind, unknown, tuple(self.boxes[number] for number in order))


def mark_radius(size: tuple[int, int]) -> int:
    """Compute the radius of what a point or a line marks in an image of this height and width."""
    return max(1, round(MARK_SHARE * max(size)))


def draw_marks(lines: Iterable[NDArray[Any]], size: tuple[int, int], joined: bool) -> Mask:
    """Draw points as discs, or lines of their thickness.

    Args:
        lines: Points (x, y) between pixels.
        size: Height and width.
        joined: Whether the points of one entry are joined by a line.
    """
    drawn, radius = np.zeros(size, np.uint8), mark_radius(size)
    for points in lines:
        pixels = np.floor(points).astype(np.int32)
        if joined:
            cv2.polylines(drawn, [pixels.reshape(-1, 1, 2)], False, 1, 2 * radius + 1)
        for x, y in pixels.tolist():
            cv2.circle(drawn, (x, y), radius, 1, -1)
    return drawn


def take_boxes(masks: Sequence[Mask], boxes: Sequence[Sequence[Corners]], sure: Sequence[Mask]) -> WeakLabels:
    """Describe boxes: nothing is known within them, but for what is marked in another way.

    Args:
        masks: For each class everything that is marked, filled boxes included.
        boxes: For each class its boxes.
        sure: For each class the pixels that an outline, a point or a line marks.
    """
    unknown = tuple(
        np.asarray((mask > 0) & (certain == 0), np.uint8) if corners else np.zeros_like(mask)
        for mask, corners, certain in zip(masks, boxes, sure, strict=True)
    )
    return WeakLabels(BOXES, unknown, tuple(tuple(one) for one in boxes))


def take_label_map(labels: NDArray[Any], classes: int) -> tuple[tuple[Mask, ...], WeakLabels]:
    """Take a label map of scribbles: 0 is background, k the k-th class, `UNLABELLED` nothing."""
    masks = tuple((labels == number).astype(np.uint8) for number in range(1, classes + 1))
    unknown = (labels == UNLABELLED).astype(np.uint8)
    return masks, WeakLabels(SCRIBBLES, (unknown,) * classes, ((),) * classes)


def weak_to_grid(weak: WeakLabels, masks: Mask, size: tuple[int, int], spec: InputSpec) -> Mask:
    """Bring weak labels onto the network's input grid, as their image is brought.

    Args:
        weak: The labels.
        masks: What is marked, on the grid (height, width, classes).
        size: Height and width of the image.
        spec: The input grid.

    Returns:
        The masks that are learned from, and behind them for each class what is unknown: 0 and 1.
    """
    place = place_frame(spec, *size)
    scale = np.asarray([place.width / place.region.width, place.height / place.region.height])
    start = np.asarray([place.region.x, place.region.y], np.float64)
    offset = np.asarray([place.x, place.y], np.float64)
    learned, unknown = masks.copy(), np.stack([mask_to_grid(one, spec) for one in weak.unknown], axis=-1)
    for number, boxes in enumerate(weak.boxes):
        if boxes:
            ellipses, rims = draw_ellipses([(one - start) * scale + offset for one in boxes], masks.shape[:2])
            inside = unknown[..., number] > 0
            learned[..., number] = np.where(inside, ellipses, masks[..., number])
            unknown[..., number] = inside & rims
    return np.concatenate([learned, unknown], axis=-1)


def draw_ellipses(boxes: Sequence[Corners], size: tuple[int, ...]) -> tuple[Bits, Bits]:
    """Draw the ellipses that touch the sides of boxes, and their rims, where those are in no other's core.

    Args:
        boxes: Their corners, (x, y) between pixels.
        size: Height and width.
    """
    places = np.dstack(np.meshgrid(np.arange(size[1]) + 0.5, np.arange(size[0]) + 0.5))
    nearest = np.full(size, np.inf)
    for corners in boxes:
        right, down = corners[1] - corners[0], corners[3] - corners[0]
        offset = places - corners.mean(axis=0)
        distance = np.hypot(offset @ (2 * right / (right @ right)), offset @ (2 * down / (down @ down)))
        # of a box without a pixel's centre, the nearest one is marked
        nearest = np.minimum(nearest, distance - max(0.0, float(distance.min()) - 1.0))
    return nearest <= 1.0, (nearest > CORE) & (nearest < REACH)


def shrink_known(masks: Mask, unknown: Mask, stride: int) -> NDArray[np.float32]:
    """Average what is known of masks over the squares of an output grid; behind them, say where nothing is known.

    Args:
        masks: Masks (height, width, channels) of the classes, maybe with the background in front.
        unknown: What is unknown of the classes: 0 and 1.
        stride: The network's output stride.
    """
    height, width, classes = unknown.shape
    known = 1 - unknown
    if masks.shape[-1] > classes:
        known = np.concatenate([known.min(axis=-1, keepdims=True), known], axis=-1)
    squares = height // stride, stride, width // stride, stride, -1
    counts, marked, drawn = (
        part.reshape(squares).sum(axis=(1, 3), dtype=np.float32) for part in (known, masks * known, masks)
    )
    truth = np.where(counts > 0, marked / np.maximum(counts, 1), drawn / stride**2)
    return np.concatenate([truth, counts[..., -classes:] == 0], axis=-1, dtype=np.float32)


def count_boxes(weak: WeakLabels) -> int:
    """Count the boxes of an image."""
    return sum(len(boxes) for boxes in weak.boxes)


def weaken(masks: Sequence[Mask], kind: str, name: str, seed: int = 0) -> tuple[tuple[Mask, ...], WeakLabels | None]:
    """Make weak labels of full masks, as a person would have drawn them; an image that shows nothing stays as it is.

    Args:
        masks: One mask for each class.
        kind: boxes, points or scribbles.
        name: The image's name: with the seed, it decides where points of the background lie.
        seed: Of the points.
    """
    if not any(mask.any() for mask in masks):
        return tuple(masks), None
    if kind == BOXES:
        boxes = [surround(mask) for mask in masks]
        filled = tuple(_fill(mask.shape, corners) for mask, corners in zip(masks, boxes, strict=True))
        return filled, take_boxes(filled, boxes, [np.zeros_like(mask) for mask in masks])
    random = np.random.default_rng((seed, zlib.crc32(name.encode("utf-8", "surrogateescape"))))
    draw = _draw_points if kind == POINTS else _draw_scribbles
    marks, background = draw(masks, random)
    # marks never leave what they stand for: a thick line would, in a small region
    marks = tuple(np.asarray(mark & mask, np.uint8) for mark, mask in zip(marks, masks, strict=True))
    known = np.asarray(background | np.bitwise_or.reduce(np.stack(marks)), np.uint8)
    unknown = np.asarray(1 - known, np.uint8)
    # a class without a mark is not there, as in any image that somebody has looked at
    open_for = tuple(unknown if mark.any() else np.zeros_like(unknown) for mark in marks)
    return marks, WeakLabels(kind, open_for, ((),) * len(marks))


def find_regions(mask: Mask) -> list[tuple[int, int, int, int]]:
    """Find the boxes around the connected regions of a mask: left, top, right, bottom, between pixels."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    return [(x, y, x + w, y + h) for x, y, w, h, area in stats[1:].tolist() if area >= _SMALLEST_REGION]


def fill_regions(mask: Mask) -> Mask:
    """Fill the boxes around the connected regions of a mask."""
    filled = np.zeros_like(mask)
    for left, top, right, bottom in find_regions(mask):
        filled[top:bottom, left:right] = 1
    return filled


def box_agreement(predicted: Mask, boxes: Mask) -> float:
    """Compute the IoU of the boxes around what is predicted with filled label boxes."""
    found = fill_regions(predicted) > 0
    either = np.count_nonzero(found | (boxes > 0))
    return float(np.count_nonzero(found & (boxes > 0)) / either) if either else 1.0


def surround(mask: Mask) -> list[Corners]:
    """Draw the boxes around the connected regions of a mask."""
    return [
        np.asarray([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64)
        for left, top, right, bottom in find_regions(mask)
    ]


def _fill(size: tuple[int, ...], boxes: Sequence[Corners]) -> Mask:
    filled = np.zeros(size, np.uint8)
    for corners in boxes:
        (left, top), (right, bottom) = corners.min(axis=0).astype(int), corners.max(axis=0).astype(int)
        filled[top:bottom, left:right] = 1
    return filled


def _list_regions(mask: Mask) -> list[Mask]:
    count, numbers, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    sizes = stats[1:, cv2.CC_STAT_AREA]
    return [(numbers == k).astype(np.uint8) for k in range(1, count) if sizes[k - 1] >= _SMALLEST_REGION]


def _draw_points(masks: Sequence[Mask], random: np.random.Generator) -> tuple[tuple[Mask, ...], Mask]:
    """Draw one point into every region, where it is thickest, and some into the background."""
    size = (masks[0].shape[0], masks[0].shape[1])
    marks = []
    for mask in masks:
        middles = [np.unravel_index(int(_depth(region).argmax()), size) for region in _list_regions(mask)]
        marks.append(draw_marks([np.asarray([[x + 0.5, y + 0.5]]) for y, x in middles], size, joined=False))
    outside = _depth(1 - _join(masks), beyond=1) > 2 * mark_radius(size)
    places = np.flatnonzero(outside)
    chosen = random.permutation(places)[:_BACKGROUND_POINTS]
    points = [np.asarray([[place % size[1] + 0.5, place // size[1] + 0.5]]) for place in chosen]
    return tuple(marks), draw_marks(points, size, joined=False)


def _draw_scribbles(masks: Sequence[Mask], random: np.random.Generator) -> tuple[tuple[Mask, ...], Mask]:
    """Draw the inner half of each region's skeleton, and half of a line around everything."""
    size = (masks[0].shape[0], masks[0].shape[1])
    pen = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * mark_radius(size) + 1,) * 2)
    marks = []
    for mask in masks:
        lines = np.zeros(size, np.uint8)
        for region in _list_regions(mask):
            depth = _depth(region)
            lines |= ((find_skeleton(region) > 0) & (depth >= depth.max() / 2)).astype(np.uint8)
        marks.append(np.asarray(cv2.dilate(lines, pen), np.uint8))
    ring = np.zeros(size, np.uint8)
    distance = _depth(1 - _join(masks), beyond=1)
    around = (distance <= _SCRIBBLE_DISTANCE * max(size)).astype(np.uint8)
    outlines, _ = cv2.findContours(around, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    for outline in outlines:
        start = int(random.integers(len(outline)))
        half = np.roll(outline, -start, axis=0)[: math.ceil(len(outline) / 2)]
        cv2.polylines(ring, [half], False, 1, 2 * mark_radius(size) + 1)
    return tuple(marks), np.asarray(ring & (distance > 0), np.uint8)


def _join(masks: Sequence[Mask]) -> Mask:
    return np.asarray(np.bitwise_or.reduce(np.stack(masks)) > 0, np.uint8)


def _depth(mask: Mask, beyond: int = 0) -> NDArray[np.float32]:
    """Compute each pixel's distance to the nearest pixel outside; beyond the image's border all is 0 or 1."""
    framed = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=beyond)
    return np.asarray(cv2.distanceTransform(framed, cv2.DIST_L2, 3)[1:-1, 1:-1], np.float32)


def find_skeleton(mask: Mask) -> Mask:
    """Find the morphological skeleton: what openings by a growing cross lose (Lantuejoul 1978)."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    skeleton, left = np.zeros_like(mask), mask.copy()
    while left.any():
        smaller = cv2.erode(left, cross, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        skeleton |= np.asarray((left > 0) & (cv2.dilate(smaller, cross) == 0), np.uint8)
        left = np.asarray(smaller, np.uint8)
    return skeleton
