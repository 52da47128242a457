"""Which part of a frame is the ultrasound picture: said by the user, said by the source, or found."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.spec import Region
from edgeseg.frame.images import to_bgr

WORK_SIZE = 320
LEARN_FRAMES = 10
_GRAIN = 2.5
_COLOURFUL = 40
_SMALLEST_SHARE = 0.08


class FanFinder:
    """Looks at the first frames of every size and keeps to what they show together."""

    def __init__(self) -> None:
        self._size = (0, 0)
        self._grained: NDArray[np.uint8] | None = None
        self._left = 0
        self._region: Region | None = None

    def find(self, image: NDArray[Any]) -> Region | None:
        """Give the region of a frame; None while nothing stands out."""
        if self._size != image.shape[:2]:
            self._size, self._grained, self._left, self._region = image.shape[:2], None, LEARN_FRAMES, None
        if self._left:
            self._learn(image)
        return self._region

    def _learn(self, image: NDArray[Any]) -> None:
        marked = mark_grain(image)
        together = marked if self._grained is None else np.maximum(self._grained, marked)
        region = find_largest(together, self._size)
        if region is not None:
            self._grained, self._region, self._left = together, region, self._left - 1


def mark_grain(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Mark where a picture is grey and grained, on a smaller grid."""
    scale = min(1.0, WORK_SIZE / max(image.shape[:2]))
    small = cv2.resize(to_bgr(image), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    coloured = small.max(axis=2).astype(np.int16) - small.min(axis=2) > _COLOURFUL
    grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY).astype(np.float32)
    grey[coloured] = 0
    mean = cv2.blur(grey, (7, 7))
    spread = np.sqrt(np.maximum(cv2.blur(grey * grey, (7, 7)) - mean * mean, 0))
    grained = ((spread > _GRAIN) & (mean > 4)).astype(np.uint8)
    return np.asarray(_drop_thin(grained), dtype=np.uint8)


def _drop_thin(grained: NDArray[np.uint8]) -> NDArray[np.uint8]:
    side = max(3, max(grained.shape) // 20)
    kernel = np.ones((side, side), np.uint8)
    return np.asarray(cv2.morphologyEx(grained, cv2.MORPH_OPEN, kernel), dtype=np.uint8)


def find_largest(marked: NDArray[np.uint8], size: tuple[int, int]) -> Region | None:
    """Find the rectangle around the largest marked area, in a frame of this height and width."""
    joined = cv2.morphologyEx(marked, cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8))
    count, _, stats, _ = cv2.connectedComponentsWithStats(joined)
    if count < 2:
        return None
    best = stats[1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())]
    if best[cv2.CC_STAT_AREA] < _SMALLEST_SHARE * marked.size:
        return None
    factor = size[0] / marked.shape[0], size[1] / marked.shape[1]
    left, top = int(best[cv2.CC_STAT_LEFT] * factor[1]), int(best[cv2.CC_STAT_TOP] * factor[0])
    right = min(size[1], round((best[cv2.CC_STAT_LEFT] + best[cv2.CC_STAT_WIDTH]) * factor[1]))
    bottom = min(size[0], round((best[cv2.CC_STAT_TOP] + best[cv2.CC_STAT_HEIGHT]) * factor[0]))
    return Region(left, top, right - left, bottom - top)


class RegionFinder:
    """Gives the region of every frame; None where nothing is known and the card or the whole frame holds."""

    def __init__(self, asked: Region | str | None, source_region: Region | None) -> None:
        """Remember what was said.

        Args:
            asked: What the user said: a region, "auto", or nothing.
            source_region: What the source says, which "auto" prefers to looking.
        """
        self._known = asked if isinstance(asked, Region) else source_region
        self._fan = FanFinder() if asked is not None and self._known is None else None

    def find(self, image: NDArray[Any]) -> Region | None:
        """Give the region of a frame."""
        return self._known if self._fan is None else self._fan.find(image)
