"""Several sources at the same time: fair turns, and none that touches another."""

from __future__ import annotations

import json
import math
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from numpy.typing import NDArray

import edgeseg
from edgeseg.cli.common import GATE_NOT_HELD
from edgeseg.cli.stream import judge_stream
from edgeseg.core.errors import BackendError, OutputError, SourceError, SourceTextError, UnknownNameError
from edgeseg.core.schema import to_plain
from edgeseg.inference.ensemble import open_segmenter
from edgeseg.inference.masks import MaskOptions
from edgeseg.inference.segmenter import Segmenter
from edgeseg.streaming.latency import LatencyRecorder
from edgeseg.streaming.live import StreamPipeline
from edgeseg.streaming.loop import BrokenStreamError, MemberReport, make_report, run_stream
from edgeseg.streaming.many import ManyPipeline, count_workers, open_many, open_sources
from edgeseg.streaming.member import MemberPipeline, NamedSource, name_many
from edgeseg.streaming.options import CaptureOptions, LiveSourceError, SinkOptions, StreamOptions
from edgeseg.streaming.sinks.base import Result, Sink
from edgeseg.streaming.sinks.json_lines import LineOutput
from edgeseg.streaming.sources import choose
from edgeseg.streaming.sources.address import split_name
from edgeseg.streaming.sources.base import Frame, Health, Notice, Source
from edgeseg.streaming.sources.reconnect import ReconnectingSource
from tests.tinymodels import write_bright_model

SECONDS = 20.0
HTTP, PHANTOM = "http://clinic/{}", "phantom://?seed={}"
Opener = Callable[[], Source]


class Fake(Source):
    """Gives so many frames of one shade, recorded unless told otherwise."""

    fps = 1000.0

    def __init__(self, shade: int = 30, frames: int = 20, error: Exception | None = None, size: int = 64) -> None:
        self._image = np.full((size, size), shade, np.uint8)
        self._left, self._error = frames, error
        self.closed = threading.Event()

    def read(self) -> NDArray[Any] | None:
        if self._left == 0:
            if self._error is not None:
                raise self._error
            return None
        self._left -= 1
        return self._image

    def close(self) -> None:
        self.closed.set()


class Hanging(Fake):
    """Hangs in a read that nothing wakes, as some drivers do."""

    live = reconnects = True

    def read(self) -> NDArray[Any] | None:
        release.wait(SECONDS)
        return None


release = threading.Event()


class Listener(Sink):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.results: list[Result] = []
        self.notices: list[Notice] = []

    def publish(self, result: Result) -> None:
        self.results.append(result)

    def on_notice(self, notice: Notice) -> None:
        self.notices.append(notice)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bright_model(tmp_path_factory.mktemp("model") / "bright.tflite")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Opener]]:
    """What the addresses of a test open; they look like files in a folder that no page may show."""
    openers: dict[str, Opener] = {}
    monkeypatch.setattr(choose, "open_source", lambda text, *_, **__: openers[text]())
    monkeypatch.setattr("edgeseg.streaming.member.JOIN_S", 0.05)
    release.clear()
    yield openers
    release.set()


@pytest.fixture
def cameras(world: dict[str, Opener], monkeypatch: pytest.MonkeyPatch) -> dict[str, Opener]:
    """What the addresses of live sources open, which are looked for as real ones are."""
    monkeypatch.undo()
    monkeypatch.setattr(choose, "_find_opener", lambda text, colour: world[text])  # noqa: ARG005
    monkeypatch.setattr(choose, "ReconnectingSource", partial(ReconnectingSource, retry_pauses_s=(0.005,)))
    return world


def open_fakes(
    model: Path,
    world: dict[str, Opener],
    *openers: Opener,
    workers: int = 2,
    masks: MaskOptions = MaskOptions(),  # noqa: B008 - frozen
    capture: CaptureOptions = CaptureOptions(every_frame=True),  # noqa: B008
    sinks: SinkOptions = SinkOptions(),  # noqa: B008
    listeners: Sequence[Sink] = (),
    text: str = "/clinic/{}.avi",
    **options: Any,
) -> ManyPipeline:
    texts = [text.format(number) for number in range(1, len(openers) + 1)]
    world.update(zip(texts, openers, strict=True))
    options = {"budget_ms": 1e6, "capture": capture, **options}

    def load(name: str) -> Segmenter:
        return open_segmenter(model, name, 1, False, masks)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "sched_getaffinity", lambda _: set(range(workers)))
        return open_many(load("cpu"), load, 1, texts, StreamOptions(**options), sinks, listeners)


def reports_of(live: ManyPipeline) -> dict[str, MemberReport]:
    return {one.source: one for one in make_report(live).sources if isinstance(one, MemberReport)}


def test_every_source_is_processed_by_itself_and_the_stream_ends_with_the_last(
    model: Path, world: dict[str, Opener]
) -> None:
    listener = Listener()
    live = open_fakes(model, world, lambda: Fake(frames=5), lambda: Fake(frames=30), workers=3, listeners=[listener])
    report = run_stream(live)
    found = [one for one in report.sources if isinstance(one, MemberReport)]
    assert [(one.source, one.processed, one.dropped, one.state) for one in found] == [
        ("1", 5, 0, "ended"),
        ("2", 30, 0, "ended"),
    ]
    assert (report.frames.captured, report.frames.processed, report.workers) == (35, 35, 2)
    for source in ("1", "2"):
        numbers = [result.frame.number for result in listener.results if result.source == source]
        assert numbers == list(range(len(numbers)))
    plain = to_plain(report)
    keys = ("source", "captured", "processed", "dropped", "late", "latency_ms", "frame_age_ms", "verdict")
    assert set(keys) <= plain["sources"][0].keys()
    assert "/clinic" not in json.dumps(plain)


class Ready:
    """A grabber that always has a newer frame."""

    captured, stopped, is_over, health = 0, False, False, Health()

    def __init__(self, number: int, size: int) -> None:
        self._number, self._image = number, np.zeros((size, size), np.uint8)

    def start(self) -> None:
        pass

    stop = start

    def join(self, _: float) -> None:
        pass

    def poll(self) -> Frame:
        self.captured += 1
        return Frame(self._image, self.captured, 0.0, source=self._number)


def test_the_source_that_was_served_longest_ago_goes_first(model: Path) -> None:
    options, listener = StreamOptions(frames=6, budget_ms=1e6), Listener()
    segmenter, total = open_segmenter(model, "cpu"), LatencyRecorder(1e6, 0.0)
    members = []
    for number, size in enumerate((64, 2048, 64, 64), 1):
        source = NamedSource(number, str(number), "phantom://", "phantom://")
        member = MemberPipeline(source, Fake, segmenter.card.output.classes, total.begin_part(8), total, options)
        member.grabber = Ready(number, size)  # type: ignore[assignment]
        member.attach([], [listener])
        members.append(member)
    with ManyPipeline([segmenter], members, total, options=options) as live:
        live.run()
    assert [result.source for result in listener.results] == 6 * ["1", "2", "3", "4"]


def test_a_source_that_fails_hangs_or_cannot_be_opened_touches_no_other(model: Path, world: dict[str, Opener]) -> None:
    def refuse() -> Source:
        raise SourceError("Expected a video at /clinic/1.avi, got rtsp://user:hush@10.0.0.4/us.")

    dying = Fake(frames=3, error=SourceError("Expected frames, got none."))
    strange = Fake(frames=2, error=RuntimeError("driver\nof a camera"))
    listener = Listener()
    openers = (
        refuse,
        lambda: dying,
        lambda: strange,
        lambda: Hanging(),
        lambda: Fake(frames=0),
        lambda: Fake(frames=40),
    )
    live = open_fakes(model, world, *openers, listeners=[listener])
    with live:
        for result in live:
            if result.source == "6" and result.frame.number == 39:
                live.stop()
    found = reports_of(live)
    states = {name: one.state for name, one in found.items()}
    assert {name for name, state in states.items() if state == "failed"} == {"1", "2", "3", "5"}
    assert (states["4"], states["6"] in ("live", "ended")) == ("opening", True)
    assert (found["2"].processed, found["3"].processed, found["6"].processed) == (3, 2, 40)
    assert "hush" not in str(found["1"].failure)
    assert "/clinic" not in str(found["1"].failure)
    assert "\n" not in str(found["3"].failure)
    assert len([notice for notice in listener.notices if notice.state == "failed"]) == 4
    assert dying.closed.wait(SECONDS)


def test_without_a_frame_of_any_source_there_is_an_error_and_no_report(model: Path, world: dict[str, Opener]) -> None:
    with pytest.raises(SourceError, match="got none"):
        run_stream(open_fakes(model, world, lambda: Fake(frames=0), lambda: Fake(frames=0)))


class Camera(Fake):
    """A live source that can be opened only after some tries; each time it gives frames until it is pulled out."""

    live = True

    def __init__(self, refusals: int, *lengths: int) -> None:
        super().__init__()
        self._refusals, self._lengths, self.tries = refusals, list(lengths), 0

    def plug_in(self) -> Source:
        self.tries += 1
        if self.tries <= self._refusals:
            raise SourceError("Expected a stream at http://user:hush@clinic/us, got none.")
        self._left = self._lengths.pop(0)
        self._error = SourceError("The cable was pulled.") if self._lengths else None
        return self


def test_a_live_source_that_comes_late_or_goes_away_is_looked_for_while_others_run(
    model: Path, cameras: dict[str, Opener]
) -> None:
    listener, late, seen = Listener(), Camera(3, 4, 5), set()
    live = open_fakes(
        model,
        cameras,
        late.plug_in,
        Camera(0, -1).plug_in,
        text=HTTP,
        capture=CaptureOptions(),
        listeners=[listener],
    )
    with live:
        for result in live:
            seen.add(result.source)
            if live.members[0].state == "ended":
                live.stop()
    found = reports_of(live)
    assert seen == {"1", "2"}
    assert [notice.state for notice in listener.notices] == ["connecting", "back", "lost", "back"]
    assert "hush" not in listener.notices[0].sentence
    assert (found["1"].captured, found["1"].source_health.interruptions, late.tries) == (9, 1, 5)
    assert (found["1"].failure, found["2"].source_health) == (None, Health())


def test_the_search_ends_with_an_error_where_no_source_can_be_opened_or_the_others_have_ended(
    model: Path, cameras: dict[str, Opener]
) -> None:
    def mistyped() -> Source:
        raise SourceTextError("Expected a size, got none.")

    gone = Camera(10**6)
    with pytest.raises(SourceError, match=r"none\. 1: Expected.*\. 2: Expected a size"):
        run_stream(open_fakes(model, cameras, gone.plug_in, mistyped, text=HTTP, capture=CaptureOptions()))
    assert gone.tries >= 1
    live = open_fakes(model, cameras, gone.plug_in, Camera(0, 6).plug_in, text=HTTP, capture=CaptureOptions(), frames=3)
    run_stream(live)
    states = {name: (one.state, one.processed) for name, one in reports_of(live).items()}
    assert states["1"] == ("failed", 0)
    assert states["2"][0] == "ended"
    assert not str(reports_of(live)["1"].failure).endswith("again.")


def test_the_exit_code_tells_of_a_source_that_gave_nothing_until_the_end_and_of_one_that_was_late(
    model: Path, cameras: dict[str, Opener]
) -> None:
    gone, here = Camera(10**6), Camera(0, -1)
    live = open_fakes(model, cameras, gone.plug_in, here.plug_in, text=HTTP, capture=CaptureOptions())
    with live:
        for _ in live:
            if live.members[0].state == "connecting":
                live.stop()
    with pytest.raises(SourceError, match=r"1 of 2 sources failed\. 1: Expected a stream .* got none\.$"):
        judge_stream(make_report(live))
    capture = CaptureOptions(rate=math.inf)
    live = open_fakes(
        model, cameras, lambda: Fake(frames=4), lambda: Fake(frames=4), capture=capture, budget_ms=1e-6, text=PHANTOM
    )
    with pytest.raises(typer.Exit) as ended:
        judge_stream(run_stream(live))
    assert ended.value.exit_code == GATE_NOT_HELD


def test_a_model_that_fails_ends_all_sources_with_the_figures_so_far(
    model: Path, world: dict[str, Opener], monkeypatch: pytest.MonkeyPatch
) -> None:
    live = open_fakes(model, world, lambda: Fake(frames=50), lambda: Fake(frames=50), workers=1)
    segment, left = live.segmenter.segment, iter(range(6))

    def fail(*given: Any) -> Any:
        if next(left, None) is None:
            raise BackendError("Expected an inference, got none.")
        return segment(*given)

    monkeypatch.setattr(live.segmenter, "segment", fail)
    with pytest.raises(BrokenStreamError) as broken:
        run_stream(live)
    assert broken.value.report.frames.processed == 6


def test_frames_that_the_model_refuses_end_one_source(model: Path, world: dict[str, Opener]) -> None:
    class Odd(Fake):
        def read(self) -> NDArray[Any]:
            return np.zeros((64, 64, 7), np.uint8)

    live = open_fakes(model, world, Odd, lambda: Fake(frames=4))
    run_stream(live)
    assert {name: (one.state, one.processed) for name, one in reports_of(live).items()} == {
        "1": ("failed", 0),
        "2": ("ended", 4),
    }


def test_what_is_remembered_of_one_source_never_reaches_another(model: Path, world: dict[str, Opener]) -> None:
    listener = Listener()
    openers = (lambda: Fake(255, 10), lambda: Fake(0, 10))
    live = open_fakes(model, world, *openers, workers=1, masks=MaskOptions(smooth=True), listeners=[listener])
    run_stream(live)
    assert all(result.segmentation.labels.any() == (result.source == "1") for result in listener.results)
    assert {result.frozen for result in listener.results} == {False}


def test_the_budget_is_judged_for_each_source(model: Path, world: dict[str, Opener]) -> None:
    capture = CaptureOptions(rate=math.inf)
    live = open_fakes(model, world, lambda: Fake(), lambda: Fake(), capture=capture, budget_ms=1e-6)
    assert run_stream(live).verdict == "missed"
    live = open_fakes(model, world, lambda: Fake(), lambda: Fake(frames=0), capture=capture)
    report = run_stream(live)
    assert (report.verdict, [one.verdict for one in reports_of(live).values()]) == ("held", ["held", "not measured"])


def test_each_source_ends_after_so_many_frames_of_its_own(model: Path, world: dict[str, Opener]) -> None:
    live = open_fakes(model, world, lambda: Fake(frames=50), lambda: Fake(frames=50), frames=7)
    report = run_stream(live)
    assert [one.processed for one in report.sources] == [7, 7]


def test_a_loop_that_is_slow_gets_all_sources_in_turn_and_leaving_it_closes_them(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Fake] = []

    def open_fake(*_: object, **__: object) -> Source:
        opened.append(Fake(frames=-1))
        return opened[-1]

    monkeypatch.setattr(choose, "open_source", open_fake)
    stream = edgeseg.stream(model, ["phantom://?seed=1", "left=phantom://?seed=2"], backend="cpu")
    seen: Counter[str] = Counter()
    for result in stream:
        seen[result.source] += 1
        if min(seen["1"], seen["left"]) == 5:
            break
    assert set(seen) == {"1", "left"}
    assert all(source.closed.wait(SECONDS) for source in opened)
    assert [one.name for one in stream.report().sources] == ["phantom://?seed=1", "phantom://?seed=2"]


def test_a_signal_ends_a_stream_whose_sources_give_nothing(model: Path, world: dict[str, Opener]) -> None:
    live = open_fakes(model, world, Hanging, Hanging)
    with live:
        threading.Timer(0.05, live.stop).start()
        live.run()
    assert make_report(live).verdict == "not measured"


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ("left=0", ("left", "0")),
        ("left=rtsp://u:p@h/a=b", ("left", "rtsp://u:p@h/a=b")),
        ("phantom://?seed=1", ("", "phantom://?seed=1")),
        ("-?size=4x4&fps=3", ("", "-?size=4x4&fps=3")),
        ("0?fps=30", ("", "0?fps=30")),
        ("1=0", ("", "1=0")),
        ("a/b=0", ("", "a/b=0")),
        ("left=", ("", "left=")),
    ],
)
def test_a_name_before_a_source_is_told_from_the_source(text: str, split: tuple[str, str]) -> None:
    assert split_name(text) == split


def test_a_file_with_an_equals_sign_in_its_name_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("left=0").touch()
    assert split_name("left=0") == ("", "left=0")


@pytest.mark.parametrize(
    "texts",
    [
        ["0", "0"],
        ["a=0", "A=1"],
        ["a=0", "1", "a=2"],
        [str(number) for number in range(17)],
        ["-?size=4", "a=-?size=8"],
    ],
    ids=["twice", "case", "name", "many", "pipe"],
)
def test_sources_that_cannot_be_told_apart_or_are_too_many_are_refused(texts: list[str]) -> None:
    with pytest.raises(SourceError):
        name_many(texts)


def test_one_source_may_be_there_twice_under_two_names() -> None:
    assert [source.label for source in name_many(["a=phantom://", "b=phantom://", "phantom://"])] == ["a", "b", "3"]
    with pytest.raises(UnknownNameError):
        name_many(["0", "nosuch://x"])


def test_options_for_one_source_are_refused_and_one_at_a_time_still_switches(model: Path) -> None:
    def open_with(sinks: SinkOptions, **options: Any) -> Any:
        segmenter = open_segmenter(model, "cpu")
        load = lambda name: open_segmenter(model, name)  # noqa: E731
        texts = ["phantom://?size=32&frames=1", "phantom://?size=32&seed=2"]
        return open_sources(segmenter, load, 1, texts, StreamOptions(**options), sinks)

    with pytest.raises(LiveSourceError):
        open_with(SinkOptions("window"))
    with pytest.raises(LiveSourceError):
        open_with(SinkOptions(), one_at_a_time=True)
    assert isinstance(open_with(SinkOptions()), ManyPipeline)


def test_a_model_of_several_modalities_takes_its_sources_together(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter = open_segmenter(model, "cpu")
    stacked = replace(segmenter.card.input, modalities=("bmode", "elasto"))
    monkeypatch.setattr(segmenter, "card", replace(segmenter.card, input=stacked))
    monkeypatch.setattr(segmenter, "warm_up", lambda: 1.0)
    for texts in (["phantom://", "phantom://?seed=2"], ["bmode=phantom://", "other=phantom://?seed=2"]):
        with pytest.raises(SourceError, match="modalities"):
            open_sources(segmenter, lambda _: segmenter, 1, texts)
    texts = ["elasto=phantom://?size=32&frames=1&modality=elastography", "bmode=phantom://?size=32&frames=1"]
    live = open_sources(segmenter, lambda _: segmenter, 1, texts)
    assert isinstance(live, StreamPipeline)
    assert live.name.startswith("bmode=")


def test_there_are_as_many_threads_as_processors_and_one_on_an_accelerator(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter = open_segmenter(model, "cpu")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)))
    assert [count_workers(*pair, segmenter) for pair in ((16, 1), (3, 1), (16, 2), (16, 3), (16, 9))] == [4, 3, 2, 1, 1]
    monkeypatch.setattr(type(segmenter.selection.backend), "computes_in_memory", classmethod(lambda _: False))
    assert count_workers(16, 1, segmenter) == 1


def test_recordings_lie_in_a_folder_for_each_source_and_spare_what_is_there(
    model: Path, world: dict[str, Opener], tmp_path: Path
) -> None:
    for session in ("index.jsonl", "session-2/index.jsonl"):
        live = open_fakes(
            model, world, lambda: Fake(frames=3), lambda: Fake(frames=2), sinks=SinkOptions(record=tmp_path / "out")
        )
        run_stream(live)
        counts = {name: len((tmp_path / "out" / name / session).read_text().splitlines()) for name in ("1", "2")}
        assert counts == {"1": 3, "2": 2}
    (tmp_path / "out/notes.txt").touch()
    with pytest.raises(OutputError):
        open_fakes(model, world, Fake, Fake, sinks=SinkOptions(record=tmp_path / "out"))


def test_lines_carry_the_name_of_their_source(model: Path, world: dict[str, Opener]) -> None:
    reader, writer = os.pipe()
    live = open_fakes(model, world, lambda: Fake(frames=3), lambda: Fake(frames=4), sinks=SinkOptions(emit_to=writer))
    run_stream(live)
    os.close(writer)
    with os.fdopen(reader) as lines:
        found = [json.loads(line) for line in lines]
    assert Counter((line["source"], line["source_name"]) for line in found) == {(1, "1"): 3, (2, "2"): 4}


def test_a_line_that_was_given_up_halfway_is_finished_before_the_next() -> None:
    reader, writer = os.pipe()
    output, long = LineOutput(writer), b"a" * 300_000 + b"\n"
    tries = iter([False] * 20 + [True])
    assert not output.send(long, lambda: next(tries))
    taken: list[bytes] = []

    def read() -> None:
        while data := os.read(reader, 1 << 16):
            taken.append(data)

    thread = threading.Thread(target=read)
    thread.start()
    assert output.send(b"b\n", lambda: False)
    assert not output.send(b"c\n", lambda: True)
    assert output.send(b"d\n", lambda: False)
    os.close(writer)
    thread.join(SECONDS)
    os.close(reader)
    assert b"".join(taken) == long + b"b\nd\n"
