"""`stream`, and the `Stream` that it returns: results one after the other, for a loop in Python."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from edgeseg.backends.select import AUTO, log_fallback
from edgeseg.inference.ensemble import open_segmenter
from edgeseg.inference.masks import DEFAULT_MASK_OPTIONS, MaskOptions
from edgeseg.inference.segmenter import Segmenter
from edgeseg.streaming.live import StreamPipeline
from edgeseg.streaming.loop import StreamReport, make_report
from edgeseg.streaming.many import ManyPipeline, open_sources
from edgeseg.streaming.options import DEFAULT_SINK_OPTIONS, DEFAULT_STREAM_OPTIONS, SinkOptions, StreamOptions
from edgeseg.streaming.sinks.base import Result
from edgeseg.streaming.viewer import WebViewer
from edgeseg.streaming.viewer.grid import GridViewer


class Stream:
    """The results of a running stream; leaving the loop by break, return or exception closes everything.

    The camera runs from the start, and the next result is always that of the newest frame. Of several sources, results
    come from all in turn, and `result.source` says which. Python closes the stream with the loop as long as nothing
    else refers to the iterator; a `with` statement closes it in any case.
    """

    def __init__(self, live: StreamPipeline | ManyPipeline) -> None:
        self._live = live
        self.classes = live.segmenter.card.output.classes
        self.mm_per_px = live.mm_per_px
        """The size of a pixel, where the source or the options say it."""
        self.url = next((sink.url for sink in live.sinks if isinstance(sink, (WebViewer, GridViewer))), None)
        """Where the live page is, if there is one."""
        live.__enter__()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Result]:
        try:
            for result in self._live:
                mm_per_px = result.frame.mm_per_px if self.mm_per_px is None else self.mm_per_px
                measured = dataclasses.replace(result.segmentation, mm_per_px=mm_per_px)
                yield dataclasses.replace(result, segmentation=measured)
        finally:
            self.close()

    def close(self) -> None:
        """End the capture and close source and sinks; may be called twice."""
        self._live.__exit__(None, None, None)

    def report(self) -> StreamReport:
        """Summarise the stream so far: times, misses, backend and sinks."""
        return make_report(self._live)


def stream(
    model: str | os.PathLike[str],
    source: str | Sequence[str] = "0",
    *,
    backend: str = AUTO,
    threads: int = 1,
    options: StreamOptions = DEFAULT_STREAM_OPTIONS,
    masks: MaskOptions = DEFAULT_MASK_OPTIONS,
    sinks: SinkOptions = DEFAULT_SINK_OPTIONS,
) -> Stream:
    """Segment live or recorded sources, always the newest frame of each.

    Args:
        model: As in `load`.
        source: As `edgeseg stream --source` takes it: phantom://, a camera's index, a file, a folder. Several are
            segmented at the same time, and NAME=SOURCE names one; for a model of several modalities they are these.
        backend: As in `load`.
        threads: As in `load`.
        options: When to stop, and what counts as too late.
        masks: Holes filled, frames smoothed.
        sinks: A page, a window, a recording beside the loop.

    Returns:
        An iterable of results, each with its frame, its segmentation and its age; `report()` gives the figures.

    Raises:
        EdgesegError: The model, the source or a sink cannot be opened.
    """

    def load(name: str, enforce_parity: bool = False) -> Segmenter:
        return open_segmenter(Path(model), name, threads, enforce_parity, masks, supervised=True)

    first = load(backend, enforce_parity=True)
    log_fallback(first.selection)
    return Stream(open_sources(first, load, threads, source, options, sinks))
