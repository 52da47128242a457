"""What the viewer answers to a browser, which orders it takes, and to whom it refuses an answer."""

from __future__ import annotations

import json
import socket
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from edgeseg.core.schema import to_plain
from edgeseg.runtime.access import split_target
from edgeseg.runtime.localhandler import LocalHandler
from edgeseg.runtime.viewer.audience import SEATS, SEATS_PER_ADDRESS
from edgeseg.runtime.viewer.broadcast import Broadcast
from edgeseg.runtime.viewer.numbers import collect_numbers
from edgeseg.runtime.viewer.picture import CONTENT_TYPE, read_wish, stream_parts

FOLDER = Path(__file__).parent / "page"
HTML, CSS, SCRIPT = (f"text/{kind}; charset=utf-8" for kind in ("html", "css", "javascript"))
PAGE_FILES = {
    "/page.css": CSS,
    "/page.js": SCRIPT,
    "/camera.js": SCRIPT,
    "/charts.js": SCRIPT,
    "/elements.js": SCRIPT,
    "/figures.js": SCRIPT,
    "/picture.js": SCRIPT,
    "/recording.js": SCRIPT,
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


class ViewerHandler(LocalHandler):
    """Answers one request: GET shows, POST orders."""

    def __init__(self, broadcast: Broadcast, *args: Any) -> None:
        self._broadcast = broadcast
        super().__init__(*args)

    def answer(self) -> None:
        """Answer a request for the page, the picture or the numbers."""
        path, query = split_target(self.path)
        if path == "/":
            cookie = self.access.make_cookie(self.reached_at[1])
            self.send(HTTPStatus.OK, HTML, (FOLDER / "page.html").read_bytes(), cookie)
        elif path in PAGE_FILES:
            self.send(HTTPStatus.OK, PAGE_FILES[path], (FOLDER / path[1:]).read_bytes())
        elif path == "/numbers":
            self._send_numbers(query)
        elif path == "/picture":
            self._send_picture(query)
        else:
            self._refuse_unknown()

    def obey(self, body: bytes) -> None:
        """Take a picture of the page's camera, or switch the recording."""
        path, query = split_target(self.path)
        if path == "/camera":
            self._take_camera_picture(query, body)
        elif path in ("/recording/start", "/recording/stop"):
            self._switch_recording(path == "/recording/start")
        else:
            self._refuse_unknown()

    def end_headers(self) -> None:
        """Add to every answer what keeps the picture of a patient on this machine."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        camera = "()" if self._broadcast.info.inbox is None else "(self)"
        self.send_header("Permissions-Policy", f"camera={camera}, microphone=(), geolocation=()")
        super().end_headers()

    def _take_camera_picture(self, query: str, body: bytes) -> None:
        inbox = self._broadcast.info.inbox
        if inbox is None:
            self.refuse(HTTPStatus.NOT_FOUND, "This stream does not take its frames from the page.")
        elif self.headers.get_content_type() != "image/jpeg":
            self.refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Expected a picture of the type image/jpeg.")
        elif not inbox.put("".join(_read_pages(query)), body):
            self.refuse(HTTPStatus.CONFLICT, "The camera of another page is in use.")
        else:
            self._say_done()

    def _switch_recording(self, is_on: bool) -> None:
        recording = self._broadcast.recording
        if recording is None:
            self.refuse(HTTPStatus.NOT_FOUND, "This stream has no folder for a recording: start it with --record DIR.")
        else:
            recording.turn(is_on)
            self._say_done()

    def _say_done(self) -> None:
        self.send_response(HTTPStatus.NO_CONTENT)
        self.end_headers()

    def _refuse_unknown(self) -> None:
        self.refuse(HTTPStatus.NOT_FOUND, "There is nothing at this address.")

    def _send_numbers(self, query: str) -> None:
        audience, pages = self._broadcast.audience, _read_pages(query)
        for page in pages:
            audience.note_page(page, told_end=False)
        numbers = collect_numbers(self._broadcast)
        self.send(HTTPStatus.OK, "application/json", json.dumps(to_plain(numbers)).encode())
        for page in pages:
            audience.note_page(page, numbers.ended)

    def _send_picture(self, query: str) -> None:
        try:
            wish = read_wish(query)
        except ValueError as error:
            self.refuse(HTTPStatus.BAD_REQUEST, f"The picture cannot be drawn like that: {error}.")
            return
        with self._broadcast.audience.take_seat(self.client_address[0]) as seated:
            if not seated:
                self.refuse(
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    f"{SEATS} windows are watching already, or {SEATS_PER_ADDRESS} from there: close one first.",
                )
                return
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNSENT_BYTES)
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.end_headers()
            for part in stream_parts(self._broadcast, wish, self.connection):
                self.wfile.write(part)


def _read_pages(query: str) -> list[str]:
    """Read the name that a page gives itself."""
    return [page[:PAGE_NAME_LENGTH] for page in parse_qs(query).get("page", [])]
