"""Show the stream in an OpenCV window, where OpenCV was built with one."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.decision import DOUBTFUL
from edgeseg.core.errors import OutputError
from edgeseg.core.spec import ClassSpec
from edgeseg.inference.masks import draw_overlay
from edgeseg.registration.learned import LearnedRegistration
from edgeseg.streaming.sinks.base import Result, Sink, StreamInfo
from edgeseg.streaming.sources.base import Frame
from edgeseg.streaming.tracking import MaskTracker, Picture

# Escape and q.
CLOSING_KEYS = (27, ord("q"))
NOT_TRAINED_ON = "Not what the model was trained on"
# Pixels of a frame's shorter side at which text is drawn in its full size.
_TEXT_PX = 700


class Window(Sink):
    """Shows the stream in a window; closing it, Escape or q ends the stream."""

    def __init__(
        self,
        info: StreamInfo,
        classes: Sequence[ClassSpec],
        track_mask: bool = True,
        show: str = DOUBTFUL,
        network: LearnedRegistration | None = None,
    ) -> None:
        """Prepare the window; it opens with the first picture.

        Args:
            info: The stream.
            classes: Names and colours, in the order of the labels.
            track_mask: Whether to show the newest frame with the mask warped onto it.
            show: Which masks are drawn, as `SinkOptions` has it.
            network: Finds how the mask moved in place of optical flow.

        Raises:
            OutputError: This OpenCV or this session cannot open a window.
        """
        check_windows()
        self._title, self._classes, self._track_mask = f"{info.model} - edgeseg", tuple(classes), track_mask
        self._open = False
        self._closed = threading.Event()
        self._tracker = MaskTracker(self._show, show=show, network=network)

    def publish(self, result: Result) -> None:
        """Pass a result to the tracker's thread."""
        self._tracker.publish(result)

    def on_frame(self, frame: Frame) -> None:
        """Pass a frame to the tracker's thread."""
        if self._track_mask:
            self._tracker.on_frame(frame)

    @property
    def wants_end(self) -> bool:
        """Whether the window was closed."""
        return self._closed.is_set()

    def close(self) -> None:
        """Close the window."""
        self._closed.set()
        self._tracker.close()

    def _show(self, picture: Picture) -> None:
        """Draw on the tracker's thread: GUI toolkits want all calls from one thread."""
        if self._closed.is_set():
            return
        if not self._open:
            cv2.namedWindow(self._title, cv2.WINDOW_NORMAL)
            self._open = True
        cv2.imshow(self._title, draw_picture(picture, self._classes))
        # waitKey also runs the window's event loop
        if cv2.waitKey(1) & 0xFF in CLOSING_KEYS or cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1:
            self._closed.set()
            cv2.destroyWindow(self._title)


def draw_picture(picture: Picture, classes: Sequence[ClassSpec]) -> NDArray[np.uint8]:
    """Draw a picture with its mask, and say in words what is doubtful or not what the model was trained on."""
    seen = picture.segmentation
    findings = () if seen is None else seen.findings
    canvas = draw_overlay(picture.image, picture.labels, classes, findings=findings)
    if seen is not None and seen.out_of_distribution:
        _write(canvas, [(NOT_TRAINED_ON, (255, 255, 255))])
        return canvas
    doubts = [
        (f"{DOUBTFUL}{_show_percent(finding.confidence)}", spec.colour)
        for number, (spec, finding) in enumerate(zip(classes, findings, strict=False), start=1)
        if finding.state == DOUBTFUL and (picture.labels == number).any()
    ]
    _write(canvas, doubts)
    return canvas


def _show_percent(confidence: float | None) -> str:
    return "" if confidence is None else f" {confidence:.0%}"


def _write(canvas: NDArray[np.uint8], lines: Sequence[tuple[str, tuple[int, int, int]]]) -> None:
    """Write lines into the upper left corner, each in its RGB colour on a dark edge."""
    scale = max(0.4, min(canvas.shape[:2]) / _TEXT_PX)
    for number, (text, colour) in enumerate(lines, start=1):
        place = (round(12 * scale), round(28 * scale * number))
        for thickness, paint in ((round(4 * scale) + 1, (0, 0, 0)), (max(1, round(scale)), colour[::-1])):
            cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, paint, thickness, cv2.LINE_AA)


def check_windows() -> None:
    """Refuse where no window can be opened: Qt would abort the whole process."""
    toolkit = re.search(r"^\s*GUI:\s*(\S+)", cv2.getBuildInformation(), re.MULTILINE)
    if toolkit is None or toolkit[1] == "NONE":
        raise OutputError(
            "Expected an OpenCV with windows, got the headless one.",
            "Use --view web, or: pip uninstall -y opencv-python-headless && pip install opencv-python",
        )
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise OutputError(
            "Expected a desktop to open a window on, got neither DISPLAY nor WAYLAND_DISPLAY.",
            "Use --view web, or start the stream from the board's own desktop.",
        )
