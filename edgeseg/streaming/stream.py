"""`Stream`: the results of a running stream, one after the other, for a loop in Python."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from edgeseg.streaming.live import StreamPipeline
from edgeseg.streaming.loop import StreamReport, make_report
from edgeseg.streaming.many import ManyPipeline
from edgeseg.streaming.sinks.base import Result
from edgeseg.streaming.viewer import WebViewer
from edgeseg.streaming.viewer.grid import GridViewer


class Stream:
    """The results of a running stream; leaving the loop by break, return or exception closes everything.

    The camera runs from the start, and the next result is always that of the newest frame. Python closes the stream
    with the loop as long as nothing else refers to the iterator; a `with` statement closes it in any case.
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
