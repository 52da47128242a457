"""`SinkOptions`: which sinks a stream gets, and `open_sinks`, which opens them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

from edgeseg.core.spec import ClassSpec
from edgeseg.registration.learned import LearnedRegistration, open_registration
from edgeseg.streaming.options import SinkOptions
from edgeseg.streaming.sinks.base import LatestResultSink, Sink, StreamInfo
from edgeseg.streaming.sinks.json_lines import JsonLinesWriter
from edgeseg.streaming.sinks.metrics import Metrics
from edgeseg.streaming.sinks.recording import Recording
from edgeseg.streaming.sinks.window import Window
from edgeseg.streaming.viewer import WebViewer
from edgeseg.web.access import LOCAL, grant_access

_LOG = logging.getLogger(__name__)


def open_sinks(sink_options: SinkOptions, info: StreamInfo, classes: Sequence[ClassSpec]) -> list[Sink]:
    """Open every sink, and log where a page is served; when one cannot be opened, none stays open."""
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
        yield lambda: Window(info, classes, sink_options.track_mask, sink_options.show, _open_network(sink_options))
    if metrics is not None:
        yield lambda: _open_metrics(info, metrics)
    if sink_options.view == "web":
        # the only such sink so far: the JSON lines are opened after the page
        recording = next((sink for sink in opened if isinstance(sink, LatestResultSink)), None)
        yield lambda: _open_page(info, classes, sink_options, recording)
    if emit_to is not None:
        yield lambda: LatestResultSink(JsonLinesWriter(emit_to, classes, info.mm_per_px), waits=info.every_frame)


def _open_network(sink_options: SinkOptions) -> LearnedRegistration | None:
    """Open the file that moves masks; None where optical flow does."""
    if sink_options.track_model is None or not sink_options.track_mask:
        return None
    return open_registration(sink_options.track_model)


def _open_page(
    info: StreamInfo, classes: Sequence[ClassSpec], sink_options: SinkOptions, recording: LatestResultSink | None
) -> Sink:
    access = grant_access(sink_options.host)
    network = _open_network(sink_options)
    viewer = WebViewer(
        info, classes, sink_options.port, sink_options.track_mask, access, recording, sink_options.show, network
    )
    place = "in a browser on this machine" if sink_options.host == LOCAL else "in a browser; keep it to yourself"
    camera = "" if info.latest_slot is None else " and press 'Use this device's camera'"
    _LOG.info("Open %s %s%s; Ctrl-C ends the stream.", viewer.url, place, camera)
    return viewer


def _open_metrics(info: StreamInfo, port: int) -> Sink:
    metrics = Metrics(info, port)
    _LOG.info("Metrics for Prometheus at %s", metrics.url)
    return metrics
