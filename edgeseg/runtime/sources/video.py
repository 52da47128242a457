"""A video file, played at its own rate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import SourceError
from edgeseg.runtime.sources.base import Source

SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".mpeg", ".mpg", ".webm", ".m4v")
_PLAUSIBLE_FPS = (1.0, 240.0)


class VideoSource(Source):
    """Reads a video file with OpenCV."""

    def __init__(self, path: Path) -> None:
        """Open a video file and read its first frame."""
        self._capture = cv2.VideoCapture(str(path))
        self._first = self._next()
        if self._first is None:
            self._capture.release()
            raise SourceError(
                f"Expected a video with frames at {path}, got one that cannot be decoded.",
                "Check that the file is whole and plays elsewhere.",
            )
        fps = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.fps = fps if _PLAUSIBLE_FPS[0] <= fps <= _PLAUSIBLE_FPS[1] else Source.fps

    def read(self) -> NDArray[Any] | None:
        """Decode the next frame."""
        if self._first is not None:
            first, self._first = self._first, None
            return first
        return self._next()

    def _next(self) -> NDArray[Any] | None:
        found, image = self._capture.read()
        return np.asarray(image) if found else None

    def close(self) -> None:
        """Close the file."""
        self._capture.release()
