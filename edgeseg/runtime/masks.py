"""What may be done to masks of a stream on request: holes filled, and two frames weighed against each other."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

NEWEST_WEIGHT = 2 / 3


@dataclass(frozen=True)
class MaskOptions:
    """What is done to the masks of a stream beyond what the card says."""

    smooth: bool = False
    """Weigh each frame's scores against those of the frame before: less flicker, a third of a frame behind."""
    fill_holes: bool = False


AS_THE_CARD_SAYS = MaskOptions()


class ScoreSmoother:
    """Weighs scores against the last ones; its memory is one frame, so nothing lags longer."""

    def __init__(self) -> None:
        self._last: Bytes | None = None

    def smooth(self, scores: Bytes) -> Bytes:
        """Mix the newest scores with the last ones; the first pass through as they are."""
        last, self._last = self._last, scores
        if last is None or last.shape != scores.shape:
            return scores
        mixed = cv2.addWeighted(scores, NEWEST_WEIGHT, last, 1.0 - NEWEST_WEIGHT, 0.0)
        return np.asarray(mixed, dtype=np.uint8).reshape(scores.shape)

    def forget(self) -> None:
        """Begin anew: what comes next has nothing to do with what was."""
        self._last = None


def fill_holes(labels: Bytes, classes: int) -> Bytes:
    """Mark background that a class encloses as that class; other classes inside it stay."""
    filled = labels.copy()
    for number in range(1, classes + 1):
        mask = (labels == number).astype(np.uint8)
        outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(mask, outlines, -1, 1, cv2.FILLED)
        filled[(mask > 0) & (filled == 0)] = number
    return filled
