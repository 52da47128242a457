"""Metrics of a running stream in Prometheus' text format (exposition format 0.0.4), for this machine only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any

from edgeseg.core.decision import STATES
from edgeseg.inference.segmenter import Segmentation
from edgeseg.machine.thermal import read_thermal
from edgeseg.streaming.latency import WINDOW
from edgeseg.streaming.sinks.base import Result, Sink, StreamInfo
from edgeseg.streaming.sources.base import Frame
from edgeseg.streaming.switching import MEMBER_STATES
from edgeseg.web.access import THIS_MACHINE
from edgeseg.web.server import RequestHandler, open_server

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
QUANTILES = {"0.5": "p50", "0.9": "p90", "0.95": "p95", "0.99": "p99"}


@dataclass(frozen=True)
class Figure:
    """One line of the metrics; a whole number is written with all its digits."""

    name: str
    kind: str
    meaning: str
    value: float
    labels: str = ""


class SourceCounts(Sink):
    """Counts the frames and states of one source, and reads its times."""

    def __init__(self, info: StreamInfo) -> None:
        """Begin to count.

        Args:
            info: The stream; one of several sources has its name as the label of every figure.
        """
        self._info = info
        self._label = "" if info.member is None else f'source="{_escape(info.member.label)}"'
        self._captured, self._processed = 0, 0
        self._newest: Segmentation | None = None
        self._out_of_distribution = 0
        self._states: Counter[tuple[str, str]] = Counter()

    def on_frame(self, frame: Frame) -> None:
        """Count a captured frame."""
        # the number counts skipped frames, too
        self._captured = frame.number + 1

    def publish(self, result: Result) -> None:
        """Count a mask and the states of its classes; the recorder has its times already."""
        self._processed += 1
        self._newest = result.segmentation
        self._out_of_distribution += result.segmentation.out_of_distribution
        self._states.update((finding.name, finding.state) for finding in result.segmentation.findings)

    def list_figures(self) -> Iterator[Figure]:
        """List the figures of this moment."""
        yield from self._list_counts()
        yield from self._list_states()
        yield from self._list_times()

    def _list_counts(self) -> Iterator[Figure]:
        late = self._info.recorder.late
        yield self._make("frames_captured_total", "counter", "Frames captured.", self._captured)
        yield self._make("frames_processed_total", "counter", "Frames with a mask.", self._processed)
        yield self._make("frames_late_total", "counter", "Masks later than the budget.", late)
        if self._info.member is not None:
            found = self._info.member.find_state()
            for state in MEMBER_STATES:
                meaning = "1 for the state in which the source is."
                yield self._make("source_state", "gauge", meaning, int(state == found), f'state="{state}"')

    def _list_states(self) -> Iterator[Figure]:
        newest = self._newest
        if newest is None or not newest.findings:
            return
        out, counts = self._out_of_distribution, dict(self._states)
        yield self._make("frames_out_of_distribution_total", "counter", "Frames unlike those of the training.", out)
        for finding in newest.findings:
            for state in STATES:
                labels = f'class="{_escape(finding.name)}",state="{state}"'
                count = counts.get((finding.name, state), 0)
                yield self._make("state_frames_total", "counter", "Frames in which a class had a state.", count, labels)
        for finding in newest.findings:
            labels = f'class="{_escape(finding.name)}"'
            meaning = "Confidence of the newest mask, 0 without one."
            yield self._make("confidence", "gauge", meaning, finding.confidence or 0.0, labels)

    def _list_times(self) -> Iterator[Figure]:
        window = self._info.recorder.report_window()
        budget, backend = self._info.recorder.budget_ms / 1e3, self._info.backend()
        yield self._make("budget_seconds", "gauge", "How old a frame may be when its mask is ready.", budget)
        times = {**window.latency_ms, "frame_age": window.frame_age_ms}
        for stage, values in times.items():
            for quantile, field in QUANTILES.items():
                seconds = getattr(values, field) / 1e3
                labels = f'stage="{stage}",quantile="{quantile}"'
                yield self._make("stage_seconds", "gauge", f"Quantiles of the newest {WINDOW} frames.", seconds, labels)
        labels = f'name="{backend.name}",requested="{backend.requested}"'
        yield self._make("backend_info", "gauge", "The backend that runs the network.", 1, labels)

    def _make(self, name: str, kind: str, meaning: str, value: float, labels: str = "") -> Figure:
        return Figure(name, kind, meaning, value, ",".join(filter(None, (self._label, labels))))


class MetricsServer(Sink):
    """Serves the metrics of one or more sources at `url`."""

    def __init__(self, counted: Sequence[SourceCounts], port: int) -> None:
        """Start serving; port 0 takes any free one.

        Raises:
            OutputError: The port is in use.
        """
        self._counted = tuple(counted)
        self._server = open_server(port, partial(_MetricsHandler, self), "edgeseg-metrics")
        self.url = f"{THIS_MACHINE.write_url(self._server.server_port)}metrics"

    def publish(self, result: Result) -> None:
        """Do nothing: results are counted by source."""

    def close(self) -> None:
        """Stop the server."""
        self._server.stop()

    def write_text(self) -> str:
        """Write the metrics of this moment: all figures of one name stand together, as the format wants it."""
        groups: dict[str, list[Figure]] = {}
        for figure in (*(one for counts in self._counted for one in counts.list_figures()), *_list_thermal()):
            groups.setdefault(figure.name, []).append(figure)
        lines = (line for figures in groups.values() for line in (*_head(figures[0]), *map(_write, figures)))
        return "\n".join((*lines, ""))


class Metrics(MetricsServer):
    """Counts the frames of a stream and serves its metrics."""

    def __init__(self, info: StreamInfo, port: int) -> None:
        """Start serving; port 0 takes any free one.

        Raises:
            OutputError: The port is in use.
        """
        self._counts = SourceCounts(info)
        super().__init__([self._counts], port)

    def on_frame(self, frame: Frame) -> None:
        """Count a captured frame."""
        self._counts.on_frame(frame)

    def publish(self, result: Result) -> None:
        """Count a mask."""
        self._counts.publish(result)


class _MetricsHandler(RequestHandler):
    """Answers GET /metrics."""

    def __init__(self, metrics: MetricsServer, *args: Any) -> None:
        self._metrics = metrics
        super().__init__(*args)

    def handle_get(self) -> None:
        """Send the metrics."""
        if self.path != "/metrics":
            self.refuse(HTTPStatus.NOT_FOUND, "The metrics are at /metrics.")
        else:
            self.send(HTTPStatus.OK, CONTENT_TYPE, self._metrics.write_text().encode())


def _escape(text: str) -> str:
    """Escape a label's value; names of classes are anything that can be printed."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _list_thermal() -> Iterator[Figure]:
    thermal = read_thermal()
    if thermal.celsius is not None:
        yield Figure("temperature_celsius", "gauge", "The hottest sensor.", thermal.celsius)
    if thermal.throttled is not None:
        yield Figure("throttled", "gauge", "1 while heat lowers the clock.", int(thermal.throttled))


def _head(figure: Figure) -> Iterator[str]:
    yield f"# HELP edgeseg_{figure.name} {figure.meaning}"
    yield f"# TYPE edgeseg_{figure.name} {figure.kind}"


def _write(figure: Figure) -> str:
    labels = f"{{{figure.labels}}}" if figure.labels else ""
    value = f"{figure.value:.6g}" if isinstance(figure.value, float) else str(figure.value)
    return f"edgeseg_{figure.name}{labels} {value}"
