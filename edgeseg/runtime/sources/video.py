"""A video file, played at its own rate."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import SourceError
from edgeseg.runtime.sources.base import Source

SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".mpeg", ".mpg", ".webm", ".m4v")
_PLAUSIBLE_FPS = (1.0, 240.0)
_BAD_IN_A_ROW = 10
_COUNT_TOLERANCE = 0.02


class VideoSource(Source):
    """Reads a video file with OpenCV."""

    def __init__(self, path: Path) -> None:
        """Open a video file and read its first frame."""
        if not path.is_file():
            raise SourceError(f"Expected a video at {path}, got no such file.", "Check the path.")
        self._capture = cv2.VideoCapture(str(path))
        self._announced = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self._seen = 0
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
        """Decode the next frame; damaged ones are left out and counted."""
        if self._first is not None:
            first, self._first = self._first, None
            return first
        return self._next()

    def close(self) -> None:
        """Close the file."""
        self._capture.release()

    def _next(self) -> NDArray[Any] | None:
        for failed in range(_BAD_IN_A_ROW):
            found, image = self._capture.read()
            if found:
                self._seen += 1
                self.health = dataclasses.replace(self.health, corrupt=self.health.corrupt + failed)
                return np.asarray(image)
        self._count_missing()
        return None

    def _count_missing(self) -> None:
        """Count what the file announces and does not hold; some formats announce a frame or two too many."""
        left = self._announced - self._seen - self.health.corrupt
        if left > max(2, _COUNT_TOLERANCE * self._announced):
            self.health = dataclasses.replace(self.health, missing=left)
