"""A stand-in for OpenCV's VideoCapture on a webcam, since no camera is plugged in where the tests run.

It answers as OpenCV documents it: what is asked for is taken over where the camera offers it, else the camera keeps
its own size and its own rate for that pixel format and size.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

OFFERS = {"YUYV": {(640, 480): 30.0, (1280, 720): 10.0}, "MJPG": {(640, 480): 30.0, (1280, 720): 30.0}}
"""A common USB 2 webcam: uncompressed pictures of this size do not fit through the cable thirty times a second."""


class FakeVideoCapture:
    """A webcam that gives so many frames and is then unplugged."""

    def __init__(self, frames: int = 3) -> None:
        self._left = frames
        self._format, self._asked = "YUYV", (640, 480)
        self.released = False

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        """Say that the camera is there."""
        return True

    @property
    def format(self) -> str:
        """Give the pixel format in use."""
        return self._format

    @property
    def size(self) -> tuple[int, int]:
        """Give the size in use."""
        return self._asked if self._asked in OFFERS[self._format] else (640, 480)

    def set(self, key: int, value: float) -> bool:
        """Ask for something."""
        if key == cv2.CAP_PROP_FOURCC:
            self._format = int(value).to_bytes(4, "little").decode()
        if key == cv2.CAP_PROP_FRAME_WIDTH:
            self._asked = (int(value), self._asked[1])
        if key == cv2.CAP_PROP_FRAME_HEIGHT:
            self._asked = (self._asked[0], int(value))
        return True

    def get(self, key: int) -> float:
        """Tell what is in use."""
        width, height = self.size
        known = {
            cv2.CAP_PROP_FRAME_WIDTH: float(width),
            cv2.CAP_PROP_FRAME_HEIGHT: float(height),
            cv2.CAP_PROP_FPS: OFFERS[self._format][self.size],
        }
        return known[key]

    def grab(self) -> bool:
        """Wait for a frame."""
        self._left -= 1
        return self._left >= 0

    def retrieve(self) -> tuple[bool, NDArray[np.uint8]]:
        """Decode the frame."""
        width, height = self.size
        return True, np.zeros((height, width, 3), np.uint8)

    def release(self) -> None:
        """Let go."""
        self.released = True
