"""JSON lines on a real pipe: outlines that fill to the mask, a reader that is slow, and one that leaves."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import suppress

import cv2
import numpy as np
import pytest

from edgeseg.streaming.sinks.base import LatestResultSink
from edgeseg.streaming.sinks.json_lines import JsonLinesWriter
from tests.results import AREA, CLASSES, make_result

SECONDS = 10


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(writer)


def fill_pipe(writer: int) -> None:
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)


def test_line_tells_when_how_old_and_where(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    result = make_result(5)
    JsonLinesWriter(writer, CLASSES, mm_per_px=0.5).write(result)
    line = json.loads(os.read(reader, 1 << 16))
    os.close(reader)
    assert (line["number"], line["age_ms"], line["frame_px"]) == (5, 20.0, [80, 64])
    lesion, vessel = line["classes"]
    assert (lesion["name"], lesion["area_px"], lesion["area_mm2"]) == ("lesion", AREA, AREA / 4)
    assert vessel["contours"] == []
    drawn = np.zeros((64, 80), np.uint8)
    cv2.fillPoly(drawn, [np.array(outline, np.int32) for outline in lesion["contours"]], 1)
    np.testing.assert_array_equal(drawn, result.segmentation.labels)


def test_slow_reader_gets_whole_lines_and_holds_up_nothing(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    result_sink, sent = LatestResultSink(JsonLinesWriter(writer, CLASSES)), 2000
    for number in range(sent):
        result_sink.publish(make_result(number))
    received = bytearray()
    closer = threading.Thread(target=result_sink.close)
    closer.start()
    while closer.is_alive() or result_sink.report().taken > received.count(b"\n"):
        received += os.read(reader, 4096)
        closer.join(0.001)
    os.close(reader)
    numbers = [json.loads(line)["number"] for line in received.decode().splitlines()]
    report = result_sink.report()
    assert numbers == sorted(numbers)
    assert numbers[-1] == sent - 1
    assert (len(numbers), report.taken + report.missed) == (report.taken, sent)


def test_reader_that_never_reads_does_not_hold_up_the_end(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    fill_pipe(writer)
    before = threading.active_count()
    result_sink = LatestResultSink(JsonLinesWriter(writer, CLASSES))
    result_sink.publish(make_result())
    result_sink.close()
    assert threading.active_count() == before
    os.close(reader)


def test_reader_that_leaves_ends_the_stream_without_a_failure(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.close(reader)
    result_sink = LatestResultSink(JsonLinesWriter(writer, CLASSES))
    result_sink.publish(make_result())
    result_sink.close()
    assert result_sink.wants_end
    assert result_sink.report().failure is None
