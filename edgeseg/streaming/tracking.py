"""Carry a mask onto a newer frame: where the tissue has gone, its outline goes, too."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.frame.images import to_grey
from edgeseg.streaming.sinks.base import Result
from edgeseg.streaming.sources.base import Frame

FLOW_SIDE_PX = 192
"""The longest side of the pictures in which motion is looked for: speckle is finer, organs are not."""
FLOW_SIGMA_PX = 4.0
"""Deviation, in those pictures' pixels, of the Gaussian that makes neighbours move alike."""
JOIN_SECONDS = 5.0
NICE = 10
MIN_FRAMES_BEHIND = 2
"""How many frames a mask must be behind before it is carried: where the network keeps up, the frame's own is near."""


class MaskWarper:
    """Finds how the tissue moved between two frames, and moves a mask with it; for one thread at a time."""

    def __init__(self) -> None:
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)

    def warp(self, labels: NDArray[np.uint8], old: NDArray[Any], new: NDArray[Any]) -> NDArray[np.uint8]:
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
        flow = np.asarray(cv2.GaussianBlur(flow, (0, 0), FLOW_SIGMA_PX), dtype=np.float32)
        if not _flow_fits(flow, before, after):
            return labels
        return _warp(labels, flow)


def shrink(frame: NDArray[Any]) -> NDArray[np.uint8]:
    """Make the small grey picture of a frame in which motion is looked for."""
    height, width = frame.shape[:2]
    scale = min(1.0, FLOW_SIDE_PX / max(height, width))
    size = (max(16, round(width * scale)), max(16, round(height * scale)))
    return np.asarray(cv2.resize(to_grey(frame), size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _flow_fits(flow: NDArray[np.float32], before: NDArray[np.uint8], after: NDArray[np.uint8]) -> bool:
    """Say whether the old picture, moved, is nearer to the new one than the old picture as it was."""
    return bool(cv2.norm(_warp(before, flow), after, cv2.NORM_L1) < cv2.norm(before, after, cv2.NORM_L1))


def _warp(picture: NDArray[np.uint8], flow: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Take every pixel from where the flow says that it was."""
    height, width = picture.shape[:2]
    scale = np.array([width / flow.shape[1], height / flow.shape[0]], np.float32)
    full = np.asarray(cv2.resize(flow, (width, height), interpolation=cv2.INTER_LINEAR)) * scale
    columns, rows = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    moved = cv2.remap(picture, full[..., 0] + columns, full[..., 1] + rows, cv2.INTER_NEAREST)
    return np.asarray(moved, dtype=np.uint8)


@dataclass(frozen=True)
class Picture:
    """A frame as it is shown, and the labels that belong on it."""

    image: NDArray[Any]
    labels: NDArray[np.uint8]
    number: int = 0
    """Of the frame."""
    name: str = ""
    """Of the frame's file, where it has one."""
    mask_number: int = 0
    """Of the frame that the network drew the mask for: an older one where the mask was carried."""


def picture_result(result: Result) -> Picture:
    """Make the picture of a frame with the mask that is its own."""
    frame = result.frame
    return Picture(frame.image, result.segmentation.labels, frame.number, frame.name, frame.number)


class MaskTracker:
    """Makes pictures of the newest frame and result; what comes while it is at work is passed over."""

    def __init__(self, show: Callable[[Picture], None], is_watched: Callable[[], bool] = lambda: True) -> None:
        """Start the thread.

        Args:
            show: Takes every picture, on this thread.
            is_watched: Whether anyone looks; while nobody does, masks are not carried.
        """
        self._show, self._is_watched = show, is_watched
        self._condition = threading.Condition()
        self._frame: Frame | None = None
        self._result: Result | None = None
        self._changed, self._closing = False, False
        self._thread = threading.Thread(target=self._run, name="edgeseg-hold", daemon=True)
        self._thread.start()

    def on_frame(self, frame: Frame) -> None:
        """Take a frame as the newest."""
        with self._condition:
            self._frame = frame
            self._changed |= self._is_ahead() and self._is_watched()
            self._condition.notify_all()

    def publish(self, result: Result) -> None:
        """Take a result as the newest."""
        with self._condition:
            self._result, self._changed = result, True
            self._condition.notify_all()

    def close(self) -> None:
        """End the thread."""
        with self._condition:
            self._closing = True
            self._condition.notify_all()
        self._thread.join(JOIN_SECONDS)

    def _run(self) -> None:
        _lower_priority()
        warper = MaskWarper()
        while (pair := self._take()) is not None:
            result, frame = pair
            if frame is None or not self._is_watched():
                self._show(picture_result(result))
            else:
                labels = warper.warp(result.segmentation.labels, result.frame.image, frame.image)
                self._show(Picture(frame.image, labels, frame.number, frame.name, result.frame.number))

    def _take(self) -> tuple[Result, Frame | None] | None:
        """Wait for something new; the frame is None where the result's own is to be shown."""
        with self._condition:
            self._condition.wait_for(lambda: self._changed or self._closing)
            self._changed = False
            if self._closing or self._result is None:
                return None
            return self._result, self._frame if self._is_ahead() else None

    def _is_ahead(self) -> bool:
        frame, result = self._frame, self._result
        return frame is not None and result is not None and frame.number - result.frame.number >= MIN_FRAMES_BEHIND


def _lower_priority() -> None:
    """Let the network go first where cores are scarce: Linux ranks each thread by itself."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
