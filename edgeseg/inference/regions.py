"""The region of a frame that holds the ultrasound image: given by the user, by the source, or detected.

Detection looks for speckle: the ultrasound image is grey and grained, the menus and text around it are flat or
coloured.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.spec import Region
from edgeseg.frame.images import to_bgr

WORK_SIZE_PX = 320
LEARN_FRAMES = 10
# In which the local mean and deviation are taken, in pixels of the reduced frame.
_WINDOW = (7, 7)
# Grey levels of 255.
_MIN_SPECKLE_STD, _MIN_SPECKLE_MEAN = 2.5, 4.0
# Between the channels of a pixel, in levels of 255; speckle has none.
_MIN_COLOUR_SPREAD = 40
_MIN_AREA_SHARE = 0.08


class RegionFinder:
    """Gives the ultrasound region of every frame; None where the card's region or the whole frame applies."""

    def __init__(self, requested: Region | str | None, source_region: Region | None) -> None:
        """Choose where regions come from.

        Args:
            requested: What the user asks for: a region, "auto" to detect it, or None.
            source_region: What the source knows; "auto" prefers it to detection.
        """
        self._known = requested if isinstance(requested, Region) else source_region
        self._detector = RegionDetector() if requested is not None and self._known is None else None

    def find(self, image: NDArray[Any]) -> Region | None:
        """Return the region of a frame."""
        return self._known if self._detector is None else self._detector.find(image)


class RegionDetector:
    """Detects the region on the first frames of every size, then keeps it, so that it does not jitter."""

    def __init__(self) -> None:
        self._size = (0, 0)
        self._speckle: NDArray[np.uint8] | None = None
        self._frames_left = 0
        self._region: Region | None = None

    def find(self, image: NDArray[Any]) -> Region | None:
        """Return the region of a frame; None until speckle was found."""
        if self._size != image.shape[:2]:
            self._size, self._speckle, self._frames_left, self._region = image.shape[:2], None, LEARN_FRAMES, None
        if self._frames_left:
            self._learn(image)
        return self._region

    def _learn(self, image: NDArray[Any]) -> None:
        marked = detect_speckle(image)
        # speckle that is dark in one frame is bright in another: the union over frames is the whole sector
        union = marked if self._speckle is None else np.maximum(self._speckle, marked)
        region = find_largest(union, self._size)
        if region is not None:
            self._speckle, self._region, self._frames_left = union, region, self._frames_left - 1


def detect_speckle(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Mark the speckled parts of a frame, on a grid reduced to `WORK_SIZE_PX`."""
    scale = min(1.0, WORK_SIZE_PX / max(image.shape[:2]))
    small = cv2.resize(to_bgr(image), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    coloured = small.max(axis=2).astype(np.int16) - small.min(axis=2) > _MIN_COLOUR_SPREAD
    grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY).astype(np.float32)
    grey[coloured] = 0
    mean = cv2.blur(grey, _WINDOW)
    # rounding can leave the variance E[x^2] - E[x]^2 just below zero
    std = np.sqrt(np.maximum(cv2.blur(grey * grey, _WINDOW) - mean * mean, 0))
    speckle = ((std > _MIN_SPECKLE_STD) & (mean > _MIN_SPECKLE_MEAN)).astype(np.uint8)
    return _drop_thin(speckle)


def _drop_thin(speckle: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Remove what is thinner than a twentieth of the frame: lines of text vary as much as speckle does."""
    side = max(3, max(speckle.shape) // 20)
    kernel = np.ones((side, side), np.uint8)
    return np.asarray(cv2.morphologyEx(speckle, cv2.MORPH_OPEN, kernel), dtype=np.uint8)


def find_largest(marked: NDArray[np.uint8], size: tuple[int, int]) -> Region | None:
    """Find the bounding box of the largest marked area, in a frame of this height and width."""
    # closing joins what rulers and annotations inside the sector cut apart
    joined = cv2.morphologyEx(marked, cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8))
    count, _, stats, _ = cv2.connectedComponentsWithStats(joined)
    if count < 2:
        return None
    best = stats[1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())]
    if best[cv2.CC_STAT_AREA] < _MIN_AREA_SHARE * marked.size:
        return None
    factor = size[0] / marked.shape[0], size[1] / marked.shape[1]
    left, top = int(best[cv2.CC_STAT_LEFT] * factor[1]), int(best[cv2.CC_STAT_TOP] * factor[0])
    right = min(size[1], round((best[cv2.CC_STAT_LEFT] + best[cv2.CC_STAT_WIDTH]) * factor[1]))
    bottom = min(size[0], round((best[cv2.CC_STAT_TOP] + best[cv2.CC_STAT_HEIGHT]) * factor[0]))
    return Region(left, top, right - left, bottom - top)
