"""Asks a viewer as a browser would, or as someone who should get no answer."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from contextlib import closing
from urllib.parse import urlsplit

from edgeseg.streaming.viewer import WebViewer

SECONDS = 10
NONE: Mapping[str, str] = {}


def port_of(viewer: WebViewer) -> int:
    """Give the port that a viewer serves on."""
    return int(urlsplit(viewer.url).port or 0)


def ask(
    viewer: WebViewer, path: str, method: str = "GET", headers: Mapping[str, str] = NONE, body: bytes | None = None
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Ask and give status, headers and body."""
    return ask_url(viewer.url, path, method, headers, body)


def ask_url(
    url: str, path: str, method: str = "GET", headers: Mapping[str, str] = NONE, body: bytes | None = None
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Ask the server of an address and give status, headers and body."""
    where = urlsplit(url)
    with closing(http.client.HTTPConnection(str(where.hostname), int(where.port or 0), timeout=SECONDS)) as connection:
        connection.request(method, path, body, dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


def order(viewer: WebViewer, path: str, headers: Mapping[str, str] = NONE, body: bytes = b"") -> tuple[int, bytes]:
    """Give an order as the viewer's own page does, and give status and body of the answer."""
    where = urlsplit(viewer.url)
    own = {"Origin": f"http://{where.netloc}", "Content-Type": "text/plain"}
    status, _, said = ask(viewer, path, "POST", {**own, **headers}, body)
    return status, said
