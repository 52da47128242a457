"""A web server for this machine only, which knows its connections and can end them all."""

from __future__ import annotations

import re
import socket
import socketserver
import threading
from abc import abstractmethod
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from edgeseg.core.errors import OutputError

HOST = "127.0.0.1"
LOOK_UP_SECONDS = 0.1
JOIN_SECONDS = 5.0
CLIENT_SECONDS = 5.0
OWN_HOST = re.compile(r"(127\.0\.0\.1|localhost)(:\d{1,5})?", re.IGNORECASE)


class LocalHandler(BaseHTTPRequestHandler):
    """Answers one request of a client on this machine."""

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
        """Answer what was asked for; a foreign web site whose name was made to point here gets nothing."""
        if self._is_asked_as_itself():
            self.answer()
        else:
            self.refuse(HTTPStatus.FORBIDDEN, "This server answers only to 127.0.0.1 and localhost.")

    @abstractmethod
    def answer(self) -> None:
        """Answer a GET request."""

    def log_message(self, *_: Any) -> None:
        """Say nothing: the terminal belongs to the stream."""

    def _is_asked_as_itself(self) -> bool:
        """Look at the name that was asked for: it differs under DNS rebinding."""
        hosts = self.headers.get_all("Host", [])
        return len(hosts) == 1 and OWN_HOST.fullmatch(hosts[0].strip()) is not None

    def refuse(self, status: HTTPStatus, sentence: str) -> None:
        """Answer with a sentence instead of what was asked for."""
        self.send(status, "text/plain; charset=utf-8", f"{sentence}\n".encode())

    def send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        """Answer with a whole body."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class LocalServer(ThreadingHTTPServer):
    """Serves this machine, each connection on a thread of its own."""

    daemon_threads = True

    def __init__(self, port: int, handler: Callable[..., LocalHandler], name: str) -> None:
        self._lock = threading.Lock()
        self._clients: dict[threading.Thread, socket.socket] = {}
        self._name = name
        super().__init__((HOST, port), handler)
        self._thread = threading.Thread(target=self.serve_forever, args=(LOOK_UP_SECONDS,), name=name, daemon=True)

    def server_bind(self) -> None:
        """Bind without asking a name server for this machine's name, which takes seconds where there is none."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, int(self.server_address[1])

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
            with suppress(OSError):  # the client has closed it already
                client.shutdown(socket.SHUT_RDWR)
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
        with self._lock:
            self._clients[thread] = request
        thread.start()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer a connection and forget it."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                del self._clients[threading.current_thread()]


def open_server(port: int, handler: Callable[..., LocalHandler], name: str) -> LocalServer:
    """Take a port and serve on it.

    Args:
        port: Which; 0 takes any free one.
        handler: Makes the answer to one request.
        name: Of the threads.

    Raises:
        OutputError: The port is in use or may not be used.
    """
    try:
        server = LocalServer(port, handler, name)
    except (OSError, OverflowError) as error:
        raise OutputError(
            f"Expected to show the stream on port {port} of this machine, got: {error}.",
            "Another viewer may be running there. Choose another port, or 0 for any free one.",
        ) from error
    server.start()
    return server
