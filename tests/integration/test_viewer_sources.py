"""What a person sees of a real stream in a real browser: an overlay that moves, whatever the frames come from."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.browsers import CHROMIUM, SECONDS, Browser, wait_until
from tests.tinymodels import write_bright_model

SIZE = (96, 64)
FRAMES = 24
COLOUR = (0, 176, 255)
"""The overlay at full opacity, blue first."""

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not on PATH"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bright_model(tmp_path_factory.mktemp("model") / "bright.tflite")


@contextmanager
def run_stream(model: Path, *arguments: str) -> Iterator[str]:
    """Run `edgeseg stream` and give the address that it tells."""
    command = [sys.executable, "-m", "edgeseg", "stream", str(model), "--port", "0", "--budget-ms", "60000"]
    with subprocess.Popen([*command, *arguments], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            line = process.stderr.readline()
            assert line.startswith("Open http://"), line + process.stderr.read()
            yield line.split()[1]
        finally:
            process.send_signal(signal.SIGTERM)
            _, told = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, told


@contextmanager
def open_page(folder: Path, url: str, *flags: str) -> Iterator[Browser]:
    """Show the page with an opaque overlay."""
    browser = Browser(folder, flags)
    try:
        browser.show(url, (900, 800))
        browser.wait_for("document.getElementById('source')?.textContent.length > 0")
        browser.ask("opacity.value = 100; opacity.dispatchEvent(new Event('input'))")
        yield browser
        assert browser.complaints == []
    finally:
        browser.close()


def make_images() -> list[NDArray[np.uint8]]:
    """Draw a bright block that walks from left to right."""
    images = [np.full((SIZE[1], SIZE[0]), 20, np.uint8) for _ in range(FRAMES)]
    for number, image in enumerate(images):
        image[20:44, 3 * number : 3 * number + 20] = 230
    return images


def write_clip(path: Path) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 12.0, SIZE)
    for image in make_images():
        writer.write(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))
    writer.release()
    return path


def write_webcam(path: Path) -> Path:
    """Write what Chromium shows as a webcam, as YUV4MPEG2."""
    colours = np.full(SIZE[0] * SIZE[1] // 2, 128, np.uint8).tobytes()
    frames = b"".join(b"FRAME\n" + image.tobytes() + colours for image in make_images())
    path.write_bytes(f"YUV4MPEG2 W{SIZE[0]} H{SIZE[1]} F12:1 Ip A1:1 C420jpeg\n".encode() + frames)
    return path


def wait_for_movement(browser: Browser, still: NDArray[np.bool_] | None = None) -> None:
    """Wait until the overlay has been at two places; `still` is the first of them, where it is known."""
    seen = [] if still is None else [still]

    def has_moved() -> bool:
        marked = find_overlay(browser.take_screenshot())
        if marked.any():
            seen.append(marked)
        return len(seen) > 1 and bool(np.count_nonzero(seen[0] ^ seen[-1]) > 0.1 * np.count_nonzero(seen[0]))

    wait_until(has_moved, "a moving overlay")


def find_overlay(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.asarray(np.abs(image.astype(np.int16) - COLOUR).max(axis=2) < 30)


def count_masks(recording: Path) -> str:
    return f"{len(list((recording / 'masks').iterdir()))} masks recorded"


def test_a_phantom_moves_is_recorded_on_request_and_saved_as_a_picture(model: Path, tmp_path: Path) -> None:
    recording = tmp_path / "recording"
    arguments = ("--source", "phantom://?size=64", "--record", str(recording), "--record-wait")
    with run_stream(model, *arguments) as url, open_page(tmp_path / "browser", url) as browser:
        wait_for_movement(browser)
        assert not any((recording / "masks").iterdir())
        assert browser.ask("record.click(); record.innerText") == "Start recording"
        browser.wait_for("!recorded.hidden && record.innerText === 'Stop recording'")
        browser.ask("record.click()")
        browser.wait_for("record.innerText === 'Start recording'")
        wait_until(lambda: browser.ask("recorded.innerText") == count_masks(recording), "the number of masks")
        kept = count_masks(recording)
        browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
        browser.ask("save.click()")
        wait_until(lambda: any(tmp_path.glob("bright-*.png")), "a saved picture")
    assert count_masks(recording) == kept
    saved = cv2.imread(str(next(tmp_path.glob("bright-*.png"))))
    assert saved is not None
    assert saved.shape == (64, 64, 3)
    assert find_overlay(np.asarray(saved, dtype=np.uint8)).any()


def test_a_clip_moves(model: Path, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.avi")
    with (
        run_stream(model, "--source", str(clip), "--loop") as url,
        open_page(tmp_path / "browser", url) as browser,
    ):
        wait_for_movement(browser)


def test_the_browsers_own_webcam_moves_behind_a_token(model: Path, tmp_path: Path) -> None:
    webcam = write_webcam(tmp_path / "webcam.y4m")
    flags = (
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={webcam}",
    )
    with (
        run_stream(model, "--source", "browser://?size=96x64", "--host", "127.0.0.2") as url,
        open_page(tmp_path / "browser", url, *flags) as browser,
    ):
        assert "?token=" in url
        assert browser.ask("location.search + document.cookie") == ""
        browser.wait_for("document.body.dataset.state === 'inviting'")
        browser.ask("camera.click()")
        wait_for_movement(browser)
        assert browser.ask("camera.click(); camera.innerText") == "Use this device's camera"


SHOWN = "document.querySelector('#sources [aria-pressed=true] .source-name')?.textContent"


def test_the_page_switches_between_sources_for_everybody_and_the_report_names_them(model: Path, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.avi")
    sources = ("phantom://?size=64&seed=2", str(clip), str(tmp_path / "gone.avi"), "browser://?size=96x64")
    arguments = ["--one-at-a-time", *(part for source in sources for part in ("--source", source))]
    report = tmp_path / "report.json"
    with (
        run_stream(model, *arguments, "--loop", "--record", str(tmp_path / "rec"), "--json", str(report)) as url,
        open_page(tmp_path / "one", url) as one,
        open_page(tmp_path / "other", url) as other,
    ):
        wait_for_movement(one)
        assert one.ask(SHOWN) == "phantom://?size=64&seed=2"
        one.press("2", 50, "2")
        for browser in (one, other):
            browser.wait_for("document.getElementById('source').textContent === 'clip.avi'")
            browser.wait_for("document.body.dataset.state === 'live' && picture.width === 96")
            assert browser.ask(SHOWN) == "clip.avi"
            assert "begin anew" in browser.ask("said.textContent")
        wait_for_movement(other)
        other.ask("document.querySelectorAll('#sources button')[2].click()")
        one.wait_for("document.body.dataset.state === 'failed' && picture.hidden")
        assert "gone.avi" in one.ask("document.body.innerText")
        assert str(tmp_path) not in one.ask("document.documentElement.outerHTML")
        one.press("4", 52, "4")
        other.wait_for("document.body.dataset.state === 'inviting' && !camera.hidden")
        one.press("1", 49, "1")
        other.wait_for("document.body.dataset.state === 'live' && picture.width === 64 && camera.hidden")
        for width in (1280, 390):
            one.resize((width, 800))
            assert one.ask("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
        assert report_of_sources(report) is None
    names = [(source["name"], source["chosen"], source["processed"] > 0) for source in report_of_sources(report) or []]
    assert names == [
        ("phantom://?size=64&seed=2", 2, True),
        ("clip.avi", 1, True),
        ("gone.avi", 1, False),
        ("browser://?size=96x64", 1, False),
    ]
    lines = [json.loads(line) for line in (tmp_path / "rec/index.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {line["source"] for line in lines} == {1, 2}


def test_all_sources_move_on_one_page_and_each_can_be_enlarged(model: Path, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.avi")
    sources = ("phantom://?size=64&seed=2", "left=phantom://?size=64x96&seed=3", f"clip={clip}")
    arguments = [part for source in sources for part in ("--source", source)]
    arguments += ["--record", str(tmp_path / "rec"), "--record-wait"]
    with (
        run_stream(model, *arguments, "--host", "127.0.0.2") as url,
        open_page(tmp_path / "browser", url) as browser,
    ):
        numbers = "Array.from(document.querySelectorAll('#grid canvas'), (tile) => Number(tile.dataset.number ?? -1))"
        browser.wait_for(f"{numbers}.slice(0, 2).every((number) => number >= 0)")
        first = browser.ask(numbers)
        browser.wait_for(f"{numbers}[0] > {first[0]} && {numbers}[1] > {first[1]}")
        browser.wait_for("document.querySelector('#grid [data-source=ended]')?.innerText.includes('clip.avi')")
        assert str(tmp_path) not in browser.ask("document.documentElement.outerHTML")
        assert browser.ask("location.search + document.cookie") == ""
        browser.ask("record.click()")
        browser.wait_for("record.innerText === 'Stop recording'")
        folders = [tmp_path / "rec" / name / "masks" for name in ("1", "left")]
        wait_until(lambda: all(any(folder.iterdir()) for folder in folders), "recordings")
        for width in (1280, 390):
            browser.resize((width, 800))
            browser.wait_for("document.documentElement.scrollWidth === document.documentElement.clientWidth")
        browser.ask("document.querySelectorAll('#grid a')[1].click()")
        browser.wait_for("document.getElementById('source')?.textContent.startsWith('left: ')")
        browser.wait_for("document.body.dataset.state === 'live' && Number(picture.dataset.number) > 0")
        assert browser.ask("[picture.width, picture.height]") == [64, 96]
        browser.ask("document.getElementById('all-sources').click()")
        browser.wait_for("document.querySelectorAll('#grid li').length === 3")


def report_of_sources(path: Path) -> list[dict[str, Any]] | None:
    return json.loads(path.read_text(encoding="utf-8"))["sources"] if path.exists() else None


def test_a_recording_is_played_stepped_and_its_classes_hidden(model: Path, tmp_path: Path) -> None:
    recording = tmp_path / "rec"
    clip = write_clip(tmp_path / "clip.avi")
    with run_stream(model, "--source", str(clip), "--record", str(recording), "--record-frames", "--loop"):
        wait_until(lambda: (recording / "masks").is_dir() and len(list((recording / "masks").iterdir())) > 20, "masks")
    with play_recording(recording) as url, open_page(tmp_path / "browser", url) as browser:
        browser.wait_for("document.body.dataset.state === 'recorded' && !picture.hidden")
        first = browser.ask("[place.value, document.getElementById('frame').innerText]")
        assert first[0] == "1"
        browser.press("ArrowRight", 39)
        browser.wait_for("place.value === '2' && !document.getElementById('frame').innerText.startsWith('Frame 0')")
        browser.press("ArrowLeft", 37)
        browser.wait_for(f"document.getElementById('frame').innerText === {json.dumps(first[1])}")
        wait_until(lambda: bool(find_overlay(browser.take_screenshot()).any()), "an overlay")
        # a slow machine may take its first picture of the playback when that is over
        still = find_overlay(browser.take_screenshot())
        browser.ask("document.querySelector('.toggle').click()")
        browser.wait_for("legend.innerText.includes('mask hidden')")
        wait_until(lambda: not find_overlay(browser.take_screenshot()).any(), "a picture without its mask")
        # the playback begins while the picture is still asked for again
        browser.ask("document.querySelector('.toggle').click(); speed.value = '4'; play.click()")
        wait_for_movement(browser, still)
        browser.wait_for("play.innerText === 'Play' && place.value === place.max")
        browser.ask("place.value = 5; place.dispatchEvent(new Event('input'))")
        (recording / "masks/00000002.png").unlink(missing_ok=True)
        browser.wait_for("document.getElementById('place-text').textContent.startsWith('0.')")
        for width in (1280, 390):
            browser.resize((width, 800))
            assert browser.ask("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
        assert "clip" not in browser.ask("document.body.innerText")


@contextmanager
def play_recording(recording: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "edgeseg", "stream", "--play", str(recording), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            line = process.stderr.readline()
            assert line.startswith("Open http://"), line + process.stderr.read()
            yield line.split()[1]
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=SECONDS)
        assert process.returncode == 0
