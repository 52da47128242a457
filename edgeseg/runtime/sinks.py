"""Where results go: everything that wants to see a frame and its mask."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from edgeseg.runtime.latency import LatencyRecorder
from edgeseg.runtime.segmenter import Segmentation
from edgeseg.runtime.sources.base import Frame, Notice


@dataclass(frozen=True)
class Result:
    """A frame, its mask, and how old the frame was when the mask was ready."""

    frame: Frame
    segmentation: Segmentation
    age_ms: float


@dataclass(frozen=True)
class StreamInfo:
    """What a viewer shows beside the picture and what does not change while the stream runs."""

    model: str
    source: str
    backend: str
    requested: str
    fallback_reason: str | None
    recorder: LatencyRecorder


class Sink(ABC):
    """Receives every result; must return at once, since it runs between two frames."""

    @abstractmethod
    def publish(self, result: Result) -> None:
        """Take one result."""

    def notice(self, notice: Notice) -> None:  # noqa: B027 - not every sink tells
        """Hear that the source was lost or is back; called from the capturing thread."""

    def close(self) -> None:  # noqa: B027 - a sink that holds nothing open has nothing to close
        """Finish what was begun."""
