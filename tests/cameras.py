"""A Motion JPEG camera on 127.0.0.1 that does what a test says, connection by connection."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Sequence
from types import TracebackType

import cv2
import numpy as np

SECONDS = 60
STALL = b"stall"
"""In a script: send nothing more, and keep the connection."""
HEAD = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=cut\r\n\r\n"
LAST = b"--cut--\r\n"

Script = Sequence[bytes]


def draw_jpeg(value: int, size: tuple[int, int] = (48, 64)) -> bytes:
    """Draw a plain grey frame."""
    return bytes(cv2.imencode(".jpg", np.full(size, value, np.uint8))[1])


def wrap_part(jpeg: bytes, sized: bool = True) -> bytes:
    """Make a frame a part of the answer."""
    length = f"Content-Length: {len(jpeg)}\r\n".encode() if sized else b""
    return b"--cut\r\nContent-Type: image/jpeg\r\n" + length + b"\r\n" + jpeg + b"\r\n"


def make_parts(*values: int) -> list[bytes]:
    """Make parts of plain frames."""
    return [wrap_part(draw_jpeg(value)) for value in values]


class Camera:
    """Serves one connection after the other, each by its script; closes for good after the last."""

    def __init__(self, *scripts: Script, port: int = 0) -> None:
        self._scripts = scripts
        self._stop = threading.Event()
        self._released = threading.Event()
        self.stalled = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", port))
        self._thread = threading.Thread(target=self._run)
        self.port: int = self._listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self.requests: list[bytes] = []

    def __enter__(self) -> Camera:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self.release()
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join(SECONDS)
        self._listening.close()

    def release(self) -> None:
        """End a stall, so that the next connection is served."""
        self._released.set()

    def _run(self) -> None:
        for script in self._scripts:
            with contextlib.suppress(OSError):
                connection, _ = self._listening.accept()
                with connection:
                    self._serve(connection, script)
            if self._stop.is_set():
                return
        self._listening.close()

    def _serve(self, connection: socket.socket, script: Script) -> None:
        self.requests.append(connection.recv(65536))
        for step in script:
            if step == STALL:
                self.stalled.set()
                self._released.wait(SECONDS)
                self._released.clear()
                return
            connection.sendall(step)
