"""Maps of what speaks for a mask by covering parts of a frame: occlusion and RISE. Inference is all that they need.

Every method takes a probe and targets and gives a map for each: positive where pixels speak for the target, negative
where they speak against it. All targets share the same inferences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.explanation.targets import Map, Probe, Target

Method = Callable[[Probe, Sequence[Target]], list[Map]]
# Sides of the patches in cells, of 64 along the longer side. Each is moved by half its side, the smallest by all of it.
PATCHES = (4, 8, 16)
# Random masks of RISE, and the cells of each along the longer side.
MASKS, MASK_CELLS = 600, 8
_SEED = 0


def occlude(probe: Probe, targets: Sequence[Target]) -> list[Map]:
    """Cover patches of several sizes, one at a time, and note what each costs (Zeiler and Fergus, ECCV 2014).

    A patch of each size costs most where it hides the whole reason; sizes are averaged after each is scaled to the same
    spread, since large patches cost more than small ones.
    """
    base = probe.ask(np.ones((1, 1), np.float32), targets)
    total = np.zeros((len(targets), *probe.shape))
    for side in PATCHES:
        drops, counts = np.zeros((len(targets), *probe.shape)), np.zeros(probe.shape)
        step = side if side == min(PATCHES) else side // 2
        for rows, columns in _list_patches(probe.shape, side, step):
            kept = np.ones(probe.shape, np.float32)
            kept[rows, columns] = 0.0
            drops[:, rows, columns] += (base - probe.ask(kept, targets))[:, None, None]
            counts[rows, columns] += 1.0
        drops /= counts
        spread = drops.std(axis=(1, 2), keepdims=True)
        total += np.divide(drops, spread, out=np.zeros_like(drops), where=spread > 0)
    return [np.asarray(one, np.float32) for one in total / len(PATCHES)]


def _list_patches(shape: tuple[int, int], side: int, step: int) -> Iterator[tuple[slice, slice]]:
    for y in _list_starts(shape[0], side, step):
        for x in _list_starts(shape[1], side, step):
            yield slice(y, y + side), slice(x, x + side)


def _list_starts(length: int, side: int, step: int) -> list[int]:
    starts = list(range(0, max(1, length - side + 1), step))
    # the last patch ends at the border
    return starts if starts[-1] + side >= length else [*starts, length - side]


def mask_randomly(probe: Probe, targets: Sequence[Target]) -> list[Map]:
    """Cover random halves of the frame, and correlate what is covered with the score (RISE: Petsiuk et al., BMVC 2018).

    The covariance in place of the weighted sum: without the mean score, fewer masks give the same map.
    """
    generator = np.random.default_rng(_SEED)
    drawn = np.stack([_draw_mask(generator, probe.shape) for _ in range(MASKS)])
    scores = np.stack([probe.ask(mask, targets) for mask in drawn])
    scores -= scores.mean(axis=0)
    drawn -= drawn.mean(axis=0)
    return [np.asarray(np.tensordot(one, drawn, axes=1) / MASKS, np.float32) for one in scores.T]


def _draw_mask(generator: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Draw a smooth mask: random cells of half the frame, enlarged and shifted by a part of a cell."""
    cell = max(1, round(max(shape) / MASK_CELLS))
    rows, columns = -(-shape[0] // cell) + 1, -(-shape[1] // cell) + 1
    coarse = (generator.random((rows, columns)) < 0.5).astype(np.float32)
    large = np.asarray(cv2.resize(coarse, (columns * cell, rows * cell), interpolation=cv2.INTER_LINEAR))
    y, x = generator.integers(0, cell, 2)
    return np.asarray(large[y : y + shape[0], x : x + shape[1]], np.float32)
