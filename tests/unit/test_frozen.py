"""A picture that stands still is told, from a camera that hangs and in the stream's report; slow scanners are not."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeseg.core.modelfile import read_model
from edgeseg.inference.masks import MaskOptions
from edgeseg.inference.segmenter import Segmenter
from edgeseg.streaming.latency import LatencyRecorder
from edgeseg.streaming.live import StreamPipeline
from edgeseg.streaming.loop import run_stream
from edgeseg.streaming.options import CaptureOptions, StreamOptions
from edgeseg.streaming.pipeline import FROZEN_FRAMES, FreezeDetector
from edgeseg.streaming.sinks.base import Result, Sink
from edgeseg.streaming.sinks.json_lines import describe_result
from edgeseg.streaming.sources.base import Frame, Notice, Source
from tests.tinymodels import write_bright_model

RATE = 25.0


def draw(number: int, size: tuple[int, ...] = (96, 128)) -> NDArray[np.uint8]:
    return np.random.default_rng(number).integers(0, 256, size).astype(np.uint8)


def look(images: list[NDArray[Any]], rate: float = RATE, name: str = "") -> list[bool]:
    detector = FreezeDetector()
    return [detector.look(Frame(image, number, number / rate, None, name)) for number, image in enumerate(images)]


def test_a_picture_that_stands_still_is_told_after_a_second() -> None:
    seen = look([*map(draw, range(10)), *[draw(9)] * 40, draw(50)])
    assert seen.index(True) == 9 + int(RATE)
    assert not seen[-1]


def test_moving_pictures_are_not_told() -> None:
    assert not any(look([draw(number) for number in range(100)]))


@pytest.mark.parametrize("repeats", [2, 6])
def test_a_fast_grabber_of_a_slow_scanner_is_not_told(repeats: int) -> None:
    assert not any(look([draw(number // repeats) for number in range(150)], rate=60.0))


def test_few_frames_are_not_enough_however_long_they_stand() -> None:
    assert not any(look([draw(0)] * FROZEN_FRAMES, rate=1.0))


def test_many_frames_in_an_instant_are_not_enough() -> None:
    assert not any(look([draw(0)] * 200, rate=1e6))


def test_still_images_are_never_told() -> None:
    assert not any(look([draw(0)] * 100, name="case.png"))


def test_a_buffer_that_is_used_again_is_seen_to_change() -> None:
    buffer, detector = draw(0), FreezeDetector()
    for number in range(100):
        buffer[:] = draw(number)
        assert not detector.look(Frame(buffer, number, number / RATE))


@pytest.mark.parametrize("size", [(1, 1), (5, 700), (700, 5, 3), (63, 65)])
def test_frames_of_any_size_can_stand_still_and_change_size(size: tuple[int, ...]) -> None:
    seen = look([*[draw(0, size)] * 40, draw(0, (40, 40))])
    assert seen[-2]
    assert not seen[-1]


class Hanging(Source):
    """A camera that hangs after some frames, and then moves again."""

    live = True

    def __init__(self) -> None:
        self._number = 0

    def read(self) -> NDArray[Any] | None:
        self._number += 1
        # the time of arrival is the source's own: no test waits for a second
        self.arrived_at = 1000.0 + self._number / RATE
        if self._number > 60:
            return None
        return draw(min(self._number, 10) if self._number < 55 else self._number)


class Listener(Sink):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.results: list[Result] = []
        self.notices: list[Notice] = []

    def publish(self, result: Result) -> None:
        self.results.append(result)

    def on_notice(self, notice: Notice) -> None:
        self.notices.append(notice)


def test_a_stream_says_when_its_picture_stands_still(tmp_path: Path) -> None:
    segmenter = Segmenter(read_model(write_bright_model(tmp_path / "bright.tflite")))
    listener, source = Listener(), Hanging()
    options = StreamOptions(1e6, capture=CaptureOptions(math.inf, every_frame=True))
    report = run_stream(StreamPipeline(segmenter, source, LatencyRecorder(1e6, 0.0), [listener], options, "camera"))
    frozen = [result.frozen for result in listener.results]
    assert report.frozen == sum(frozen) == 54 - 10 - int(RATE) + 1
    assert not frozen[-1]
    assert [notice.state for notice in listener.notices] == ["frozen", "moving"]
    line = describe_result(listener.results[frozen.index(True)], segmenter.card.output.classes, None)
    assert line["frozen"] is True


class Interrupted(Source):
    """A camera whose picture is gone for a minute."""

    live = True

    def __init__(self, pause: float) -> None:
        self._pause, self._number = pause, 0

    def read(self) -> NDArray[Any] | None:
        self._number += 1
        self.arrived_at = 1000.0 + self._number / RATE + (self._pause if self._number > 3 else 0.0)
        bright = self._number <= 3
        return np.full((64, 64), 255 if bright else 0, np.uint8) if self._number < 5 else None


@pytest.mark.parametrize(("pause", "ghost"), [(0.0, True), (60.0, False)])
def test_scores_are_not_averaged_over_a_pause(tmp_path: Path, pause: float, ghost: bool) -> None:
    segmenter = Segmenter(read_model(write_bright_model(tmp_path / "bright.tflite")), masks=MaskOptions(smooth=True))
    listener = Listener()
    options = StreamOptions(1e6, capture=CaptureOptions(math.inf, every_frame=True))
    run_stream(StreamPipeline(segmenter, Interrupted(pause), LatencyRecorder(1e6, 0.0), [listener], options, "camera"))
    # the logistic of a black pixel is one half
    assert (listener.results[-1].segmentation.scores.max() > 128) == ghost
