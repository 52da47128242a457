"""`SourcePipeline`: what a stream keeps of one source, from a frame that was captured to its published result."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from time import monotonic, perf_counter

from edgeseg.core.spec import ClassSpec
from edgeseg.inference.masks import ScoreSmoother
from edgeseg.inference.segmenter import Segmenter
from edgeseg.streaming.latency import LatencyRecorder
from edgeseg.streaming.options import DEFAULT_STREAM_OPTIONS, StreamOptions
from edgeseg.streaming.sinks.base import Result, Sink
from edgeseg.streaming.sources.base import Frame, Notice
from edgeseg.streaming.states import StateKeeper, is_pause

# A picture counts as frozen after so many equal frames over so many seconds: slow scanners repeat a few.
FROZEN_FRAMES, FROZEN_SECONDS = 10, 1.0
# Following one finds the caches filled by the network, and leaves them cold to the next frame (decisions/0075).
FOLLOWED_TOGETHER = 8
# Rows of the frame that are compared, each whole: they lie in one piece, which copies ten times faster than points.
_COMPARED = 16
_LOG = logging.getLogger(__name__)


class FreezeDetector:
    """Tells a picture that stands still, as of a camera that hangs; frames of a probe always differ by their noise."""

    def __init__(self) -> None:
        self._newest = b""
        self._repeats, self._since = 0, 0.0
        self.stillness = 0.0
        """How long the frames have been equal, as a multiple of what counts as frozen."""

    @property
    def frozen(self) -> bool:
        """Whether the picture stands still."""
        return self.stillness >= 1.0

    def look(self, frame: Frame) -> bool:
        """Look at the next frame, and say whether the picture stands still; still images are never frozen."""
        # a copy, since a source may use its buffer again
        rows = frame.image[:: max(1, frame.image.shape[0] // _COMPARED)].tobytes()
        if frame.name or rows != self._newest:
            self._newest, self._repeats, self._since = rows, 0, frame.captured_at
        else:
            self._repeats += 1
        seconds = frame.captured_at - self._since
        self.stillness = min(self._repeats / FROZEN_FRAMES, seconds / FROZEN_SECONDS)
        return self.frozen


class SourcePipeline:
    """Everything that looks back on the frames of one source: states, smoothing, times, sinks.

    `segment` and `publish` run on one thread at a time, and take the frames of the source in their order.
    """

    def __init__(
        self,
        classes: Sequence[ClassSpec],
        recorder: LatencyRecorder,
        sinks: Sequence[Sink] = (),
        options: StreamOptions = DEFAULT_STREAM_OPTIONS,
        name: str = "",
        mm_per_px: float | None = None,
    ) -> None:
        """Begin with a source that has given no frame yet.

        Args:
            classes: Of the model's card.
            recorder: Collects the times; sinks may read it meanwhile.
            sinks: Subscribers to frames, results and notices.
            options: The budget, and whether states hold over frames.
            name: The source's name in the report, without secrets.
            mm_per_px: The pixel size, where known.
        """
        self.recorder, self.sinks, self.options = recorder, tuple(sinks), options
        self.name, self.mm_per_px = name, mm_per_px
        # where the source waits, no mask is late; a live stream follows while it waits for its next frame
        together = FOLLOWED_TOGETHER if options.capture.every_frame else 1
        self.states = StateKeeper(classes, options.steady, together)
        self._label = ""
        self.processed = 0
        self.frozen = 0
        """Number of frames on which the picture stood still."""
        self._part: LatencyRecorder | None = None
        self._smoother = ScoreSmoother()
        self._freezes = FreezeDetector()
        self._last_at: float | None = None

    def segment(self, frame: Frame, segmenter: Segmenter) -> Result:
        """Segment a frame, and count it.

        Args:
            frame: Of this source.
            segmenter: Any that has loaded the model: what it remembers of a source is kept here.

        Raises:
            SourceError: The model refuses such frames.
        """
        segmenter.smoother = self._smoother
        if self._last_at is not None and is_pause(frame.captured_at - self._last_at):
            self._smoother.reset()
        self._last_at = frame.captured_at
        segmentation = segmenter.segment(frame.image, frame.region)
        segmentation = self.states.take(segmentation, frame.captured_at)
        ready_at = monotonic()
        age_ms, is_frozen = 1e3 * (ready_at - frame.captured_at), self._look_for_freeze(frame)
        result = Result(frame, segmentation, age_ms, is_frozen, self._label or str(frame.source))
        for recorder in self.list_recorders():
            recorder.record(segmentation.times, result.age_ms, ready_at)
        self.processed += 1
        return result

    def publish(self, result: Result) -> None:
        """Give a result to every sink."""
        began = perf_counter()
        for sink in self.sinks:
            sink.publish(result)
        for recorder in self.list_recorders():
            recorder.record_publish(1e3 * (perf_counter() - began))

    def list_recorders(self) -> tuple[LatencyRecorder, ...]:
        """List what collects the times of this source."""
        return (self.recorder,) if self._part is None else (self.recorder, self._part)

    def forget(self) -> None:
        """Begin anew with everything that looks back: the next frames are of another source."""
        self._smoother.reset()
        self.states.forget()
        self._freezes, self._last_at = FreezeDetector(), None

    def on_frame(self, frame: Frame) -> None:
        """Give a captured frame to every sink."""
        for sink in self.sinks:
            sink.on_frame(frame)

    def on_notice(self, notice: Notice) -> None:
        """Log a notice, and give it to every sink."""
        _LOG.warning("%s%s", f"Source {self._label}: " if self._label else "", notice.sentence)
        for sink in self.sinks:
            sink.on_notice(notice)

    def _look_for_freeze(self, frame: Frame) -> bool:
        was, frozen = self._freezes.frozen, self._freezes.look(frame)
        self.frozen += frozen
        if frozen and not was:
            self.on_notice(Notice("frozen", "The picture stands still: the source gives the same image every time."))
        elif was and not frozen:
            self.on_notice(Notice("moving", "The picture moves again."))
        return frozen
