"""Mask tracking: warp the newest mask onto the newest frame with optical flow, on a thread of its own.

A slow network's mask belongs to an older frame than the one on the screen. `MaskTracker` shows every frame with the
mask moved along with the tissue; recordings and JSON lines always get the frame that the network saw.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import monotonic
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.decision import DOUBTFUL, FOUND
from edgeseg.frame.images import to_grey
from edgeseg.inference.masks import choose_labels
from edgeseg.inference.segmenter import Segmentation
from edgeseg.registration.displacement import resize_field, warp_labels
from edgeseg.registration.flow import MIN_SIDE_PX, DisFlow, smooth
from edgeseg.streaming.options import DEFAULT_SINK_OPTIONS
from edgeseg.streaming.sinks.base import Result
from edgeseg.streaming.sources.base import Frame

if TYPE_CHECKING:
    from edgeseg.registration.learned import LearnedRegistration

# Longest side of the frames for optical flow: 128 loses a part of the gain, more costs twice as much for little.
FLOW_SIDE_PX = 192
# Of the Gaussian that smooths the flow field, in pixels of the reduced frame: tissue moves as a whole.
FLOW_SIGMA_PX = 4.0
# A mask that is one frame old is shown as it is: on phantoms, warping gained nothing there.
MIN_FRAMES_BEHIND = 2
NICE = 10
# At most so many pictures are made in a second: twice as many as a page may ask for.
PICTURES_PER_SECOND = 120.0
# By the value of --show.
_SHOWN_STATES = {FOUND: frozenset({FOUND}), DOUBTFUL: frozenset({FOUND, DOUBTFUL})}
JOIN_SECONDS = 5.0


@dataclass(frozen=True)
class Picture:
    """A frame as it is shown, and the labels to draw on it."""

    image: NDArray[Any]
    labels: NDArray[np.uint8]
    """Of the classes that are shown."""
    number: int = 0
    """Of the frame."""
    name: str = ""
    """Of the frame's file, where it has one."""
    mask_number: int = 0
    """Of the frame that was segmented: an older one where the mask was warped."""
    segmentation: Segmentation | None = None
    """What was found in that frame."""
    mm_per_px: float | None = None
    """The pixel size, where the frame's source knows it."""
    flow: NDArray[np.float32] | None = None
    """How the mask was warped: from the frame that is shown to the one that was segmented, on a reduced grid."""


def make_picture(result: Result, show: str = DEFAULT_SINK_OPTIONS.show) -> Picture:
    """Make the picture of a frame with its own mask."""
    frame, segmentation = result.frame, result.segmentation
    labels = choose_labels(segmentation.labels, segmentation.findings, _SHOWN_STATES[show])
    return Picture(frame.image, labels, frame.number, frame.name, frame.number, segmentation, mm_per_px=frame.mm_per_px)


class MaskTracker:
    """Makes a picture of the newest frame and the newest result, again when one of them changes.

    Frames and results that arrive while it works or pauses are skipped: both are latest-value slots. The last result
    always gets its picture.
    """

    def __init__(
        self,
        on_picture: Callable[[Picture], None],
        is_watched: Callable[[], bool] = lambda: True,
        show: str = DEFAULT_SINK_OPTIONS.show,
        network: LearnedRegistration | None = None,
    ) -> None:
        """Start the thread.

        Args:
            on_picture: Called with every picture, on this thread.
            is_watched: Whether anybody looks; while nobody does, masks are not warped, which saves a core.
            show: Which masks are shown, as `SinkOptions` has it.
            network: Finds the motion in place of DIS.
        """
        self._network = network
        self._on_picture, self._is_watched, self._show = on_picture, is_watched, show
        self._condition = threading.Condition()
        self._frame: Frame | None = None
        self._result: Result | None = None
        self._changed, self._closing = False, threading.Event()
        self._thread = threading.Thread(target=self._run, name="edgeseg-tracker", daemon=True)
        self._thread.start()

    def on_frame(self, frame: Frame) -> None:
        """Make a frame the newest; called on the capture thread."""
        with self._condition:
            self._frame = frame
            # without a viewer, frames between two masks make no pictures, and the network keeps the core
            if self._is_ahead() and self._is_watched():
                self._changed = True
                self._condition.notify_all()

    def publish(self, result: Result) -> None:
        """Make a result the newest."""
        with self._condition:
            self._result, self._changed = result, True
            self._condition.notify_all()

    def reset(self) -> None:
        """Forget frame and result: those that follow are of another source."""
        with self._condition:
            self._frame = self._result = None
            self._changed = False

    def close(self) -> None:
        """End the thread."""
        self._closing.set()
        with self._condition:
            self._condition.notify_all()
        self._thread.join(JOIN_SECONDS)

    def _run(self) -> None:
        lower_priority()
        warper = MaskWarper(self._network)
        while (pair := self._take()) is not None:
            began, (result, frame) = monotonic(), pair
            picture = make_picture(result, self._show)
            if frame is not None and self._is_watched():
                picture = warper.move(picture, frame)
            self._on_picture(picture)
            # nobody sees more, and a thread that sleeps costs the stream nothing
            self._closing.wait(max(0.0, began + 1.0 / PICTURES_PER_SECOND - monotonic()))

    def _take(self) -> tuple[Result, Frame | None] | None:
        """Wait for a change; the frame is None where the result's own frame is shown. None at the end."""
        with self._condition:
            self._condition.wait_for(lambda: self._changed or self._closing.is_set())
            if not self._changed or self._result is None:
                return None
            self._changed = False
            return self._result, self._frame if self._is_ahead() else None

    def _is_ahead(self) -> bool:
        frame, result = self._frame, self._result
        return frame is not None and result is not None and frame.number - result.frame.number >= MIN_FRAMES_BEHIND


def lower_priority() -> None:
    """Let the network go first where cores are scarce."""
    # where the nice value belongs to a thread, not to the process (sched(7))
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


class MaskWarper:
    """Warps a mask from one frame to another with dense optical flow (DIS, Kroeger et al., ECCV 2016).

    An instance keeps OpenCV's buffers, so it belongs to one thread.
    """

    def __init__(self, network: LearnedRegistration | None = None) -> None:
        """Prepare.

        Args:
            network: Finds the flow in place of DIS.
        """
        self._network = network
        self._flow = DisFlow("fast")

    def move(self, picture: Picture, frame: Frame) -> Picture:
        """Move a picture's mask onto a newer frame; its states stay those of the frame that was segmented."""
        flow = self.find_flow(picture.image, frame.image) if picture.labels.any() else None
        labels = picture.labels if flow is None else _warp_by(picture.labels, flow)
        return replace(picture, image=frame.image, labels=labels, number=frame.number, name=frame.name, flow=flow)

    def warp(self, labels: NDArray[np.uint8], old: NDArray[Any], new: NDArray[Any]) -> NDArray[np.uint8]:
        """Warp labels from an old frame to a new one; return them unchanged where the flow does not fit.

        Args:
            labels: Of the old frame, of its size.
            old: The frame that was segmented.
            new: The frame that is shown.
        """
        flow = self.find_flow(old, new) if labels.any() else None
        return labels if flow is None else _warp_by(labels, flow)

    def find_flow(self, old: NDArray[Any], new: NDArray[Any]) -> NDArray[np.float32] | None:
        """Find the flow from a new frame back to an old one, on a reduced grid; None where it does not fit."""
        if old is new or old.shape[:2] != new.shape[:2]:
            return None
        before, after = shrink(old), shrink(new)
        # backward flow, from the new frame to the old one: remap() asks for every new pixel where it was
        if self._network is not None:
            flow = resize_field(self._network(new, old), (after.shape[0], after.shape[1]))
        else:
            flow = smooth(self._flow.find(after, before), FLOW_SIGMA_PX)
        return flow if _flow_fits(flow, before, after) else None


def shrink(frame: NDArray[Any]) -> NDArray[np.uint8]:
    """Reduce a frame to the small grey image that the flow is computed on."""
    height, width = frame.shape[:2]
    scale = min(1.0, FLOW_SIDE_PX / max(height, width))
    size = (max(MIN_SIDE_PX, round(width * scale)), max(MIN_SIDE_PX, round(height * scale)))
    return np.asarray(cv2.resize(to_grey(frame), size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _flow_fits(flow: NDArray[np.float32], before: NDArray[np.uint8], after: NDArray[np.uint8]) -> bool:
    """Check that the old image, warped, is nearer to the new one than without warping; a scene cut is not."""
    return bool(cv2.norm(warp_labels(before, flow), after, cv2.NORM_L1) < cv2.norm(before, after, cv2.NORM_L1))


def _warp_by(labels: NDArray[np.uint8], flow: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Warp labels with a flow on a reduced grid."""
    return warp_labels(labels, resize_field(flow, labels.shape[:2]))


def move_points(
    points: NDArray[np.int32], flow: NDArray[np.float32] | None, size: tuple[int, int]
) -> NDArray[np.int32]:
    """Move points [x, y] of the old frame to the new one, both of this height and width."""
    if flow is None:
        return points
    scale = np.array([size[1] / flow.shape[1], size[0] / flow.shape[0]], np.float32)
    columns, rows = (points / scale).astype(np.intp).T
    # the flow is smooth and short: its value at the old point is that at the new one, nearly
    vectors = flow[rows.clip(0, flow.shape[0] - 1), columns.clip(0, flow.shape[1] - 1)]
    return np.asarray(np.rint(points - vectors * scale), dtype=np.int32)
