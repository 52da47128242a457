"""A stream is opened whole or not at all: whatever step fails, nothing of the others stays open."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeseg.core.errors import BackendError, OutputError, SourceError, UnknownNameError
from edgeseg.core.schema import to_plain
from edgeseg.frame.images import write_image
from edgeseg.inference.segmenter import Segmenter
from edgeseg.streaming.live import open_stream
from edgeseg.streaming.loop import make_report
from edgeseg.streaming.options import DEFAULT_SINK_OPTIONS, CaptureOptions, LiveSourceError, SinkOptions, StreamOptions
from edgeseg.streaming.sinks.base import Result, Sink
from edgeseg.streaming.sources import choose
from edgeseg.streaming.sources.phantom import PhantomSource
from tests.cameras import HEAD, STALL, Camera, make_parts
from tests.networks import save_network

SOURCE = "phantom://?size=32&frames=5"


class Listener(Sink):
    """Knows whether it was closed."""

    def __init__(self) -> None:
        self.closed = False

    def publish(self, result: Result) -> None:
        """Take a result and forget it."""

    def close(self) -> None:
        self.closed = True


class Watched(Segmenter):
    """Knows whether it was closed."""

    closed = False

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def segmenter(tmp_path: Path) -> Watched:
    return Watched(save_network(tmp_path / "tiny.tflite"))


@pytest.fixture
def closed_sources(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """List the phantoms that were closed."""
    closed: list[str] = []

    class Phantom(PhantomSource):
        def close(self) -> None:
            closed.append("phantom")

    monkeypatch.setattr(choose, "PhantomSource", Phantom)
    return closed


def test_a_report_names_a_folder_without_the_folders_above(tmp_path: Path) -> None:
    write_image(tmp_path / "Jane Doe" / "scan [1]" / "a.png", np.full((16, 16), 90, np.uint8))
    segmenter = Segmenter(save_network(tmp_path / "tiny.tflite"))
    with open_stream(segmenter, str(tmp_path / "Jane Doe" / "scan [1]")) as live:
        assert [result.frame.name for result in live] == ["a.png"]
    report = json.dumps(to_plain(make_report(live)))
    assert "scan [1]" in report
    assert "Jane" not in report


def test_what_is_opened_is_closed_with_the_stream(segmenter: Watched, closed_sources: list[str]) -> None:
    before, listener = set(threading.enumerate()), Listener()
    with open_stream(segmenter, SOURCE, listeners=[listener]) as live:
        assert next(iter(live)).frame.image.shape == (32, 32)
        assert (listener.closed, segmenter.closed) == (False, False)
    assert (listener.closed, segmenter.closed, closed_sources) == (True, True, ["phantom"])
    assert set(threading.enumerate()) == before
    assert live.seconds == live.seconds > 0


@pytest.mark.parametrize(
    ("source", "sink_options", "error", "opened"),
    [
        ("nonsense", DEFAULT_SINK_OPTIONS, UnknownNameError, 0),
        ("phantom://?size=1", DEFAULT_SINK_OPTIONS, SourceError, 0),
        (SOURCE, SinkOptions(host="203.0.113.1", view="web"), OutputError, 1),
        (SOURCE, SinkOptions(record=Path(__file__)), OutputError, 1),
        (SOURCE, SinkOptions(record=Path("/proc/recording")), OutputError, 1),
    ],
)
def test_a_failing_step_leaves_nothing_open(
    segmenter: Watched,
    closed_sources: list[str],
    source: str,
    sink_options: SinkOptions,
    error: type[Exception],
    opened: int,
) -> None:
    assert_refused(
        lambda listener: open_stream(segmenter, source, sink_options=sink_options, listeners=[listener]),
        segmenter,
        error,
    )
    assert len(closed_sources) == opened


def test_a_failing_warm_up_leaves_nothing_open(segmenter: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(tensor: Any) -> None:
        raise BackendError(f"No memory for {tensor.shape}.")

    monkeypatch.setattr(segmenter.selection.backend, "invoke", fail)
    assert_refused(lambda listener: open_stream(segmenter, SOURCE, listeners=[listener]), segmenter, BackendError)


def test_a_live_source_that_should_wait_leaves_nothing_open(segmenter: Watched) -> None:
    options = StreamOptions(capture=CaptureOptions(loop=True))
    with Camera([HEAD, *make_parts(10), STALL]) as camera:
        assert_refused(
            lambda listener: open_stream(segmenter, camera.url, options, listeners=[listener]),
            segmenter,
            LiveSourceError,
        )


def assert_refused(attempt: Callable[[Listener], object], segmenter: Watched, error: type[Exception]) -> None:
    before, listener = set(threading.enumerate()), Listener()
    with pytest.raises(error):
        attempt(listener)
    assert (listener.closed, segmenter.closed) == (True, True)
    assert set(threading.enumerate()) == before


@pytest.mark.parametrize(
    ("jpeg_options", "said"),
    [
        ({"budget_ms": 0.0}, "budget above 0"),
        ({"budget_ms": float("nan")}, "budget above 0"),
        ({"budget_ms": float("inf")}, "budget above 0"),
        ({"max_miss": -0.1}, "max miss from 0 to 1"),
        ({"max_miss": 1.1}, "max miss from 0 to 1"),
        ({"max_miss": float("nan")}, "max miss from 0 to 1"),
        ({"frames": 0}, "frames of at least 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(jpeg_options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        StreamOptions(**jpeg_options)
