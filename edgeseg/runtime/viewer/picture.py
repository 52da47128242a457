"""The picture: one JPEG after another in a response that does not end, each with the figures of its own frame.

A page that asked for figures elsewhere would show those of another frame. So every part carries both: its head holds
the figures as JSON, its body is the JPEG. What only knows multipart/x-mixed-replace reads the pictures alone.
"""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import monotonic
from urllib.parse import parse_qsl

import cv2

from edgeseg.core.schema import to_plain
from edgeseg.core.spec import ClassSpec
from edgeseg.runtime.overlay import OPACITY, draw_overlay
from edgeseg.runtime.picture import Picture
from edgeseg.runtime.viewer.broadcast import Broadcast
from edgeseg.runtime.viewer.figures import measure_picture

JPEG_QUALITY = 88
SLOWEST_FPS, FASTEST_FPS = 0.1, 60.0
LOOK_UP_SECONDS = 0.5

CONTENT_TYPE = "multipart/x-mixed-replace; boundary=frame"
FIGURES = "X-Edgeseg-Figures"
LAST_END = b"--frame--\r\n"


@dataclass(frozen=True)
class PictureWish:
    """How a client wants its picture."""

    opacity: float = OPACITY
    fps: float = 30.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.opacity <= 1.0:
            raise ValueError(f"expected opacity from 0 to 1, got {self.opacity}")
        if not SLOWEST_FPS <= self.fps <= FASTEST_FPS:
            raise ValueError(f"expected fps from {SLOWEST_FPS:g} to {FASTEST_FPS:g}, got {self.fps}")


def read_wish(query: str) -> PictureWish:
    """Read a wish from the part of an address after the question mark.

    Raises:
        ValueError: A value is no number or out of range.
    """
    given = {name: float(value) for name, value in parse_qsl(query) if name in ("opacity", "fps")}
    return PictureWish(**given)


def stream_parts(broadcast: Broadcast, wish: PictureWish, client: socket.socket) -> Iterator[bytes]:
    """Give the bytes of the response until the stream ends or the client hangs up."""
    hub, seen = broadcast.hub, 0
    while not has_hung_up(client):
        shown = hub.wait_newer(seen, LOOK_UP_SECONDS)
        if shown is not None:
            due, seen = monotonic() + 1.0 / wish.fps, shown.number
            yield write_part(broadcast, shown.picture, wish.opacity)
            hub.wait_end(max(0.0, due - monotonic()))
        elif hub.ended:
            yield LAST_END
            return


def write_part(broadcast: Broadcast, picture: Picture, opacity: float) -> bytes:
    """Write a picture and its own figures as one part of the response."""
    figures = measure_picture(picture, broadcast.classes, broadcast.info.mm_per_px, broadcast.hub.name)
    jpeg = encode_picture(picture, broadcast.classes, opacity)
    head = (
        "--frame",
        "Content-Type: image/jpeg",
        f"Content-Length: {len(jpeg)}",
        f"{FIGURES}: {json.dumps(to_plain(figures))}",
        "\r\n",
    )
    return "\r\n".join(head).encode("ascii") + jpeg + b"\r\n"


def encode_picture(picture: Picture, classes: Sequence[ClassSpec], opacity: float) -> bytes:
    """Draw a picture with its mask and make a JPEG of it."""
    image = draw_overlay(picture.image, picture.labels, classes, opacity)
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return encoded.tobytes()


def has_hung_up(client: socket.socket) -> bool:
    """Say whether a client that has nothing left to send became readable, which means that it left."""
    readable = select.poll()  # select() takes no file descriptor above 1023
    readable.register(client, select.POLLIN)
    return bool(readable.poll(0))
