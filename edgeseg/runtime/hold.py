"""Carry a mask onto a newer frame: where the tissue has gone, its outline goes, too."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.images import to_grey

FLOW_SIDE = 192
"""The longest side of the pictures in which motion is looked for: speckle is finer, organs are not."""
CALM = 4.0
"""Deviation, in those pictures' pixels, of the Gaussian that makes neighbours move alike."""


class MaskCarrier:
    """Finds how the tissue moved between two frames, and moves a mask with it; for one thread at a time."""

    def __init__(self) -> None:
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)

    def carry(self, labels: NDArray[np.uint8], old: NDArray[Any], new: NDArray[Any]) -> NDArray[np.uint8]:
        """Move the labels of an old frame onto a new one; they stay where they are when the motion explains nothing.

        Args:
            labels: Of the old frame, of its size.
            old: The frame that the labels were drawn for.
            new: The frame that is shown.
        """
        if old is new or old.shape[:2] != new.shape[:2] or not labels.any():
            return labels
        before, after = shrink(old), shrink(new)
        flow = np.asarray(self._flow.calc(after, before, np.zeros((*after.shape, 2), np.float32)), dtype=np.float32)
        flow = np.asarray(cv2.GaussianBlur(flow, (0, 0), CALM), dtype=np.float32)
        if not _explains(flow, before, after):
            return labels
        return _move(labels, flow)


def shrink(frame: NDArray[Any]) -> NDArray[np.uint8]:
    """Make the small grey picture of a frame in which motion is looked for."""
    height, width = frame.shape[:2]
    scale = min(1.0, FLOW_SIDE / max(height, width))
    size = (max(16, round(width * scale)), max(16, round(height * scale)))
    return np.asarray(cv2.resize(to_grey(frame), size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _explains(flow: NDArray[np.float32], before: NDArray[np.uint8], after: NDArray[np.uint8]) -> bool:
    """Say whether the old picture, moved, is nearer to the new one than the old picture as it was."""
    return bool(cv2.norm(_move(before, flow), after, cv2.NORM_L1) < cv2.norm(before, after, cv2.NORM_L1))


def _move(picture: NDArray[np.uint8], flow: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Take every pixel from where the flow says that it was."""
    height, width = picture.shape[:2]
    scale = np.array([width / flow.shape[1], height / flow.shape[0]], np.float32)
    full = np.asarray(cv2.resize(flow, (width, height), interpolation=cv2.INTER_LINEAR)) * scale
    columns, rows = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    moved = cv2.remap(picture, full[..., 0] + columns, full[..., 1] + rows, cv2.INTER_NEAREST)
    return np.asarray(moved, dtype=np.uint8)
