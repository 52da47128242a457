"""The figures of a stream: stages, jitter, window and budget, and Prometheus' view of them."""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from contextlib import closing

import pytest

from edgeseg.cli.stream import choose_budget
from edgeseg.core.errors import OutputError, UnknownNameError
from edgeseg.inference.segmenter import StageTimes
from edgeseg.machine.boards import load_board, recommend_here
from edgeseg.streaming.latency import WINDOW, LatencyRecorder
from edgeseg.streaming.options import SinkOptions
from edgeseg.streaming.sinks.choose import open_sinks
from edgeseg.streaming.sinks.metrics import Metrics
from tests.results import CLASSES, make_frame, make_info, make_result


def test_capture_is_what_the_age_has_beyond_the_stages() -> None:
    recorder = LatencyRecorder(10.0, 99.0)
    for number, ready_at in enumerate((1.0, 1.03, 1.07)):
        recorder.record(StageTimes(1.0, 2.0, 3.0), 10.0 + number, ready_at)
        recorder.record_publish(0.5)
    report = recorder.report()
    assert (report.latency_ms["capture"].p50, report.latency_ms["publish"].p50) == (5.0, 0.5)
    assert (report.interval_ms.p50, report.jitter_ms) == (35.0, 5.0)
    assert report.late == 2


def test_window_forgets_what_was_before() -> None:
    recorder = LatencyRecorder(10.0, 99.0)
    for number in range(WINDOW + 50):
        recorder.record(StageTimes(1.0, 1.0, 1.0), 100.0 if number < 50 else 5.0)
    assert (recorder.report_window().frames, recorder.report_window().frame_age_ms.p99) == (WINDOW, 5.0)
    assert recorder.report().frame_age_ms.p99 == 100.0


def test_budget_is_the_boards() -> None:
    here = recommend_here()
    assert here is not None
    assert choose_budget("") == here.budget_ms
    assert choose_budget("generic-aarch64") == load_board("generic-aarch64").recommended.budget_ms


@pytest.fixture
def metrics() -> Iterator[Metrics]:
    metrics = Metrics(make_info(), port=0)
    yield metrics
    metrics.close()


def ask(metrics: Metrics, path: str, host: str | None = None) -> tuple[int, str]:
    port = int(metrics.url.split(":")[2].split("/")[0])
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("GET", path, headers={} if host is None else {"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def test_prometheus_gets_well_formed_lines(metrics: Metrics) -> None:
    metrics.on_frame(make_frame(6))
    metrics.publish(make_result(6))
    status, text = ask(metrics, "/metrics")
    assert status == 200
    assert text.endswith("\n")
    sample = re.compile(r'edgeseg_[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? -?[0-9.e+-]+')
    for line in text.splitlines():
        assert line.startswith(("# HELP edgeseg_", "# TYPE edgeseg_")) or sample.fullmatch(line), line
    assert "edgeseg_frames_captured_total 7\n" in text
    assert "edgeseg_frames_processed_total 1\n" in text
    assert "edgeseg_budget_seconds 0.05\n" in text
    assert 'edgeseg_backend_info{name="cpu",requested="cuda"} 1\n' in text


@pytest.mark.parametrize(("path", "host", "status"), [("/", None, 404), ("/metrics", "evil.example", 403)])
def test_nothing_else_is_answered(metrics: Metrics, path: str, host: str | None, status: int) -> None:
    assert ask(metrics, path, host)[0] == status


def test_wishes_that_make_no_sense() -> None:
    with pytest.raises(UnknownNameError, match="cinema"):
        SinkOptions(view="cinema")
    with pytest.raises(UnknownNameError, match="film"):
        SinkOptions(record_as="film")
    with pytest.raises(ValueError, match="--record DIR"):
        SinkOptions(record_frames=True)


def test_when_one_sink_cannot_be_opened_none_stays_open(metrics: Metrics) -> None:
    taken = int(metrics.url.split(":")[2].split("/")[0])
    with pytest.raises(OutputError, match=f"on port {taken}"):
        open_sinks(SinkOptions("web", port=0, metrics=taken), make_info(), CLASSES)
