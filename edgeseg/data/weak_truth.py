"""What a training on weak labels learns from: one array for each image, on the network's output grid.

Augmentation turns boxes, and a turned box has a larger upright one around it, which would be looser. So no new box is
drawn: each pixel of the varied image knows where it was before, and with that in which row and which column of which
box. These lines are what must hold a pixel of the structure, however the image was turned or bent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.spec import InputSpec
from edgeseg.data.augment import AugmentSpec, Random, vary_with_warp
from edgeseg.data.weak_labels import Corners, WeakLabels
from edgeseg.frame.preprocess import Pixels, mask_to_grid, place_frame

Reals = NDArray[np.float32]
# Lines of all boxes of a class in an image, as a multiple of the output grid's height; further boxes have no lines.
_LINES_PER_ROW = 16
# Neighbours that are compared: to the right, below, and on both diagonals; this many pixels of the output grid away.
NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))
DISTANCE = 2
# Blur of the image on the output grid before neighbours are compared: speckle is no border.
_BLUR = 1.0


@dataclass(frozen=True)
class WeakCase:
    """The weak labels of a case on the network's input grid."""

    unknown: NDArray[np.uint8]
    """0 and 1 (height, width, classes)."""
    boxes: tuple[tuple[Corners, ...], ...]
    """For each class, in pixels of the grid."""


def weak_to_grid(weak: WeakLabels, size: tuple[int, int], spec: InputSpec) -> WeakCase:
    """Bring weak labels onto the network's input grid, as their image is brought.

    Args:
        weak: The labels.
        size: Height and width of the image.
        spec: The input grid.
    """
    place = place_frame(spec, *size)
    scale = np.asarray([place.width / place.region.width, place.height / place.region.height])
    start = np.asarray([place.region.x, place.region.y], np.float64)
    offset = np.asarray([place.x, place.y], np.float64)
    return WeakCase(
        np.stack([mask_to_grid(one, spec) for one in weak.unknown], axis=-1),
        tuple(tuple((corners - start) * scale + offset for corners in boxes) for boxes in weak.boxes),
    )


def count_channels(classes: int) -> int:
    """Count the channels that follow the masks in a truth: unknown, rows, columns, and likeness of neighbours."""
    return 3 * classes + len(NEIGHBOURS)


def find_most_lines(height: int) -> int:
    """Find the highest number of a line on an output grid of this height."""
    return _LINES_PER_ROW * height


def vary_weak(
    pixels: Pixels,
    masks: Pixels,
    weak: WeakCase | None,
    augment: AugmentSpec | None,
    denoise: str,
    stride: int,
    random: Random,
) -> tuple[Pixels, Pixels, Reals]:
    """Augment a case of a set with weak labels.

    Args:
        pixels: Of the image.
        masks: Of the classes (height, width, classes).
        weak: Its weak labels; None where its masks are full.
        augment: How it is varied.
        denoise: The filter that follows.
        stride: The network's output stride.
        random: Of this image.

    Returns:
        The image, its masks, and what follows them in the truth.
    """
    classes = masks.shape[-1]
    both = masks if weak is None else np.concatenate([masks, weak.unknown], axis=-1)
    image, varied, warp = vary_with_warp(pixels, both, augment, denoise, random)
    if weak is None:
        return image, varied, describe_known(masks.shape[0] // stride, masks.shape[1] // stride, classes)
    rest = describe_weak(weak, varied[..., classes:], image, stride, warp)
    return image, varied[..., :classes], rest


def describe_known(height: int, width: int, classes: int) -> Reals:
    """Describe a case with full masks: nothing is unknown, and no box has lines."""
    return np.zeros((height, width, count_channels(classes)), np.float32)


def describe_weak(
    case: WeakCase, unknown: Pixels, image: Pixels, stride: int, warp: tuple[Reals, Reals] | None
) -> Reals:
    """Describe what is unknown in a varied case, the lines of its boxes, and how alike neighbours are.

    Args:
        case: The weak labels before the image was varied.
        unknown: The unknown pixels after it (height, width, classes).
        image: The varied image (height, width, channels).
        stride: The network's output stride.
        warp: For each pixel of the varied image its row and column before; None where it was not moved.
    """
    height, width = image.shape[0] // stride, image.shape[1] // stride
    squares = unknown.reshape(height, stride, width, stride, -1)
    # at the edge of a box a pixel of the output grid is unknown; a point or a line may be thinner than one
    boxed = np.asarray([bool(boxes) for boxes in case.boxes])
    open_pixels = np.where(boxed, squares.max(axis=(1, 3)), squares.min(axis=(1, 3)))
    if warp is None:
        y, x = (np.arange(n * stride, dtype=np.float32) for n in (height, width))
        warp = np.repeat(y[:, np.newaxis], width * stride, 1), np.repeat(x[np.newaxis], height * stride, 0)
    # from the middle of a pixel to places between pixels
    before = np.stack([_average(one, stride) + np.float32(0.5) for one in (warp[1], warp[0])], axis=-1)
    lines = [_number_lines(boxes, before, stride) for boxes in case.boxes]
    return np.concatenate(
        [
            open_pixels,
            np.stack([down for down, _ in lines], axis=-1),
            np.stack([across for _, across in lines], axis=-1),
            compare_neighbours(image, stride),
        ],
        axis=-1,
        dtype=np.float32,
    )


def _average(values: NDArray[Any], stride: int) -> Reals:
    height, width = values.shape
    return np.asarray(values.reshape(height // stride, stride, width // stride, stride).mean((1, 3)), np.float32)


def _number_lines(boxes: Sequence[Corners], before: Reals, stride: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number the rows and the columns of boxes on the varied output grid; 0 where there is none to be held.

    Args:
        boxes: The boxes of one class, in pixels of the grid before the variation.
        before: For each pixel of the output grid its place (x, y) there.
        stride: The network's output stride: a line is as wide as a pixel of the output grid.
    """
    rows, columns = (np.zeros(before.shape[:2], np.int64) for _ in range(2))
    taken, most = 0, find_most_lines(before.shape[0])
    # of boxes within others the smaller ones count
    for corners in sorted(boxes, key=lambda one: -_measure(one)):
        origin, right, down = corners[0], corners[1] - corners[0], corners[3] - corners[0]
        count_x, count_y = (max(1, round(float(np.hypot(*side)) / stride)) for side in (right, down))
        if taken + count_x + count_y > most:
            break
        offset = before - origin
        u, v = offset @ (right / (right @ right)), offset @ (down / (down @ down))
        inside = (u >= 0) & (u < 1) & (v >= 0) & (v < 1)
        if not inside.any():
            continue
        column, row = (u[inside] * count_x).astype(np.int64), (v[inside] * count_y).astype(np.int64)
        rows[inside] = np.where(_find_whole(row, column, count_y, count_x)[row], taken + 1 + row, 0)
        columns[inside] = np.where(_find_whole(column, row, count_x, count_y)[column], taken + 1 + count_y + column, 0)
        taken += count_x + count_y
    return rows, columns


def _measure(corners: Corners) -> float:
    return float(np.hypot(*(corners[1] - corners[0])) * np.hypot(*(corners[3] - corners[0])))


def _find_whole(lines: NDArray[np.int64], along: NDArray[np.int64], count: int, length: int) -> NDArray[np.bool_]:
    """Find the lines whose two ends are still in the picture: on others, the structure may have been cut off."""
    first, last = np.full(count, length), np.full(count, -1)
    np.minimum.at(first, lines, along)
    np.maximum.at(last, lines, along)
    # a smaller picture misses some pixels at the ends
    return np.asarray((first <= 1) & (last >= length - 2))


def compare_neighbours(image: Pixels, stride: int) -> Reals:
    """Compute how alike each pixel of the output grid is to each of its `NEIGHBOURS`, 0 to 1.

    exp(-d^2 / (2 <d^2>)) with the difference d of brightness and its mean square over the image: the smoothness term of
    Rother, Kolmogorov and Blake 2004, "GrabCut", on an image that is smoothed over the speckle.
    """
    grey = image.mean(axis=-1, dtype=np.float32)
    small = cv2.GaussianBlur(_average(grey, stride), (0, 0), _BLUR * max(1.0, 4 / stride))
    likeness = np.zeros((*small.shape, len(NEIGHBOURS)), np.float32)
    for number, step in enumerate(NEIGHBOURS):
        here, there = shift_slices(step)
        square = (small[here] - small[there]) ** 2
        likeness[(*here, number)] = np.exp(-square / max(2 * float(square.mean()), 1e-6))
    return likeness


def shift_slices(step: tuple[int, int]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the rows and columns of pixels that have a neighbour in a direction, and those of the neighbours."""
    down, across = step[0] * DISTANCE, step[1] * DISTANCE
    rows = (slice(0, -down) if down else slice(None)), slice(down, None)
    if across < 0:
        return (rows[0], slice(-across, None)), (rows[1], slice(0, across))
    return (rows[0], slice(0, -across) if across else slice(None)), (rows[1], slice(across, None))
