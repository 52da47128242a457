"""`WebViewer`: the sink behind the live page, and the handler of its HTTP requests.

The picture is an MJPEG stream (multipart/x-mixed-replace): each part is a JPEG with the mask drawn in, and its figures
in a header. It is drawn and encoded on the client's thread, so the stream's thread only fills `LiveState`.
"""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import parse_qs, parse_qsl

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.schema import to_plain
from edgeseg.core.spec import ClassSpec
from edgeseg.frame.outlines import OPACITY
from edgeseg.inference.masks import draw_overlay
from edgeseg.streaming.options import DEFAULT_SINK_OPTIONS
from edgeseg.streaming.sinks.base import LatestResultSink, Result, Sink, StreamInfo
from edgeseg.streaming.sources.base import Frame, Notice
from edgeseg.streaming.tracking import MaskTracker, Picture, make_picture, move_points
from edgeseg.streaming.viewer.figures import collect_numbers, measure_picture
from edgeseg.streaming.viewer.state import MAX_VIEWERS, MAX_VIEWERS_PER_ADDRESS, ViewerContext
from edgeseg.web.access import THIS_MACHINE, Access, split_target
from edgeseg.web.server import RequestHandler, open_server

JPEG_QUALITY = 88
MIN_FPS, MAX_FPS = 0.1, 60.0
# How often a thread without a new picture checks whether its client has left.
POLL_SECONDS = 0.5
CONTENT_TYPE = "multipart/x-mixed-replace; boundary=frame"
FIGURES_HEADER = "X-Edgeseg-Figures"
# After the last part (RFC 2046, 5.1.1).
CLOSING_DELIMITER = b"--frame--\r\n"
# Small, so that a slow client gets a newer picture next and not a queue of old ones.
SEND_BUFFER_BYTES = 128 * 1024
PAGE_NAME_LENGTH = 40
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
# Keep pictures of patients on this machine: no other site may load, embed or cache them.
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


class WebViewer(Sink):
    """Serves the stream to browsers at `url`; drawing and sending take no time of the stream's thread."""

    def __init__(
        self,
        info: StreamInfo,
        classes: Sequence[ClassSpec],
        port: int = 8765,
        track_mask: bool = True,
        access: Access = THIS_MACHINE,
        recording: LatestResultSink | None = None,
        show: str = DEFAULT_SINK_OPTIONS.show,
    ) -> None:
        """Start serving.

        Args:
            info: The stream.
            classes: Names and colours, in the order of the labels.
            port: The port; 0 takes any free one.
            track_mask: Whether to show the newest frame with the mask warped onto it, or the frame that was segmented.
            access: Where to serve, and the access control.
            recording: The recording that the page's button switches on and off.
            show: Which masks are drawn, as `SinkOptions` has it.

        Raises:
            OutputError: The port is in use.
        """
        self._context = ViewerContext(info, tuple(classes), recording)
        self._server = open_server(port, partial(ViewerHandler, self._context), "edgeseg-viewer", access)
        watching = self._context.viewers.has_any
        self._tracker = MaskTracker(self._context.live_state.show, watching, show) if track_mask else None
        self._show = show
        self._closed = False
        self.url = access.write_url(self._server.server_port)

    def publish(self, result: Result) -> None:
        """Show a result."""
        self._context.live_state.count_result(result)
        if self._tracker is None:
            self._context.live_state.show(make_picture(result, self._show))
        else:
            self._tracker.publish(result)

    def on_frame(self, frame: Frame) -> None:
        """Show a frame with the last mask, until its own is there."""
        self._context.live_state.count_frame(frame)
        if self._tracker is not None:
            self._tracker.on_frame(frame)

    def on_notice(self, notice: Notice) -> None:
        """Show a notice about the source."""
        self._context.live_state.add_notice(notice)

    def close(self) -> None:
        """End the server, after open pages had about a second to learn that the stream has ended."""
        if self._closed:
            return
        self._closed = True
        if self._tracker is not None:
            self._tracker.close()
        # after the tracker has ended, so that no picture follows the end
        self._context.live_state.end()
        self._context.viewers.wait_for_pages()
        self._server.stop()


class ViewerHandler(RequestHandler):
    """Answers one request: GET for page, picture and figures, POST for camera images and the recording."""

    def __init__(self, context: ViewerContext, *args: Any) -> None:
        self._context = context
        super().__init__(*args)

    def handle_get(self) -> None:
        """Send the page, its files, the figures or the picture."""
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

    def handle_post(self, body: bytes) -> None:
        """Take an image of the page's camera, or switch the recording."""
        path, query = split_target(self.path)
        if path == "/camera":
            self._take_camera_picture(query, body)
        elif path in ("/recording/start", "/recording/stop"):
            self._switch_recording(path == "/recording/start")
        else:
            self._refuse_unknown()

    def end_headers(self) -> None:
        """Add the security headers to every response."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        # the page may use a camera only where the stream takes its frames from the page
        camera = "()" if self._context.info.latest_slot is None else "(self)"
        self.send_header("Permissions-Policy", f"camera={camera}, microphone=(), geolocation=()")
        super().end_headers()

    def _take_camera_picture(self, query: str, body: bytes) -> None:
        latest_slot = self._context.info.latest_slot
        if latest_slot is None:
            self.refuse(HTTPStatus.NOT_FOUND, "This stream does not take its frames from the page.")
        elif self.headers.get_content_type() != "image/jpeg":
            self.refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Expected an image of the type image/jpeg.")
        elif not latest_slot.put("".join(_read_pages(query)), body):
            self.refuse(HTTPStatus.CONFLICT, "The camera of another page is in use.")
        else:
            self._send_no_content()

    def _switch_recording(self, is_on: bool) -> None:
        recording = self._context.recording
        if recording is None:
            self.refuse(HTTPStatus.NOT_FOUND, "This stream has no folder for a recording: start it with --record DIR.")
        else:
            recording.turn(is_on)
            self._send_no_content()

    def _send_no_content(self) -> None:
        self.send_response(HTTPStatus.NO_CONTENT)
        self.end_headers()

    def _refuse_unknown(self) -> None:
        self.refuse(HTTPStatus.NOT_FOUND, "There is nothing at this address.")

    def _send_numbers(self, query: str) -> None:
        viewers, pages = self._context.viewers, _read_pages(query)
        # before the figures are collected: otherwise the end could miss a page that is polling now
        for page in pages:
            viewers.note_poll(page, saw_end=False)
        numbers = collect_numbers(self._context)
        self.send(HTTPStatus.OK, "application/json", json.dumps(to_plain(numbers)).encode())
        for page in pages:
            viewers.note_poll(page, numbers.ended)

    def _send_picture(self, query: str) -> None:
        try:
            jpeg_options = read_jpeg_options(query)
        except ValueError as error:
            self.refuse(HTTPStatus.BAD_REQUEST, f"The picture cannot be drawn like that: {error}.")
            return
        with self._context.viewers.subscribe(self.client_address[0]) as admitted:
            if not admitted:
                self.refuse(
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    f"{MAX_VIEWERS} windows are watching already, or {MAX_VIEWERS_PER_ADDRESS} from your address: "
                    "close one first.",
                )
                return
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.end_headers()
            for part in stream_parts(self._context, jpeg_options, self.connection):
                self.wfile.write(part)


def _read_pages(query: str) -> list[str]:
    """Read the random name of the page that sent the request."""
    return [page[:PAGE_NAME_LENGTH] for page in parse_qs(query).get("page", [])]


@dataclass(frozen=True)
class JpegOptions:
    """The query of a request for the picture."""

    opacity: float = OPACITY
    fps: float = 30.0
    band: bool = False
    """Whether to draw where the scores cross 1/4 and 3/4."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.opacity <= 1.0:
            raise ValueError(f"expected opacity from 0 to 1, got {self.opacity}")
        if not MIN_FPS <= self.fps <= MAX_FPS:
            raise ValueError(f"expected fps from {MIN_FPS:g} to {MAX_FPS:g}, got {self.fps}")


def read_jpeg_options(query: str) -> JpegOptions:
    """Parse the query of a request for the picture.

    Raises:
        ValueError: A value is no number or out of range.
    """
    given = dict(parse_qsl(query))
    numbers = {name: float(given[name]) for name in ("opacity", "fps") if name in given}
    return JpegOptions(**numbers, band=given.get("band") == "1")


def stream_parts(context: ViewerContext, jpeg_options: JpegOptions, client: socket.socket) -> Iterator[bytes]:
    """Yield the parts of the response until the stream ends or the client disconnects."""
    live_state, seen = context.live_state, 0
    while not has_disconnected(client):
        shown = live_state.wait_newer(seen, POLL_SECONDS)
        if shown is not None:
            due, seen = monotonic() + 1.0 / jpeg_options.fps, shown.number
            yield write_part(context, shown.picture, jpeg_options)
            # paced by sleeping, so that a skipped picture is never encoded
            live_state.wait_end(max(0.0, due - monotonic()))
        elif live_state.ended:
            yield CLOSING_DELIMITER
            return


def write_part(context: ViewerContext, picture: Picture, jpeg_options: JpegOptions) -> bytes:
    """Write a picture and its figures as one part of the response."""
    figures = measure_picture(picture, context.classes, context.info.mm_per_px, context.live_state.name)
    jpeg = encode_picture(picture, context.classes, jpeg_options)
    head = (
        "--frame",
        "Content-Type: image/jpeg",
        f"Content-Length: {len(jpeg)}",
        f"{FIGURES_HEADER}: {json.dumps(to_plain(figures))}",
        "\r\n",
    )
    return "\r\n".join(head).encode("ascii") + jpeg + b"\r\n"


def encode_picture(picture: Picture, classes: Sequence[ClassSpec], jpeg_options: JpegOptions) -> bytes:
    """Draw the mask onto a picture and encode it as JPEG."""
    findings = () if picture.segmentation is None else picture.segmentation.findings
    # draws on a copy: other threads use the same frame
    image = draw_overlay(picture.image, picture.labels, classes, jpeg_options.opacity, findings)
    if jpeg_options.band:
        _draw_bands(image, picture, classes)
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return encoded.tobytes()


def _draw_bands(image: NDArray[np.uint8], picture: Picture, classes: Sequence[ClassSpec]) -> None:
    """Draw thin lines where the scores of the classes that are shown cross 1/4 and 3/4."""
    if picture.segmentation is None:
        return
    size = picture.labels.shape[0], picture.labels.shape[1]
    for number, (spec, band) in enumerate(zip(classes, picture.segmentation.bands, strict=False), start=1):
        if (picture.labels == number).any():
            lines = [move_points(line, picture.flow, size) for line in (*band.outer, *band.inner)]
            # halfway to white, so that the lines stand out beside an outline that is near
            light = [(part + 255) // 2 for part in spec.colour[::-1]]
            cv2.polylines(image, lines, True, light, 1, cv2.LINE_AA)


def has_disconnected(client: socket.socket) -> bool:
    """Tell whether a client has left: it sends nothing more, so its socket is readable only at its end."""
    # select() takes no file descriptor above 1023
    readable = select.poll()
    readable.register(client, select.POLLIN)
    return bool(readable.poll(0))
