"""A sink that takes its time costs the stream nothing, gets the newest result, and what it missed is counted."""

from __future__ import annotations

import threading
from time import perf_counter
from typing import ClassVar

import pytest

from edgeseg.core.errors import OutputError
from edgeseg.streaming.sinks.base import LatestResultSink, Result, Writer
from tests.commands import assert_says
from tests.results import make_result

SECONDS = 10


class Slow(Writer):
    """Waits at every result until it is let on."""

    name: ClassVar[str] = "the slow one"

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.busy, self.go_on = threading.Event(), threading.Event()
        self.closed = False

    def write(self, result: Result) -> bool:
        self.seen.append(result.frame.number)
        self.busy.set()
        return self.go_on.wait(SECONDS)

    def close(self) -> None:
        self.closed = True


class Full(Writer):
    """Has room for one result."""

    name: ClassVar[str] = "the full one"

    def __init__(self) -> None:
        self.room = 1
        self.closed = False

    def write(self, result: Result) -> bool:
        if result.frame.number >= self.room:
            raise OutputError("No room.", "Make room.")
        return True

    def close(self) -> None:
        self.closed = True


def test_a_slow_outlet_gets_the_first_and_the_newest_and_costs_nothing() -> None:
    writer = Slow()
    result_sink = LatestResultSink(writer)
    result_sink.publish(make_result(0))
    assert writer.busy.wait(SECONDS)
    results = [make_result(number) for number in range(1, 101)]
    began = perf_counter()
    for result in results:
        result_sink.publish(result)
    took = perf_counter() - began
    writer.go_on.set()
    result_sink.close()
    assert writer.seen == [0, 100]
    assert writer.closed
    assert took < 1.0
    report = result_sink.report()
    assert (report.taken, report.missed, report.failure) == (2, 99, None)


def test_an_outlet_that_fails_ends_alone_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    writer = Full()
    result_sink = LatestResultSink(writer)
    result_sink.publish(make_result(1))
    result_sink.close()
    assert writer.closed
    result_sink.publish(make_result(2))
    report = result_sink.report()
    assert (report.taken, report.missed, report.failure, report.hint) == (0, 2, "No room.", "Make room.")
    assert_says(caplog.text, "the full one", "No room.")


def test_no_thread_is_left() -> None:
    before = set(threading.enumerate())
    LatestResultSink(Full()).close()
    assert set(threading.enumerate()) == before


def test_results_pass_by_uncounted_while_it_is_off() -> None:
    writer = Slow()
    writer.go_on.set()
    result_sink = LatestResultSink(writer, is_on=False)
    result_sink.publish(make_result(0))
    result_sink.turn(True)
    result_sink.publish(make_result(1))
    assert writer.busy.wait(SECONDS)
    result_sink.turn(False)
    result_sink.publish(make_result(2))
    result_sink.close()
    assert writer.seen == [1]
    assert (result_sink.report().taken, result_sink.report().missed) == (1, 0)
