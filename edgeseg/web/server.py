"""An HTTP server on the standard library's, with limits against slow and flooding clients and an orderly end.

`http.server` alone has no limit of connections and no total time for a request, so a few idle connections would block
it (slowloris). `WebServer` tracks every connection; subclasses of `RequestHandler` answer GET and POST.
"""

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
# For one read or write.
SOCKET_TIMEOUT_S = 5.0
# For a whole request with its body, however often a single byte arrives.
REQUEST_TIMEOUT_S = 10.0
MAX_BODY_BYTES = 1024 * 1024
NO_HEADERS: Mapping[str, str] = {}
POLL_SECONDS = 0.1
JOIN_SECONDS = 5.0
MAX_CLIENTS = 64
# Half of the connections stay free for other machines.
MAX_CLIENTS_PER_ADDRESS = 32
# The shortest interval between two printed defects.
ERROR_LOG_SECONDS = 60.0


class RequestHandler(BaseHTTPRequestHandler):
    """Answers one request, after access control."""

    server_version = "edgeseg"
    sys_version = ""
    timeout = SOCKET_TIMEOUT_S
    # a part of the picture stream must not wait for the next one
    disable_nagle_algorithm = True

    def handle(self) -> None:
        """Answer the request; that a client disconnects meanwhile is no error."""
        with suppress(ConnectionError, TimeoutError):
            super().handle()

    def finish(self) -> None:
        """Flush and close; the flush fails where the client has disconnected."""
        with suppress(ConnectionError, TimeoutError):
            super().finish()

    def do_GET(self) -> None:
        """Check access, then call `handle_get`."""
        if self.check_access(changes_state=False):
            self.mark_request_read()
            self.handle_get()

    def do_POST(self) -> None:
        """Check access, read the body, then call `handle_post`."""
        body = self._read_body() if self.check_access(changes_state=True) else None
        if body is not None:
            self.mark_request_read()
            self.handle_post(body)

    @abstractmethod
    def handle_get(self) -> None:
        """Answer a GET request."""

    def handle_post(self, body: bytes) -> None:  # noqa: ARG002 - for subclasses
        """Answer a POST request; refused by default."""
        self.refuse(HTTPStatus.METHOD_NOT_ALLOWED, "This server answers only GET requests.")

    def check_access(self, changes_state: bool) -> bool:
        """Return whether the request is allowed; one that is not is answered with the reason."""
        refusal = self.access.find_refusal(self.path, self.headers, self.reached_at, changes_state)
        if refusal is not None:
            self.refuse(HTTPStatus.FORBIDDEN, refusal)
        return refusal is None

    def mark_request_read(self) -> None:
        """Stop the request timeout: the answer may take as long as the stream runs."""
        self._web_server.mark_request_read()

    @property
    def access(self) -> Access:
        """The access control of the server."""
        return self._web_server.access

    @property
    def reached_at(self) -> tuple[str, int]:
        """The server's address and port that the client is connected to."""
        address, port = self.connection.getsockname()
        return str(address), int(port)

    @property
    def _web_server(self) -> WebServer:
        return cast("WebServer", self.server)

    def log_message(self, *_: Any) -> None:
        """Log nothing: the terminal belongs to the stream."""

    def _read_body(self) -> bytes | None:
        """Read the body; None when the request was refused or cut off."""
        # two lengths, or one with a sign, are how requests are smuggled (RFC 9112, 6.3)
        lengths = self.headers.get_all("Content-Length", [])
        length = lengths[0] if len(lengths) == 1 else ""
        if re.fullmatch("[0-9]{1,12}", length) is None:
            self.refuse(HTTPStatus.LENGTH_REQUIRED, "Expected a Content-Length.")
        elif int(length) > MAX_BODY_BYTES:
            self.refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"Expected at most {MAX_BODY_BYTES} bytes.")
        else:
            body = self.rfile.read(int(length))
            # a request that was cut off must do nothing
            return body if len(body) == int(length) else None
        return None

    def refuse(self, status: HTTPStatus, sentence: str) -> None:
        """Send an error status with a sentence."""
        self.send(status, "text/plain; charset=utf-8", f"{sentence}\n".encode())

    def send(self, status: HTTPStatus, kind: str, body: bytes, headers: Mapping[str, str] = NO_HEADERS) -> None:
        """Send a response with a body."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@dataclass(frozen=True)
class Client:
    """A connection, its address, and since when its request is being read; None once the request is complete."""

    connection: socket.socket
    address: str
    reading_since: float | None


class WebServer(ThreadingHTTPServer):
    """Serves a limited number of clients, each connection on its own thread.

    When the limit is reached, a new client replaces the one whose request has been incomplete for longest. So a client
    that sends its request at once, as browsers and Prometheus do, is answered however many idle connections are open.
    """

    daemon_threads = True
    request_queue_size = MAX_CLIENTS

    def __init__(self, port: int, handler: Callable[..., RequestHandler], name: str, access: Access) -> None:
        self.access = access
        self._lock = threading.Lock()
        self._clients: dict[threading.Thread, Client] = {}
        self._name = name
        self._logged_at: float | None = None
        super().__init__((access.address, port), handler)
        self._thread = threading.Thread(target=self.serve_forever, args=(POLL_SECONDS,), name=name, daemon=True)

    def server_bind(self) -> None:
        """Bind without HTTPServer's getfqdn(), which takes seconds where no name server answers."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.access.address, int(self.server_address[1])

    def start(self) -> None:
        """Serve on a background thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop accepting, disconnect every client and join the threads."""
        self.shutdown()
        self._thread.join(JOIN_SECONDS)
        self.server_close()
        with self._lock:
            clients = dict(self._clients)
        # all first, then the joins: a shutdown wakes every thread that waits for its client
        for client in clients.values():
            _disconnect(client.connection)
        for thread in clients:
            thread.join(JOIN_SECONDS)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a connection on a new thread; it is registered before it starts, so that `stop` misses none."""
        thread = threading.Thread(
            target=self.process_request_thread,
            args=(request, client_address),
            name=f"{self._name}-client",
            daemon=True,
        )
        if self._add_client(thread, Client(request, str(client_address[0]), monotonic())):
            thread.start()
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer a connection and unregister it."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._clients.pop(threading.current_thread(), None)

    def mark_request_read(self) -> None:
        """Stop the request timeout of this thread's client."""
        thread = threading.current_thread()
        with self._lock:
            if thread in self._clients:
                self._clients[thread] = replace(self._clients[thread], reading_since=None)

    def service_actions(self) -> None:
        """Disconnect clients whose request takes too long; `serve_forever` calls this at every poll."""
        oldest = monotonic() - REQUEST_TIMEOUT_S
        with self._lock:
            clients = list(self._clients.values())
        for client in clients:
            if client.reading_since is not None and client.reading_since < oldest:
                _disconnect(client.connection)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - no address in the log
        """Print one line per minute at most, so that no client can fill the log; a lost connection prints none."""
        error, now = sys.exc_info()[1], monotonic()
        # timeouts and resets are the network's, no defect
        if isinstance(error, OSError):
            return
        with self._lock:
            is_due = self._logged_at is None or now - self._logged_at >= ERROR_LOG_SECONDS
            self._logged_at = now if is_due else self._logged_at
        if is_due:
            _LOG.error("A request to %s ended by %s. This is a defect.", self._name, type(error).__name__)

    def _add_client(self, thread: threading.Thread, newcomer: Client) -> bool:
        """Register a client, in place of the slowest one when a limit is reached; False when none can be replaced."""
        with self._lock:
            same_address = {key: client for key, client in self._clients.items() if client.address == newcomer.address}
            rivals = same_address if len(same_address) >= MAX_CLIENTS_PER_ADDRESS else self._clients
            is_full = rivals is same_address or len(rivals) >= MAX_CLIENTS
            slowest = _find_slowest(rivals) if is_full else None
            if is_full and slowest is None:
                return False
            if slowest is not None:
                _disconnect(self._clients.pop(slowest).connection)
            self._clients[thread] = newcomer
        return True


def _find_slowest(clients: Mapping[threading.Thread, Client]) -> threading.Thread | None:
    """Find the client whose request has been incomplete for longest."""
    reading = {thread: client.reading_since for thread, client in clients.items() if client.reading_since is not None}
    return min(reading, key=lambda thread: reading[thread], default=None)


def _disconnect(client: socket.socket) -> None:
    # the client may have closed it already
    with suppress(OSError):
        client.shutdown(socket.SHUT_RDWR)


def open_server(
    port: int, handler: Callable[..., RequestHandler], name: str, access: Access = THIS_MACHINE
) -> WebServer:
    """Bind a port and start a server.

    Args:
        port: The port; 0 takes any free one.
        handler: Called for every request.
        name: Of the threads.
        access: Where to serve, and the access control.

    Raises:
        OutputError: The address is not this machine's, or the port is in use or not allowed.
    """
    try:
        server = WebServer(port, handler, name, access)
    except (OSError, OverflowError) as error:
        place = "this machine" if access == THIS_MACHINE else access.address
        raise OutputError(
            f"Expected to show the stream on port {port} of {place}, got: {str(error).rstrip('.')}.",
            "Another viewer may be running there, or the address is of another machine. "
            "Choose another port, or 0 for any free one.",
        ) from error
    server.start()
    return server
