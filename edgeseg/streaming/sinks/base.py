"""Where results go: everything that wants to see a frame and its mask."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from edgeseg.backends.select import BackendReport
from edgeseg.core.errors import EdgesegError, OutputError
from edgeseg.inference.segmenter import Segmentation
from edgeseg.streaming.latency import LatencyRecorder
from edgeseg.streaming.sources.base import Frame, LatestSlot, Notice

CLOSE_SECONDS = 10.0
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """A frame, its mask, and how old the frame was when the mask was ready."""

    frame: Frame
    segmentation: Segmentation
    age_ms: float


@dataclass(frozen=True)
class StreamInfo:
    """What a viewer shows beside the picture; what may change while the stream runs is asked for."""

    model: str
    source: str
    backend: Callable[[], BackendReport]
    recorder: LatencyRecorder
    mm_per_px: float | None = None
    latest_slot: LatestSlot | None = None
    """Where the page puts its camera's pictures, when those are the source."""
    every_frame: bool = False
    """Every frame of a recorded source is wanted: it waits for the sinks that keep results, and nothing is late."""


@dataclass(frozen=True)
class SinkReport:
    """What became of the results that a sink was given."""

    name: str
    taken: int
    missed: int
    """Results that were not brought out: replaced by a newer one while the sink was busy, or come after it ended."""
    failure: str | None
    """Why the sink ended before the stream did."""
    hint: str = ""


class Sink(ABC):
    """Receives every result; must return at once, since it runs between two frames.

    Only for a recorded source of which every frame is wanted, a sink may wait, until somebody ends the stream.
    """

    @abstractmethod
    def publish(self, result: Result) -> None:
        """Take one result."""

    def see(self, frame: Frame) -> None:  # noqa: B027 - most sinks wait for the mask
        """See a captured frame before its mask is there; called from the capturing thread."""

    def notice(self, notice: Notice) -> None:  # noqa: B027 - not every sink tells
        """Hear that the source was lost or is back; called from the capturing thread."""

    @property
    def wants_end(self) -> bool:
        """Say whether the stream has no more reason to go on, as when its window was closed."""
        return False

    def hurry(self) -> None:  # noqa: B027 - most sinks never wait
        """Hear, from another thread or a signal, that the stream is to end: make it wait no longer."""

    def report(self) -> SinkReport | None:
        """Say what was taken and missed, where that is counted; complete after `close`."""
        return None

    def close(self) -> None:  # noqa: B027 - a sink that holds nothing open has nothing to close
        """Finish what was begun."""


class Writer(ABC):
    """Writes or shows one result at a time, as slowly as it must."""

    name: ClassVar[str]
    wants_end: bool = False
    """Set when the stream has no more reason to go on."""

    @abstractmethod
    def write(self, result: Result) -> bool:
        """Bring one result out; False where nobody is left to take it.

        Raises:
            EdgesegError: Nothing more can be brought out; the stream goes on without this outlet.
        """

    def hurry(self) -> None:  # noqa: B027 - most outlets wait for nobody
        """Hear, from another thread, that the stream has ended: wait for nobody any longer."""

    def close(self) -> None:  # noqa: B027 - an outlet that holds nothing open has nothing to close
        """Finish what was begun."""


class LatestResultSink(Sink):
    """Hands results to an outlet on a thread of its own.

    A live stream never waits for it: the newest result is next, and what came and went meanwhile is counted. A recorded
    source of which every frame is wanted waits until there is room for the next result, so that none is lost.
    """

    def __init__(self, writer: Writer, is_on: bool = True, waits: bool = False) -> None:
        """Start the thread.

        Args:
            writer: Brings results out.
            is_on: Whether results are carried from the start; while it is off, they pass by uncounted.
            waits: Whether the stream waits for the outlet.
        """
        self._outlet, self._is_on, self._waits = writer, is_on, waits
        self._news = threading.Condition()
        self._newest: Result | None = None
        self._closing, self._at_work, self._has_ended = False, False, False
        self._taken, self._missed = 0, 0
        self._failure: EdgesegError | None = None
        self._thread = threading.Thread(target=self._run, name=f"edgeseg-{writer.name}", daemon=True)
        self._thread.start()

    def publish(self, result: Result) -> None:
        """Make a result the next one to be carried."""
        with self._news:
            if not self._is_on:
                return
            if self._waits:
                self._news.wait_for(self._has_room)
            self._missed += self._newest is not None or self._is_done()
            self._newest = None if self._is_done() else result
            self._news.notify_all()

    def hurry(self) -> None:
        """Let the stream wait no longer: what finds no room from now on is missed."""
        with self._news:
            self._waits = False
            self._news.notify_all()

    @property
    def is_on(self) -> bool:
        """Say whether results are carried."""
        return self._is_on

    def turn(self, is_on: bool) -> None:
        """Begin to carry results, or let them pass by."""
        with self._news:
            self._is_on = is_on
            self._news.notify_all()

    @property
    def wants_end(self) -> bool:
        """Say whether the outlet has no more reason to go on."""
        return self._outlet.wants_end

    def report(self) -> SinkReport:
        """Count what was carried and what was missed."""
        with self._news:
            failure = self._failure
            message, hint = (failure.message, failure.hint) if failure is not None else (None, "")
            return SinkReport(self._outlet.name, self._taken, self._missed, message, hint)

    def close(self) -> None:
        """Bring the last result out and end the thread; a stream that waits, waits here, too, until it is hurried."""
        with self._news:
            self._closing = True
            self._news.notify_all()
            self._news.wait_for(lambda: self._has_ended or not self._waits)
        self._outlet.hurry()
        self._thread.join(CLOSE_SECONDS)
        if self._thread.is_alive():
            self._fail(OutputError(f"Expected {self._outlet.name} to end within {CLOSE_SECONDS:g} s, but it hangs."))

    def _run(self) -> None:
        try:
            while (result := self._take()) is not None:
                is_taken = self._outlet.write(result)
                self._count(is_taken)
        except EdgesegError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - told at once and at the end; the stream goes on
            self._fail(OutputError(f"Unexpected {type(error).__name__}: {error}", "This is a defect."))
        finally:
            self._outlet.close()
            with self._news:
                self._has_ended = True
                self._news.notify_all()

    def _has_room(self) -> bool:
        return self._newest is None or self._is_done() or not (self._waits and self._is_on)

    def _is_done(self) -> bool:
        return self._failure is not None or self._outlet.wants_end

    def _take(self) -> Result | None:
        with self._news:
            self._news.wait_for(lambda: self._newest is not None or self._closing)
            result, self._newest = self._newest, None
            self._at_work = result is not None
            self._news.notify_all()
            return result

    def _count(self, is_taken: bool) -> None:
        """Count the result that was at work, unless a hang was already told of it, and those that wait in vain."""
        with self._news:
            self._taken += is_taken and self._at_work
            self._missed += self._at_work and not is_taken
            self._at_work = False
            self._drop_waiting()

    def _drop_waiting(self) -> None:
        if self._is_done():
            self._missed += self._newest is not None
            self._newest = None
            self._news.notify_all()

    def _fail(self, error: EdgesegError) -> None:
        with self._news:
            self._failure = error
            self._missed += self._at_work
            self._at_work = False
            self._drop_waiting()
        if not self._outlet.wants_end:
            _LOG.warning("%s ended, the stream goes on: %s", self._outlet.name, error.message)
