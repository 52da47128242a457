"""Whether a map is true to the network: deletion and insertion curves, against maps that ask no network.

Deletion (Petsiuk et al., BMVC 2018) blurs the pixels that a map names first, more and more of them: the score of a true
map falls at once. Insertion brings them back into the blurred frame: the score of a true map rises at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.explanation.targets import Map, Probe, Target

# Shares of the frame that are changed: finer at the beginning, since a mask covers a small part.
STEPS = 16
SHARES = tuple(float(share) for share in np.linspace(0.0, 1.0, STEPS + 1) ** 2)
# Random maps that each map is compared with, and their cells along the longer side: patches as occlusion has them.
RANDOM_MAPS, RANDOM_CELLS = 5, 8
_SEED = 1
# Below it a score is no score: areas are shares of the unchanged frame's score.
_LEAST_SCORE = 1e-3


@dataclass(frozen=True)
class Areas:
    """Areas under the curves, as shares of what the unchanged frame scores."""

    deletion: float
    """Low is good."""
    insertion: float
    """High is good."""

    @property
    def gap(self) -> float:
        """Give insertion less deletion: 0 for a map that knows nothing, 1 at best."""
        return self.insertion - self.deletion


@dataclass(frozen=True)
class Faithfulness:
    """A map's areas beside those of maps that ask no network."""

    areas: Areas
    random: Areas
    """The mean of several random maps."""
    edges: Areas
    """Of the brightness' gradient, for which no network is needed."""
    mask: Areas
    """Of the mask itself with a soft rim: the map that only repeats where the mask is."""
    better_than_random: bool
    """Than each of the random maps."""
    better_than_edges: bool
    better_than_mask: bool
    """Else the map tells where the mask is, and no more."""

    @property
    def is_better(self) -> bool:
        """Say whether the map tells more of the network than a map that asks none."""
        return self.better_than_random and self.better_than_edges

    @property
    def sentence(self) -> str:
        """Say in one sentence what the map is worth."""
        if self.is_better:
            more = "" if self.better_than_mask else ", but tells no more than the mask itself"
            return f"The map is better than random and edges here{more}."
        if not (self.better_than_random or self.better_than_edges):
            return "The map is NOT better than random or edges here: do not rely on it."
        won, lost = ("random", "edges") if self.better_than_random else ("edges", "random")
        return f"The map is better than {won}, but NOT than {lost} here: do not rely on it."


def measure_faithfulness(probe: Probe, target: Target, found: Map) -> Faithfulness:
    """Measure a map's deletion and insertion areas, and those of maps that ask no network."""
    areas = measure_areas(probe, target, found)
    random = [measure_areas(probe, target, one) for one in draw_random_maps(probe.shape)]
    edges = measure_areas(probe, target, draw_edges(probe))
    mask = measure_areas(probe, target, draw_mask(probe, target))
    return Faithfulness(
        areas,
        Areas(_mean([one.deletion for one in random]), _mean([one.insertion for one in random])),
        edges,
        mask,
        better_than_random=all(areas.gap > one.gap for one in random),
        better_than_edges=areas.gap > edges.gap,
        better_than_mask=areas.gap > mask.gap,
    )


def measure_areas(probe: Probe, target: Target, found: Map) -> Areas:
    """Measure the areas under the deletion and the insertion curve of one map."""
    ranks = rank_cells(found)
    base = max(_LEAST_SCORE, float(probe.ask(np.ones((1, 1), np.float32), (target,))[0]))
    deleted, inserted = [], []
    for share in SHARES:
        taken = np.asarray(ranks < share * ranks.size, np.float32)
        deleted.append(float(probe.ask(1.0 - taken, (target,))[0]) / base)
        inserted.append(float(probe.ask(taken, (target,))[0]) / base)
    return Areas(round(_integrate(deleted), 5), round(_integrate(inserted), 5))


def _integrate(values: list[float]) -> float:
    """Integrate a curve over the shares with the trapezoidal rule."""
    heights = np.asarray(values)
    return float((np.diff(SHARES) * (heights[1:] + heights[:-1]) / 2).sum())


def rank_cells(found: Map) -> NDArray[np.int64]:
    """Rank the cells of a map from the highest, 0, on; equal ones by chance, or the upper left would come first."""
    chance = np.random.default_rng(_SEED).random(found.size)
    order = np.lexsort((chance, -found.ravel()))
    ranks = np.empty(found.size, np.int64)
    ranks[order] = np.arange(found.size)
    return ranks.reshape(found.shape)


def draw_random_maps(shape: tuple[int, int]) -> list[Map]:
    """Draw smooth random maps, whose patches are as large as those of a real one."""
    generator = np.random.default_rng(_SEED)
    rows, columns = (max(2, round(RANDOM_CELLS * side / max(shape))) for side in shape)
    size = (shape[1], shape[0])
    return [
        np.asarray(cv2.resize(generator.random((rows, columns), np.float32), size, interpolation=cv2.INTER_CUBIC))
        for _ in range(RANDOM_MAPS)
    ]


def draw_edges(probe: Probe) -> Map:
    """Draw the strength of the edges: the gradient's magnitude (Sobel) of the smoothed picture."""
    grey = probe.pixels.astype(np.float32).mean(axis=2)
    smooth = cv2.GaussianBlur(grey, (0, 0), max(grey.shape) / 128)
    strength = cv2.magnitude(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))
    return np.asarray(cv2.resize(strength, probe.shape[::-1], interpolation=cv2.INTER_AREA), np.float32)


def draw_mask(probe: Probe, target: Target) -> Map:
    """Draw the mask that is explained, with a rim that fades away."""
    mask = cv2.resize(target.mask.astype(np.float32), probe.shape[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(mask + cv2.GaussianBlur(mask, (0, 0), max(probe.shape) / 16), np.float32)


def _mean(values: list[float]) -> float:
    return round(float(np.mean(values)), 5)
