"""Where results go: everything that wants to see a frame and its mask."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from edgeseg.backends.select import BackendReport
from edgeseg.runtime.latency import LatencyRecorder
from edgeseg.runtime.segmenter import Segmentation
from edgeseg.runtime.sources.base import Frame, Notice
from edgeseg.runtime.sources.inbox import Inbox


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
    inbox: Inbox | None = None
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
