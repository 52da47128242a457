"""Quieten speckle on the network's grid, in arithmetic that gives the same bytes on every machine.

Sums of a window are whole numbers, and each step after them is rounded by itself, so no order of adding can matter.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

SIDE = 5
NOISE = 36
"""What varies by less than a sixth of the mean (its square: 1/36) is taken for speckle."""


def denoise_pixels(pixels: Bytes, kind: str) -> Bytes:
    """Filter pixels (height, width, channels) by one of the filters that a card can name."""
    if kind == "none":
        return pixels
    quiet = cv2.medianBlur(pixels, 3) if kind == "median" else _reduce_speckle(pixels)
    return np.asarray(quiet, dtype=np.uint8).reshape(pixels.shape)


def _reduce_speckle(pixels: Bytes) -> Bytes:
    """Pull every pixel to its window's mean, the less the more the window varies (Lee's filter)."""
    count, window = SIDE * SIDE, (SIDE, SIDE)
    total = np.asarray(cv2.boxFilter(pixels, cv2.CV_32S, window, normalize=False), dtype=np.int32)
    squares = np.asarray(cv2.sqrBoxFilter(pixels, cv2.CV_32S, window, normalize=False), dtype=np.int32)
    energy = total * total
    spread = count * squares - energy
    kept = np.maximum(spread - energy // NOISE, 0).astype(np.float32) / np.maximum(spread, 1).astype(np.float32)
    mean = total.astype(np.float32) / np.float32(count)
    quiet = mean + kept * (pixels.reshape(total.shape).astype(np.float32) - mean)
    return np.asarray(np.rint(quiet), dtype=np.uint8)
