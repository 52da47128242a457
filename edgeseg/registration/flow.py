"""Dense optical flow by DIS (Kroeger et al., Fast optical flow using dense inverse search, ECCV 2016), made smooth."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.registration.displacement import Field

PRESETS = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}
# DIS works on patches of 8 pixels, on a pyramid.
MIN_SIDE_PX = 16


class DisFlow:
    """Finds the flow from a fixed image into a moving one of equal size.

    An instance keeps OpenCV's buffers, so it belongs to one thread.
    """

    def __init__(self, preset: str = "fast", finest: int | None = None, refinements: int | None = None) -> None:
        """Set up.

        Args:
            preset: One of PRESETS.
            finest: The finest level of the pyramid that is matched, 0 for full resolution; None as the preset has it.
            refinements: Iterations of the variational refinement; None as the preset has it.
        """
        self._settings = PRESETS[preset], finest, refinements
        self._size: tuple[int, ...] = ()
        self._flow: cv2.DISOpticalFlow | None = None

    def find(self, fixed: NDArray[np.uint8], moving: NDArray[np.uint8]) -> Field:
        """Find the flow: float32 (height, width, 2), as a displacement field has it."""
        if self._flow is None or fixed.shape != self._size:
            # OpenCV changes the levels of an instance for good when an image is too small for them
            self._flow, self._size = _create(*self._settings), fixed.shape
        return np.asarray(self._flow.calc(fixed, moving, np.zeros((*fixed.shape, 2), np.float32)), dtype=np.float32)


def _create(preset: int, finest: int | None, refinements: int | None) -> cv2.DISOpticalFlow:
    flow = cv2.DISOpticalFlow.create(preset)
    if finest is not None:
        flow.setFinestScale(finest)
    if refinements is not None:
        flow.setVariationalRefinementIterations(refinements)
    return flow


def smooth(field: Field, sigma: float, weight: NDArray[Any] | None = None) -> Field:
    """Smooth a field with a Gaussian; with weights, pixels of little weight take what surrounds them."""
    if weight is None:
        return np.asarray(cv2.GaussianBlur(field, (0, 0), sigma), dtype=np.float32)
    weights = np.asarray(weight, dtype=np.float32)
    count = np.maximum(cv2.GaussianBlur(weights, (0, 0), sigma), 1e-6)
    return np.asarray(cv2.GaussianBlur(field * weights[..., None], (0, 0), sigma) / count[..., None], dtype=np.float32)
