"""Cameras that OpenCV reads: USB and V4L2 devices, and RTSP streams."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from time import monotonic
from typing import Any

import cv2
from numpy.typing import NDArray

from edgeseg.core.errors import SourceError, SourceTextError
from edgeseg.core.process import quiet_native_output
from edgeseg.streaming.sources.address import Size, read_options, show_source, split_address, split_url
from edgeseg.streaming.sources.base import STALL_S, Source, retrieve_frame

EXAMPLE = "/dev/video0?size=1280x720&fps=30"
# YUYV first: it needs no decoding, but over USB 2 many cameras reach their full rate only with MJPG.
FORMATS = ("YUYV", "MJPG")
RTSP_EXAMPLE = "rtsp://192.168.0.20:554/stream"


@dataclass(frozen=True)
class CameraOptions:
    """What is requested of the camera; None leaves it to the camera."""

    size: Size | None = None
    fps: float | None = None


class CameraSource(Source):
    """Reads a camera through OpenCV."""

    live = True

    def __init__(self, text: str) -> None:
        """Open a camera.

        Args:
            text: Its index or device file, with options, as in `/dev/video0?size=1280x720&fps=30`.
        """
        self._name = split_address(text)[0]
        options = read_options(text, CameraOptions, EXAMPLE)
        self._capture = _open_device(self._name)
        try:
            _choose_format(self._capture, options)
            _check_mode(self._capture, self._name, options)
        except SourceError:
            self._capture.release()
            raise
        self.fps = float(self._capture.get(cv2.CAP_PROP_FPS)) or Source.fps

    def read(self) -> NDArray[Any]:
        """Wait for the camera's next frame."""
        # grab() returns when the frame has arrived, retrieve() decodes it: the age includes decoding
        found = self._capture.grab()
        self.arrived_at = monotonic()
        image = retrieve_frame(self._capture, self._name) if found else None
        if image is None:
            raise SourceError(f"Expected a frame from the camera {self._name}, got none.", "Check its cable.")
        return image

    def close(self) -> None:
        """Release the camera."""
        self._capture.release()


def _open_device(name: str) -> cv2.VideoCapture:
    # OpenCV crashes on a name that is no UTF-8
    if not name.isprintable():
        raise SourceTextError(f"Expected a camera's file, got {name}.", "List cameras with: ls /dev/video*.")
    # without a named API, OpenCV tries several in turn
    backend = cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY
    with quiet_native_output():
        capture = cv2.VideoCapture(int(name) if name.isdigit() else name, backend)
    if not capture.isOpened():
        raise SourceError(
            f"Expected a camera at {name}, got none that opens.",
            "List cameras with: ls /dev/video*, check the cable and that your user is in the group video.",
        )
    # a queue in the driver would only make frames older
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return capture


def _choose_format(capture: cv2.VideoCapture, options: CameraOptions) -> None:
    """Try each pixel format, and use the one of the right size with the highest rate."""
    rates = {name: _request_mode(capture, name, options) for name in FORMATS}
    best = max(FORMATS, key=rates.__getitem__)
    if best != FORMATS[-1]:
        _request_mode(capture, best, options)


def _request_mode(capture: cv2.VideoCapture, name: str, options: CameraOptions) -> float:
    """Request a pixel format, size and rate; returns the rate that the camera grants, 0 at another size."""
    capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*name))
    if options.size is not None:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, options.size.width)
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, options.size.height)
    if options.fps is not None:
        capture.set(cv2.CAP_PROP_FPS, options.fps)
    fits = options.size is None or _read_size(capture) == options.size
    return float(capture.get(cv2.CAP_PROP_FPS)) if fits else 0.0


def _read_size(capture: cv2.VideoCapture) -> Size:
    width, height = capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
    return Size(int(width), int(height))


def _check_mode(capture: cv2.VideoCapture, name: str, options: CameraOptions) -> None:
    size, fps = _read_size(capture), float(capture.get(cv2.CAP_PROP_FPS))
    # a rate of 29.97 is granted where 30 was requested
    if options.size not in (None, size) or (options.fps is not None and fps < options.fps - 1):
        wanted = " at ".join(filter(None, (str(options.size or ""), f"{options.fps:g} fps" if options.fps else "")))
        raise SourceTextError(
            f"Expected {wanted} from the camera {name}, got {size} at {fps:g} fps.",
            "See what it offers with: v4l2-ctl --list-formats-ext",
        )


class RtspSource(Source):
    """Reads an RTSP stream."""

    live = True

    def __init__(self, url: str, stall_s: float = STALL_S) -> None:
        """Open a stream.

        Args:
            url: With user name and password before the host where the camera wants them.
            stall_s: Time limit for connecting and for every frame.
        """
        split_url(url, RTSP_EXAMPLE)
        self._name = show_source(url)
        limit = int(1e3 * stall_s)
        settings = {
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC: limit,
            cv2.CAP_PROP_READ_TIMEOUT_MSEC: limit,
            cv2.CAP_PROP_N_THREADS: 1,  # FFmpeg's frame threading delays the stream by one frame per further thread
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
