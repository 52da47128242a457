"""`Source`: an iterator of images that can be interrupted, and what several kinds of source share.

Shared are `LatestSlot` (images that a browser sends), `Deadline` and `TimedSocket` (a time limit for a whole frame,
not for each read), `OutageCounter` and the checks of OpenCV's captures.
"""

from __future__ import annotations

import io
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.limits import check_pixels
from edgeseg.core.redact import redact
from edgeseg.core.spec import Region
from edgeseg.streaming.sources.address import Size

# After a pause of this length another page's camera may take over.
SILENT_SECONDS = 2.0
# How long the next complete frame of a live source may take before the source counts as lost.
STALL_S = 5.0


@dataclass(frozen=True)
class Frame:
    """One captured frame: grey or BGR, its number in the source, and when it was captured (monotonic seconds)."""

    image: NDArray[Any]
    number: int
    captured_at: float
    region: Region | None = None
    """The ultrasound region, where the user or the source knows it; it overrides the card's region."""
    name: str = ""
    """The name of its file, where every frame has a file of its own."""
    source: int = 1
    """The number of its source among those of the stream."""
    mm_per_px: float | None = None
    """The pixel size, where the source knows it."""


@dataclass(frozen=True)
class Health:
    """Faults of a source that did not end it."""

    interruptions: int = 0
    lost_seconds: float = 0.0
    corrupt: int = 0
    """Frames that could not be decoded."""
    missing: int = 0
    """Frames that a file's header announces and the file does not hold."""
    skipped: int = 0
    """Frames that arrived and were not decoded, since newer ones were waiting."""

    def __add__(self, other: Health) -> Health:
        """Add up the faults of two sources."""
        return Health(
            self.interruptions + other.interruptions,
            round(self.lost_seconds + other.lost_seconds, 3),
            self.corrupt + other.corrupt,
            self.missing + other.missing,
            self.skipped + other.skipped,
        )


@dataclass(frozen=True)
class Notice:
    """A live source was lost or is back, or its picture stands still. Pages show it, so the sentence is redacted."""

    state: str
    sentence: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "sentence", redact(self.sentence))


def ignore_notice(notice: Notice) -> None:
    """Do nothing."""


@dataclass(frozen=True)
class JpegPacket:
    """An image as it was received, and when it was complete (monotonic seconds)."""

    jpeg: bytes
    arrived_at: float


class LatestSlot:
    """A latest-value slot for the images of a browser's camera: a newer one replaces one that was not taken."""

    def __init__(self, size: Size, fps: float) -> None:
        """Create an empty slot.

        Args:
            size: Requested of the camera.
            fps: Requested of the camera.
        """
        self.size, self.fps = size, fps
        self.replaced = 0
        """Number of images that were replaced before they were taken."""
        self._condition = threading.Condition()
        self._packet: JpegPacket | None = None
        self._sender, self._sent_at = "", 0.0
        self._closed = False

    def put(self, sender: str, jpeg: bytes) -> bool:
        """Put an image into the slot; False while another page's camera is in use."""
        now = monotonic()
        with self._condition:
            # two pages that send in turn would make the stream jump between cameras
            if sender != self._sender and now - self._sent_at < SILENT_SECONDS:
                return False
            self._sender, self._sent_at = sender, now
            self.replaced += self._packet is not None
            self._packet = JpegPacket(jpeg, now)
            self._condition.notify_all()
        return True

    def take(self, timeout: float) -> JpegPacket | None:
        """Take the image, waiting for one; None after the timeout or `close`."""
        with self._condition:
            self._condition.wait_for(lambda: self._packet is not None or self._closed, timeout)
            packet, self._packet = self._packet, None
            return packet

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def close(self) -> None:
        """Take no more images, and wake a waiting `take`."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()


class Source(ABC):
    """A sequence of images, read on the capture thread of a `Grabber`."""

    reconnects: bool = False
    """Whether it recovers from an interruption by itself."""
    live: bool = False
    """A live source sets the pace; a recorded one is played at `fps`."""
    fps: float = 30.0
    region: Region | None = None
    """The ultrasound region, where the source knows it."""
    mm_per_px: float | None = None
    arrived_at: float | None = None
    """When the newest image arrived, before it was decoded (monotonic seconds); the frame's age starts then."""
    announced: int | None = None
    """How many frames the header of a file announces."""
    name: str = ""
    """The newest image's file name, for images and DICOM; empty for videos and live sources."""
    latest_slot: LatestSlot | None = None
    """Where the page puts its images, for a browser's camera."""
    health: Health = Health()
    on_notice: Callable[[Notice], None] = staticmethod(ignore_notice)
    """Called on the capture thread."""

    @abstractmethod
    def read(self) -> NDArray[Any] | None:
        """Return the next image, waiting for it where the source is live; None at the end."""

    def interrupt(self) -> None:  # noqa: B027 - optional
        """Wake a waiting `read`, from another thread; it then returns None."""

    def close(self) -> None:  # noqa: B027 - optional
        """Release the camera or file."""


class Deadline:
    """A time limit that starts again with every frame."""

    def __init__(self, seconds: float, clock: Callable[[], float] = monotonic) -> None:
        self.seconds, self._clock = seconds, clock
        self.restart()

    def restart(self) -> None:
        """Start the time of the next frame."""
        self._ends_at = self._clock() + self.seconds

    @property
    def left(self) -> float:
        """Seconds left; 0 when the time is over."""
        return max(0.0, self._ends_at - self._clock())


class TimedSocket:
    """The part of a socket that http.client uses, with a deadline.

    A socket's own timeout starts again with every byte, so a server that sends one byte now and then would hold the
    stream for ever.
    """

    def __init__(self, connected: socket.socket, deadline: Deadline) -> None:
        self._socket, self._deadline = connected, deadline

    def makefile(self, *_: object) -> io.BufferedReader:
        """Make the reader for the response."""
        return io.BufferedReader(_TimedReader(self._socket, self._deadline))

    def sendall(self, data: bytes) -> None:
        """Send all bytes before the deadline."""
        _set_timeout(self._socket, self._deadline)
        self._socket.sendall(data)

    def close(self) -> None:
        """Do nothing: http.client closes early, while the response is still read; the owner closes the socket."""


class _TimedReader(io.RawIOBase):
    def __init__(self, connected: socket.socket, deadline: Deadline) -> None:
        self._socket, self._deadline = connected, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            _set_timeout(self._socket, self._deadline)
            return self._socket.recv_into(buffer)
        except TimeoutError as error:
            raise TimeoutError(f"no whole frame within {self._deadline.seconds:g} s") from error


def _set_timeout(connected: socket.socket, deadline: Deadline) -> None:
    left = deadline.left
    if not left:
        raise TimeoutError
    connected.settimeout(left)


class OutageCounter:
    """Counts the interruptions of a source, and how long they lasted."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._since: float | None = None
        self.interruptions = 0
        self.seconds = 0.0

    def begin(self, sentence: str) -> Notice | None:
        """Start an interruption; returns the notice, or None when one is going on already."""
        if self._since is not None:
            return None
        self._since = self._clock()
        self.interruptions += 1
        return Notice("lost", sentence)

    def end(self, name: str) -> Notice | None:
        """End an interruption; returns the notice, or None when there was none.

        Args:
            name: Of the source, as the first words of a sentence.
        """
        if self._since is None:
            return None
        seconds, self._since = self._clock() - self._since, None
        self.seconds += seconds
        return Notice("back", f"{name} is back after {seconds:.1f} s.")


def check_announced(capture: cv2.VideoCapture, name: str) -> None:
    """Check the announced frame size against the table of limits; without one, the first frame is checked."""
    width, height = capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
    if width > 0 or height > 0:
        check_pixels(name, int(width), int(height))


def retrieve_frame(capture: cv2.VideoCapture, name: str) -> NDArray[Any] | None:
    """Decode the grabbed frame; None where it is corrupt."""
    # again, since the size may change within a stream
    check_announced(capture, name)
    found, image = capture.retrieve()
    return np.asarray(image) if found else None
