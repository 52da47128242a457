"""A video file, played at its own rate."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import cv2
from numpy.typing import NDArray

from edgeseg.core.errors import EdgesegError, SourceError
from edgeseg.core.limits import VIDEO_BYTES, check_regular
from edgeseg.core.names import show_name
from edgeseg.runtime.sources.announced import check_announced, retrieve_frame
from edgeseg.runtime.sources.base import Source

SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".mpeg", ".mpg", ".webm", ".m4v")
_PLAUSIBLE_FPS = (1.0, 240.0)
_BAD_IN_A_ROW = 10
_COUNT_TOLERANCE = 0.02


class VideoSource(Source):
    """Reads a video file with OpenCV."""

    def __init__(self, path: Path) -> None:
        """Open a video file and read its first frame."""
        if not path.exists():
            raise SourceError(f"Expected a video at {path}, got no such file.", "Check the path.")
        check_regular(path, VIDEO_BYTES)
        self._file_name = show_name(path.name)
        self._capture = _open_capture(path)
        self._announced = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self._seen = 0
        try:
            check_announced(self._capture, self._file_name)
            self._first = self._next()
            if self._first is None:
                raise SourceError(
                    f"Expected a video with frames at {path}, got one that cannot be decoded.",
                    "Check that the file is whole and plays elsewhere.",
                )
        except EdgesegError:
            self._capture.release()
            raise
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
            image = retrieve_frame(self._capture, self._file_name) if self._capture.grab() else None
            if image is not None:
                self._seen += 1
                self.health = dataclasses.replace(self.health, corrupt=self.health.corrupt + failed)
                return image
        self._count_missing()
        return None

    def _count_missing(self) -> None:
        """Count what the file announces and does not hold; some formats announce a frame or two too many."""
        left = self._announced - self._seen - self.health.corrupt
        if left > max(2, _COUNT_TOLERANCE * self._announced):
            self.health = dataclasses.replace(self.health, missing=left)


def _open_capture(path: Path) -> cv2.VideoCapture:
    """Open a file with FFmpeg where OpenCV has it: other readers take a name with a number for a row of images."""
    known = cv2.CAP_FFMPEG in cv2.videoio_registry.getBackends()
    reader = cv2.CAP_FFMPEG if known else cv2.CAP_ANY
    whole = path.absolute()  # to FFmpeg, a relative name such as concat:x.avi is an address
    try:
        os.fsencode(whole).decode("utf-8")
    except UnicodeDecodeError:  # OpenCV crashes at such a name
        with path.open("rb") as file:
            return cv2.VideoCapture(f"/proc/self/fd/{file.fileno()}", reader)
    return cv2.VideoCapture(str(whole), reader)
