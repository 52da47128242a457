"""The browser's camera as a source: what a page sends arrives, the newest wins, and nothing sent can do harm."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from time import monotonic

import cv2
import numpy as np
import pytest

from edgeseg.core.errors import SourceError
from edgeseg.frame.images import measure_jpeg
from edgeseg.streaming.grabber import Grabber
from edgeseg.streaming.options import CaptureOptions, LiveSourceError, SinkOptions
from edgeseg.streaming.sinks.base import StreamInfo
from edgeseg.streaming.sources import base
from edgeseg.streaming.sources.base import LatestSlot, Notice
from edgeseg.streaming.sources.browser import BrowserSource
from edgeseg.streaming.sources.choose import open_source
from edgeseg.streaming.viewer import WebViewer
from tests.results import CLASSES, make_info
from tests.viewers import ask, order

SECONDS = 10
JPEG = {"Content-Type": "image/jpeg"}


def make_jpeg(grey: int, width: int = 48, height: int = 32) -> bytes:
    return bytes(cv2.imencode(".jpg", np.full((height, width, 3), grey, np.uint8))[1])


def announce_size(width: int, height: int) -> bytes:
    """Make a JPEG say that it is larger than it is."""
    jpeg = make_jpeg(100)
    place = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:place] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + jpeg[place + 4 :]


def describe(box: LatestSlot | None) -> StreamInfo:
    info = make_info()
    return StreamInfo(info.model, "browser://", info.backend, info.recorder, latest_slot=box)


@pytest.fixture
def source() -> Iterator[BrowserSource]:
    source = BrowserSource("browser://", stall_s=0.05)
    yield source
    source.close()


def put(source: BrowserSource, jpeg: bytes, sender: str = "one") -> bool:
    assert source.latest_slot is not None
    return source.latest_slot.put(sender, jpeg)


def test_it_is_chosen_from_its_text_and_asks_the_page_for_size_and_rate() -> None:
    source = open_source("browser://?size=1280x720&fps=15")
    assert isinstance(source, BrowserSource)
    assert source.live
    assert source.latest_slot is not None
    with closing(WebViewer(describe(source.latest_slot), CLASSES, port=0)) as viewer:
        assert b'"camera": {"width": 1280, "height": 720, "fps": 15.0}' in ask(viewer, "/numbers")[2]
        assert "camera=(self)" in ask(viewer, "/")[1]["Permissions-Policy"]


@pytest.mark.parametrize("options", ["size=0x0", "size=9000x10", "size=8000x10", "fps=0", "fps=500", "pace=3"])
def test_options_that_no_camera_has_are_refused(options: str) -> None:
    with pytest.raises(SourceError, match="size, fps"):
        BrowserSource(f"browser://?{options}")


def test_it_cannot_be_slowed_held_or_repeated_and_needs_the_page() -> None:
    with pytest.raises(LiveSourceError):
        open_source("browser://", options=CaptureOptions(loop=True))
    with pytest.raises(ValueError, match="expected --view web"):
        SinkOptions(view="none").check_page(describe(BrowserSource("browser://").latest_slot).uses_camera, False)
    SinkOptions(view="none").check_page(describe(None).uses_camera, False)


def test_a_picture_that_a_page_sends_is_a_frame_of_the_moment_it_arrived(source: BrowserSource) -> None:
    with closing(WebViewer(describe(source.latest_slot), CLASSES, port=0)) as viewer:
        before = monotonic()
        assert order(viewer, "/camera?page=one", JPEG, make_jpeg(200)) == (204, b"")
        after = monotonic()
    with Grabber(source) as grabber:
        frame = grabber.newest()
    assert frame is not None
    assert frame.image.shape == (32, 48, 3)
    np.testing.assert_allclose(frame.image, 200, atol=4)
    assert before < frame.captured_at < after


def test_the_newest_picture_wins_and_the_others_are_counted(source: BrowserSource) -> None:
    for grey in (50, 100, 150):
        assert put(source, make_jpeg(grey))
    image = source.read()
    assert image is not None
    np.testing.assert_allclose(image, 150, atol=4)
    assert source.health.skipped == 2


@pytest.mark.parametrize(
    "damaged", [b"", b"GIF89a", make_jpeg(9)[:-40], announce_size(60000, 60000), b"\xff\xd8\xff\xc0"]
)
def test_what_is_no_bearable_picture_is_left_out_and_counted(source: BrowserSource, damaged: bytes) -> None:
    assert put(source, damaged)
    reader = threading.Thread(target=source.read)
    reader.start()
    deadline = monotonic() + SECONDS
    while source.health.corrupt == 0:
        assert monotonic() < deadline
    put(source, make_jpeg(100))
    reader.join(SECONDS)
    assert not reader.is_alive()
    assert source.health.corrupt == 1


def test_the_size_that_a_picture_announces_is_read_without_decoding_it() -> None:
    assert measure_jpeg(make_jpeg(100, 48, 32)) == (48, 32)
    assert measure_jpeg(announce_size(60000, 50000)) == (60000, 50000)
    assert measure_jpeg(b"no picture") is None


def test_one_page_at_a_time_is_the_camera(monkeypatch: pytest.MonkeyPatch, source: BrowserSource) -> None:
    with closing(WebViewer(describe(source.latest_slot), CLASSES, port=0)) as viewer:
        assert order(viewer, "/camera?page=one", JPEG, make_jpeg(1))[0] == 204
        assert order(viewer, "/camera?page=two", JPEG, make_jpeg(1))[0] == 409
        monkeypatch.setattr(base, "SILENT_SECONDS", 0.0)
        assert order(viewer, "/camera?page=two", JPEG, make_jpeg(1))[0] == 204


def test_a_picture_of_another_kind_or_for_another_stream_is_refused(source: BrowserSource) -> None:
    with closing(WebViewer(describe(source.latest_slot), CLASSES, port=0)) as viewer:
        status, said = order(viewer, "/camera?page=one", {"Content-Type": "text/plain"}, make_jpeg(1))
        assert (status, said) == (415, b"Expected an image of the type image/jpeg.\n")
    with closing(WebViewer(describe(None), CLASSES, port=0)) as viewer:
        assert order(viewer, "/camera?page=one", JPEG, make_jpeg(1))[0] == 404
        assert "camera=()" in ask(viewer, "/")[1]["Permissions-Policy"]


def test_a_camera_that_stops_is_waited_for_and_told(source: BrowserSource) -> None:
    told: list[Notice] = []
    source.on_notice = told.append
    put(source, make_jpeg(10))
    assert source.read() is not None
    reader = threading.Thread(target=source.read)
    reader.start()
    deadline = monotonic() + SECONDS
    while not told:
        assert monotonic() < deadline
    assert source.health.interruptions == 1
    put(source, make_jpeg(20))
    reader.join(SECONDS)
    assert [notice.state for notice in told] == ["lost", "back"]
    assert "camera is back" in told[1].sentence


def test_waiting_for_a_first_picture_is_no_loss_and_ends_when_the_stream_does(source: BrowserSource) -> None:
    told: list[Notice] = []
    source.on_notice = told.append
    given: list[object] = []
    reader = threading.Thread(target=lambda: given.append(source.read()))
    reader.start()
    reader.join(0.2)
    assert reader.is_alive()
    source.interrupt()
    reader.join(SECONDS)
    assert given == [None]
    assert told == []
