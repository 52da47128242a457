"""The viewer in a real browser, driven over a pipe: what a person sees, clicks, and is told at the end."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from time import monotonic
from typing import ClassVar

import numpy as np
import pytest

from edgeseg.backends.select import BackendReport
from edgeseg.core.spec import ClassSpec
from edgeseg.inference.segmenter import Segmentation, StageTimes
from edgeseg.streaming.latency import LatencyRecorder
from edgeseg.streaming.sinks.base import Result, StreamInfo
from edgeseg.streaming.sources.base import Frame, Notice
from edgeseg.streaming.viewer import WebViewer, state
from tests.browsers import CHROMIUM, SECONDS, Browser, wait_until
from tests.results import CLASSES, make_decided

SIZES = {"desktop": (1280, 800), "phone": (390, 844)}

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not on PATH"),
]


class Stream:
    """Publishes frames from a thread, as the live loop does."""

    classes: ClassVar[tuple[ClassSpec, ...]] = (ClassSpec("lesion", (255, 0, 0)),)
    source: ClassVar[str] = "phantom:linear"

    def __init__(self, port: int = 0) -> None:
        recorder = LatencyRecorder(50.0, 80.0)
        report = BackendReport("cpu", "cuda", "cuda is not here.", "", None)
        info = StreamInfo("small", self.source, lambda: report, recorder)
        self.viewer = WebViewer(info, self.classes, port)
        self._recorder = recorder
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._stop.set()
        self._thread.join(SECONDS)
        self.viewer.close()

    def _run(self) -> None:
        image, labels, times = np.full((480, 640), 100, np.uint8), np.zeros((480, 640), np.uint8), StageTimes(1, 10, 2)
        labels[80:400, 100:540] = 1
        while not self._stop.wait(0.05):
            self._recorder.record(times, 20.0)
            self.viewer.publish(Result(Frame(image, 0, monotonic()), Segmentation(labels, times), 20.0))


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    browser = Browser(tmp_path)
    yield browser
    browser.close()


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stream]:
    """Run a stream whose end waits for its page, however slow this machine is at the moment."""
    monkeypatch.setattr(state, "FAREWELL_SECONDS", SECONDS)
    monkeypatch.setattr(state, "GONE_AFTER_SECONDS", SECONDS)
    stream = Stream()
    yield stream
    stream.end()


def wait_for_picture(browser: Browser) -> None:
    browser.wait_for("document.body?.dataset.state === 'live' && !document.getElementById('picture').hidden")


def has_colour(browser: Browser, bgr: tuple[int, int, int]) -> bool:
    """Say whether a screenshot has this colour in the middle of the picture, where the mask is."""
    x, y = browser.ask("(box => [box.x + box.width / 2, box.y + box.height / 2])(stage.getBoundingClientRect())")
    return bool(np.allclose(browser.take_screenshot()[int(y), int(x)], bgr, atol=12))


def press_tab(browser: Browser) -> object:
    """Go to the next control, and give its name when it shows that it has the focus."""
    browser.press("Tab", 9)
    return browser.ask("getComputedStyle(document.activeElement).outlineStyle === 'solid' && document.activeElement.id")


def test_page_shows_picture_numbers_and_the_end(browser: Browser, stream: Stream) -> None:
    browser.show(stream.viewer.url, SIZES["desktop"])
    wait_for_picture(browser)
    for size in SIZES.values():
        browser.resize(size)
        wait_until(lambda: has_colour(browser, (70, 70, 146)), "the overlay in the picture")
        assert browser.ask("document.documentElement.scrollWidth") == browser.ask(
            "document.documentElement.clientWidth"
        )
    words = browser.ask("document.body.innerText")
    for word in ("small", "phantom:linear", "Within budget", "cuda is not here.", "lesion", "140,800 px (45.8%)"):
        assert word in words
    assert browser.complaints == []
    stream.viewer.on_notice(Notice("lost", "The cable is out."))
    browser.wait_for("document.body.dataset.state === 'searching'")
    assert "The cable is out." in browser.ask("document.getElementById('events').innerText")
    stream.viewer.on_notice(Notice("back", "The source is back after 2.0 s."))
    wait_for_picture(browser)
    stream.end()
    browser.wait_for("document.body.dataset.state === 'ended'")
    assert "The stream has ended." in browser.ask("document.getElementById('state').innerText")


def test_opacity_pause_and_a_new_stream_on_the_same_page(browser: Browser, stream: Stream) -> None:
    browser.show(stream.viewer.url, SIZES["desktop"])
    wait_for_picture(browser)
    browser.ask("opacity.value = 100; opacity.dispatchEvent(new Event('input'))")
    wait_until(lambda: has_colour(browser, (0, 0, 255)), "the opaque overlay in the picture")
    focused = [press_tab(browser) for _ in range(4)]
    assert focused == ["light", "pause", "band", "save"]
    browser.ask("pause.focus()")
    browser.press(" ", 32, " ")
    assert browser.ask("[document.body.dataset.state, picture.hidden]") == ["paused", False]
    assert has_colour(browser, (0, 0, 255))
    stream.end()
    browser.wait_for("document.body.dataset.state === 'ended'")
    again = Stream(int(stream.viewer.url.rstrip("/").rsplit(":", 1)[1]))
    wait_for_picture(browser)
    again.end()


class Distinct(Stream):
    """Publishes frames that can be told apart: frame N is N grey, and its mask has N rows. All names are markup."""

    classes = (ClassSpec("<img src=x onerror=alert(1)>", (255, 0, 0)),)
    source = "<script>alert(2)</script>"

    def _run(self) -> None:
        for number in count():
            if self._stop.wait(0.01):
                return
            shade = 20 + number % 200
            labels = np.zeros((256, 64), np.uint8)
            labels[:shade] = 1
            frame = Frame(np.full((256, 64), shade, np.uint8), number, monotonic(), name="<b>bold</b>.png")
            self._recorder.record(StageTimes(1, 10, 2), 20.0)
            self.viewer.publish(Result(frame, Segmentation(labels, StageTimes(1, 10, 2)), 20.0))


LOOK = """(() => {
  const shade = picture.getContext("2d").getImageData(5, 250, 1, 1).data[0];
  return [shade, legend.innerText, document.getElementById("frame").innerText];
})()"""


def test_what_stands_under_the_picture_is_about_that_picture_and_names_are_no_markup(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "FAREWELL_SECONDS", 0.0)
    stream = Distinct()
    browser.show(stream.viewer.url, SIZES["desktop"])
    wait_for_picture(browser)
    seen: list[tuple[int, str, str]] = []

    def look() -> bool:
        seen.append(browser.ask(LOOK))
        return len({shade for shade, _, _ in seen}) > 8

    wait_until(look, "nine different pictures")
    browser.ask("pause.click()")
    seen.append(browser.ask(LOOK))
    words = browser.ask("document.body.innerText")
    markup = browser.ask("document.querySelectorAll('script, b, img').length")
    stream.end()
    for shade, legend, frame in seen:
        number = int(re.findall(r"Frame (\d+)", frame)[0])
        rows = 20 + number % 200
        assert abs(shade - rows) <= 3
        assert f"{64 * rows:,} px" in legend
    assert Distinct.classes[0].name in words
    assert Distinct.source in words
    assert "<b>bold</b>.png" in words
    assert markup == 1


class Deciding(Stream):
    """Publishes the result that a test sets."""

    classes = CLASSES
    result: ClassVar[Result] = make_decided("found", 0.93)

    def _run(self) -> None:
        while not self._stop.wait(0.05):
            self._recorder.record(self.result.segmentation.times, 20.0)
            self.viewer.publish(self.result)


def test_page_says_what_is_found_doubtful_or_not_what_the_model_was_trained_on(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "FAREWELL_SECONDS", 0.0)
    stream = Deciding()
    browser.show(stream.viewer.url, SIZES["desktop"])
    wait_for_picture(browser)
    words = " ".join(browser.ask("legend.innerText").split())
    assert "found confidence 0.93 (found from 0.60), presence 90%" in words
    assert "benign 70%, normal 20%" in browser.ask("document.body.innerText")
    monkeypatch.setattr(Deciding, "result", make_decided("doubtful", 0.41))
    browser.wait_for("legend.innerText.includes('doubtful') && legend.innerText.includes('0.41')")
    assert browser.ask("getComputedStyle(legend.querySelector('i')).borderStyle") == "dashed"
    browser.ask("band.click()")
    assert browser.ask("band.getAttribute('aria-pressed')") == "true"
    assert not browser.ask("document.getElementById('unknown').checkVisibility()")
    monkeypatch.setattr(Deciding, "result", make_decided("doubtful", None))
    browser.wait_for("legend.innerText.includes('held, no mask in this frame')")
    old = make_decided("found", 0.7)
    findings = tuple(replace(one, threshold=None) for one in old.segmentation.findings)
    monkeypatch.setattr(Deciding, "result", replace(old, segmentation=replace(old.segmentation, findings=findings)))
    browser.wait_for("legend.innerText.includes('confidence 0.70 (no operating point)')")
    assert "found" not in browser.ask("legend.innerText")
    monkeypatch.setattr(Deciding, "result", make_decided("nothing", 0.9, distance=2.0))
    browser.wait_for("document.getElementById('unknown').checkVisibility()")
    assert "benign" not in browser.ask("document.body.innerText")
    assert browser.complaints == []
    stream.end()
