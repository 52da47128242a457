"""The stream for Python programs: `for result in edgeseg.stream(model, source)`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from edgeseg.backends.select import AUTO
from edgeseg.core.modelfile import read_model
from edgeseg.inference.masks import DEFAULT_MASK_OPTIONS, MaskOptions
from edgeseg.inference.supervision import SupervisedSegmenter
from edgeseg.streaming.live import DEFAULT_STREAM_OPTIONS, StreamOptions, StreamPipeline, open_stream
from edgeseg.streaming.loop import StreamReport, make_report
from edgeseg.streaming.sinks.base import Result
from edgeseg.streaming.sinks.choose import DEFAULT_SINK_OPTIONS, SinkOptions


class Stream:
    """The results of a running stream; leaving the loop by break, return or exception closes everything.

    The camera runs from the start; between two results the loop's body takes the time it needs, and the next result is
    that of the newest frame. Python closes the stream with the loop as long as nothing else refers to the iterator; a
    `with` statement closes it in any case.
    """

    def __init__(self, live: StreamPipeline) -> None:
        self._live = live
        self.classes = live.segmenter.card.output.classes
        self.mm_per_px = live.mm_per_px
        live.__enter__()

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
        self._live.__exit__(None, None, None)

    def report(self) -> StreamReport:
        """Summarise the stream so far: times, misses, backend and sinks."""
        return make_report(self._live)


def stream(
    model: str | Path,
    source: str = "0",
    *,
    backend: str = AUTO,
    threads: int = 1,
    options: StreamOptions = DEFAULT_STREAM_OPTIONS,
    masks: MaskOptions = DEFAULT_MASK_OPTIONS,
    sinks: SinkOptions = DEFAULT_SINK_OPTIONS,
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

    Returns:
        An iterable of results, each with its frame, its labels and its age; `report()` gives the figures.

    Raises:
        EdgesegError: The model, the source or a sink cannot be opened.
    """
    segmenter = SupervisedSegmenter(read_model(Path(model)), backend, threads, masks=masks)
    return Stream(open_stream(segmenter, source, options, sinks))
