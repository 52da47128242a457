"""A network camera or encoder that speaks RTSP, read through OpenCV's FFmpeg with a time limit."""

from __future__ import annotations

from time import monotonic
from typing import Any

import cv2
from numpy.typing import NDArray

from edgeseg.core.errors import SourceError
from edgeseg.runtime.sources.announced import retrieve_frame
from edgeseg.runtime.sources.base import STALL_S, Source
from edgeseg.runtime.sources.options import show_source, split_url

EXAMPLE = "rtsp://192.168.0.20:554/stream"


class RtspSource(Source):
    """Reads an RTSP stream."""

    live = True

    def __init__(self, url: str, stall_s: float = STALL_S) -> None:
        """Open a stream.

        Args:
            url: Where it is, with a name and password before the host where it wants them.
            stall_s: How long it may give nothing.
        """
        split_url(url, EXAMPLE)
        self._name = show_source(url)
        limit = int(1e3 * stall_s)
        settings = {
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC: limit,
            cv2.CAP_PROP_READ_TIMEOUT_MSEC: limit,
            cv2.CAP_PROP_N_THREADS: 1,  # each further thread of the decoder holds back one frame
        }
        flat = [number for pair in settings.items() for number in pair]
        self._capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG, flat)
        if not self._capture.isOpened():
            self._capture.release()
            raise SourceError(
                f"Expected a stream at {self._name}, got none within {stall_s:g} s.",
                "Check the address, the name and password before the host, and the network.",
            )

    def read(self) -> NDArray[Any]:
        """Wait for the next frame."""
        found = self._capture.grab()
        self.arrived_at = monotonic()
        image = retrieve_frame(self._capture, self._name) if found else None
        if image is None:
            raise SourceError(f"Expected frames from {self._name}, got none.", "Check that it is running.")
        return image

    def close(self) -> None:
        """End the session."""
        self._capture.release()
