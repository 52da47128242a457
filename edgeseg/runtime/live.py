"""A stream while it runs: what captures, segments and shows, opened and closed together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import count
from time import monotonic, perf_counter
from types import TracebackType

from edgeseg.runtime.capture import AS_IT_COMES, CaptureOptions
from edgeseg.runtime.grabber import Grabber
from edgeseg.runtime.latency import LatencyRecorder
from edgeseg.runtime.segmenter import Segmenter
from edgeseg.runtime.sinks.base import Result, Sink
from edgeseg.runtime.sources.base import Frame, Notice, Source


class LiveStream:
    """Gives the result of the newest frame again and again, after every sink has got it."""

    def __init__(
        self,
        segmenter: Segmenter,
        source: Source,
        recorder: LatencyRecorder,
        sinks: Sequence[Sink] = (),
        frames: int | None = None,
        capture: CaptureOptions = AS_IT_COMES,
    ) -> None:
        """Prepare a stream; it begins to capture when it is entered.

        Args:
            segmenter: The model, loaded.
            source: Where frames come from; closed at the end.
            recorder: Collects the times; a viewer may read it meanwhile.
            sinks: What gets every result; closed at the end.
            frames: When to stop; None goes on until the source ends.
            capture: How frames are taken from the source.
        """
        self.segmenter, self.recorder, self.sinks = segmenter, recorder, tuple(sinks)
        self.grabber = Grabber(source, capture, self._show_frame)
        source.tell = self._tell_notice
        self.processed = 0
        self._frames = frames
        self._closing = ExitStack()

    def __enter__(self) -> LiveStream:
        self._closing.enter_context(self.grabber)
        for sink in self.sinks:
            self._closing.callback(sink.close)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def stop(self) -> None:
        """End the capture from another thread or a signal; the loop ends after the frame that it is at."""
        self.grabber.stop()

    def __iter__(self) -> Iterator[Result]:
        """Segment the newest frame until the source ends, a sink wants to end, or enough frames are done."""
        for _ in count() if self._frames is None else range(self._frames):
            frame = self.grabber.newest()
            if frame is None:
                return
            result = self._segment(frame)
            self._publish(result)
            yield result
            if any(sink.wants_end for sink in self.sinks):
                return

    def _segment(self, frame: Frame) -> Result:
        segmentation = self.segmenter.segment(frame.image, frame.region)
        ready_at = monotonic()
        result = Result(frame, segmentation, 1e3 * (ready_at - frame.captured_at))
        self.recorder.record(segmentation.times, result.age_ms, ready_at)
        self.processed += 1
        return result

    def _publish(self, result: Result) -> None:
        began = perf_counter()
        for sink in self.sinks:
            sink.publish(result)
        self.recorder.record_publish(1e3 * (perf_counter() - began))

    def _show_frame(self, frame: Frame) -> None:
        for sink in self.sinks:
            sink.see(frame)

    def _tell_notice(self, notice: Notice) -> None:
        for sink in self.sinks:
            sink.notice(notice)
