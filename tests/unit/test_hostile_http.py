"""Motion JPEG from servers that drip, flood, lie or lead elsewhere: a sentence in time, and nothing of a secret."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import pytest
from numpy.typing import NDArray

from edgeseg.core.errors import SourceError
from edgeseg.frame.images import decode_jpeg
from edgeseg.streaming.sources.mjpeg import MjpegSource
from tests.cameras import HEAD, LAST, Camera, draw_jpeg, make_parts, wrap_part

STALL_S = 0.3
LATEST_S = 3.0
SECRET = "Zq7"

Talk = Callable[[socket.socket], None]


@contextlib.contextmanager
def serve(talk: Talk) -> Iterator[str]:
    """Let a function talk to whoever connects, until the client goes; gives the address."""
    listening = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        with contextlib.suppress(OSError):
            connection, _ = listening.accept()
            with connection:
                connection.settimeout(10)
                connection.recv(65536)
                talk(connection)

    thread = threading.Thread(target=answer)
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    with contextlib.suppress(OSError):
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(10)
    listening.close()
    assert not thread.is_alive()


def send_forever(beginning: bytes, piece: bytes, pause_s: float = 0.0) -> Talk:
    """Send a piece again and again until the client goes."""

    def talk(connection: socket.socket) -> None:
        connection.sendall(beginning)
        gone = threading.Event()
        while not gone.wait(pause_s):
            connection.sendall(piece)

    return talk


def read_to_error(url: str) -> SourceError:
    """Read until the source fails; gives how."""
    with pytest.raises(SourceError) as caught:
        read_on(url)
    return caught.value


def read_on(url: str) -> None:
    with contextlib.closing(MjpegSource(url, STALL_S)) as source:
        for _ in range(1000):
            source.read()


PART = b"--cut\r\nContent-Type: image/jpeg\r\n"
WHOLE = make_parts(10)[0]
CHUNKED = HEAD.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n").replace(b"1.0", b"1.1")
ENDLESS = {
    "a status without an end": (b"HTTP/1.0 200 ", b"O" * 65536, 0.0),
    "one byte of a status at a time": (b"HTTP/1.0 200 O", b"K", 0.05),
    "headers without an end": (b"HTTP/1.0 200 OK\r\n", b"A: b\r\n" * 1000, 0.0),
    "100 Continue for ever": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, 0.0),
    "a line without an end": (HEAD, b"x" * 2**20, 0.0),
    "a preamble without an end": (HEAD, b"no part\r\n" * 10_000, 0.0),
    "one byte at a time": (HEAD, b"x", 0.05),
    "part headers without an end": (HEAD + PART, b"X: y\r\n" * 1000, 0.0),
    "a part header without an end": (HEAD + PART + b"X: ", b"y" * 65536, 0.0),
    "a frame that drips": (HEAD + WHOLE + PART + b"Content-Length: 9999999\r\n\r\n", b"x", 0.05),
    "a frame without an end": (HEAD + PART + b"\r\n", b"x" * 2**20, 0.0),
    "empty parts": (HEAD, PART + b"Content-Length: 0\r\n\r\n\r\n", 0.0),
    "damaged frames that drip": (HEAD, wrap_part(b"none"), 0.05),
    "chunks that drip": (CHUNKED, b"1\r\nx\r\n", 0.05),
    "a chunk's extension without an end": (CHUNKED, b"1;" + b"x" * 2**16, 0.0),
    "chunks without a length": (CHUNKED, b"\r\n" * 1000, 0.0),
    "a chunk of negative length": (CHUNKED + b"-1\r\n", b"x" * 2**20, 0.0),
    "another divider than announced": (HEAD, WHOLE.replace(b"--cut", b"--other"), 0.0),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_what_has_no_end_is_given_up_in_time(name: str) -> None:
    beginning, piece, pause_s = ENDLESS[name]
    with serve(send_forever(beginning, piece, pause_s)) as url:
        began = monotonic()
        read_to_error(url)
        assert monotonic() - began < LATEST_S


@pytest.mark.parametrize(
    ("beginning", "said"),
    [
        (HEAD + PART + b"Content-Length: 99999999999999999999\r\n\r\n", "99999999999999999999 bytes"),
        (HEAD, "frame"),
        (HEAD + WHOLE, "frame"),
    ],
)
def test_a_flood_takes_no_memory(beginning: bytes, said: str) -> None:
    tracemalloc.start()
    with serve(send_forever(beginning, b"x" * 2**20)) as url:
        assert said in read_to_error(url).message
        peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2**20


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.0 204 No Content\r\n\r\n", "the answer 204"),
        (b"HTTP/1.0 401 \x1b[2J\x07\r\nWWW-Authenticate: Basic realm=\x1b]0;x\x07\r\n\r\n", r"401 \x1b[2J"),
        (
            b"HTTP/1.0 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n",
            "302 Found",
        ),
        (b"HTTP/1.0 302 Found\r\nLocation: rtsp://me:Zq7@host/x\r\n\r\n", "rtsp://host/x"),
        (b"HTTP/1.0 302 Found\r\nLocation: /again?token=Zq7\r\n\r\n", "/again?token=***"),
        (b"HTTP/1.0 500 password=Zq7\r\n\r\n", "500 password=***"),
        (HEAD.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n"), "gzip"),
        (HEAD.replace(b"; boundary=cut", b""), "frames"),
        (HEAD.replace(b"boundary=cut", b"boundary=--"), "frames"),
        (HEAD + PART + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", "999"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "Expected Motion JPEG from"),
        (CHUNKED + b"5\r\n--cut\r\n-5\r\n", "chunk"),
        (CHUNKED + b"2\r\nabcdef\r\n", "longer"),
    ],
)
def test_what_is_no_motion_jpeg_is_told(answer: bytes, said: str) -> None:
    with Camera([answer]) as camera:
        error = read_to_error(camera.url)
    assert said in error.message
    assert SECRET not in f"{error.message}{error.hint}"
    assert error.message.isprintable()
    assert len(error.message) < 600


def make_bomb(width: int, height: int) -> bytes:
    """Make a JPEG announce another size than it has."""
    jpeg = draw_jpeg(10)
    place = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:place] + struct.pack(">HH", height, width) + jpeg[place + 4 :]


def test_a_frame_that_announces_too_much_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[bytes] = []

    def decode(data: bytes) -> NDArray[Any] | None:
        decoded.append(data)
        return decode_jpeg(data)

    monkeypatch.setattr("edgeseg.streaming.sources.mjpeg.decode_jpeg", decode)
    with Camera([HEAD, wrap_part(make_bomb(30_000, 30_000)), *make_parts(20), LAST]) as camera:
        source = MjpegSource(camera.url)
        assert source.read() is not None
        source.close()
    assert (len(decoded), source.health.corrupt) == (1, 1)


@pytest.mark.parametrize("behind", [LAST + b"x" * 200_000, b"x" * 200_000])
def test_a_whole_frame_is_not_lost_for_what_lies_behind_it(behind: bytes) -> None:
    with Camera([HEAD + make_parts(10)[0] + behind]) as camera:
        source = MjpegSource(camera.url, STALL_S)
        threading.Event().wait(0.05)  # until all of it has arrived
        assert source.read() is not None
        if behind.startswith(LAST):
            assert [source.read(), source.read()] == [None, None]
        else:
            with pytest.raises(SourceError):
                source.read()
        source.close()


def test_a_divider_inside_a_frame_divides_nothing() -> None:
    jpeg = draw_jpeg(100)
    marked = jpeg[:2] + b"\xff\xfe\x00\x12\r\n--cut\r\n\r\n--cut" + jpeg[2:]
    unsized = jpeg[:2] + b"\xff\xfe\x00\x0e\r\n--cutting\r\n"[:16] + jpeg[2:]
    with Camera([HEAD, wrap_part(marked), wrap_part(unsized, sized=False), *make_parts(20), LAST]) as camera:
        source = MjpegSource(camera.url)
        count = 0
        while source.read() is not None:
            count += 1
        source.close()
    assert (count, source.health.corrupt) == (3, 0)


@pytest.mark.parametrize("length", [b"-5", b"abc", b"", b"0x10"])
def test_a_length_that_is_none_is_as_good_as_none(length: bytes) -> None:
    part = PART + b"Content-Length: " + length + b"\r\n\r\n" + draw_jpeg(100) + b"\r\n"
    with Camera([HEAD, part, LAST]) as camera:
        source = MjpegSource(camera.url)
        assert source.read() is not None
        source.close()


@pytest.mark.parametrize("boundary", [b"--cut", b"cut", b'"cut"', b"----cut"])
def test_a_divider_is_found_with_and_without_its_dashes(boundary: bytes) -> None:
    for dashes in (b"--", b"----"):
        parts = [part.replace(b"--cut", dashes + b"cut", 1) for part in make_parts(10, 20)]
        with Camera([HEAD.replace(b"boundary=cut", b"boundary=" + boundary), *parts, LAST]) as camera:
            source = MjpegSource(camera.url)
            assert [source.read() is None for _ in range(3)] == [False, False, True]
            source.close()


def test_frames_come_in_chunks_too() -> None:
    data = b"".join([*make_parts(10, 20), LAST])
    chunks = [b"%x\r\n%s\r\n" % (len(data[i : i + 100]), data[i : i + 100]) for i in range(0, len(data), 100)]
    with Camera([CHUNKED, *chunks, b"0\r\n\r\n"]) as camera:
        source = MjpegSource(camera.url)
        assert [source.read() is None for _ in range(3)] == [False, False, True]
        source.close()


@pytest.mark.parametrize(
    "url",
    [
        "http://host:0/",
        "http://me:Zq7 pass@host/",
        "http://host/?password=Zq7 Zq7",
        "http://host/a\r\nX-Token: Zq7",
        "http://me:Zq7/with#signs@127.0.0.1/",
        "http://a..b/?token=Zq7",
        "http://" + "a" * 300 + ".invalid/?token=Zq7",
        "http://[fe80::1%25none]/?token=Zq7",
        "http://me:Zq7@no-such-host.invalid/?token=Zq7",
        "http://me:Zq7\udcff@127.0.0.1:9/",
    ],
)
def test_an_address_that_leads_nowhere_is_told_without_its_secrets(url: str) -> None:
    error = read_to_error(url)
    assert SECRET not in f"{error}{error.message}{error.hint}"


def test_any_sign_may_stand_in_a_path_and_a_password() -> None:
    with Camera([HEAD, *make_parts(10), LAST]) as camera:
        source = MjpegSource(camera.url.replace("//", "//me:p%2Fw%23%ff@") + "größe/ä?a=é&b=%20")
        assert source.read() is not None
        source.close()
    assert camera.requests[0].startswith(b"GET /gr%C3%B6%C3%9Fe/%C3%A4?a=%C3%A9&b=%20 ")


def test_an_address_of_version_6_is_reached() -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with pytest.raises(SourceError, match=r"from http://\[::1\]:9/"):
        MjpegSource("http://[::1]:9/", STALL_S)
