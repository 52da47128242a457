"""Near-duplicate images: in different groups, they leak test cases into the training."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.data.reading import Case

# Side of a thumbnail in pixels.
SIDE = 32
# Correlation above which two thumbnails are near-duplicates: a suspicion, as frames of an empty field look alike, too.
THRESHOLD = 0.95
# Rows of the correlation matrix that are in memory at once.
BLOCK = 1024


@dataclass(frozen=True)
class DuplicatePair:
    """Two cases that look nearly the same; correlation 1: equal up to brightness and contrast."""

    first: Case
    second: Case
    correlation: float

    @property
    def leaks(self) -> bool:
        """Say whether one may be in the training and the other in the test part."""
        if self.first.part:
            return self.first.part != self.second.part
        return self.first.group != self.second.group

    def to_json(self) -> dict[str, Any]:
        """Convert the pair to a JSON table."""
        return {
            "cases": [self.first.stem, self.second.stem],
            "correlation": round(self.correlation, 4),
            "across": self.leaks,
        }


def make_thumbnail(frame: NDArray[Any]) -> NDArray[np.float32]:
    """Shrink a frame to 32x32 numbers per channel, of mean 0 and norm 1; a uniform frame gives zeros."""
    small = cv2.resize(frame.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA).ravel()
    centred = small - small.mean()
    length = float(np.linalg.norm(centred))
    return np.asarray(centred / length if length > 1e-3 else centred * 0, dtype=np.float32)


def find_duplicates(cases: Sequence[Case], thumbnails: NDArray[np.float32]) -> list[DuplicatePair]:
    """Find the pairs whose thumbnails correlate above the threshold, the most alike first."""
    pairs = []
    for start in range(0, len(cases), BLOCK):
        correlations = thumbnails[start : start + BLOCK] @ thumbnails.T
        for row, column in np.argwhere(correlations > THRESHOLD):
            if column > start + row:
                alike = float(min(correlations[row, column], 1.0))
                pairs.append(DuplicatePair(cases[start + row], cases[column], alike))
    return sorted(pairs, key=lambda pair: -pair.correlation)


def join_groups(cases: Sequence[Case], pairs: Sequence[DuplicatePair]) -> tuple[Case, ...]:
    """Merge groups that near-duplicates connect (union-find); the first group's name stays."""
    leader = {case.group: case.group for case in cases}

    def find(group: str) -> str:
        while leader[group] != group:
            leader[group] = group = leader[leader[group]]
        return group

    for pair in pairs:
        first, second = sorted((find(pair.first.group), find(pair.second.group)))
        leader[second] = first
    return tuple(dataclasses.replace(case, group=find(case.group)) for case in cases)
