"""The stream for Python programs: `for result in edgeseg.stream(model, source)`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from types import TracebackType

from edgeseg.backends.select import AUTO
from edgeseg.core.modelfile import read_model
from edgeseg.core.thermal import read_thermal
from edgeseg.runtime.guarded import GuardedSegmenter
from edgeseg.runtime.latency import LatencyRecorder
from edgeseg.runtime.live import LiveStream
from edgeseg.runtime.masks import AS_THE_CARD_SAYS, MaskOptions
from edgeseg.runtime.sinks.base import Result, StreamInfo
from edgeseg.runtime.sinks.choose import SinkWishes, open_sinks
from edgeseg.runtime.sources.choose import open_source
from edgeseg.runtime.sources.secrets import hide_password
from edgeseg.runtime.stream import StreamOptions, StreamReport, make_report


class Stream:
    """The results of a running stream; leaving the loop by break, return or exception closes everything.

    The camera runs from the start; between two results the loop's body takes the time it needs, and the next result is
    that of the newest frame. Python closes the stream with the loop as long as nothing else refers to the iterator; a
    `with` statement closes it in any case.
    """

    def __init__(self, live: LiveStream, segmenter: GuardedSegmenter, options: StreamOptions, name: str) -> None:
        self._live, self._segmenter, self._options, self._name = live, segmenter, options, name
        self._began, self._thermal = monotonic(), read_thermal()
        self._live.__enter__()
        self.classes = segmenter.card.output.classes
        self._closed = False
        self._seconds = 0.0

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Result]:
        try:
            yield from self._live
        finally:
            self.close()

    def close(self) -> None:
        """End the capture and close source and sinks; may be called twice."""
        if not self._closed:
            self._closed = True
            self._seconds = monotonic() - self._began
            self._live.__exit__(None, None, None)
            self._segmenter.close()

    def report(self) -> StreamReport:
        """Summarise the stream so far: times, misses, backend and sinks."""
        seconds = self._seconds if self._closed else monotonic() - self._began
        return make_report(self._live, self._options, self._name, seconds, self._thermal)


def stream(
    model: str | Path,
    source: str = "0",
    *,
    backend: str = AUTO,
    threads: int = 1,
    options: StreamOptions | None = None,
    masks: MaskOptions = AS_THE_CARD_SAYS,
    sinks: SinkWishes | None = None,
    mm_per_px: float | None = None,
) -> Stream:
    """Segment a live or recorded source, always the newest frame.

    Args:
        model: A .tflite file that edgeseg wrote.
        source: As `edgeseg stream --source` takes it: phantom://, a camera's index, a file, a folder.
        backend: "auto", or the name of a backend.
        threads: CPU threads the model may use.
        options: When to stop, and what counts as too late.
        masks: Holes filled, frames smoothed.
        sinks: A page, a window, a recording beside the loop.
        mm_per_px: The size of a pixel, where the source does not tell.

    Returns:
        An iterable of results, each with its frame, its labels and its age; `report()` gives the figures.

    Raises:
        EdgesegError: The model, the source or a sink cannot be opened.
    """
    options = options or StreamOptions()
    segmenter = GuardedSegmenter(read_model(Path(model)), backend, threads, masks=masks)
    recorder = LatencyRecorder(options.budget_ms, segmenter.warm_up())
    opened = open_source(source, segmenter.card.input.in_colour, options.capture)
    name = hide_password(source)
    size = opened.mm_per_px if mm_per_px is None else mm_per_px
    try:
        info = StreamInfo(segmenter.card.name, name, segmenter.report, recorder, size, opened.inbox)
        wishes = sinks or SinkWishes()
        wishes.check_info(info)
        outlets = open_sinks(wishes, info, segmenter.card.output.classes)
    except BaseException:
        opened.close()
        segmenter.close()
        raise
    live = LiveStream(segmenter, opened, recorder, outlets, options.frames, options.capture)
    return Stream(live, segmenter, options, name)
