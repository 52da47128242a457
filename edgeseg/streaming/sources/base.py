"""What every source can do: give the next frame, say how it fares, be woken from a wait, and be closed."""

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
from edgeseg.streaming.sources.options import Size

SILENT_SECONDS = 2.0
"""After how long without a picture another page may send its own."""
STALL_S = 5.0
"""How long the next whole frame of a live source may take before it counts as lost."""


@dataclass(frozen=True)
class JpegPacket:
    """A picture as it was sent, and when all of it was here (monotonic seconds)."""

    jpeg: bytes
    arrived_at: float


class LatestSlot:
    """Holds one picture; a newer one takes its place."""

    def __init__(self, size: Size, fps: float) -> None:
        """Say what the camera is asked for."""
        self.size, self.fps = size, fps
        self.replaced = 0
        """How many pictures a newer one has pushed out."""
        self._condition = threading.Condition()
        self._packet: JpegPacket | None = None
        self._sender, self._sent_at = "", 0.0
        self._closed = False

    def put(self, sender: str, jpeg: bytes) -> bool:
        """Make a picture the newest; False while another page's camera is in use."""
        now = monotonic()
        with self._condition:
            if sender != self._sender and now - self._sent_at < SILENT_SECONDS:
                return False
            self._sender, self._sent_at = sender, now
            self.replaced += self._packet is not None
            self._packet = JpegPacket(jpeg, now)
            self._condition.notify_all()
        return True

    def take(self, timeout: float) -> JpegPacket | None:
        """Wait for a picture; None when none came in time or none will come."""
        with self._condition:
            self._condition.wait_for(lambda: self._packet is not None or self._closed, timeout)
            packet, self._packet = self._packet, None
            return packet

    @property
    def closed(self) -> bool:
        """Say whether nobody will come for pictures any more."""
        return self._closed

    def close(self) -> None:
        """Wake whoever waits for a picture: none will be taken any more."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()


@dataclass(frozen=True)
class Frame:
    """One captured frame: grey or BGR, its number in the source, and when it was captured (monotonic seconds)."""

    image: NDArray[Any]
    number: int
    captured_at: float
    region: Region | None = None
    """Where the ultrasound picture is, when the user or the source says so; it goes before the card's region."""
    name: str = ""
    """The name of its file, where every frame has a file of its own."""


@dataclass(frozen=True)
class Health:
    """What went wrong with a source without ending it."""

    interruptions: int = 0
    lost_seconds: float = 0.0
    corrupt: int = 0
    """Frames that could not be decoded and were left out."""
    missing: int = 0
    """Frames that a recorded file announces and does not hold."""
    skipped: int = 0
    """Frames that had arrived and were left undecoded, since newer ones lay behind them."""


@dataclass(frozen=True)
class Notice:
    """A live source was lost, or is back; it is told on pages too, so without secrets."""

    state: str
    sentence: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "sentence", redact(self.sentence))


def ignore_notice(notice: Notice) -> None:
    """Take a notice and do nothing."""


class Source(ABC):
    """A sequence of images."""

    reconnects: bool = False
    """A source that was lost and comes back by itself, so that it need not be opened again."""
    live: bool = False
    """A live source sets its own pace; a recorded one is played at `fps`."""
    fps: float = 30.0
    region: Region | None = None
    """Where the ultrasound picture is, where the source knows."""
    mm_per_px: float | None = None
    arrived_at: float | None = None
    """When the newest image arrived (monotonic seconds), where that is earlier than the end of its decoding."""
    name: str = ""
    """The newest image's file, without its folder: of images and DICOM; empty for videos and live sources."""
    latest_slot: LatestSlot | None = None
    """Where the page puts its pictures, for a source that is fed by one."""
    health: Health = Health()
    on_notice: Callable[[Notice], None] = staticmethod(ignore_notice)
    """Called from the capturing thread."""

    @abstractmethod
    def read(self) -> NDArray[Any] | None:
        """Give the next image, waiting for it where the source is live; None at the end."""

    def interrupt(self) -> None:  # noqa: B027 - a source that never waits long needs no waking
        """Wake a read that waits, from another thread; it then gives None."""

    def close(self) -> None:  # noqa: B027 - a source that holds nothing open has nothing to close
        """Let go of the camera or file."""


class Deadline:
    """Runs out so many seconds after it was last set."""

    def __init__(self, seconds: float, clock: Callable[[], float] = monotonic) -> None:
        self.seconds, self._clock = seconds, clock
        self.restart()

    def restart(self) -> None:
        """Begin anew, for the next frame."""
        self._ends_at = self._clock() + self.seconds

    @property
    def left(self) -> float:
        """Say how many seconds are left, 0 when it has run out."""
        return max(0.0, self._ends_at - self._clock())


class TimedSocket:
    """A connected socket as http.client uses one; no read or write of it outlasts the deadline."""

    def __init__(self, connected: socket.socket, deadline: Deadline) -> None:
        self._socket, self._deadline = connected, deadline

    def makefile(self, *_: object) -> io.BufferedReader:
        """Give what http.client reads the answer from."""
        return io.BufferedReader(_TimedReader(self._socket, self._deadline))

    def sendall(self, data: bytes) -> None:
        """Send all of it in time."""
        _set_timeout(self._socket, self._deadline)
        self._socket.sendall(data)

    def close(self) -> None:
        """Do nothing: http.client closes while the answer is still to be read; the socket's owner closes it."""


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
    """Counts the times that a source was away, and how long."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._since: float | None = None
        self.interruptions = 0
        self.seconds = 0.0

    def begin(self, sentence: str) -> Notice | None:
        """Note that it is away; gives what to say, None where that was said."""
        if self._since is not None:
            return None
        self._since = self._clock()
        self.interruptions += 1
        return Notice("lost", sentence)

    def end(self, name: str) -> Notice | None:
        """Note that it is here, or that nobody waits for it any more; gives what to say, None where it was never away.

        Args:
            name: Its name, as a sentence begins with it.
        """
        if self._since is None:
            return None
        seconds, self._since = self._clock() - self._since, None
        self.seconds += seconds
        return Notice("back", f"{name} is back after {seconds:.1f} s.")


def check_announced(capture: cv2.VideoCapture, name: str) -> None:
    """Refuse frames beyond the table; a source that announces no size is left to its first frame."""
    width, height = capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
    if width > 0 or height > 0:
        check_pixels(name, int(width), int(height))


def retrieve_frame(capture: cv2.VideoCapture, name: str) -> NDArray[Any] | None:
    """Unpack the frame that was grabbed; None where it is damaged. Its size may have changed in the middle."""
    check_announced(capture, name)
    found, image = capture.retrieve()
    return np.asarray(image) if found else None
