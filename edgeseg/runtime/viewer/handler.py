"""What the viewer answers to a browser, and to whom it refuses an answer."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

from edgeseg.core.schema import to_plain
from edgeseg.core.spec import ClassSpec
from edgeseg.runtime.localserver import LocalHandler
from edgeseg.runtime.sinks.base import StreamInfo
from edgeseg.runtime.viewer.audience import SEATS, Audience
from edgeseg.runtime.viewer.hub import Hub
from edgeseg.runtime.viewer.numbers import collect_numbers
from edgeseg.runtime.viewer.picture import CONTENT_TYPE, read_wish, stream_parts

FOLDER = Path(__file__).parent
PAGE_FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
UNSENT_BYTES = 128 * 1024
PAGE_NAME_LENGTH = 40


@dataclass(frozen=True)
class Broadcast:
    """What is shown, and to whom."""

    info: StreamInfo
    classes: Sequence[ClassSpec]
    hub: Hub
    audience: Audience


class ViewerHandler(LocalHandler):
    """Answers one request; only GET has an answer."""

    def __init__(self, broadcast: Broadcast, *args: Any) -> None:
        self._broadcast = broadcast
        super().__init__(*args)

    def answer(self) -> None:
        """Answer a request for the page, the picture or the numbers."""
        address = urlsplit(self.path)
        if address.path in PAGE_FILES:
            name, kind = PAGE_FILES[address.path]
            self.send(HTTPStatus.OK, kind, (FOLDER / name).read_bytes())
        elif address.path == "/numbers":
            self._send_numbers(address)
        elif address.path == "/picture":
            self._send_picture(address)
        else:
            self.refuse(HTTPStatus.NOT_FOUND, "There is nothing at this address.")

    def end_headers(self) -> None:
        """Add to every answer what keeps the picture of a patient on this machine."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def _send_numbers(self, address: SplitResult) -> None:
        broadcast = self._broadcast
        pages = [page[:PAGE_NAME_LENGTH] for page in parse_qs(address.query).get("page", [])]
        for page in pages:
            broadcast.audience.note_page(page, told_end=False)
        numbers = collect_numbers(broadcast.info, broadcast.classes, broadcast.hub)
        self.send(HTTPStatus.OK, "application/json", json.dumps(to_plain(numbers)).encode())
        for page in pages:
            broadcast.audience.note_page(page, numbers.ended)

    def _send_picture(self, address: SplitResult) -> None:
        try:
            wish = read_wish(address.query)
        except ValueError as error:
            self.refuse(HTTPStatus.BAD_REQUEST, f"The picture cannot be drawn like that: {error}.")
            return
        with self._broadcast.audience.take_seat() as seated:
            if not seated:
                self.refuse(HTTPStatus.SERVICE_UNAVAILABLE, f"{SEATS} windows are watching already: close one first.")
                return
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNSENT_BYTES)
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.end_headers()
            for part in stream_parts(self._broadcast.hub, self._broadcast.classes, wish, self.connection):
                self.wfile.write(part)
