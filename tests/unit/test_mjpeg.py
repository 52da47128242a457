"""Motion JPEG: every kind of server is read, and every way to fail is told within the time limit."""

from __future__ import annotations

import base64
import socket
import threading
from time import monotonic

import cv2
import numpy as np
import pytest

from edgeseg.core.errors import SourceError
from edgeseg.streaming.grabber import Grabber
from edgeseg.streaming.sources.mjpeg import MjpegSource
from tests.cameras import HEAD, LAST, STALL, Camera, draw_jpeg, make_parts, wrap_part

STALL_S = 0.3


def read_values(source: MjpegSource) -> list[int]:
    """Read to the end; gives the brightness of every frame to the nearest ten."""
    values = []
    while (image := source.read()) is not None:
        values.append(round(float(image.mean()), -1))
    source.close()
    return [int(value) for value in values]


@pytest.mark.parametrize("sized", [True, False])
def test_frames_come_with_and_without_their_length(sized: bool) -> None:
    parts = [wrap_part(draw_jpeg(value), sized) for value in (10, 100, 200)]
    with Camera([HEAD, *parts, LAST]) as camera:
        assert read_values(MjpegSource(camera.url)) == [10, 100, 200]


def test_damaged_frames_are_left_out_and_counted() -> None:
    whole = draw_jpeg(100)
    with Camera([HEAD, *make_parts(10), wrap_part(whole[:-40]), wrap_part(b"none"), *make_parts(200), LAST]) as camera:
        source = MjpegSource(camera.url)
        assert read_values(source) == [10, 200]
        assert source.health.corrupt == 2


def test_nothing_but_damaged_frames_is_an_error() -> None:
    with Camera([HEAD, *[wrap_part(b"none")] * 100, STALL]) as camera:
        source = MjpegSource(camera.url)
        with pytest.raises(SourceError, match="100 damaged"):
            source.read()
        source.close()


def test_size_may_change_in_the_stream() -> None:
    with Camera([HEAD, *make_parts(10), wrap_part(draw_jpeg(20, (96, 128))), LAST]) as camera:
        source = MjpegSource(camera.url)
        shapes = [image.shape for image in (source.read(), source.read()) if image is not None]
        source.close()
    assert shapes == [(48, 64, 3), (96, 128, 3)]


def test_what_piled_up_is_skipped_and_counted() -> None:
    noise = np.random.default_rng(1).integers(0, 255, (64, 64), dtype=np.uint8)
    parts = []
    for number in range(100):
        noise[:, :16] = 2 * number
        parts.append(wrap_part(bytes(cv2.imencode(".jpg", noise)[1])))
    with Camera([HEAD, *parts, STALL]) as camera:
        source = MjpegSource(camera.url)
        assert camera.stalled.wait(10)
        with Grabber(source) as grabber:
            frame = grabber.newest()
            assert frame is not None
            assert frame.image[:, 4:12].mean() == pytest.approx(2 * frame.number, abs=3)
            assert source.health.skipped > 10


def test_a_stalled_stream_is_told_in_time() -> None:
    with Camera([HEAD, *make_parts(10), STALL]) as camera:
        source = MjpegSource(camera.url, STALL_S)
        assert source.read() is not None
        began = monotonic()
        with pytest.raises(SourceError, match=r"frame.*0\.3 s"):
            source.read()
        assert STALL_S * 0.9 < monotonic() - began < 3
        source.close()


@pytest.mark.parametrize("cut", [0, 200])
def test_a_dying_server_is_no_end(cut: int) -> None:
    with Camera([HEAD, *make_parts(10), make_parts(20)[0][:cut]]) as camera:
        source = MjpegSource(camera.url)
        assert source.read() is not None
        with pytest.raises(SourceError, match="connection"):
            source.read()
        source.close()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.0 404 Not Found\r\n\r\n", "404"),
        (b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n", "text/html"),
        (b"no http at all\r\n", "no http"),
        (STALL, r"within 0\.3 s"),
    ],
)
def test_another_answer_is_refused(answer: bytes, said: str) -> None:
    with Camera([answer]) as camera, pytest.raises(SourceError, match=said):
        MjpegSource(camera.url, STALL_S)


def test_nobody_there_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(SourceError, match="refused"):
        MjpegSource(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize("url", ["http://", "http:///path", "http://host:port/", "http://host:99999/", "http://[::1"])
def test_an_address_without_a_host_is_refused(url: str) -> None:
    with pytest.raises(SourceError, match="host"):
        MjpegSource(url)


def test_name_and_password_are_sent_and_never_told() -> None:
    with Camera([HEAD, *make_parts(10)]) as camera:
        source = MjpegSource(camera.url.replace("//", "//user:p%40ss@") + "cam?channel=1")
        source.read()
        with pytest.raises(SourceError) as caught:
            source.read()
        source.close()
    assert b"Authorization: Basic " + base64.b64encode(b"user:p@ss") in camera.requests[0]
    assert camera.requests[0].startswith(b"GET /cam?channel=1 ")
    assert "user" not in caught.value.message


def test_interrupt_wakes_a_waiting_read() -> None:
    with Camera([HEAD, *make_parts(10), STALL]) as camera:
        source = MjpegSource(camera.url, 8.0)
        assert source.read() is not None
        threading.Timer(0.05, source.interrupt).start()
        began = monotonic()
        assert source.read() is None
        assert monotonic() - began < 4
        source.close()
