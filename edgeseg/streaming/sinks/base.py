"""`Sink`: a subscriber to a stream; `LatestResultSink` with a `Writer` is one that may be slow."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from edgeseg.backends.select import BackendReport
from edgeseg.core.errors import EdgesegError, OutputError
from edgeseg.inference.segmenter import Segmentation
from edgeseg.streaming.latency import LatencyRecorder
from edgeseg.streaming.sources.base import Frame, LatestSlot, Notice

if TYPE_CHECKING:
    from edgeseg.streaming.switching import SourceSwitch, Turn

CLOSE_SECONDS = 10.0
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """A frame, its mask, and the frame's age when the mask was ready."""

    frame: Frame
    segmentation: Segmentation
    age_ms: float
    frozen: bool = False
    """Whether the picture stands still: the source gives the same image again and again, as a camera that hangs."""
    source: str = "1"
    """The user's name for the source, or else its number."""


@dataclass(frozen=True)
class Member:
    """What sinks know of one source of several."""

    number: int
    """From 1."""
    label: str
    """The user's name for it, or else its number."""
    needs_page: bool
    """Whether its frames come from the page's camera."""
    find_latest_slot: Callable[[], LatestSlot | None]
    """Finds where the page puts these frames, once the source is open."""
    find_state: Callable[[], str]
    """Finds in which of `MEMBER_STATES` it is."""


@dataclass(frozen=True)
class StreamInfo:
    """What sinks know of their stream."""

    model: str
    source: str
    backend: Callable[[], BackendReport]
    """A call, since the backend may change while the stream runs."""
    recorder: LatencyRecorder
    mm_per_px: float | None = None
    latest_slot: LatestSlot | None = None
    """Where the page puts the images of its camera, when that is the source."""
    every_frame: bool = False
    """A recorded source waits for the segmenter and for the sinks that keep results, so no frame is late."""
    switch: SourceSwitch | None = None
    """By which the page changes the source, where there are several; their frames have pixel sizes of their own."""
    modalities: tuple[str, ...] = ()
    """Of the pictures that lie in the channels of a frame; empty for an ordinary frame."""
    member: Member | None = None
    """Which one of several sources this is, where all are segmented."""

    def find_pixel_size(self, frame: Frame) -> float | None:
        """Give the pixel size of a frame: the stream's own, or that of the frame's source."""
        return frame.mm_per_px if self.mm_per_px is None else self.mm_per_px

    def find_latest_slot(self) -> LatestSlot | None:
        """Find where the page puts the images of its camera, while that is the source."""
        if self.member is not None:
            return self.member.find_latest_slot()
        return self.latest_slot if self.switch is None else self.switch.latest_slot

    @property
    def uses_camera(self) -> bool:
        """Whether the page's camera is a source of the stream."""
        if self.member is not None:
            return self.member.needs_page
        return self.latest_slot is not None if self.switch is None else self.switch.needs_page


@dataclass(frozen=True)
class SinkReport:
    """How many results a sink wrote and missed."""

    name: str
    taken: int
    missed: int
    """Results that were replaced by a newer one while the sink was busy, or came after it had ended."""
    failure: str | None
    """Why the sink ended before the stream did."""
    hint: str = ""


class Sink(ABC):
    """Subscribes to a stream. `publish` runs between two frames, so it must return at once.

    The exception is --every-frame: there a sink may block (back-pressure) until `stop_waiting`.
    """

    @abstractmethod
    def publish(self, result: Result) -> None:
        """Take one result."""

    def on_frame(self, frame: Frame) -> None:  # noqa: B027 - optional
        """Take a captured frame, before it is segmented; called on the capture thread."""

    def on_notice(self, notice: Notice) -> None:  # noqa: B027 - optional
        """Take the notice that the source was lost or is back, or stands still; called on a thread of the stream."""

    def on_turn(self, turn: Turn, recorder: LatencyRecorder) -> None:  # noqa: B027 - optional
        """Take the notice that the frames of another source follow, whose times `recorder` collects.

        Called on the thread of `publish`, before the first of those frames.
        """

    @property
    def wants_end(self) -> bool:
        """Whether the stream should end, as when its window was closed."""
        return False

    def stop_waiting(self) -> None:  # noqa: B027 - optional
        """Unblock `publish`, since the stream ends; called from another thread or a signal handler."""

    def report(self) -> SinkReport | None:
        """Count what was written and missed; final after `close`. None where nothing is counted."""
        return None

    def close(self) -> None:  # noqa: B027 - optional
        """Finish and release everything."""


class Writer(ABC):
    """Writes one result at a time, as slowly as it must; a `LatestResultSink` calls it on its thread."""

    name: ClassVar[str]
    wants_end: bool = False
    """Set when the stream should end."""

    @abstractmethod
    def write(self, result: Result) -> bool:
        """Write one result; False when nobody reads it any more.

        Raises:
            EdgesegError: Nothing more can be written; the stream goes on without this writer.
        """

    def stop_waiting(self) -> None:  # noqa: B027 - optional
        """Stop waiting for a slow reader, since the stream ends; called from another thread."""

    def close(self) -> None:  # noqa: B027 - optional
        """Finish and release everything."""


class LatestResultSink(Sink):
    """Decouples a slow `Writer` from the stream: a latest-value slot and a thread that writes.

    A live stream never waits: a result that is replaced in the slot counts as missed. With `waits`, `publish` blocks
    until the slot is free, so that no result of a recorded source is lost.
    """

    def __init__(self, writer: Writer, is_on: bool = True, waits: bool = False) -> None:
        """Start the thread.

        Args:
            writer: Called for every result that is taken; closed at the end.
            is_on: Whether to write from the start; while it is off, results are ignored and not counted.
            waits: Whether the stream waits for the writer.
        """
        self._writer, self._is_on, self._waits = writer, is_on, waits
        self._condition = threading.Condition()
        self._newest: Result | None = None
        self._closing, self._writing, self._has_ended = False, False, False
        self._taken, self._missed = 0, 0
        self._failure: EdgesegError | None = None
        # a daemon thread: one that hangs in a write must not keep the process alive
        self._thread = threading.Thread(target=self._run, name=f"edgeseg-{writer.name}", daemon=True)
        self._thread.start()

    def publish(self, result: Result) -> None:
        """Put a result into the slot."""
        with self._condition:
            if not self._is_on:
                return
            if self._waits:
                self._condition.wait_for(self._accepts)
            # what lies in the slot was never written, and after the end nothing is
            self._missed += self._newest is not None or self._is_done()
            self._newest = None if self._is_done() else result
            self._condition.notify_all()

    def stop_waiting(self) -> None:
        """Unblock `publish`; a result that finds the slot full is missed from now on."""
        with self._condition:
            self._waits = False
            self._condition.notify_all()

    @property
    def is_on(self) -> bool:
        """Whether results are written."""
        return self._is_on

    def turn(self, is_on: bool) -> None:
        """Switch writing on or off."""
        with self._condition:
            self._is_on = is_on
            self._condition.notify_all()

    @property
    def wants_end(self) -> bool:
        """Whether the writer asks for the end of the stream."""
        return self._writer.wants_end

    def report(self) -> SinkReport:
        """Count what was written and missed."""
        with self._condition:
            failure = self._failure
            message, hint = (failure.message, failure.hint) if failure is not None else (None, "")
            return SinkReport(self._writer.name, self._taken, self._missed, message, hint)

    def close(self) -> None:
        """Write the last result and end the thread; with `waits` this may take until `stop_waiting`."""
        with self._condition:
            self._closing = True
            self._condition.notify_all()
            self._condition.wait_for(lambda: self._has_ended or not self._waits)
        # from here on a reader that takes nothing delays the end only briefly
        self._writer.stop_waiting()
        self._thread.join(CLOSE_SECONDS)
        if self._thread.is_alive():
            self._fail(OutputError(f"Expected {self._writer.name} to end within {CLOSE_SECONDS:g} s, but it hangs."))

    def _run(self) -> None:
        try:
            while (result := self._take()) is not None:
                is_taken = self._writer.write(result)
                self._count(is_taken)
        except EdgesegError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - printed and reported; one sink must not end the stream
            self._fail(OutputError(f"Unexpected {type(error).__name__}: {error}", "This is a defect."))
        finally:
            self._writer.close()
            with self._condition:
                self._has_ended = True
                self._condition.notify_all()

    def _accepts(self) -> bool:
        return self._newest is None or self._is_done() or not (self._waits and self._is_on)

    def _is_done(self) -> bool:
        return self._failure is not None or self._writer.wants_end

    def _take(self) -> Result | None:
        with self._condition:
            self._condition.wait_for(lambda: self._newest is not None or self._closing)
            result, self._newest = self._newest, None
            self._writing = result is not None
            self._condition.notify_all()
            return result

    def _count(self, is_taken: bool) -> None:
        """Count the result that was written, unless `close` gave up on it meanwhile and counted it as missed."""
        with self._condition:
            self._taken += is_taken and self._writing
            self._missed += self._writing and not is_taken
            self._writing = False
            self._drop_waiting()

    def _drop_waiting(self) -> None:
        if self._is_done():
            self._missed += self._newest is not None
            self._newest = None
            self._condition.notify_all()

    def _fail(self, error: EdgesegError) -> None:
        with self._condition:
            self._failure = error
            self._missed += self._writing
            self._writing = False
            self._drop_waiting()
        if not self._writer.wants_end:
            _LOG.warning("%s ended, the stream goes on: %s", self._writer.name, error.message)
