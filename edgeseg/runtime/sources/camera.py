"""A camera: an index or a device file."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import SourceError
from edgeseg.runtime.sources.base import Source


class CameraSource(Source):
    """Reads a camera through OpenCV."""

    live = True

    def __init__(self, device: int | str) -> None:
        """Open a camera.

        Args:
            device: The camera's index, or its file such as /dev/video0.
        """
        self._device = device
        self._capture = cv2.VideoCapture(device)
        if not self._capture.isOpened():
            raise SourceError(
                f"Expected a camera at {device}, got none that opens.",
                "List cameras with: ls /dev/video*, check the cable and that your user is in the group video.",
            )
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        self.fps = float(self._capture.get(cv2.CAP_PROP_FPS)) or Source.fps

    def read(self) -> NDArray[Any]:
        """Wait for the camera's next frame."""
        found, image = self._capture.read()
        if not found:
            raise SourceError(f"Expected a frame from the camera {self._device}, got none.", "Check its cable.")
        return np.asarray(image)

    def close(self) -> None:
        """Let go of the camera."""
        self._capture.release()
