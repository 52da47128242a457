"""What is shown: the newest frame with the newest mask, carried onto it by a thread that nothing waits for."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.runtime.hold import MaskCarrier
from edgeseg.runtime.sinks.base import Result
from edgeseg.runtime.sources.base import Frame

JOIN_SECONDS = 5.0
NICE = 10
BEHIND = 2
"""How many frames a mask must be behind before it is carried: where the network keeps up, the frame's own is near."""


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


def show_result(result: Result) -> Picture:
    """Make the picture of a frame with the mask that is its own."""
    frame = result.frame
    return Picture(frame.image, result.segmentation.labels, frame.number, frame.name, frame.number)


class Holder:
    """Makes pictures of the newest frame and result; what comes while it is at work is passed over."""

    def __init__(self, show: Callable[[Picture], None], is_watched: Callable[[], bool] = lambda: True) -> None:
        """Start the thread.

        Args:
            show: Takes every picture, on this thread.
            is_watched: Whether anyone looks; while nobody does, masks are not carried.
        """
        self._show, self._is_watched = show, is_watched
        self._news = threading.Condition()
        self._frame: Frame | None = None
        self._result: Result | None = None
        self._changed, self._closing = False, False
        self._thread = threading.Thread(target=self._run, name="edgeseg-hold", daemon=True)
        self._thread.start()

    def see(self, frame: Frame) -> None:
        """Take a frame as the newest."""
        with self._news:
            self._frame = frame
            self._changed |= self._is_ahead() and self._is_watched()
            self._news.notify_all()

    def publish(self, result: Result) -> None:
        """Take a result as the newest."""
        with self._news:
            self._result, self._changed = result, True
            self._news.notify_all()

    def close(self) -> None:
        """End the thread."""
        with self._news:
            self._closing = True
            self._news.notify_all()
        self._thread.join(JOIN_SECONDS)

    def _run(self) -> None:
        _step_back()
        carrier = MaskCarrier()
        while (pair := self._take()) is not None:
            result, frame = pair
            if frame is None or not self._is_watched():
                self._show(show_result(result))
            else:
                labels = carrier.carry(result.segmentation.labels, result.frame.image, frame.image)
                self._show(Picture(frame.image, labels, frame.number, frame.name, result.frame.number))

    def _take(self) -> tuple[Result, Frame | None] | None:
        """Wait for something new; the frame is None where the result's own is to be shown."""
        with self._news:
            self._news.wait_for(lambda: self._changed or self._closing)
            self._changed = False
            if self._closing or self._result is None:
                return None
            return self._result, self._frame if self._is_ahead() else None

    def _is_ahead(self) -> bool:
        frame, result = self._frame, self._result
        return frame is not None and result is not None and frame.number - result.frame.number >= BEHIND


def _step_back() -> None:
    """Let the network go first where cores are scarce: Linux ranks each thread by itself."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
