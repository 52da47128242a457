"""`WebViewer`: the sink behind the live page, and the handler of its HTTP requests.

The picture is an MJPEG stream (multipart/x-mixed-replace): each part is a JPEG with the mask drawn in, and its figures
in a header. It is drawn and encoded on the client's thread, so the stream's thread only fills `LiveState`.
"""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from time import monotonic
from typing import Any, Protocol

from edgeseg.core.schema import to_plain
from edgeseg.core.spec import ClassSpec
from edgeseg.registration.learned import LearnedRegistration
from edgeseg.streaming.latency import LatencyRecorder
from edgeseg.streaming.options import DEFAULT_SINK_OPTIONS
from edgeseg.streaming.sinks.base import LatestResultSink, Result, Sink, StreamInfo
from edgeseg.streaming.sources.base import Frame, Notice
from edgeseg.streaming.switching import FAILED, Turn
from edgeseg.streaming.tracking import MaskTracker, lower_priority, make_picture
from edgeseg.streaming.viewer.encoding import JpegOptions, encode_picture, write_figures, write_part
from edgeseg.streaming.viewer.figures import PictureFigures, collect_numbers, measure_picture
from edgeseg.streaming.viewer.pages import PageHandler, read_number, read_pages
from edgeseg.streaming.viewer.state import (
    MAX_VIEWERS,
    MAX_VIEWERS_PER_ADDRESS,
    NumberedPicture,
    ViewerContext,
)
from edgeseg.web.access import THIS_MACHINE, Access, split_target
from edgeseg.web.server import open_server

# How often a thread without a new picture checks whether its client has left.
POLL_SECONDS = 0.5
RECORDING_ORDERS = {"/recording/start": True, "/recording/stop": False}
"""What the paths of the page's button do."""
CONTENT_TYPE = "multipart/x-mixed-replace; boundary=frame"
# After the last part (RFC 2046, 5.1.1).
CLOSING_DELIMITER = b"--frame--\r\n"
# Small, so that a slow client gets a newer picture next and not a queue of old ones.
SEND_BUFFER_BYTES = 128 * 1024


class SourceView(Sink):
    """Keeps the newest picture and the figures of a source for the clients that watch it."""

    def __init__(
        self, context: ViewerContext, track_mask: bool, show: str, network: LearnedRegistration | None = None
    ) -> None:
        """Begin without a picture.

        Args:
            context: What the requests of the clients need.
            track_mask: Whether to show the newest frame with the mask warped onto it, or the frame that was segmented.
            show: Which masks are drawn, as `SinkOptions` has it.
            network: Finds how the mask moved in place of optical flow.
        """
        self.context = context
        watching = partial(context.viewers.has_any, context.number)
        self._tracker = MaskTracker(context.live_state.show, watching, show, network) if track_mask else None
        self._show = show

    def publish(self, result: Result) -> None:
        """Show a result."""
        self.context.live_state.count_result(result)
        if self._tracker is None:
            self.context.live_state.show(make_picture(result, self._show))
        else:
            self._tracker.publish(result)

    def on_frame(self, frame: Frame) -> None:
        """Show a frame with the last mask, until its own is there."""
        self.context.live_state.count_frame(frame)
        if self._tracker is not None:
            self._tracker.on_frame(frame)

    def on_turn(self, turn: Turn, recorder: LatencyRecorder) -> None:
        """Forget the last source: no picture of it is shown after this, and its figures begin anew."""
        if self._tracker is not None:
            self._tracker.reset()
        self.context.live_state.begin_turn(turn, recorder)

    def on_notice(self, notice: Notice) -> None:
        """Show a notice about the source; where one is chosen of several, the list says that it gives no frames."""
        if notice.state != FAILED or self.context.info.switch is None:
            self.context.live_state.add_notice(notice)

    def close(self) -> None:
        """Show no further picture."""
        if self._tracker is not None:
            self._tracker.close()
        # after the tracker has ended, so that no picture follows the end
        self.context.live_state.end()


class WebViewer(SourceView):
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
        network: LearnedRegistration | None = None,
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
            network: Finds how the mask moved in place of optical flow.

        Raises:
            OutputError: The port is in use.
        """
        context = ViewerContext(info, tuple(classes), recording)
        self._server = open_server(port, partial(ViewerHandler, context), "edgeseg-viewer", access)
        super().__init__(context, track_mask, show, network)
        self._closed = False
        self.url = access.write_url(self._server.server_port)

    def close(self) -> None:
        """End the server, after open pages had about a second to learn that the stream has ended."""
        if self._closed:
            return
        self._closed = True
        super().close()
        self.context.viewers.wait_for_pages()
        self._server.stop()


class Ending(Protocol):
    """Figures that say whether their stream has ended."""

    @property
    def ended(self) -> bool:
        """Whether it has."""


class ViewerHandler(PageHandler):
    """Answers one request: GET for page, picture and figures, POST for camera images, the recording and the source."""

    def __init__(self, context: ViewerContext, *args: Any) -> None:
        self._context = context
        self.uses_camera = context.info.uses_camera
        super().__init__(*args)

    def handle_post(self, body: bytes) -> None:
        """Take an image of the page's camera, switch the recording, or choose the source."""
        path, query = split_target(self.path)
        if path == "/camera":
            self._take_camera_picture(query, body)
        elif path in RECORDING_ORDERS:
            self.switch_recordings([self._context.recording])
        elif path == "/source":
            self._choose_source(query)
        else:
            self.refuse_unknown()

    def send_numbers(self, query: str) -> None:
        """Send the figures, and note the page that asks."""
        self.answer_poll(query, lambda: collect_numbers(self._context))

    def answer_poll(self, query: str, collect: Callable[[], Ending]) -> None:
        """Send figures, and note the pages that ask: before their stream ends, and that they know of its end."""
        viewers, pages = self._context.viewers, read_pages(query)
        # before the figures are collected: otherwise the end could miss a page that is polling now
        for page in pages:
            viewers.note_poll(page, saw_end=False)
        numbers = collect()
        self.send(HTTPStatus.OK, "application/json", json.dumps(to_plain(numbers)).encode())
        for page in pages:
            viewers.note_poll(page, numbers.ended)

    def send_pictures(self, options: JpegOptions) -> None:
        """Send pictures until the stream ends or the client disconnects."""
        self.send_parts(stream_parts(self._context, options, self.connection), self._context.number)

    def send_parts(self, parts: Iterator[bytes], number: int) -> None:
        """Send the parts of a response that never ends by itself, to as many clients of this number as may watch."""
        with self._context.viewers.subscribe(self.client_address[0], number) as admitted:
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
            lower_priority()
            for part in parts:
                self.wfile.write(part)

    def send_still(self, query: str, options: JpegOptions) -> None:
        """Draw a picture again that was sent a moment ago; a page that is paused on it may ask as often as it likes."""
        number, pages = read_number(query, "picture"), read_pages(query)
        shown = None if number is None else self._context.live_state.hold(number, "".join(pages))
        if shown is None:
            self.refuse(HTTPStatus.NOT_FOUND, "This picture is no longer kept.")
            return
        figures = measure_shown(self._context, shown, options)
        self.send_jpeg(encode_picture(shown.picture, self._context.classes, options), write_figures(figures))

    def switch_recordings(self, recordings: Sequence[LatestResultSink | None]) -> None:
        """Switch recordings on or off, as the path of the request says."""
        found = [recording for recording in recordings if recording is not None]
        if not found:
            self.refuse(HTTPStatus.NOT_FOUND, "This stream has no folder for a recording: start it with --record DIR.")
            return
        for recording in found:
            recording.turn(RECORDING_ORDERS[split_target(self.path)[0]])
        self.send_no_content()

    def _take_camera_picture(self, query: str, body: bytes) -> None:
        latest_slot = self._context.info.find_latest_slot()
        if latest_slot is None:
            self.refuse(HTTPStatus.NOT_FOUND, "This stream does not take its frames from the page.")
        elif self.headers.get_content_type() != "image/jpeg":
            self.refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Expected an image of the type image/jpeg.")
        elif not latest_slot.put("".join(read_pages(query)), body):
            self.refuse(HTTPStatus.CONFLICT, "The camera of another page is in use.")
        else:
            self.send_no_content()

    def _choose_source(self, query: str) -> None:
        switch, number = self._context.info.switch, read_number(query, "number")
        if switch is None:
            self.refuse(HTTPStatus.NOT_FOUND, "This stream has one source: start it with --source A --source B.")
        elif number is None or not number.is_integer() or not switch.choose(int(number)):
            self.refuse(HTTPStatus.BAD_REQUEST, "There is no source of that number.")
        else:
            self.send_no_content()


def stream_parts(context: ViewerContext, options: JpegOptions, client: socket.socket) -> Iterator[bytes]:
    """Yield the parts of the response until the stream ends or the client disconnects."""
    live_state, seen = context.live_state, 0
    while not has_disconnected(client):
        shown = live_state.wait_newer(seen, POLL_SECONDS)
        if shown is not None:
            due = monotonic() + 1.0 / options.fps
            newest, write = (shown.stream, shown.number), partial(write_shown, context, shown, options)
            seen, part = context.parts.take(options, options.fps, newest, seen, write)
            yield part
            # paced by sleeping, so that a skipped picture is never encoded
            live_state.wait_end(max(0.0, due - monotonic()))
        elif live_state.ended:
            yield CLOSING_DELIMITER
            return


def write_shown(context: ViewerContext, shown: NumberedPicture, options: JpegOptions) -> bytes:
    """Write a picture of the stream for clients, and remember it for a page that pauses on it."""
    context.live_state.remember(shown)
    return write_part(shown.picture, measure_shown(context, shown, options), context.classes, options)


def measure_shown(context: ViewerContext, shown: NumberedPicture, options: JpegOptions) -> PictureFigures:
    """Measure the mask of a picture of the stream."""
    picture, own = shown.picture, context.info.mm_per_px
    figures = measure_picture(picture, context.classes, picture.mm_per_px if own is None else own, shown.stream)
    return replace(figures, picture=shown.number, source=shown.source, hidden=tuple(sorted(options.hidden)))


def has_disconnected(client: socket.socket) -> bool:
    """Tell whether a client has left: it sends nothing more, so its socket is readable only at its end."""
    # select() takes no file descriptor above 1023
    readable = select.poll()
    readable.register(client, select.POLLIN)
    return bool(readable.poll(0))
