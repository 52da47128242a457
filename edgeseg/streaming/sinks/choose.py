"""`SinkOptions`: which sinks a stream gets, and `open_sinks`, which opens them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from edgeseg.core.spec import ClassSpec
from edgeseg.registration.learned import LearnedRegistration, open_registration
from edgeseg.streaming.options import SinkOptions
from edgeseg.streaming.sinks.base import LatestResultSink, Sink, StreamInfo
from edgeseg.streaming.sinks.json_lines import JsonLinesWriter, LineOutput
from edgeseg.streaming.sinks.metrics import Metrics, MetricsServer, SourceCounts
from edgeseg.streaming.sinks.recording import Recording, check_parent
from edgeseg.streaming.sinks.window import Window
from edgeseg.streaming.viewer import WebViewer
from edgeseg.streaming.viewer.grid import Describe, GridViewer
from edgeseg.streaming.viewer.state import LiveState, ViewerContext, Viewers
from edgeseg.streaming.viewer.viewer import SourceView
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


def open_many_sinks(
    sink_options: SinkOptions, infos: Sequence[StreamInfo], classes: Sequence[ClassSpec], describe: Describe
) -> tuple[list[list[Sink]], list[Sink]]:
    """Open the sinks of several sources: those of each, and those that they share; either all or none.

    Args:
        sink_options: Which sinks, for all sources alike.
        infos: The sources.
        classes: Names and colours, in the order of the labels.
        describe: Describes the state of every source, for the page.
    """
    with ExitStack() as opened:
        opening = _Opening(sink_options, infos, classes, opened)
        # a recording comes before the page, which has a button for it
        opening.open_recordings()
        opening.open_metrics()
        opening.open_pages(describe)
        opening.open_lines()
        opened.pop_all()
    return opening.own, opening.shared


class _Opening:
    """Opens the sinks of several sources, kind by kind."""

    def __init__(
        self, options: SinkOptions, infos: Sequence[StreamInfo], classes: Sequence[ClassSpec], opened: ExitStack
    ) -> None:
        self._options, self._infos, self._classes, self._opened = options, infos, classes, opened
        self.own: list[list[Sink]] = [[] for _ in infos]
        self.shared: list[Sink] = []
        self._recordings: list[LatestResultSink | None] = [None] * len(infos)

    def open_recordings(self) -> None:
        """Open a folder for each source, by its name."""
        if self._options.record is None:
            return
        check_parent(self._options.record)
        for place, info in enumerate(self._infos):
            assert info.member is not None
            folder = self._options.record / info.member.label
            recording = _open_recording(self._options, info, self._classes, folder)
            self._keep(self.own[place], recording)
            self._recordings[place] = recording

    def open_metrics(self) -> None:
        """Count each source, and serve the figures of all."""
        if self._options.metrics is None:
            return
        counted = [SourceCounts(info) for info in self._infos]
        for sinks, counts in zip(self.own, counted, strict=True):
            self._keep(sinks, counts)
        self._keep(self.shared, _announce_metrics(MetricsServer(counted, self._options.metrics)))

    def open_pages(self, describe: Describe) -> None:
        """Serve a page of all sources, and one of each."""
        options = self._options
        if options.view != "web":
            return
        viewers, views = Viewers(), []
        for sinks, info, recording in zip(self.own, self._infos, self._recordings, strict=True):
            assert info.member is not None
            state = LiveState(info.member.number)
            context = ViewerContext(info, tuple(self._classes), recording, state, viewers)
            view = SourceView(context, options.track_mask, options.show, _open_network(options))
            self._keep(sinks, view)
            views.append(view)
        grid = GridViewer(views, describe, options.port, grant_access(options.host))
        self._keep(self.shared, grid)
        _announce_page(grid.url, options, "")

    def open_lines(self) -> None:
        """Write the lines of all sources to one output."""
        if self._options.emit_to is None:
            return
        output = LineOutput(self._options.emit_to)
        for sinks, info in zip(self.own, self._infos, strict=True):
            writer = JsonLinesWriter(output, self._classes, info.mm_per_px)
            self._keep(sinks, LatestResultSink(writer, waits=info.every_frame))

    def _keep(self, sinks: list[Sink], sink: Sink) -> None:
        sinks.append(sink)
        self._opened.callback(sink.close)


def _open_recording(
    sink_options: SinkOptions, info: StreamInfo, classes: Sequence[ClassSpec], folder: Path
) -> LatestResultSink:
    recording = Recording(folder, info, classes, sink_options.record_frames, sink_options.record_as)
    return LatestResultSink(recording, is_on=not sink_options.record_wait, waits=info.every_frame)


def _list_openers(
    sink_options: SinkOptions, info: StreamInfo, classes: Sequence[ClassSpec], opened: Sequence[Sink]
) -> Iterator[Callable[[], Sink]]:
    """Yield a function per sink. The recording comes before the page, which has a button for it."""
    record, emit_to, metrics = sink_options.record, sink_options.emit_to, sink_options.metrics
    if record is not None:
        yield lambda: _open_recording(sink_options, info, classes, record)
    if sink_options.view == "window":
        yield lambda: Window(info, classes, sink_options.track_mask, sink_options.show, _open_network(sink_options))
    if metrics is not None:
        yield lambda: _announce_metrics(Metrics(info, metrics))
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
    camera = "" if info.latest_slot is None else " and press 'Use this device's camera'"
    _announce_page(viewer.url, sink_options, camera)
    return viewer


def _announce_page(url: str, sink_options: SinkOptions, camera: str) -> None:
    place = "in a browser on this machine" if sink_options.host == LOCAL else "in a browser; keep it to yourself"
    _LOG.info("Open %s %s%s; Ctrl-C ends the stream.", url, place, camera)


def _announce_metrics(metrics: MetricsServer) -> Sink:
    _LOG.info("Metrics for Prometheus at %s", metrics.url)
    return metrics
