"""A web server that knows its connections, how long they may take to ask, and can end them all."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import ThreadingHTTPServer
from time import monotonic
from typing import Any

from edgeseg.core.errors import OutputError
from edgeseg.runtime.access import THIS_MACHINE, Access
from edgeseg.runtime.localhandler import LocalHandler

LOOK_UP_SECONDS = 0.1
JOIN_SECONDS = 5.0
ASKING_SECONDS = 10.0
"""How long a client may take to say what it wants, a picture that it sends included."""
MOST_CLIENTS = 64


class LocalServer(ThreadingHTTPServer):
    """Serves a limited number of clients, each connection on a thread of its own."""

    daemon_threads = True
    request_queue_size = MOST_CLIENTS

    def __init__(self, port: int, handler: Callable[..., LocalHandler], name: str, access: Access) -> None:
        self.access = access
        self._lock = threading.Lock()
        self._clients: dict[threading.Thread, socket.socket] = {}
        self._asking: dict[socket.socket, float] = {}
        self._name = name
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
            _hang_up(client)
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
        if self._admit(thread, request):
            thread.start()
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer a connection and forget it."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                del self._clients[threading.current_thread()]
                self._asking.pop(request, None)

    def note_asked(self, client: socket.socket) -> None:
        """Stop the clock of a client that has said all it wants."""
        with self._lock:
            self._asking.pop(client, None)

    def service_actions(self) -> None:
        """Hang up on clients that have been asking for too long: each holds one of few places."""
        oldest = monotonic() - ASKING_SECONDS
        with self._lock:
            slow = [client for client, since in self._asking.items() if since < oldest]
        for client in slow:
            _hang_up(client)

    def _admit(self, thread: threading.Thread, client: socket.socket) -> bool:
        with self._lock:
            is_free = len(self._clients) < MOST_CLIENTS
            if is_free:
                self._clients[thread] = client
                self._asking[client] = monotonic()
        return is_free


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
