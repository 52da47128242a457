"""The viewer as a browser meets it: a real server on a free port, real requests."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from email import message_from_bytes
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgeseg.backends.select import BackendReport
from edgeseg.core.errors import OutputError
from edgeseg.core.spec import ClassSpec
from edgeseg.inference.segmenter import Segmentation, StageTimes
from edgeseg.streaming.latency import LatencyRecorder
from edgeseg.streaming.sinks.base import LatestResultSink, Result, StreamInfo
from edgeseg.streaming.sinks.recording import Recording
from edgeseg.streaming.sources.base import Frame, Notice
from edgeseg.streaming.viewer import WebViewer, state
from edgeseg.streaming.viewer.state import MAX_VIEWERS_PER_ADDRESS, RateCounter
from tests.viewers import ask, order, port_of

SECONDS = 10
CLASSES = (ClassSpec("lesion", (255, 176, 0)), ClassSpec("vessel", (64, 180, 230)))
MASK = (slice(100, 200), slice(200, 400))


def make_info() -> StreamInfo:
    report = BackendReport("cpu", "cuda", "cuda is not here.", "", None)
    return StreamInfo("small", "phantom:linear", lambda: report, LatencyRecorder(50.0, 80.0), mm_per_px=0.5)


def make_result(age_ms: float = 20.0) -> Result:
    labels = np.zeros((480, 640), np.uint8)
    labels[MASK] = 1
    image = np.full((480, 640), 100, np.uint8)
    return Result(Frame(image, 0, monotonic()), Segmentation(labels, StageTimes(1.0, 10.0, 2.0)), age_ms)


@pytest.fixture
def viewer() -> Iterator[WebViewer]:
    viewer = WebViewer(make_info(), CLASSES, port=0)
    yield viewer
    viewer.close()


def ask_numbers(viewer: WebViewer, query: str = "") -> dict[str, Any]:
    status, headers, body = ask(viewer, f"/numbers{query}")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    numbers: dict[str, Any] = json.loads(body)
    return numbers


class PictureClient:
    """Reads the picture as a browser does, one part at a time."""

    def __init__(self, viewer: WebViewer, query: str = "") -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port_of(viewer), timeout=SECONDS)
        self._connection.request("GET", f"/picture{query}")
        self.answer = self._connection.getresponse()

    def read_image(self) -> NDArray[np.uint8]:
        return self.read_part()[0]

    def read_part(self) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Read a picture and what is told of it."""
        head = message_from_bytes(self._read_until(b"\r\n\r\n").removeprefix(b"--frame\r\n"))
        assert head.get_content_type() == "image/jpeg"
        jpeg = self.answer.read(int(head["Content-Length"]) + 2).removesuffix(b"\r\n")
        image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        return np.asarray(image, dtype=np.uint8), json.loads(head["X-Edgeseg-Figures"])

    def read_rest(self) -> bytes:
        return self.answer.read()

    def close(self) -> None:
        self.answer.close()
        self._connection.close()

    def _read_until(self, mark: bytes) -> bytes:
        data = b""
        while not data.endswith(mark):
            byte = self.answer.read(1)
            assert byte, f"expected {mark!r} before the end, got {data[-80:]!r}"
            data += byte
        return data


@pytest.mark.parametrize(
    ("path", "kind", "part"),
    [
        ("/", "text/html", b"Research software, no medical device: not for diagnosis or treatment."),
        ("/page.css", "text/css", b"color-scheme: dark;"),
        ("/common.js", "text/javascript", b"The stream has ended."),
        ("/camera.js", "text/javascript", b"getUserMedia"),
    ],
)
def test_page_is_served_with_headers_that_keep_it_here(viewer: WebViewer, path: str, kind: str, part: bytes) -> None:
    status, headers, body = ask(viewer, path)
    assert status == 200
    assert headers["Content-Type"].startswith(kind)
    assert part in body
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"


def test_page_has_nothing_inline_that_the_policy_refuses(viewer: WebViewer) -> None:
    page = ask(viewer, "/")[2].decode()
    assert "style=" not in page
    assert "<style" not in page
    assert "onclick" not in page
    assert page.count("<script") == page.count("<script src=") == 1
    assert "//" not in page.removeprefix("<!doctype html>")


def test_numbers_before_the_first_frame(viewer: WebViewer) -> None:
    numbers = ask_numbers(viewer)
    assert (numbers["frames"], numbers["fps"], numbers["ages_ms"]) == (0, 0.0, [])
    assert numbers["idle_ms"] is None
    assert numbers["ended"] is False


def test_numbers_say_what_was_published() -> None:
    info = make_info()
    with closing(WebViewer(info, CLASSES, port=0)) as viewer:
        for age in (20.0, 30.0, 70.0, 20.0):
            result = make_result(age)
            info.recorder.record(result.segmentation.times, age)
            viewer.publish(result)
        numbers = ask_numbers(viewer)
    assert numbers["frames"] == 4
    assert numbers["fps"] > 0
    assert numbers["ages_ms"] == [20.0, 30.0, 70.0, 20.0]
    assert numbers["frame_age_ms"]["p50"] == 25.0
    assert numbers["latency_ms"]["invoke"]["p99"] == 10.0
    assert (numbers["budget_ms"], numbers["late"], numbers["misses"]) == (50.0, 1, 0.25)
    assert numbers["backend"] == {"name": "cpu", "requested": "cuda", "fallback_reason": "cuda is not here."}
    assert (numbers["model"], numbers["source"]) == ("small", "phantom:linear")


def test_picture_shows_the_colour_where_the_mask_is(viewer: WebViewer) -> None:
    viewer.publish(make_result())
    with closing(PictureClient(viewer, "?opacity=1")) as client:
        assert client.answer.headers["Content-Type"] == "multipart/x-mixed-replace; boundary=frame"
        image = client.read_image()
    assert image.shape == (480, 640, 3)
    np.testing.assert_allclose(image[150, 300], (0, 176, 255), atol=8)
    np.testing.assert_allclose(image[400, 100], (100, 100, 100), atol=8)


def test_picture_comes_with_its_figures(viewer: WebViewer) -> None:
    result = make_result()
    viewer.publish(replace(result, frame=replace(result.frame, number=41, name='<b>"\n\x1b.png')))
    with closing(PictureClient(viewer)) as client:
        _, figures = client.read_part()
    assert figures["stream"] == ask_numbers(viewer)["stream"]
    assert (figures["number"], figures["mask_number"], figures["name"]) == (41, 41, '<b>"\n\x1b.png')
    assert figures["frame_px"] == [640, 480]
    unknown: dict[str, object] = {"state": None, "confidence": None, "probability": None, "threshold": None}
    unknown |= {"instances": [], "instance_count": 0}
    assert figures["classes"] == [
        {"name": "lesion", "colour": "#ffb000", "area_px": 20000, "area_mm2": 5000.0, **unknown},
        {"name": "vessel", "colour": "#40b4e6", "area_px": 0, "area_mm2": 0.0, **unknown},
    ]
    assert (figures["frame_classes"], figures["out_of_distribution"]) == ({}, False)


@pytest.mark.parametrize("track_mask", [False, True])
def test_no_picture_comes_with_the_figures_of_another_frame(track_mask: bool) -> None:
    """Frame N is N grey, and its mask has N rows; masks may be carried onto newer frames."""
    stop = threading.Event()

    def publish() -> None:
        for number in count():
            if stop.wait(0.002):
                return
            shade = 20 + number % 200
            frame = Frame(np.full((256, 64), shade, np.uint8), number, monotonic())
            labels = np.zeros((256, 64), np.uint8)
            labels[:shade] = 1
            shown.on_frame(frame)
            if number % 3 == 0:
                shown.publish(Result(frame, Segmentation(labels, StageTimes(1.0, 1.0, 1.0)), 1.0))

    with closing(WebViewer(make_info(), CLASSES, port=0, track_mask=track_mask)) as shown:
        thread = threading.Thread(target=publish)
        thread.start()
        try:
            with closing(PictureClient(shown, "?fps=60&opacity=0")) as client:
                parts = [client.read_part() for _ in range(25)]
        finally:
            stop.set()
            thread.join(SECONDS)
    for image, figures in parts:
        assert abs(int(image[250, 5, 0]) - (20 + figures["number"] % 200)) <= 3
        assert figures["classes"][0]["area_px"] == 64 * (20 + figures["mask_number"] % 200)
    numbers = [figures["number"] for _, figures in parts]
    assert numbers == sorted(numbers)


def test_picture_follows_the_newest_result_and_ends_with_the_stream(viewer: WebViewer) -> None:
    viewer.publish(make_result())
    with closing(PictureClient(viewer, "?fps=60")) as client:
        client.read_image()
        viewer.publish(make_result())
        assert client.read_image().shape == (480, 640, 3)
        viewer.close()
        assert client.read_rest() == b"--frame--\r\n"


def test_picture_goes_on_to_newer_frames_while_the_network_is_behind(viewer: WebViewer) -> None:
    viewer.publish(make_result())
    with closing(PictureClient(viewer, "?fps=60&opacity=1")) as client:
        client.read_image()
        viewer.on_frame(Frame(np.full((480, 640), 180, np.uint8), 3, monotonic()))
        image = client.read_image()
    np.testing.assert_allclose(image[400, 100], (180, 180, 180), atol=8)
    np.testing.assert_allclose(image[150, 300], (0, 176, 255), atol=8)
    assert ask_numbers(viewer)["frames"] == 1


@pytest.mark.parametrize(
    "query",
    [
        "opacity=2",
        "opacity=nan",
        "opacity=x",
        "fps=0",
        "fps=inf",
        "fps=-1",
        "fps=1e-300",
        "fps=nan",
        "fps=1e308",
        "fps=%00",
    ],
)
def test_picture_that_cannot_be_drawn_is_refused(viewer: WebViewer, query: str) -> None:
    status, _, body = ask(viewer, f"/picture?{query}")
    assert status == 400
    assert body.startswith(b"The picture cannot be drawn like that: ")


def test_more_windows_than_seats_are_refused_and_a_left_seat_is_free_again(viewer: WebViewer) -> None:
    viewer.publish(make_result())
    clients = [PictureClient(viewer) for _ in range(MAX_VIEWERS_PER_ADDRESS)]
    status, _, body = ask(viewer, "/picture")
    assert (status, body) == (503, b"8 windows are watching already, or 6 from your address: close one first.\n")
    before = set(client_threads())
    clients.pop().close()
    wait_for_one_gone(before)
    clients.append(PictureClient(viewer))
    assert clients[-1].answer.status == 200
    for client in clients:
        client.close()


def client_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "edgeseg-viewer-client"]


def wait_for_one_gone(threads: set[threading.Thread]) -> None:
    """Wait for any of the threads; none of them is fed, so the viewer must find out by itself."""
    deadline = monotonic() + SECONDS
    while all(thread.is_alive() for thread in threads):
        assert monotonic() < deadline
        for thread in threads:
            thread.join(0.01)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "0.0.0.0", ""])
@pytest.mark.parametrize("path", ["/", "/numbers", "/picture"])
def test_foreign_host_is_refused(viewer: WebViewer, path: str, host: str) -> None:
    assert ask(viewer, path, headers={"Host": host})[0] == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9000", "127.0.0.1"])
def test_own_host_is_answered_also_through_a_tunnel(viewer: WebViewer, host: str) -> None:
    assert ask(viewer, "/", headers={"Host": host})[0] == 200


@pytest.mark.parametrize("path", ["/nothing", "/page.html", "/../viewer.py", "/server.py", "//numbers/"])
def test_unknown_path_is_not_found(viewer: WebViewer, path: str) -> None:
    assert ask(viewer, path)[0] == 404


@pytest.mark.parametrize("method", ["PUT", "DELETE", "HEAD", "OPTIONS"])
def test_only_get_and_post_are_answered(viewer: WebViewer, method: str) -> None:
    status, headers, _ = ask(viewer, "/numbers", method)
    assert status == 501
    assert "Content-Security-Policy" in headers


def test_port_in_use_is_said_in_a_sentence(viewer: WebViewer) -> None:
    port = port_of(viewer)
    with pytest.raises(OutputError, match=f"port {port}") as caught:
        WebViewer(make_info(), CLASSES, port)
    assert "port" in caught.value.hint


def test_client_that_reads_nothing_does_not_hold_up_the_stream(viewer: WebViewer) -> None:
    result = make_result()
    with socket.create_connection(("127.0.0.1", port_of(viewer)), timeout=SECONDS) as idle:
        idle.sendall(b"GET /picture?fps=60 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert idle.recv(12) == b"HTTP/1.0 200"
        for _ in range(200):
            viewer.publish(result)
        assert ask_numbers(viewer)["frames"] == 200
        viewer.close()


def test_close_leaves_no_thread_behind_and_may_be_called_twice() -> None:
    before = set(threading.enumerate())
    viewer = WebViewer(make_info(), CLASSES, port=0)
    waiting = PictureClient(viewer)
    with socket.create_connection(("127.0.0.1", port_of(viewer)), timeout=SECONDS) as silent:
        assert waiting.answer.status == 200
        assert ask(viewer, "/")[0] == 200  # connections are taken in order, so the silent one was taken before
        viewer.close()
        viewer.close()
        assert silent.recv(1) == b""
    waiting.close()
    assert set(threading.enumerate()) == before


def test_open_page_hears_of_the_end_before_the_server_goes(viewer: WebViewer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "FAREWELL_SECONDS", SECONDS)
    monkeypatch.setattr(state, "GONE_AFTER_SECONDS", SECONDS)
    viewer.publish(make_result())
    assert ask_numbers(viewer, "?page=one")["ended"] is False
    closer = threading.Thread(target=viewer.close)
    closer.start()
    deadline = monotonic() + SECONDS
    while not ask_numbers(viewer, "?page=one")["ended"]:
        assert monotonic() < deadline
    closer.join(SECONDS)
    assert not closer.is_alive()


def test_16_bit_and_colour_frames_are_shown(viewer: WebViewer) -> None:
    plain = make_result()
    for image in (np.full((480, 640), 100 << 8, np.uint16), np.full((480, 640, 3), 100, np.uint8)):
        viewer.publish(Result(Frame(image, 0, monotonic()), plain.segmentation, 20.0))
        with closing(PictureClient(viewer)) as client:
            np.testing.assert_allclose(client.read_image()[400, 100], (100, 100, 100), atol=8)


def test_page_begins_and_ends_a_recording_only_where_a_folder_was_named(viewer: WebViewer, tmp_path: Path) -> None:
    assert ask_numbers(viewer)["recording"] is None
    assert order(viewer, "/recording/start")[0] == 404
    info = make_info()
    recording = LatestResultSink(Recording(tmp_path / "recording", info, CLASSES), is_on=False)
    with closing(WebViewer(info, CLASSES, port=0, recording=recording)) as other, closing(recording):
        for path, on in (("start", True), ("start", True), ("stop", False)):
            assert order(other, f"/recording/{path}") == (204, b"")
            assert ask_numbers(other)["recording"] == {"on": on, "taken": 0, "missed": 0, "failure": None}


def test_numbers_say_what_happened_to_the_source_and_how_hot_it_is(viewer: WebViewer) -> None:
    for number in range(7):
        viewer.on_notice(Notice("lost" if number % 2 else "back", f"Notice {number}."))
    numbers = ask_numbers(viewer)
    assert [notice["sentence"] for notice in numbers["notices"]] == [f"Notice {number}." for number in range(2, 7)]
    assert numbers["notices"][-1]["state"] == "back"
    assert set(numbers["thermal"]) == {"celsius", "throttled"}


def test_rates_are_counted_by_the_clock() -> None:
    meter = RateCounter()
    assert (meter.rate(100.0), meter.history(100.0)) == (0.0, ())
    for number in range(40):
        meter.add(100.05 + number / 10, 2 * number)
    assert meter.rate(104.0) == pytest.approx(20.0)
    assert meter.history(104.5) == (20, 20, 20)
    assert meter.history(106.5) == (20, 20, 20, 0, 0)
    assert meter.rate(110.0) == 0.0
    meter.add(300.0, 81)
    assert meter.history(301.0) == (*[0] * 59, 3)
