"""A Motion JPEG camera on 127.0.0.1 for benchmarks: says its port and ends with stdin.

    python benchmarks/camera.py FPS HEIGHT

Every frame carries the monotonic time of its making, drawn as black and white squares, so that whoever has the frame
knows its true age, with everything that lay between.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from time import monotonic
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

WIDTH = 640
BITS, SQUARE = 40, 16
HEAD = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=cut\r\n\r\n"
PART = b"--cut\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"


def draw_time(picture: NDArray[np.uint8], milliseconds: int) -> None:
    """Write a time into the first rows of a picture."""
    bits = (milliseconds >> np.arange(BITS)) & 1
    row = np.repeat(bits * 255, SQUARE)
    picture[:SQUARE, : row.size] = row if picture.ndim == 2 else row[:, None]


def read_time(picture: NDArray[Any]) -> int:
    """Read the time that is written in a picture, in milliseconds."""
    grey = picture if picture.ndim == 2 else picture[:, :, 1]
    squares = grey[:SQUARE, : BITS * SQUARE].reshape(SQUARE, BITS, SQUARE).mean(axis=(0, 2))
    return int(((squares > 127).astype(np.int64) << np.arange(BITS)).sum())


def send_frames(connection: socket.socket, fps: float, height: int, stop: threading.Event) -> None:
    """Send frames at a steady rate until somebody hangs up."""
    connection.recv(65536)
    connection.sendall(HEAD)
    noise = np.random.default_rng(1).integers(0, 120, (height, WIDTH), dtype=np.uint8)
    due = monotonic()
    while not stop.wait(max(0.0, due - monotonic())):
        draw_time(noise, int(1e3 * monotonic()))
        jpeg = bytes(cv2.imencode(".jpg", noise)[1])
        connection.sendall(PART % len(jpeg) + jpeg + b"\r\n")
        due += 1.0 / fps


def serve(listening: socket.socket, fps: float, height: int, stop: threading.Event) -> None:
    """Serve one viewer after the other."""
    while not stop.is_set():
        with contextlib.suppress(OSError), listening.accept()[0] as connection:
            send_frames(connection, fps, height, stop)


def main() -> None:
    """Serve until standard input is closed."""
    fps, height, stop = float(sys.argv[1]), int(sys.argv[2]), threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening, fps, height, stop))
        thread.start()
        print(listening.getsockname()[1], flush=True)
        sys.stdin.read()
        stop.set()
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


if __name__ == "__main__":
    main()
