"""The viewer in a real browser, driven over a pipe: what a person sees, clicks, and is told at the end."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
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

    def __init__(self, port: int = 0, modalities: tuple[str, ...] = ()) -> None:
        self._levels = [100, 200][: max(1, len(modalities))]
        recorder = LatencyRecorder(50.0, 80.0)
        report = BackendReport("cpu", "cuda", "cuda is not here.", "", None)
        info = StreamInfo("small", self.source, lambda: report, recorder, modalities=modalities)
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
        labels, times = np.zeros((480, 640), np.uint8), StageTimes(1, 10, 2)
        image = np.dstack([np.full((480, 640), level, np.uint8) for level in self._levels]).squeeze()
        labels[80:400, 100:540] = 1
        while not self._stop.wait(0.05):
            self._recorder.record(times, 20.0)
            self.viewer.publish(Result(Frame(image, 0, monotonic()), Segmentation(labels, times), 20.0))


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


def assert_fits(browser: Browser) -> None:
    """Check that nothing is wider than the page, at both widths."""
    for size in SIZES.values():
        browser.resize(size)
        assert browser.ask("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0


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
    assert "p99" not in browser.ask("document.body.innerText")
    browser.ask("details.open = true")
    words = browser.ask("document.body.innerText")
    for word in (
        "small",
        "phantom:linear",
        "Within budget",
        "p99",
        "cuda is not here.",
        "lesion",
        "140,800 px (45.8%)",
    ):
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


def test_the_page_shows_one_modality_and_then_the_other(browser: Browser) -> None:
    stream = Stream(modalities=("bmode", "doppler"))
    try:
        browser.show(stream.viewer.url, SIZES["desktop"])
        wait_for_picture(browser)
        browser.wait_for("modality.textContent === 'Shown: bmode'")
        wait_until(lambda: has_colour(browser, (70, 70, 146)), "the mask over the first modality")
        browser.ask("modality.click()")
        wait_until(lambda: has_colour(browser, (140, 140, 216)), "the mask over the second modality")
        assert browser.ask("modality.textContent") == "Shown: doppler"
        assert browser.complaints == []
    finally:
        stream.end()


def test_opacity_pause_and_a_new_stream_on_the_same_page(browser: Browser, stream: Stream) -> None:
    browser.show(stream.viewer.url, SIZES["desktop"])
    wait_for_picture(browser)
    browser.ask("opacity.value = 100; opacity.dispatchEvent(new Event('input'))")
    wait_until(lambda: has_colour(browser, (0, 0, 255)), "the opaque overlay in the picture")
    focused = [press_tab(browser) for _ in range(5)]
    assert focused == ["light", "pause", "full", "band", "save"]
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
    browser.ask("details.open = true")
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
    assert "found 0.93 confidence (found from 0.60) presence 90%" in words
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
    browser.wait_for("legend.innerText.includes('0.70') && legend.innerText.includes('(no operating point)')")
    assert "found" not in browser.ask("legend.innerText")
    monkeypatch.setattr(Deciding, "result", make_decided("nothing", 0.9, distance=2.0))
    browser.wait_for("document.getElementById('unknown').checkVisibility()")
    assert "benign" not in browser.ask("document.body.innerText")
    assert browser.complaints == []
    stream.end()


TOGGLE = "document.querySelectorAll('#legend .toggle')"


def test_a_class_is_hidden_and_shown_again_live_and_paused(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "FAREWELL_SECONDS", 0.0)
    # a busy machine asks late for the picture that it pauses on
    monkeypatch.setattr(state, "KEPT_SENT", 100_000)
    stream = Distinct()
    browser.show(stream.viewer.url, SIZES["desktop"])
    wait_for_picture(browser)
    assert browser.ask("all.hidden")
    browser.ask(f"{TOGGLE}[0].click()")
    browser.wait_for("legend.innerText.includes('mask hidden')")
    assert not has_red(browser)
    browser.press("m", 77, "m")
    browser.wait_for("!legend.innerText.includes('mask hidden')")
    assert has_red(browser)
    browser.press(" ", 32, " ")
    before = browser.ask("document.getElementById('frame').innerText")
    for is_hidden in (True, False):
        browser.ask(f"{TOGGLE}[0].click()")
        browser.wait_for(f"legend.innerText.includes('mask hidden') === {str(is_hidden).lower()}")
        assert has_red(browser) != is_hidden
        assert browser.ask("document.getElementById('frame').innerText") == before
        shade, legend, frame = browser.ask(LOOK)
        number = int(re.findall(r"Frame (\d+)", frame)[0])
        assert abs(shade - (20 + number % 200)) <= 3
        assert f"{64 * (20 + number % 200):,} px" in legend
    assert_fits(browser)
    stream.end()
    # the test itself reads the canvas often
    assert not [one for one in browser.complaints if one.get("entry", {}).get("source") != "rendering"]


LATE = """(() => {
  const ask = window.fetch;
  let first = true;
  window.fetch = async (...what) => {
    const answer = await ask(...what);
    if (first && what[0].startsWith("still")) {
      first = false;
      await new Promise((resolve) => { window.release = resolve; });
    }
    return answer;
  };
  const decode = window.createImageBitmap;
  window.createImageBitmap = async (...what) => {
    const bitmap = await decode(...what);
    setTimeout(() => { window.decoded = window.released; });
    return bitmap;
  };
})()"""
"""The answer to the first request for a paused picture waits until the test calls release()."""


def test_a_late_answer_does_not_undo_what_was_asked_for_after_it(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "FAREWELL_SECONDS", 0.0)
    monkeypatch.setattr(state, "KEPT_SENT", 100_000)
    stream = Distinct()
    browser.show(stream.viewer.url, SIZES["desktop"])
    wait_for_picture(browser)
    browser.ask(LATE)
    browser.ask("pause.click()")
    browser.wait_for("window.release !== undefined")
    browser.ask(f"{TOGGLE}[0].click()")
    browser.wait_for("legend.innerText.includes('mask hidden')")
    browser.ask("released = true; release()")
    browser.wait_for("window.decoded")
    assert browser.ask("legend.innerText.includes('mask hidden')")
    assert not has_red(browser)
    stream.end()


def has_red(browser: Browser) -> bool:
    """Say whether the mask is drawn into the first rows of the picture."""
    red, green = browser.ask("[...picture.getContext('2d').getImageData(32, 8, 1, 1).data].slice(0, 2)")
    return bool(red - green > 20)


def test_full_screen_by_key_and_button_shows_the_figures_over_the_picture(browser: Browser, stream: Stream) -> None:
    browser.show(stream.viewer.url, SIZES["desktop"])
    wait_for_picture(browser)
    browser.press("f", 70, "f")
    browser.wait_for("document.fullscreenElement !== null")
    words = browser.ask("document.body.innerText")
    for word in ("lesion", "140,800 px", "Within budget", "Leave full screen"):
        assert word in words
    assert "Mask opacity" not in words
    assert_fits(browser)
    browser.press("Escape", 27)
    browser.wait_for("document.fullscreenElement === null && document.body.dataset.full === 'false'")
    browser.ask("full.focus()")
    browser.press("Enter", 13, "\r")
    browser.wait_for("document.fullscreenElement !== null && full.innerText === 'Leave full screen'")
    browser.press("f", 70, "f")
    browser.wait_for("document.fullscreenElement === null && full.innerText === 'Full screen'")
    assert browser.complaints == []


def test_the_details_are_folded_and_remembered(
    browser: Browser, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the end would wait for the first of its two pages, which is gone
    monkeypatch.setattr(state, "FAREWELL_SECONDS", 0.0)
    browser.show(stream.viewer.url, SIZES["desktop"])
    wait_for_picture(browser)
    assert not browser.ask("details.open")
    browser.ask("document.querySelector('summary').click()")
    browser.wait_for("localStorage.getItem('edgeseg-details') === 'open'")
    browser.show(stream.viewer.url, SIZES["phone"])
    wait_for_picture(browser)
    assert browser.ask("details.open && document.getElementById('stages').checkVisibility()")
    assert_fits(browser)
    assert browser.complaints == []


class Many(Stream):
    """A model of 127 classes with long names."""

    classes = tuple(ClassSpec(f"structure-with-a-long-name-{number}", (number, 90, 90)) for number in range(1, 128))


def test_127_classes_fit_and_can_all_be_hidden(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "FAREWELL_SECONDS", 0.0)
    stream = Many()
    browser.show(stream.viewer.url, SIZES["desktop"])
    wait_for_picture(browser)
    assert browser.ask("legend.children.length") == 127
    assert_fits(browser)
    browser.ask("all.click()")
    browser.wait_for("legend.innerText.split('mask hidden').length === 128")
    assert_fits(browser)
    stream.end()
    assert browser.complaints == []
