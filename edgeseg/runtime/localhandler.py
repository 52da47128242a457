"""What every answer of our web servers has in common: who gets one, how orders are read, and that nobody waits long."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, cast

from edgeseg.runtime.access import Access

if TYPE_CHECKING:
    from edgeseg.runtime.localserver import LocalServer

CLIENT_SECONDS = 5.0
LARGEST_BODY = 1024 * 1024
NO_HEADERS: Mapping[str, str] = {}


class LocalHandler(BaseHTTPRequestHandler):
    """Answers one request of a client that has access."""

    server_version = "edgeseg"
    sys_version = ""
    timeout = CLIENT_SECONDS
    disable_nagle_algorithm = True

    def handle(self) -> None:
        """Answer, unless the client goes away meanwhile: that is its right, and no news to anyone."""
        with suppress(ConnectionError, TimeoutError):
            super().handle()

    def finish(self) -> None:
        """Close the connection, which sends what is left: to a client that went away, nothing."""
        with suppress(ConnectionError, TimeoutError):
            super().finish()

    def do_GET(self) -> None:
        """Answer what was asked for."""
        if self.is_admitted(is_order=False):
            self.note_asked()
            self.answer()

    def do_POST(self) -> None:
        """Do what is ordered, when all of it is here."""
        body = self._read_body() if self.is_admitted(is_order=True) else None
        if body is not None:
            self.note_asked()
            self.obey(body)

    @abstractmethod
    def answer(self) -> None:
        """Answer a GET request."""

    def obey(self, body: bytes) -> None:  # noqa: ARG002 - most servers take no orders
        """Do what a POST request orders."""
        self.refuse(HTTPStatus.METHOD_NOT_ALLOWED, "This server takes no orders.")

    def is_admitted(self, is_order: bool) -> bool:
        """Say whether the client gets an answer; one that does not is told why."""
        refusal = self.access.find_refusal(self.path, self.headers, self.reached_at, is_order)
        if refusal is not None:
            self.refuse(HTTPStatus.FORBIDDEN, refusal)
        return refusal is None

    def note_asked(self) -> None:
        """Say that the whole request is here: from now on, the answer may take its time."""
        self._local_server.note_asked()

    @property
    def access(self) -> Access:
        """Give what the server demands of its clients."""
        return self._local_server.access

    @property
    def reached_at(self) -> tuple[str, int]:
        """Give the address and port at which the client found this server."""
        address, port = self.connection.getsockname()
        return str(address), int(port)

    @property
    def _local_server(self) -> LocalServer:
        return cast("LocalServer", self.server)

    def log_message(self, *_: Any) -> None:
        """Say nothing: the terminal belongs to the stream."""

    def _read_body(self) -> bytes | None:
        """Read what was sent; None when it is refused unread."""
        lengths = self.headers.get_all("Content-Length", [])
        length = lengths[0] if len(lengths) == 1 else ""
        if re.fullmatch("[0-9]{1,12}", length) is None:
            self.refuse(HTTPStatus.LENGTH_REQUIRED, "Expected a Content-Length.")
        elif int(length) > LARGEST_BODY:
            self.refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"Expected at most {LARGEST_BODY} bytes.")
        else:
            body = self.rfile.read(int(length))
            return body if len(body) == int(length) else None  # one that hung up on the way orders nothing
        return None

    def refuse(self, status: HTTPStatus, sentence: str) -> None:
        """Answer with a sentence instead of what was asked for."""
        self.send(status, "text/plain; charset=utf-8", f"{sentence}\n".encode())

    def send(self, status: HTTPStatus, kind: str, body: bytes, headers: Mapping[str, str] = NO_HEADERS) -> None:
        """Answer with a whole body."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
