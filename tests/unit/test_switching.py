"""Several sources of one stream: one is segmented, and none keeps anybody from another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeseg.core.errors import SourceError, UnknownNameError
from edgeseg.inference.ensemble import open_segmenter
from edgeseg.inference.segmenter import Segmenter
from edgeseg.streaming.latency import LatencyRecorder
from edgeseg.streaming.live import StreamPipeline, open_stream
from edgeseg.streaming.loop import make_report
from edgeseg.streaming.options import MAX_SOURCES, CaptureOptions, LiveSourceError, SinkOptions
from edgeseg.streaming.sinks.base import Result, Sink
from edgeseg.streaming.sources import choose
from edgeseg.streaming.sources.address import Size
from edgeseg.streaming.sources.base import Frame, LatestSlot, Notice, Source
from edgeseg.streaming.sources.reconnect import ReconnectingSource
from edgeseg.streaming.switching import FAILED, SourceSwitch, Turn
from tests.tinymodels import write_bright_model

SECONDS = 10.0


class Fake(Source):
    """Gives frames of one shade as fast as they are taken, until it is interrupted."""

    live = reconnects = True

    def __init__(self, shade: int, frames: int | None = None, channels: int = 0) -> None:
        self._shade, self._left, self._channels = shade, frames, channels
        self._stopped = threading.Event()
        self.closed = False

    def read(self) -> NDArray[Any] | None:
        if self._left == 0 or self._stopped.wait(0.002):
            return None
        self._left = None if self._left is None else self._left - 1
        shape = (64, 64, self._channels) if self._channels else (64, 64)
        return np.full(shape, self._shade, np.uint8)

    def interrupt(self) -> None:
        self._stopped.set()

    def close(self) -> None:
        self.closed = True


class Hanging(Fake):
    """Does not wake from a read for a while."""

    def read(self) -> NDArray[Any] | None:
        release.wait(SECONDS)
        return None


release = threading.Event()


class World:
    """What the addresses of a test open."""

    def __init__(self) -> None:
        self.openers: dict[str, Callable[[], Source]] = {}
        self.opened: list[str] = []

    def open(self, text: str, *_: object, **__: object) -> Source:
        self.opened.append(text)
        return self.openers[text]()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World()
    monkeypatch.setattr(choose, "open_source", world.open)
    release.clear()
    yield world
    release.set()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bright_model(tmp_path_factory.mktemp("model") / "bright.tflite")


class Listener(Sink):
    """Keeps what a sink is told, in order."""

    def __init__(self) -> None:
        self.turns: list[tuple[Turn, LatencyRecorder]] = []
        self.notices: list[Notice] = []
        self.order: list[tuple[str, int]] = []

    def publish(self, result: Result) -> None:
        self.order.append(("result", result.frame.source))

    def on_frame(self, frame: Frame) -> None:
        self.order.append(("frame", frame.source))

    def on_turn(self, turn: Turn, recorder: LatencyRecorder) -> None:
        self.turns.append((turn, recorder))
        self.order.append(("turn", turn.number))

    def on_notice(self, notice: Notice) -> None:
        self.notices.append(notice)


def make_switch(world: World, *openers: Callable[[], Source], mm_per_px: float | None = None) -> SourceSwitch:
    texts = [f"/clinic/{number}.avi" for number in range(1, len(openers) + 1)]
    world.openers = dict(zip(texts, openers, strict=True))
    return SourceSwitch(texts, False, CaptureOptions(), mm_per_px)


def make_pipeline(model: Path, switch: SourceSwitch, *sinks: Sink, budget_ms: float = 1e6) -> StreamPipeline:
    segmenter: Segmenter = open_segmenter(model, "cpu", 1)
    return StreamPipeline(segmenter, switch, LatencyRecorder(budget_ms, 1.0), sinks, name=switch.name)


def take(results: Iterator[Result], source: int, most: int = 200) -> Result:
    """Take results until one is of a source."""
    for _ in range(most):
        result = next(results)
        if result.frame.source == source:
            return result
    raise AssertionError(f"no result of source {source}")


def test_the_first_source_is_shown_until_another_is_chosen_and_frames_are_numbered_on(
    world: World, model: Path
) -> None:
    switch, listener = make_switch(world, lambda: Fake(10), lambda: Fake(20)), Listener()
    with make_pipeline(model, switch, listener) as live:
        results = iter(live)
        first = next(results)
        assert (first.frame.source, first.frame.number, switch.chosen) == (1, 0, 1)
        assert switch.choose(2)
        assert switch.chosen == 2
        second = take(results, 2)
        assert second.frame.image[0, 0] == 20
        assert second.frame.number >= listener.turns[1][0].first_frame > 0
        later = take(results, 2)
        assert later.frame.number > second.frame.number
        report = make_report(live)
    assert [turn.number for turn, _ in listener.turns] == [1, 2]
    assert report.source == "1.avi, 2.avi"
    assert [one.name for one in report.sources] == ["1.avi", "2.avi"]
    assert [one.chosen for one in report.sources] == [1, 1]
    assert sum(one.processed for one in report.sources) == report.frames.processed
    assert report.frames.captured == report.frames.processed + report.frames.dropped


def test_no_frame_or_result_of_the_last_source_comes_after_the_turn(world: World, model: Path) -> None:
    switch, listener = make_switch(world, lambda: Fake(10), lambda: Fake(20)), Listener()
    with make_pipeline(model, switch, listener) as live:
        results = iter(live)
        for number in (2, 1, 2, 1, 2):
            next(results)
            switch.choose(number)
            take(results, number)
    current = 0
    for kind, number in listener.order:
        current = number if kind == "turn" else current
        assert number == current


def test_figures_begin_anew_at_the_switch_and_the_report_keeps_all(world: World, model: Path) -> None:
    switch, listener = make_switch(world, lambda: Fake(10), lambda: Fake(20)), Listener()
    with make_pipeline(model, switch, listener, budget_ms=1e-9) as live:
        results = iter(live)
        for _ in range(5):
            next(results)
        switch.choose(2)
        take(results, 2)
        (_, first), (_, second) = listener.turns
        assert (first.late, second.late) == (5, 1)
        report = make_report(live)
    assert report.frames.late == report.frames.processed == 6
    assert [one.late for one in report.sources] == [5, 1]


def test_a_source_that_cannot_be_opened_says_so_without_its_folder_and_the_others_stay(
    world: World, model: Path
) -> None:
    def fail() -> Source:
        raise SourceError("Expected a video at /clinic/2.avi, got no such file.", "Check the path.")

    switch, listener = make_switch(world, lambda: Fake(10), fail), Listener()
    with make_pipeline(model, switch, listener) as live:
        results = iter(live)
        next(results)
        switch.choose(2)
        threading.Timer(0.3, switch.choose, (1,)).start()
        assert take(results, 1).frame.image[0, 0] == 10
        while switch.describe()[1].state != FAILED or switch.describe()[0].state != "live":
            next(results)
        report = make_report(live)
    assert "/clinic" not in switch.describe()[1].sentence
    assert "2.avi" in switch.describe()[1].sentence
    assert [notice.state for notice in listener.notices] == [FAILED]
    assert report.sources[1].failure is not None
    assert report.sources[0].chosen == 2


def test_a_source_whose_frames_the_model_refuses_ends_no_stream(world: World, model: Path) -> None:
    switch = make_switch(world, lambda: Fake(10, channels=2), lambda: Fake(20))
    with make_pipeline(model, switch) as live:
        threading.Timer(0.3, switch.choose, (2,)).start()
        assert next(iter(live)).frame.source == 2
        assert switch.describe()[0].state == FAILED


def test_a_recording_that_ends_waits_for_a_choice_and_can_be_played_again(world: World, model: Path) -> None:
    switch = make_switch(world, lambda: Fake(10, frames=1), lambda: Fake(20))
    with make_pipeline(model, switch) as live:
        results = iter(live)
        next(results)
        states: list[str] = []

        def play_again() -> None:
            states.append(switch.describe()[0].state)
            switch.choose(1)

        threading.Timer(0.3, play_again).start()
        assert next(results).frame.source == 1
    assert states == ["ended"]
    assert world.opened == ["/clinic/1.avi", "/clinic/1.avi"]


@pytest.mark.parametrize("where", ["opening", "reading"])
def test_a_source_that_hangs_keeps_nobody_from_another_and_is_opened_once(
    world: World, model: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang() -> Source:
        release.wait(SECONDS)
        return Fake(30)

    monkeypatch.setattr("edgeseg.streaming.switching._JOIN_S", 0.2)
    switch = make_switch(world, hang if where == "opening" else lambda: Hanging(30), lambda: Fake(20))
    began = monotonic()
    with make_pipeline(model, switch) as live:
        results = iter(live)
        threading.Timer(0.1, switch.choose, (2,)).start()
        assert next(results).frame.source == 2
        for _ in range(3):
            switch.choose(1)
            threading.Timer(0.1, switch.choose, (2,)).start()
            take(results, 2)
        assert world.opened.count("/clinic/1.avi") == 1
    assert monotonic() - began < SECONDS


def test_a_camera_is_closed_before_it_is_opened_again(world: World, model: Path) -> None:
    cameras: list[Fake] = []

    def open_camera() -> Source:
        assert all(camera.closed for camera in cameras)
        cameras.append(Fake(10))
        return cameras[-1]

    switch = make_switch(world, open_camera, lambda: Fake(20))
    with make_pipeline(model, switch) as live:
        results = iter(live)
        for number in (1, 2, 1, 2, 1):
            switch.choose(number)
            take(results, number)
    assert len(cameras) == 3
    assert all(camera.closed for camera in cameras)


def test_choosing_in_a_loop_from_several_threads_ends_with_the_last_choice(world: World, model: Path) -> None:
    switch = make_switch(world, *(lambda shade=shade: Fake(shade) for shade in (10, 20, 30)))
    done = threading.Event()

    def choose(first: int) -> None:
        for number in range(60):
            switch.choose(1 + (first + number) % 3)
            sleep(0.001)

    with make_pipeline(model, switch) as live:
        results = iter(live)
        clients = [threading.Thread(target=choose, args=(first,)) for first in range(4)]
        for client in clients:
            client.start()
        while any(client.is_alive() for client in clients):
            result = next(results)
            assert result.frame.image[0, 0] == 10 * result.frame.source
        switch.choose(3)
        assert take(results, 3).frame.image[0, 0] == 30
        done.set()
    assert threading.active_count() < 20


class Failing(Fake):
    """Loses its connection after the first frame, and cannot be opened again."""

    def read(self) -> NDArray[Any] | None:
        if self._left == 0:
            raise SourceError("The cable is out.")
        return super().read()


def test_a_source_can_be_left_during_an_outage(world: World, model: Path) -> None:
    def open_again() -> Source:
        raise SourceError("Nobody answers.")

    switch = make_switch(world, lambda: ReconnectingSource(open_again, Failing(10, frames=1)), lambda: Fake(20))
    listener, lost = Listener(), []

    def leave() -> None:
        lost.append(switch.describe()[0])
        switch.choose(2)

    with make_pipeline(model, switch, listener) as live:
        results = iter(live)
        next(results)
        threading.Timer(0.5, leave).start()
        assert next(results).frame.source == 2
    assert [(one.state, "The cable is out" in one.sentence) for one in lost] == [("lost", True)]
    assert [notice.state for notice in listener.notices] == ["lost"]
    assert switch.describe()[0].state == "idle"


def test_what_a_driver_raises_ends_one_source_and_a_live_one_cannot_wait(world: World, model: Path) -> None:
    def crash() -> Source:
        raise ZeroDivisionError("in the driver")

    def refuse() -> Source:
        raise LiveSourceError("expected a recorded source")

    switch = make_switch(world, crash, refuse, lambda: Fake(30))
    with make_pipeline(model, switch) as live:
        threading.Timer(0.2, switch.choose, (2,)).start()
        threading.Timer(0.4, switch.choose, (3,)).start()
        assert next(iter(live)).frame.source == 3
    sentences = [one.sentence for one in switch.describe()[:2]]
    assert "ZeroDivisionError" in sentences[0]
    assert "--every-frame" in sentences[1]


def test_only_numbers_of_sources_can_be_chosen_and_the_current_one_changes_nothing(world: World, model: Path) -> None:
    switch, listener = make_switch(world, lambda: Fake(10), lambda: Fake(20)), Listener()
    with make_pipeline(model, switch, listener) as live:
        next(iter(live))
        assert not any(switch.choose(number) for number in (0, 3, -1))
        assert switch.choose(1)
        next(iter(live))
    assert len(listener.turns) == 1


def test_stop_ends_a_stream_that_waits_for_a_choice(world: World, model: Path) -> None:
    switch = make_switch(world, lambda: Fake(10, frames=0), lambda: Fake(20))
    with make_pipeline(model, switch) as live:
        threading.Timer(0.3, live.stop).start()
        assert next(iter(live), None) is None


def test_pixel_sizes_and_the_pages_camera_are_those_of_the_chosen_source(world: World, model: Path) -> None:
    def open_browser() -> Source:
        source = Fake(20)
        source.latest_slot, source.mm_per_px = LatestSlot(Size(64, 64), 30.0), 0.25
        return source

    switch = make_switch(world, lambda: Fake(10), open_browser)
    with make_pipeline(model, switch) as live:
        results = iter(live)
        assert next(results).frame.mm_per_px is None
        assert switch.latest_slot is None
        switch.choose(2)
        assert take(results, 2).frame.mm_per_px == 0.25
        assert switch.latest_slot is not None


def test_several_sources_need_the_page_and_known_kinds(model: Path) -> None:
    def open_with(*texts: str, view: str = "web") -> None:
        open_stream(open_segmenter(model, "cpu", 1), texts, sink_options=SinkOptions(view=view, port=0))

    with pytest.raises(LiveSourceError, match="--view web"):
        open_with("phantom://", "0", view="none")
    with pytest.raises(UnknownNameError):
        open_with("phantom://", "tape://1")
    with pytest.raises(ValueError, match=str(MAX_SOURCES)):
        SourceSwitch(["0"] * (MAX_SOURCES + 1), False, CaptureOptions(), None)
