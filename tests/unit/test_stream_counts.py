"""Whatever ends a stream: every captured frame was processed or dropped, and no sink lost what it was to keep."""

from __future__ import annotations

import json
import math
import os
import signal
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path
from time import monotonic, sleep
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeseg.core.errors import EdgesegError, OutputError, SourceError
from edgeseg.core.modelfile import read_model
from edgeseg.inference.segmenter import Segmenter
from edgeseg.streaming.latency import LatencyRecorder
from edgeseg.streaming.live import StreamPipeline
from edgeseg.streaming.loop import BrokenStreamError, StreamReport, run_stream
from edgeseg.streaming.options import DEFAULT_CAPTURE_OPTIONS, CaptureOptions, StreamOptions
from edgeseg.streaming.sinks.base import LatestResultSink, Result, Sink, Writer
from edgeseg.streaming.sinks.recording import Recording
from edgeseg.streaming.sources.base import Source
from tests.results import CLASSES, make_info
from tests.tinymodels import write_bright_model

SECONDS = 10
ALL = CaptureOptions(math.inf, every_frame=True)
FAST = CaptureOptions(math.inf)


class Clip(Source):
    """Gives frames faster than they can be segmented, and ends in its own way."""

    def __init__(self, frames: float = math.inf, error: Exception | None = None) -> None:
        self._left, self._error = frames, error

    def read(self) -> NDArray[Any] | None:
        if self._left == 0:
            if self._error is not None:
                raise self._error
            return None
        self._left -= 1
        return np.full((64, 64), 200, np.uint8)


class AtMask(Sink):
    """Does something when it gets the twentieth mask."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act, self._numbers = act, count(1)

    def publish(self, result: Result) -> None:  # noqa: ARG002 - only how many there were counts
        if next(self._numbers) == 20:
            self._act()


class Leaving(Sink):
    """Wants to end with its twentieth mask, as a window that is closed."""

    def __init__(self) -> None:
        self._seen = 0

    def publish(self, result: Result) -> None:  # noqa: ARG002 - only how many there were counts
        self._seen += 1

    @property
    def wants_end(self) -> bool:
        return self._seen == 20


class Slow(Writer):
    """Takes a millisecond for each result."""

    name: ClassVar[str] = "the slow one"

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def write(self, result: Result) -> bool:
        sleep(0.001)
        self.numbers.append(result.frame.number)
        return True


class Stuck(Writer):
    """Waits at its first result until the stream ends."""

    name: ClassVar[str] = "the stuck one"

    def __init__(self) -> None:
        self.began, self._ended = threading.Event(), threading.Event()

    def write(self, result: Result) -> bool:  # noqa: ARG002 - it goes nowhere
        self.began.set()
        return not self._ended.wait(SECONDS)

    def stop_waiting(self) -> None:
        self._ended.set()


def fail(error: Exception) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bright_model(tmp_path_factory.mktemp("model") / "bright.tflite")


def open_live(
    model: Path, source: Source, sinks: list[Sink], options: StreamOptions, kind: type[Segmenter] = Segmenter
) -> StreamPipeline:
    recorder = LatencyRecorder(options.budget_ms, 0.0)
    return StreamPipeline(kind(read_model(model)), source, recorder, sinks, options, "clip")


def run(
    model: Path,
    source: Source,
    sinks: list[Sink] | None = None,
    frames: int | None = None,
    capture: CaptureOptions = DEFAULT_CAPTURE_OPTIONS,
    kind: type[Segmenter] = Segmenter,
) -> StreamReport:
    """Run a stream to whatever ends it."""
    live = open_live(model, source, sinks or [], StreamOptions(5000.0, frames=frames, capture=capture), kind)
    try:
        return run_stream(live)
    except BrokenStreamError as broken:
        return broken.report


def send(number: signal.Signals) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


class FailingSegmenter(Segmenter):
    """Fails at its 21st frame."""

    calls = 0

    def _invoke(self, tensor: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        self.calls += 1
        if self.calls > 20:
            raise EdgesegError("The backend is gone.")
        return super()._invoke(tensor)


@pytest.mark.parametrize("capture", [ALL, FAST], ids=["every frame", "newest"])
@pytest.mark.parametrize("ending", ["end", "source", "frames", "int", "term", "sink", "window", "backend"])
def test_captured_is_processed_and_dropped(model: Path, capture: CaptureOptions, ending: str) -> None:
    endings: dict[str, Callable[[], StreamReport]] = {
        "end": lambda: run(model, Clip(254), capture=capture),
        "source": lambda: run(model, Clip(254, SourceError("The probe fell off.")), capture=capture),
        "frames": lambda: run(model, Clip(), frames=20, capture=capture),
        "int": lambda: run(model, Clip(), [AtMask(send(signal.SIGINT))], capture=capture),
        "term": lambda: run(model, Clip(), [AtMask(send(signal.SIGTERM))], capture=capture),
        "sink": lambda: run(model, Clip(), [AtMask(fail(OutputError("No systemd.")))], capture=capture),
        "window": lambda: run(model, Clip(), [Leaving()], capture=capture),
        "backend": lambda: run(model, Clip(), capture=capture, kind=FailingSegmenter),
    }
    frames = endings[ending]().frames
    assert frames.captured == frames.processed + frames.dropped
    if ending in ("frames", "int", "term", "sink", "window", "backend"):
        assert frames.processed == 20
    if ending == "end" and capture.every_frame:
        assert (frames.captured, frames.dropped) == (254, 0)


def test_every_frame_is_recorded_however_slow_the_disk_is(model: Path, tmp_path: Path) -> None:
    slow = Slow()
    recording = Recording(tmp_path / "rec", make_info(), CLASSES)
    sinks: list[Sink] = [LatestResultSink(recording, waits=True), LatestResultSink(slow, waits=True)]
    report = run(model, Clip(150), sinks, capture=ALL)
    assert slow.numbers == list(range(150))
    lines = (tmp_path / "rec/index.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["number"] for line in lines] == list(range(150))
    assert [(sink.taken, sink.missed) for sink in report.sinks] == [(150, 0), (150, 0)]


def test_a_sink_that_is_waited_for_does_not_hold_up_the_end(model: Path) -> None:
    stuck = Stuck()
    live = open_live(model, Clip(), [LatestResultSink(stuck, waits=True)], StreamOptions(capture=ALL))
    began = monotonic()

    def stop() -> None:
        stuck.began.wait(SECONDS)
        live.stop()

    stopper = threading.Thread(target=stop)
    stopper.start()
    report = run_stream(live)
    stopper.join()
    (sink,) = report.sinks
    assert (sink.taken, sink.missed) == (0, report.frames.processed)
    assert monotonic() - began < SECONDS / 2


class Last(Writer):
    """Takes its time with the last result, unless it is hurried."""

    name: ClassVar[str] = "the last one"

    def __init__(self, seconds: float) -> None:
        self._seconds, self._hurried = seconds, threading.Event()

    def write(self, result: Result) -> bool:
        return result.frame.number < 9 or not self._hurried.wait(self._seconds)

    def stop_waiting(self) -> None:
        self._hurried.set()


@pytest.mark.parametrize(("seconds", "stopped", "taken"), [(0.1, False, 10), (SECONDS, True, 9)])
def test_the_end_of_the_source_hurries_nobody_and_a_signal_does(
    model: Path, seconds: float, stopped: bool, taken: int
) -> None:
    live = open_live(model, Clip(10), [LatestResultSink(Last(seconds), waits=True)], StreamOptions(capture=ALL))
    if stopped:
        threading.Timer(0.3, live.stop).start()
    (sink,) = run_stream(live).sinks
    assert (sink.taken, sink.missed) == (taken, 10 - taken)


def test_what_a_sink_that_nobody_waits_for_missed_is_counted(model: Path) -> None:
    report = run(model, Clip(100), [LatestResultSink(Slow())], capture=ALL)
    (sink,) = report.sinks
    assert sink.missed > 0
    assert sink.taken + sink.missed == report.frames.processed


@pytest.mark.parametrize(("capture", "verdict"), [(ALL, "not judged"), (FAST, "missed")])
def test_a_recorded_source_that_waits_is_held_against_no_live_budget(
    model: Path, capture: CaptureOptions, verdict: str
) -> None:
    live = open_live(model, Clip(30), [], StreamOptions(1e-6, capture=capture))
    assert run_stream(live).verdict == verdict


@pytest.fixture
def handlers() -> list[Any]:
    return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


def test_a_stream_runs_on_any_thread_and_installs_no_handler_there(model: Path, handlers: list[Any]) -> None:
    reports: list[StreamReport] = []
    seen: list[Any] = []
    look = AtMask(lambda: seen.extend(signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)))
    thread = threading.Thread(target=lambda: reports.append(run(model, Clip(30), [look], capture=ALL)))
    thread.start()
    thread.join(SECONDS)
    assert reports[0].frames.processed == 30
    assert seen == handlers
