"""The live loop: newest frame, mask, sinks, times; and the report at its end."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

from edgeseg.core.errors import EdgesegError
from edgeseg.core.stats import Percentiles
from edgeseg.runtime.capture import AS_IT_COMES, CaptureOptions
from edgeseg.runtime.grabber import Grabber
from edgeseg.runtime.latency import LatencyRecorder
from edgeseg.runtime.segmenter import Segmenter
from edgeseg.runtime.sinks import Result, Sink
from edgeseg.runtime.sources.base import Health, Notice, Source


@dataclass(frozen=True)
class FrameCounts:
    """What became of the frames."""

    captured: int
    processed: int
    dropped: int
    late: int


@dataclass(frozen=True)
class BackendReport:
    """What the frames ran on, and why not on what was asked for."""

    name: str
    requested: str
    fallback_reason: str | None
    detail: str


@dataclass(frozen=True)
class StreamReport:
    """How a stream went; `verdict` is "held" or "missed"."""

    model: str
    source: str
    frames: FrameCounts
    latency_ms: dict[str, Percentiles]
    frame_age_ms: Percentiles
    first_inference_ms: float
    budget_ms: float
    misses: float
    max_miss: float
    verdict: str
    seconds: float
    backend: BackendReport
    source_health: Health


class BrokenStreamError(EdgesegError):
    """A stream ended by an error; `report` says how it went until then."""

    def __init__(self, error: EdgesegError, report: StreamReport) -> None:
        super().__init__(error.message, error.hint)
        self.report = report


@dataclass(frozen=True)
class StreamOptions:
    """When to stop, and what counts as too late."""

    budget_ms: float = 50.0
    max_miss: float = 0.01
    frames: int | None = None
    capture: CaptureOptions = AS_IT_COMES

    def __post_init__(self) -> None:
        if self.budget_ms <= 0:
            raise ValueError(f"expected a budget above 0 ms, got {self.budget_ms}")
        if self.frames is not None and self.frames < 1:
            raise ValueError(f"expected at least 1 frame, got {self.frames}")


def run_stream(
    segmenter: Segmenter,
    source: Source,
    recorder: LatencyRecorder,
    options: StreamOptions,
    sinks: Sequence[Sink] = (),
    name: str = "",
) -> StreamReport:
    """Segment the newest frame again and again until the source ends, enough frames are done or a signal comes.

    Args:
        segmenter: The model, loaded.
        source: Where frames come from; closed at the end.
        recorder: Collects the times; a viewer may read it meanwhile.
        options: When to stop and what is late.
        sinks: What gets every result; closed at the end.
        name: The source as the user wrote it, for the report.

    Raises:
        BrokenStreamError: The source or the model failed after the first frame.
    """
    processed, began, failure = 0, monotonic(), None
    source.tell = lambda notice: _tell_all(sinks, notice)
    with Grabber(source, options.capture) as grabber, stop_on_signal(grabber.stop):
        try:
            while options.frames is None or processed < options.frames:
                frame = grabber.newest()
                if frame is None:
                    break
                segmentation = segmenter.segment(frame.image, frame.region)
                result = Result(frame, segmentation, 1e3 * (monotonic() - frame.captured_at))
                recorder.record(segmentation.times, result.age_ms)
                for sink in sinks:
                    sink.publish(result)
                processed += 1
        except EdgesegError as error:
            if not processed:
                raise
            failure = error
        finally:
            for sink in sinks:
                sink.close()
        seconds = monotonic() - began
    report = _report(segmenter, grabber, recorder, options, processed, seconds, name)
    if failure is not None:
        raise BrokenStreamError(failure, report) from failure
    return report


def _tell_all(sinks: Sequence[Sink], notice: Notice) -> None:
    for sink in sinks:
        sink.notice(notice)


def _report(
    segmenter: Segmenter,
    grabber: Grabber,
    recorder: LatencyRecorder,
    options: StreamOptions,
    processed: int,
    seconds: float,
    name: str,
) -> StreamReport:
    latency, selection = recorder.report(), segmenter.selection
    return StreamReport(
        model=segmenter.card.name,
        source=name,
        frames=FrameCounts(grabber.captured, processed, grabber.dropped, latency.late),
        latency_ms=latency.latency_ms,
        frame_age_ms=latency.frame_age_ms,
        first_inference_ms=latency.first_inference_ms,
        budget_ms=latency.budget_ms,
        misses=latency.misses,
        max_miss=options.max_miss,
        verdict="held" if latency.misses <= options.max_miss else "missed",
        seconds=round(seconds, 3),
        backend=BackendReport(
            selection.backend.name, selection.requested, selection.fallback_reason, selection.backend.detail
        ),
        source_health=grabber.health,
    )


@contextmanager
def stop_on_signal(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` on SIGINT and SIGTERM instead of ending the process; a second signal ends it after all."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, _: object) -> None:
        signal.signal(number, kept[signal.Signals(number)])
        stop()

    for number in kept:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
