"""`SinkOptions`: which sinks a stream gets, and `open_sinks`, which opens them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from edgeseg.core.errors import UnknownNameError
from edgeseg.core.spec import ClassSpec
from edgeseg.inference.masks import check_pixel_size
from edgeseg.streaming.grabber import LiveSourceError
from edgeseg.streaming.sinks.base import LatestResultSink, Sink, StreamInfo
from edgeseg.streaming.sinks.json_lines import JsonLinesWriter
from edgeseg.streaming.sinks.metrics import Metrics
from edgeseg.streaming.sinks.recording import FRAME_STORES, Recording
from edgeseg.streaming.sinks.window import Window
from edgeseg.streaming.viewer import WebViewer
from edgeseg.web.access import LOCAL, check_address, grant_access

VIEWS = ("web", "window", "none")


@dataclass(frozen=True)
class SinkOptions:
    """What of a stream is shown, recorded and served."""

    view: str = "none"
    port: int = 8765
    hold: bool = True
    record: Path | None = None
    record_frames: bool = False
    emit_to: int | None = None
    """A file descriptor for JSON lines."""
    metrics: int | None = None
    """A port for Prometheus."""
    mm_per_px: float | None = None
    """The pixel size, for areas; overrides the source's."""
    record_as: str = "png"
    """One of `FRAME_STORES`."""
    host: str = LOCAL
    """The address of the page; any but the loopback demands a token."""
    record_wait: bool = False
    """Start the recording with the page's button, not with the stream."""

    def __post_init__(self) -> None:
        if self.view not in VIEWS:
            raise UnknownNameError("view", self.view, VIEWS)
        if self.record_frames and self.record is None:
            raise ValueError("expected --record DIR beside --record-frames, got none")
        if self.record_as not in FRAME_STORES:
            raise UnknownNameError("form of a recording", self.record_as, FRAME_STORES)
        if self.mm_per_px is not None:
            check_pixel_size(self.mm_per_px)
        if self.record_wait and (self.record is None or self.view != "web"):
            raise ValueError("expected --record DIR and --view web beside --record-wait, since the page has its button")
        check_address(self.host)
        if self.host != LOCAL and self.view != "web":
            raise ValueError(f"expected --view web beside --host, got --view {self.view}")

    def check_info(self, info: StreamInfo) -> None:
        """Refuse the page's camera as a source without a page."""
        if info.latest_slot is not None and self.view != "web":
            raise LiveSourceError(
                f"expected --view web, whose page sends the camera's pictures, got --view {self.view}"
            )


DEFAULT_SINK_OPTIONS = SinkOptions()


def open_sinks(sink_options: SinkOptions, info: StreamInfo, classes: Sequence[ClassSpec]) -> list[Sink]:
    """Open every sink and print the page's address on stderr; when one cannot be opened, all are closed."""
    with ExitStack() as opened:
        sinks: list[Sink] = []
        for opener in _list_openers(sink_options, info, classes, sinks):
            sinks.append(opener())
            opened.callback(sinks[-1].close)
        opened.pop_all()
    return sinks


def _list_openers(
    sink_options: SinkOptions, info: StreamInfo, classes: Sequence[ClassSpec], opened: Sequence[Sink]
) -> Iterator[Callable[[], Sink]]:
    """Yield a function per sink. The recording comes before the page, which has a button for it."""
    record, emit_to, metrics = sink_options.record, sink_options.emit_to, sink_options.metrics
    if record is not None:
        yield lambda: LatestResultSink(
            Recording(record, info, classes, sink_options.record_frames, sink_options.record_as),
            is_on=not sink_options.record_wait,
            waits=info.every_frame,
        )
    if sink_options.view == "window":
        yield lambda: Window(info, classes, sink_options.hold)
    if metrics is not None:
        yield lambda: _open_metrics(info, metrics)
    if sink_options.view == "web":
        recording = next((sink for sink in opened if isinstance(sink, LatestResultSink)), None)
        yield lambda: _open_page(info, classes, sink_options, recording)
    if emit_to is not None:
        yield lambda: LatestResultSink(JsonLinesWriter(emit_to, classes, info.mm_per_px), waits=info.every_frame)


def _open_page(
    info: StreamInfo, classes: Sequence[ClassSpec], sink_options: SinkOptions, recording: LatestResultSink | None
) -> Sink:
    viewer = WebViewer(info, classes, sink_options.port, sink_options.hold, grant_access(sink_options.host), recording)
    place = "in a browser on this machine" if sink_options.host == LOCAL else "in a browser; keep it to yourself"
    camera = "" if info.latest_slot is None else " and press 'Use this device's camera'"
    print(f"Open {viewer.url} {place}{camera}; Ctrl-C ends the stream.", file=sys.stderr, flush=True)
    return viewer


def _open_metrics(info: StreamInfo, port: int) -> Sink:
    metrics = Metrics(info, port)
    print(f"Metrics for Prometheus at {metrics.url}", file=sys.stderr, flush=True)
    return metrics
