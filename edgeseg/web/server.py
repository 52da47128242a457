"""A web server that knows its connections, how long they may take to ask, and can end them all."""

from __future__ import annotations

import logging
import re
import socket
import socketserver
import sys
import threading
from abc import abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic
from typing import Any, cast

from edgeseg.core.errors import OutputError
from edgeseg.web.access import THIS_MACHINE, Access

_LOG = logging.getLogger(__name__)
CLIENT_SECONDS = 5.0
LARGEST_BODY = 1024 * 1024
NO_HEADERS: Mapping[str, str] = {}
LOOK_UP_SECONDS = 0.1
JOIN_SECONDS = 5.0
ASKING_SECONDS = 10.0
"""How long a client may take to say what it wants, a picture that it sends included."""
MOST_CLIENTS = 64
MOST_PER_ADDRESS = 32
"""Half of the places stay for others, whatever one machine does."""
COMPLAINT_SECONDS = 60.0
"""How often a defect that requests run into may be printed."""


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


@dataclass(frozen=True)
class Client:
    """A connection, where it comes from, and since when it has been asking; None once all it wants is said."""

    connection: socket.socket
    address: str
    asking_since: float | None


class LocalServer(ThreadingHTTPServer):
    """Serves a limited number of clients, each connection on a thread of its own.

    When the places are taken, the client that has been asking for longest loses its own to the newcomer. So whoever
    asks at once, as pages and Prometheus do, is answered however many others open connections and say nothing.
    """

    daemon_threads = True
    request_queue_size = MOST_CLIENTS

    def __init__(self, port: int, handler: Callable[..., LocalHandler], name: str, access: Access) -> None:
        self.access = access
        self._lock = threading.Lock()
        self._clients: dict[threading.Thread, Client] = {}
        self._name = name
        self._complained_at: float | None = None
        super().__init__((access.address, port), handler)
        self._thread = threading.Thread(target=self.serve_forever, args=(LOOK_UP_SECONDS,), name=name, daemon=True)

    def server_bind(self) -> None:
        """Bind without asking a name server for this machine's name, which takes seconds where there is none."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.access.address, int(self.server_address[1])

    def start(self) -> None:
        """Serve in the background."""
        self._thread.start()

    def stop(self) -> None:
        """End the server and every connection."""
        self.shutdown()
        self._thread.join(JOIN_SECONDS)
        self.server_close()
        with self._lock:
            clients = dict(self._clients)
        for client in clients.values():
            _hang_up(client.connection)
        for thread in clients:
            thread.join(JOIN_SECONDS)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a connection on a new thread, noted before it starts so that `stop` misses none."""
        thread = threading.Thread(
            target=self.process_request_thread,
            args=(request, client_address),
            name=f"{self._name}-client",
            daemon=True,
        )
        if self._admit(thread, Client(request, str(client_address[0]), monotonic())):
            thread.start()
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer a connection and forget it."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._clients.pop(threading.current_thread(), None)

    def note_asked(self) -> None:
        """Stop the clock of this thread's client, which has said all it wants."""
        thread = threading.current_thread()
        with self._lock:
            if thread in self._clients:
                self._clients[thread] = replace(self._clients[thread], asking_since=None)

    def service_actions(self) -> None:
        """Hang up on clients that have been asking for too long: each holds one of few places."""
        oldest = monotonic() - ASKING_SECONDS
        with self._lock:
            clients = list(self._clients.values())
        for client in clients:
            if client.asking_since is not None and client.asking_since < oldest:
                _hang_up(client.connection)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - who asked is no matter
        """Print one line, now and then: what a client sends must fill no log; a client that is gone is no news."""
        error, now = sys.exc_info()[1], monotonic()
        if isinstance(error, OSError):
            return
        with self._lock:
            is_due = self._complained_at is None or now - self._complained_at >= COMPLAINT_SECONDS
            self._complained_at = now if is_due else self._complained_at
        if is_due:
            _LOG.error("A request to %s ended by %s. This is a defect.", self._name, type(error).__name__)

    def _admit(self, thread: threading.Thread, newcomer: Client) -> bool:
        """Give a client a place: a free one, or that of the one that has been asking for longest."""
        with self._lock:
            neighbours = {key: client for key, client in self._clients.items() if client.address == newcomer.address}
            crowd = neighbours if len(neighbours) >= MOST_PER_ADDRESS else self._clients
            is_full = crowd is neighbours or len(crowd) >= MOST_CLIENTS
            slowest = _find_slowest(crowd) if is_full else None
            if is_full and slowest is None:
                return False
            if slowest is not None:
                _hang_up(self._clients.pop(slowest).connection)
            self._clients[thread] = newcomer
        return True


def _find_slowest(clients: Mapping[threading.Thread, Client]) -> threading.Thread | None:
    asking = {thread: client.asking_since for thread, client in clients.items() if client.asking_since is not None}
    return min(asking, key=lambda thread: asking[thread], default=None)


def _hang_up(client: socket.socket) -> None:
    with suppress(OSError):  # the client has closed it already
        client.shutdown(socket.SHUT_RDWR)


def open_server(
    port: int, handler: Callable[..., LocalHandler], name: str, access: Access = THIS_MACHINE
) -> LocalServer:
    """Take a port and serve on it.

    Args:
        port: Which; 0 takes any free one.
        handler: Makes the answer to one request.
        name: Of the threads.
        access: Where to serve, and what is demanded of clients.

    Raises:
        OutputError: The address is not this machine's, or the port is in use or may not be used.
    """
    try:
        server = LocalServer(port, handler, name, access)
    except (OSError, OverflowError) as error:
        place = "this machine" if access == THIS_MACHINE else access.address
        raise OutputError(
            f"Expected to show the stream on port {port} of {place}, got: {str(error).rstrip('.')}.",
            "Another viewer may be running there, or the address is of another machine. "
            "Choose another port, or 0 for any free one.",
        ) from error
    server.start()
    return server
