"""The viewer in a real browser, driven over a pipe: what a person sees, clicks, and is told at the end."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgeseg.backends.select import BackendReport
from edgeseg.core.spec import ClassSpec
from edgeseg.runtime.latency import LatencyRecorder
from edgeseg.runtime.segmenter import Segmentation, StageTimes
from edgeseg.runtime.sinks.base import Result, StreamInfo
from edgeseg.runtime.sources.base import Frame
from edgeseg.runtime.viewer import WebViewer

CHROMIUM = shutil.which("chromium")
SECONDS = 60
SIZES = {"desktop": (1280, 800), "phone": (390, 844)}
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
]

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not on PATH"),
]


def wait_until(is_true: Callable[[], bool], what: str) -> None:
    deadline = monotonic() + SECONDS
    while not is_true():
        assert monotonic() < deadline, f"{what} did not come true"
        sleep(0.05)


class Browser:
    """One page of a headless Chromium, spoken to over its debugging pipe."""

    def __init__(self, folder: Path) -> None:
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        # Chromium reads commands from descriptor 3 and answers on 4.
        shell = f'exec "$0" "$@" 3<&{commands} 4>&{answers}'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, str(CHROMIUM), *FLAGS, f"--user-data-dir={folder}", "about:blank"],
            pass_fds=(commands, answers),
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self._watchdog = threading.Timer(2 * SECONDS, self._process.kill)
        self._watchdog.start()
        self._buffer, self._number, self._session = b"", 0, ""
        self.complaints: list[Any] = []
        self._attach()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            if answer["method"] in ("Log.entryAdded", "Runtime.exceptionThrown"):
                self.complaints.append(answer["params"])
        result: dict[str, Any] = answer["result"]
        return result

    def show(self, url: str, size: tuple[int, int]) -> None:
        self.resize(size)
        self.call("Page.navigate", url=url)

    def resize(self, size: tuple[int, int]) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=size[0], height=size[1], deviceScaleFactor=1, mobile=False
        )

    def ask(self, script: str) -> Any:
        return self.call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def wait_for(self, script: str) -> None:
        wait_until(lambda: bool(self.ask(script)), script)

    def take_screenshot(self) -> NDArray[np.uint8]:
        data = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), dtype=np.uint8)

    def close(self) -> None:
        self._watchdog.cancel()
        self._process.kill()
        self._process.wait(SECONDS)
        os.close(self._commands)
        os.close(self._answers)

    def _attach(self) -> None:
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Log", "Runtime", "Page"):
            self.call(f"{domain}.enable")

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            data = os.read(self._answers, 1 << 16)
            assert data, "chromium ended"
            self._buffer += data
        message, self._buffer = self._buffer.split(b"\0", 1)
        answer: dict[str, Any] = json.loads(message)
        return answer


class Stream:
    """Publishes frames from a thread, as the live loop does."""

    def __init__(self, port: int = 0) -> None:
        recorder = LatencyRecorder(50.0, 80.0)
        report = BackendReport("cpu", "cuda", "cuda is not here.", "", None)
        info = StreamInfo("small", "phantom:linear", lambda: report, recorder)
        self.viewer = WebViewer(info, (ClassSpec("lesion", (255, 0, 0)),), port)
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
def stream() -> Iterator[Stream]:
    stream = Stream()
    yield stream
    stream.end()


def wait_for_picture(browser: Browser) -> None:
    browser.wait_for("document.body?.dataset.state === 'live' && !document.getElementById('picture').hidden")


def has_colour(browser: Browser, bgr: tuple[int, int, int]) -> bool:
    """Say whether a screenshot has this colour in the middle of the picture, where the mask is."""
    x, y = browser.ask("(box => [box.x + box.width / 2, box.y + box.height / 2])(stage.getBoundingClientRect())")
    return bool(np.allclose(browser.take_screenshot()[int(y), int(x)], bgr, atol=12))


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
    stream.end()
    browser.wait_for("document.body.dataset.state === 'ended'")
    assert "The stream has ended." in browser.ask("document.getElementById('state').innerText")


def test_opacity_pause_and_a_new_stream_on_the_same_page(browser: Browser, stream: Stream) -> None:
    browser.show(stream.viewer.url, SIZES["desktop"])
    wait_for_picture(browser)
    browser.ask("opacity.value = 100; opacity.dispatchEvent(new Event('input'))")
    wait_until(lambda: has_colour(browser, (0, 0, 255)), "the opaque overlay in the picture")
    browser.ask("pause.click()")
    assert browser.ask("[document.body.dataset.state, picture.hidden, still.hidden]") == ["paused", True, False]
    assert has_colour(browser, (0, 0, 255))
    stream.end()
    browser.wait_for("document.body.dataset.state === 'ended'")
    again = Stream(int(stream.viewer.url.rstrip("/").rsplit(":", 1)[1]))
    wait_for_picture(browser)
    again.end()
