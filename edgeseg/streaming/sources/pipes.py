"""Frames from a pipe with a time limit: raw frames on standard input, YUV4MPEG2 from a child process."""

from __future__ import annotations

import dataclasses
import os
import select
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import SourceError
from edgeseg.core.limits import check_pixels
from edgeseg.core.spec import check_choice
from edgeseg.streaming.sources.address import Size, read_options
from edgeseg.streaming.sources.base import STALL_S, Deadline, Notice, OutageCounter, Source

_POLL_S = 0.1
EXAMPLE = "-?size=640x480&format=gray"
CHANNELS = {"gray": 1, "bgr": 3}
_NAME = "standard input"
_FRAME_HEADER = b"FRAME\n"
_MAX_HEADER_BYTES = 256


class RawSource(Source):
    """Reads raw frames of one size and format from standard input.

    A writer that stalls is reported and waited for: a pipe has no frame boundaries, so it cannot be opened again.
    """

    reconnects = True

    def __init__(self, text: str, stall_s: float = STALL_S) -> None:
        """Prepare to read.

        Args:
            text: `-` with the frame size, as in `-?size=640x480&format=gray`.
            stall_s: After so long without a complete frame the writer counts as lost.
        """
        options = read_options(text, RawOptions, EXAMPLE)
        self._shape = options.shape
        self._outages, self._corrupt, self._stall_s = OutageCounter(), 0, stall_s
        self._pipe = Pipe(_find_input(), _NAME, stall_s, self._lose)
        self.live = options.fps is None
        self.fps = options.fps or Source.fps

    def read(self) -> NDArray[Any] | None:
        """Read the next frame; an incomplete one at the end counts as corrupt."""
        self._pipe.begin_frame()
        data = self._pipe.read(int(np.prod(self._shape)))
        whole = len(data) == np.prod(self._shape)
        self._corrupt += bool(data) and not whole and not self._pipe.interrupted
        back = self._outages.end("Standard input")
        self._publish(back if whole else None)
        return np.frombuffer(data, np.uint8).reshape(self._shape) if whole else None

    def interrupt(self) -> None:
        """Stop waiting for the writer."""
        self._pipe.interrupt()

    def _lose(self) -> None:
        self._publish(self._outages.begin(f"Expected frames on {_NAME}, got no whole one within {self._stall_s:g} s."))

    def _publish(self, notice: Notice | None) -> None:
        self.health = dataclasses.replace(
            self.health,
            interruptions=self._outages.interruptions,
            lost_seconds=round(self._outages.seconds, 3),
            corrupt=self._corrupt,
        )
        if notice is not None:
            self.on_notice(notice)


@dataclass(frozen=True)
class RawOptions:
    """The layout of raw frames; without fps the writer sets the pace, with it they are played at that rate."""

    size: Size
    format: str = "gray"
    fps: float | None = None

    def __post_init__(self) -> None:
        check_choice("format", self.format, CHANNELS)
        check_pixels(_NAME, self.size.width, self.size.height)

    @property
    def shape(self) -> tuple[int, ...]:
        """The array shape of one frame."""
        grey = (self.size.height, self.size.width)
        return grey if self.format == "gray" else (*grey, CHANNELS[self.format])


def _find_input() -> int:
    """Return the descriptor of standard input, which a service may have closed."""
    try:
        return sys.stdin.fileno()
    except (AttributeError, ValueError, OSError) as error:  # None, closed, or replaced by what is no file
        raise SourceError(
            "Expected frames on standard input, got none that is open.", "Pipe them in: ffmpeg ... | edgeseg stream ..."
        ) from error


class Y4mReader:
    """Reads YUV4MPEG2 frames in 4:2:0; a new stream header between frames changes the size."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._size = (0, 0)

    def read(self) -> NDArray[Any] | None:
        """Read the next frame as BGR; None at the end."""
        self._pipe.begin_frame()
        line = self._pipe.read(len(_FRAME_HEADER))
        while len(line) == len(_FRAME_HEADER) and line != _FRAME_HEADER:
            self._size = _read_size(bytes(line + self._read_rest()))
            line = self._pipe.read(len(_FRAME_HEADER))
        height, width = self._size
        # a plane of luma and two of chroma at a quarter of the size
        planes = self._pipe.read(height * width * 3 // 2) if line == _FRAME_HEADER else b""
        if not planes or len(planes) < height * width * 3 // 2:
            return None
        flat = np.frombuffer(planes, np.uint8).reshape(height * 3 // 2, width)
        return np.asarray(cv2.cvtColor(flat, cv2.COLOR_YUV2BGR_I420))

    def _read_rest(self) -> bytes:
        line = b""
        while not line.endswith(b"\n") and len(line) < _MAX_HEADER_BYTES:
            packet = self._pipe.read(1)
            if not packet:
                break
            line += packet
        return line


def _read_size(header: bytes) -> tuple[int, int]:
    fields = {chunk[:1]: chunk[1:] for chunk in header.split()[1:]}
    width, height = fields.get(b"W", b""), fields.get(b"H", b"")
    if not header.startswith(b"YUV4MPEG2 ") or not (width.isdigit() and height.isdigit()):
        raise SourceError("Expected frames from the pipeline, got bytes that are none.", "End it in raw video.")
    check_pixels("the pipeline", int(width), int(height))
    if int(width) % 2 or int(height) % 2:
        raise SourceError(
            f"Expected an even width and height from the pipeline, got {int(width)}x{int(height)}.",
            "Add ! videoscale ! video/x-raw,width=...,height=... with even numbers.",
        )
    return int(height), int(width)


class Pipe:
    """The reading end of a pipe, with a time limit for a complete frame."""

    def __init__(
        self, descriptor: int, name: str, stall_s: float = STALL_S, on_stall: Callable[[], None] | None = None
    ) -> None:
        """Prepare to read.

        Args:
            descriptor: What to read from; the caller closes it.
            name: Its name in messages.
            stall_s: Time limit for a frame, from `begin_frame` to its last byte.
            on_stall: Called after the limit instead of raising an error; reading then goes on.
        """
        self._descriptor, self._name, self._on_stall = descriptor, name, on_stall
        self._deadline = Deadline(stall_s)
        self._stopped = threading.Event()

    def begin_frame(self) -> None:
        """Start the time limit of the next frame."""
        self._deadline.restart()

    def read(self, count: int) -> bytearray:
        """Read exactly so many bytes; fewer at the end and after `interrupt`.

        Raises:
            SourceError: The frame took too long.
        """
        data = bytearray(count)
        view, filled = memoryview(data), 0
        while filled < count and self._wait():
            # straight into the frame's buffer, without a copy
            got = os.readv(self._descriptor, [view[filled:]])
            if got == 0:
                break
            filled += got
        view.release()
        del data[filled:]
        return data

    def interrupt(self) -> None:
        """Make a waiting `read` return what it has."""
        self._stopped.set()

    @property
    def interrupted(self) -> bool:
        """Whether `interrupt` was called."""
        return self._stopped.is_set()

    def _wait(self) -> bool:
        while not self._stopped.is_set():
            if not self._deadline.left:
                self._handle_stall()
            # in short waits, since an interrupt from another thread does not wake select()
            if select.select([self._descriptor], [], [], _POLL_S)[0]:
                return True
        return False

    def _handle_stall(self) -> None:
        if self._on_stall is None:
            raise SourceError(
                f"Expected frames from {self._name}, got no whole one within {self._deadline.seconds:g} s.",
                "Check that it is running and connected.",
            )
        self._on_stall()
        self._deadline.restart()
