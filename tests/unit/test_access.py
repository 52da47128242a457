"""Who gets an answer: this machine by its own names, others with the token, and no foreign page at all."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from time import monotonic
from urllib.parse import parse_qs, urlsplit

import pytest

from edgeseg.core.errors import OutputError
from edgeseg.runtime import localserver
from edgeseg.runtime.access import find_own_address, grant_access
from edgeseg.runtime.localhandler import LARGEST_BODY
from edgeseg.runtime.localserver import MOST_CLIENTS
from edgeseg.runtime.sinks.choose import SinkWishes
from edgeseg.runtime.viewer import WebViewer
from tests.results import CLASSES, make_info
from tests.viewers import SECONDS, ask, order, port_of

ELSEWHERE = "127.0.0.2"
"""An address of this machine that is not 127.0.0.1, and that nobody else reaches."""


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
    for site in ("cross-site", "same-site"):
        assert ask(viewer, "/picture", headers={"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"})[0] == 403
        assert ask(viewer, "/", headers={"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate"})[0] == 200


def test_an_order_must_say_whose_page_gives_it(viewer: WebViewer) -> None:
    assert ask(viewer, "/recording/start", "POST", {"Content-Length": "0"})[0] == 403
    assert order(viewer, "/recording/start")[0] == 404
    assert order(viewer, "/numbers")[0] == 404


def test_a_body_is_refused_unread_when_it_is_too_large_or_has_no_length(viewer: WebViewer) -> None:
    for length in (str(LARGEST_BODY + 1), "9" * 30):
        assert order(viewer, "/camera", {"Content-Length": length})[0] == 413 if len(length) < 12 else 411
    assert order(viewer, "/camera", {"Content-Length": "-1"})[0] == 411
    head = "POST /camera HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port_of(viewer)), timeout=SECONDS) as client:
        client.sendall(head.encode())
        assert client.recv(12) == b"HTTP/1.0 411"


def test_no_more_clients_than_there_are_places(viewer: WebViewer) -> None:
    with ExitStack() as open_clients:
        for _ in range(MOST_CLIENTS):
            client = socket.create_connection(("127.0.0.1", port_of(viewer)), timeout=SECONDS)
            open_clients.enter_context(client)
        with socket.create_connection(("127.0.0.1", port_of(viewer)), timeout=SECONDS) as surplus:
            assert surplus.recv(1) == b""
        client.sendall(b"GET /numbers HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.0 200"


def test_a_client_that_never_finishes_asking_loses_its_place(
    viewer: WebViewer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(localserver, "ASKING_SECONDS", 0.2)
    began = monotonic()
    with socket.create_connection(("127.0.0.1", port_of(viewer)), timeout=SECONDS) as client:
        client.sendall(b"GET / HTTP/1.1\r\n")
        assert client.recv(1) == b""
    assert monotonic() - began < localserver.JOIN_SECONDS


@pytest.mark.parametrize("host", ["here", "localhost", "::1", "1.2.3", ""])
def test_a_host_that_is_no_address_is_wrong_usage(host: str) -> None:
    with pytest.raises(ValueError, match="expected an IPv4 address of this machine"):
        SinkWishes(view="web", host=host)


def test_a_host_without_a_page_is_wrong_usage() -> None:
    with pytest.raises(ValueError, match="--view web beside --host"):
        SinkWishes(view="none", host="0.0.0.0")


def test_an_address_of_another_machine_is_said_in_a_sentence() -> None:
    with pytest.raises(OutputError, match=r"on port 0 of 203\.0\.113\.1, got") as caught:
        WebViewer(make_info(), CLASSES, 0, access=grant_access("203.0.113.1"))
    assert "of another machine" in caught.value.hint
