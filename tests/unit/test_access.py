"""Who gets an answer: this machine by its own names, others with the token, and no foreign page at all."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from time import monotonic
from urllib.parse import parse_qs, urlsplit

import pytest

from edgeseg.core.errors import OutputError
from edgeseg.streaming.options import SinkOptions
from edgeseg.streaming.sinks.metrics import Metrics
from edgeseg.streaming.viewer import WebViewer
from edgeseg.streaming.viewer import pages as handler
from edgeseg.streaming.viewer.state import MAX_VIEWERS_PER_ADDRESS
from edgeseg.web import server as localserver
from edgeseg.web.access import LOCAL, THIS_MACHINE, Access, find_own_address, grant_access
from edgeseg.web.server import MAX_BODY_BYTES, MAX_CLIENTS
from tests.results import CLASSES, make_info, make_result
from tests.viewers import SECONDS, ask, order, port_of

ELSEWHERE = "127.0.0.2"
"""An address of this machine that is not 127.0.0.1, and that nobody else reaches."""


PICTURE = b"GET /picture?fps=60 HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def viewer() -> Iterator[WebViewer]:
    viewer = WebViewer(make_info(), CLASSES, port=0)
    yield viewer
    viewer.close()


@pytest.fixture
def shared() -> Iterator[WebViewer]:
    viewer = WebViewer(make_info(), CLASSES, port=0, access=grant_access(ELSEWHERE))
    yield viewer
    viewer.close()


def token_of(viewer: WebViewer) -> str:
    return parse_qs(urlsplit(viewer.url).query)["token"][0]


def test_this_machine_alone_needs_no_token_and_every_other_address_a_new_one() -> None:
    assert grant_access("127.0.0.1").token is None
    tokens = {grant_access(address).token for address in (ELSEWHERE, "0.0.0.0", "192.168.0.20", "0.0.0.0")}
    assert len(tokens) == 4
    assert all(token is not None and len(token) >= 32 for token in tokens)


def test_an_address_for_all_networks_is_told_by_one_that_can_be_opened() -> None:
    access = grant_access("0.0.0.0")
    assert access.write_url(8765) == f"http://{find_own_address()}:8765/?token={access.token}"


@pytest.mark.parametrize("path", ["/", "/page.js", "/numbers", "/picture"])
def test_without_the_token_nothing_is_answered(shared: WebViewer, path: str) -> None:
    for shown in (path, f"{path}?token=", f"{path}?token=wrong", f"{path}?token={token_of(shared)[:-1]}"):
        status, headers, body = ask(shared, shown)
        assert (status, headers["Set-Cookie"]) == (403, None)
        assert body.startswith(b"Expected the token of this stream")
    assert order(shared, "/recording/start")[0] == 403


def test_the_token_becomes_a_cookie_that_scripts_and_other_sites_cannot_use(shared: WebViewer) -> None:
    status, headers, _ = ask(shared, f"/?token={token_of(shared)}")
    assert status == 200
    pair, *rules = headers["Set-Cookie"].split("; ")
    assert set(rules) == {"Path=/", "HttpOnly", "SameSite=Strict"}
    assert ask(shared, "/numbers", headers={"Cookie": f"a=b; {pair}; c"})[0] == 200
    assert ask(shared, "/numbers", headers={"Cookie": f"{pair}x"})[0] == 403
    assert ask(shared, "/numbers", headers={"Cookie": pair.replace(str(port_of(shared)), "1")})[0] == 403


def test_a_page_on_this_machine_sets_no_cookie(viewer: WebViewer) -> None:
    assert ask(viewer, "/")[1]["Set-Cookie"] is None


def test_the_token_opens_nothing_under_a_foreign_name(shared: WebViewer) -> None:
    path = f"/numbers?token={token_of(shared)}"
    for host in (ELSEWHERE, f"localhost:{port_of(shared)}", socket.gethostname(), f"{socket.gethostname()}.local"):
        assert ask(shared, path, headers={"Host": host})[0] == 200, host
    for host in ("evil.example", "127.0.0.3", f"{ELSEWHERE}.evil.example", f"{ELSEWHERE}:x", ""):
        assert ask(shared, path, headers={"Host": host})[0] == 403, host


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "http://localhost"])
def test_pages_from_elsewhere_are_refused(viewer: WebViewer, origin: str) -> None:
    for method in ("GET", "POST"):
        status, _, body = ask(viewer, "/numbers", method, {"Origin": origin, "Content-Length": "0"})
        assert (status, body) == (403, b"This server answers only to its own page.\n")


def test_pictures_within_foreign_pages_are_refused_and_links_from_there_are_not(viewer: WebViewer) -> None:
    for run_paths in ("cross-site", "same-site"):
        assert ask(viewer, "/picture", headers={"Sec-Fetch-Site": run_paths, "Sec-Fetch-Mode": "no-cors"})[0] == 403
        assert ask(viewer, "/", headers={"Sec-Fetch-Site": run_paths, "Sec-Fetch-Mode": "navigate"})[0] == 200


def test_an_order_must_say_whose_page_gives_it(viewer: WebViewer) -> None:
    assert ask(viewer, "/recording/start", "POST", {"Content-Length": "0"})[0] == 403
    assert order(viewer, "/recording/start")[0] == 404
    assert order(viewer, "/numbers")[0] == 404


def test_a_body_is_refused_unread_when_it_is_too_large_or_has_no_length(viewer: WebViewer) -> None:
    for length in (str(MAX_BODY_BYTES + 1), "9" * 30):
        assert order(viewer, "/camera", {"Content-Length": length})[0] == 413 if len(length) < 12 else 411
    assert order(viewer, "/camera", {"Content-Length": "-1"})[0] == 411
    head = "POST /camera HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port_of(viewer)), timeout=SECONDS) as client:
        client.sendall(head.encode())
        assert client.recv(12) == b"HTTP/1.0 411"


def open_from(address: str, server: tuple[str, int], said: bytes = b"", receive: int = 0) -> socket.socket:
    """Open a connection from another address of this machine and say something; `receive` makes its buffer small."""
    client = socket.socket()
    client.settimeout(SECONDS)
    client.bind((address, 0))
    if receive:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    client.connect(server)
    client.sendall(said)
    return client


@pytest.mark.parametrize("said", [b"", b"GET /numbers HTT", PICTURE], ids=["silent", "half a line", "never reading"])
def test_clients_that_are_slow_lock_nobody_out(viewer: WebViewer, said: bytes) -> None:
    viewer.publish(make_result())
    server = ("127.0.0.1", port_of(viewer))
    with ExitStack() as slow:
        for number in range(MAX_CLIENTS):
            slow.enter_context(open_from(f"127.0.0.{2 + number % 3}", server, said, receive=2048))
            if number >= MAX_CLIENTS // 2:  # the places are taken by now
                viewer.publish(make_result())
        for address in ("127.0.0.1", "127.0.0.2"):
            for path, size in ((b"/numbers", 12), (b"/", 12), (b"/page.js", 12)):
                with open_from(address, server, b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n") as client:
                    assert client.recv(size) == b"HTTP/1.0 200"


def test_one_address_does_not_get_every_picture(viewer: WebViewer) -> None:
    viewer.publish(make_result())
    server = ("127.0.0.1", port_of(viewer))
    with ExitStack() as greedy:
        for _ in range(2 * MAX_VIEWERS_PER_ADDRESS):
            client = greedy.enter_context(open_from("127.0.0.2", server, PICTURE, receive=2048))
            assert client.recv(12) in (b"HTTP/1.0 200", b"HTTP/1.0 503")
        with open_from("127.0.0.1", server, PICTURE) as other:
            assert other.recv(12) == b"HTTP/1.0 200"


def test_prometheus_is_answered_whoever_is_slow() -> None:
    with closing(Metrics(make_info(), port=0)) as metrics, ExitStack() as slow:
        server = ("127.0.0.1", int(urlsplit(metrics.url).port or 0))
        for _ in range(2 * MAX_CLIENTS):
            slow.enter_context(open_from("127.0.0.1", server, b"GET /met"))
        with open_from("127.0.0.1", server, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n") as client:
            assert client.recv(12) == b"HTTP/1.0 200"


HOSTILE = [
    b"",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"\r\n\r\n",
    b"GET /\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET / HTTP/\xb2.\xb2\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET / HTTP/1." + b"9" * 5000 + b"\r\n\r\n",
    b"\x1b]0;x\x07 / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"__init__ / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
    b"GET / HTTP/1.1\r\nHost: " + b"a" * 100_000 + b"\r\n\r\n",
    *(
        b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
        for target in (
            *(
                b"http://[",
                b"//[",
                b"http://[::1/numbers",
                b"/%",
                b"/%ff%00",
                b"/numbers?page=%ff&page=\xff;;&&=",
                b"*",
            ),
            *(
                b"/picture?fps=1e-300",
                b"/picture?fps=nan",
                b"/picture?opacity=-inf",
                b"/picture?fps=1&fps=\xbd",
                b"/\0",
            ),
        )
    ),
    *(
        b"GET /numbers HTTP/1.1\r\nHost: localhost\r\n" + header + b"\r\n\r\n"
        for header in (
            *(b"Origin: http://[", b"Origin: ", b"Origin: http://]:\xff", b"Origin: a\r\nOrigin: b", b"Host: ["),
            *(b"Range: bytes=-", b"Range: bytes=9-1", b"Cookie: \xff=\xfe; =;;=", b"Sec-Fetch-Site: \xff"),
            *(b"Transfer-Encoding: chunked", b"Expect: 100-continue", b"Connection: keep-alive", b" folded", b"\xff"),
        )
    ),
    *(
        b"POST /camera HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n" + header + b"\r\n\r\nx"
        for header in (
            *(b"Content-Length: \xb2", b"Content-Length: 1\r\nContent-Length: 2", b"Content-Length: +1"),
            *(b"Content-Length: 1_0", b"Content-Length: 5", b"Content-Length: 1\r\nContent-Type: \xff/;;="),
        )
    ),
    2 * b"GET /numbers HTTP/1.1\r\nHost: localhost\r\n\r\n",
]


@pytest.mark.parametrize("token", ["", "the-token"])
def test_no_request_prints_anything_or_ends_the_server(capfd: pytest.CaptureFixture[str], token: str) -> None:
    access = Access(LOCAL, token) if token else THIS_MACHINE
    with closing(WebViewer(make_info(), (), port=0, access=access)) as viewer:
        server = ("127.0.0.1", port_of(viewer))
        for said in HOSTILE:
            with open_from("127.0.0.1", server) as client, suppress(OSError):  # the server has hung up
                client.sendall(said)
                client.shutdown(socket.SHUT_WR)
                answer = client.recv(64)
                assert not answer.startswith(b"HTTP/1.0 200") or (b"/numbers" in said and not token), said
        assert ask(viewer, f"/numbers?token={token}")[0] == 200
    assert capfd.readouterr() == ("", "")


def test_a_defect_that_requests_run_into_is_told_once_a_minute(
    viewer: WebViewer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(handler, "split_target", lambda target: 1 / len(target[:0]))
    for _ in range(20):
        with suppress(http.client.HTTPException, ConnectionError):
            ask(viewer, "/numbers")
    viewer.close()
    assert caplog.text.count("ended by ZeroDivisionError") == 1


def test_a_client_that_never_finishes_asking_loses_its_place(
    viewer: WebViewer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(localserver, "REQUEST_TIMEOUT_S", 0.2)
    began = monotonic()
    with socket.create_connection(("127.0.0.1", port_of(viewer)), timeout=SECONDS) as client:
        client.sendall(b"GET / HTTP/1.1\r\n")
        assert client.recv(1) == b""
    assert monotonic() - began < localserver.JOIN_SECONDS


@pytest.mark.parametrize("host", ["here", "localhost", "::1", "1.2.3", ""])
def test_a_host_that_is_no_address_is_wrong_usage(host: str) -> None:
    with pytest.raises(ValueError, match="IPv4"):
        SinkOptions(view="web", host=host)


def test_a_host_without_a_page_is_wrong_usage() -> None:
    with pytest.raises(ValueError, match=r"--view web.*--host"):
        SinkOptions(view="none", host="0.0.0.0")


def test_an_address_of_another_machine_is_said_in_a_sentence() -> None:
    with pytest.raises(OutputError, match=r"203\.0\.113\.1") as caught:
        WebViewer(make_info(), CLASSES, 0, access=grant_access("203.0.113.1"))
    assert "address" in caught.value.hint
