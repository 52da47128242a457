"""The live loop: the newest frame wins, every frame is accounted for, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import threading
from time import monotonic
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeseg.core.errors import SourceError
from edgeseg.inference.segmenter import StageTimes
from edgeseg.streaming.grabber import Grabber
from edgeseg.streaming.latency import CAPACITY, LatencyRecorder, TimeSeries
from edgeseg.streaming.loop import stop_on_signal
from edgeseg.streaming.sources.base import Source

SECONDS = 10


class Burst(Source):
    """Gives all its frames at once, then waits to be released before it ends."""

    live = True

    def __init__(self, count: int, error: Exception | None = None) -> None:
        self._left, self._count, self._error = count, count, error
        self.all_given, self.may_end = threading.Event(), threading.Event()
        self.closed = False

    def read(self) -> NDArray[Any] | None:
        if self._left == 0:
            self.all_given.set()
            self.may_end.wait(SECONDS)
            if self._error is not None:
                raise self._error
            return None
        self._left -= 1
        return np.full((4, 4), self._count - self._left, np.uint8)

    def close(self) -> None:
        self.closed = True


def test_only_the_newest_frame_is_kept_and_the_rest_counted() -> None:
    source = Burst(50)
    with Grabber(source) as grabber:
        assert source.all_given.wait(SECONDS)
        frame = grabber.newest()
        source.may_end.set()
        assert frame is not None
        assert (frame.number, frame.image[0, 0]) == (49, 50)
        assert grabber.newest() is None
        assert (grabber.captured, grabber.dropped) == (50, 49)
    assert source.closed


def test_a_failing_source_is_told_after_its_last_frame() -> None:
    source = Burst(1, SourceError("The probe fell off."))
    with Grabber(source) as grabber:
        source.may_end.set()
        assert grabber.newest() is not None
        with pytest.raises(SourceError, match="fell off"):
            grabber.newest()


def test_an_unforeseen_error_is_not_swallowed() -> None:
    source = Burst(0, ZeroDivisionError("defect"))
    source.may_end.set()
    with Grabber(source) as grabber, pytest.raises(ZeroDivisionError):
        grabber.newest()


def test_leaving_ends_the_thread() -> None:
    before = threading.active_count()
    source = Burst(3)
    source.may_end.set()
    with Grabber(source):
        pass
    assert threading.active_count() == before


def test_stop_wakes_whoever_waits() -> None:
    source = Burst(0)
    with Grabber(source) as grabber:
        assert source.all_given.wait(SECONDS)
        threading.Timer(0.05, grabber.stop).start()
        assert grabber.newest() is None
        source.may_end.set()


def test_after_stop_no_frame_is_given_also_when_one_waits() -> None:
    source = Burst(3)
    with Grabber(source) as grabber:
        assert source.all_given.wait(SECONDS)
        grabber.stop()
        assert grabber.newest() is None
        assert (grabber.captured, grabber.dropped) == (3, 3)
        source.may_end.set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_stops_the_stream_and_handlers_are_put_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    source = Burst(0)
    with Grabber(source) as grabber, stop_on_signal(grabber.stop):
        assert source.all_given.wait(SECONDS)
        os.kill(os.getpid(), number)
        assert grabber.newest() is None
        source.may_end.set()
    assert signal.getsignal(number) is before


def test_recorded_source_is_played_at_its_rate() -> None:
    source = Burst(3)
    source.live, source.fps = False, 200.0
    source.may_end.set()
    stamps, began = [], monotonic()
    with Grabber(source) as grabber:
        while (frame := grabber.newest()) is not None:
            stamps.append((frame.number, frame.captured_at - began))
    assert stamps
    assert all(age >= (number + 1) / source.fps for number, age in stamps)


def test_latency_report_counts_late_frames() -> None:
    recorder = LatencyRecorder(budget_ms=10.0, first_inference_ms=99.0)
    for age in (5.0, 5.0, 5.0, 20.0):
        recorder.record(StageTimes(1.0, 2.0, 3.0), age)
    report = recorder.report()
    assert (report.late, report.misses, report.first_inference_ms) == (1, 0.25, 99.0)
    assert report.latency_ms["total"].p50 == 6.0
    assert recorder.report(window=1).frame_age_ms.p50 == 20.0


def test_times_do_not_grow_without_end() -> None:
    series = TimeSeries()
    for number in range(CAPACITY + 10):
        series.add(float(number))
    assert len(series.newest()) == CAPACITY
    assert series.newest(3).tolist() == [CAPACITY + 7, CAPACITY + 8, CAPACITY + 9]
