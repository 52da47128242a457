"""A web server for this machine only, which knows its connections and can end them all."""

from __future__ import annotations

import socket
import socketserver
import threading
from contextlib import suppress
from functools import partial
from http.server import ThreadingHTTPServer
from typing import Any

from edgeseg.core.errors import OutputError
from edgeseg.runtime.viewer.handler import Broadcast, ViewerHandler

HOST = "127.0.0.1"
LOOK_UP_SECONDS = 0.1
JOIN_SECONDS = 5.0


class ViewerServer(ThreadingHTTPServer):
    """Serves one broadcast, each connection on a thread of its own."""

    daemon_threads = True

    def __init__(self, port: int, broadcast: Broadcast) -> None:
        self._lock = threading.Lock()
        self._clients: dict[threading.Thread, socket.socket] = {}
        super().__init__((HOST, port), partial(ViewerHandler, broadcast))
        self._thread = threading.Thread(
            target=self.serve_forever, args=(LOOK_UP_SECONDS,), name="edgeseg-viewer", daemon=True
        )

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
            name="edgeseg-viewer-client",
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


def open_server(port: int, broadcast: Broadcast) -> ViewerServer:
    """Take a port and serve on it.

    Raises:
        OutputError: The port is in use or may not be used.
    """
    try:
        server = ViewerServer(port, broadcast)
    except (OSError, OverflowError) as error:
        raise OutputError(
            f"Expected to show the stream on port {port} of this machine, got: {error}.",
            "Another viewer may be running there. Choose another port, or 0 for any free one.",
        ) from error
    server.start()
    return server
