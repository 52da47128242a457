"""Metrics of a running stream in Prometheus' text format (exposition format 0.0.4), for this machine only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from http import HTTPStatus
from typing import Any

from edgeseg.core.decision import STATES
from edgeseg.inference.segmenter import Segmentation
from edgeseg.machine.thermal import read_thermal
from edgeseg.streaming.latency import WINDOW
from edgeseg.streaming.sinks.base import Result, Sink, StreamInfo
from edgeseg.streaming.sources.base import Frame
from edgeseg.web.access import THIS_MACHINE
from edgeseg.web.server import RequestHandler, open_server

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
QUANTILES = {"0.5": "p50", "0.9": "p90", "0.95": "p95", "0.99": "p99"}


class Metrics(Sink):
    """Counts frames and serves the metrics at `url`."""

    def __init__(self, info: StreamInfo, port: int) -> None:
        """Start serving; port 0 takes any free one.

        Raises:
            OutputError: The port is in use.
        """
        self._info = info
        self._captured, self._processed = 0, 0
        self._newest: Segmentation | None = None
        self._out_of_distribution = 0
        self._states: Counter[tuple[str, str]] = Counter()
        self._server = open_server(port, partial(_MetricsHandler, self), "edgeseg-metrics")
        self.url = f"{THIS_MACHINE.write_url(self._server.server_port)}metrics"

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

    def close(self) -> None:
        """Stop the server."""
        self._server.stop()

    def write_text(self) -> str:
        """Write the metrics of this moment."""
        return "\n".join((*self._list_counts(), *self._list_states(), *self._list_times(), *_list_thermal(), ""))

    def _list_counts(self) -> Iterator[str]:
        late = self._info.recorder.late
        yield from _describe("frames_captured_total", "counter", "Frames captured.", self._captured)
        yield from _describe("frames_processed_total", "counter", "Frames with a mask.", self._processed)
        yield from _describe("frames_late_total", "counter", "Masks later than the budget.", late)

    def _list_states(self) -> Iterator[str]:
        newest = self._newest
        if newest is None or not newest.findings:
            return
        out, counts = self._out_of_distribution, dict(self._states)
        yield from _describe("frames_out_of_distribution_total", "counter", "Frames unlike those of the training.", out)
        yield from _head("state_frames_total", "counter", "Frames in which a class had a state.")
        for finding in newest.findings:
            for state in STATES:
                labels = f'class="{_escape(finding.name)}",state="{state}"'
                yield f"edgeseg_state_frames_total{{{labels}}} {counts.get((finding.name, state), 0)}"
        yield from _head("confidence", "gauge", "Confidence of the newest mask, 0 without one.")
        for finding in newest.findings:
            yield f'edgeseg_confidence{{class="{_escape(finding.name)}"}} {finding.confidence or 0.0:.6g}'

    def _list_times(self) -> Iterator[str]:
        window = self._info.recorder.report_window()
        budget, backend = self._info.recorder.budget_ms / 1e3, self._info.backend()
        yield from _describe("budget_seconds", "gauge", "How old a frame may be when its mask is ready.", budget)
        times = {**window.latency_ms, "frame_age": window.frame_age_ms}
        yield from _head("stage_seconds", "gauge", f"Quantiles of the newest {WINDOW} frames.")
        for stage, values in times.items():
            for quantile, field in QUANTILES.items():
                seconds = getattr(values, field) / 1e3
                yield f'edgeseg_stage_seconds{{stage="{stage}",quantile="{quantile}"}} {seconds:.6g}'
        yield from _head("backend_info", "gauge", "The backend that runs the network.")
        yield f'edgeseg_backend_info{{name="{backend.name}",requested="{backend.requested}"}} 1'


class _MetricsHandler(RequestHandler):
    """Answers GET /metrics."""

    def __init__(self, metrics: Metrics, *args: Any) -> None:
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


def _list_thermal() -> Iterator[str]:
    thermal = read_thermal()
    if thermal.celsius is not None:
        yield from _describe("temperature_celsius", "gauge", "The hottest sensor.", thermal.celsius)
    if thermal.throttled is not None:
        yield from _describe("throttled", "gauge", "1 while heat lowers the clock.", int(thermal.throttled))


def _describe(name: str, kind: str, meaning: str, value: float) -> Iterator[str]:
    yield from _head(name, kind, meaning)
    yield f"edgeseg_{name} {value:g}" if isinstance(value, float) else f"edgeseg_{name} {value}"


def _head(name: str, kind: str, meaning: str) -> Iterator[str]:
    yield f"# HELP edgeseg_{name} {meaning}"
    yield f"# TYPE edgeseg_{name} {kind}"
