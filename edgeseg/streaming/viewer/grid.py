"""`GridViewer`: one page with all sources of a stream, each as a small picture; every source has its own page below it.

`/` is the grid, `/2/` the whole live page of source 2. Browsers open six connections to a server at most, so all small
pictures come in one response, a part for each picture.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from itertools import cycle
from time import monotonic
from typing import Any

from edgeseg.core.schema import to_plain
from edgeseg.core.spec import ClassSpec
from edgeseg.machine.thermal import Thermal
from edgeseg.streaming.sinks.base import Result, Sink
from edgeseg.streaming.switching import SourceStatus
from edgeseg.streaming.viewer.encoding import encode_tile, write_multipart
from edgeseg.streaming.viewer.figures import BackendNumbers, RecordingNumbers, describe_recording, write_colour
from edgeseg.streaming.viewer.pages import CSS, FOLDER, HTML, PAGE_FILES, SCRIPT, write_page
from edgeseg.streaming.viewer.state import KEPT_FRAMES, NumberedPicture, ViewerContext
from edgeseg.streaming.viewer.viewer import (
    CLOSING_DELIMITER,
    RECORDING_ORDERS,
    SourceView,
    ViewerHandler,
    has_disconnected,
)
from edgeseg.web.access import Access, split_target
from edgeseg.web.server import open_server

Describe = Callable[[], "tuple[SourceStatus, ...]"]
# Small pictures in a second, of one source and of all: what the page costs is bounded, however many sources there are.
TILE_FPS, ALL_TILES_FPS = 15.0, 80.0
# The number under which viewers of the grid are counted.
GRID = 0
_SHARED = ("/page.css", "/common.js", "/elements.js", "/parts.js", "/recording.js")
GRID_FILES = {"/grid.css": CSS, "/grid.js": SCRIPT, **{path: PAGE_FILES[path] for path in _SHARED}}


@dataclass(frozen=True)
class TileFinding:
    """A class, its CSS colour, and its state in the picture."""

    name: str
    colour: str
    state: str | None
    confidence: float | None


@dataclass(frozen=True)
class TileFigures:
    """The figures of one small picture."""

    source: int
    number: int
    """Of the frame."""
    classes: tuple[TileFinding, ...]
    out_of_distribution: bool


@dataclass(frozen=True)
class TileNumbers:
    """Everything that the grid shows of a source; times are those of the newest frames."""

    number: int
    label: str
    """The user's name for it, or else its number."""
    name: str
    state: str
    sentence: str
    """Why it gives no frames."""
    frames: int
    fps: float
    captured_fps: float
    age_p50_ms: float
    age_p95_ms: float
    age_p99_ms: float
    late: int
    misses: float
    idle_ms: float | None
    camera: bool
    """Whether its frames come from a page's camera."""
    recording: str | None
    """Whether it is recorded, or why not any more."""


@dataclass(frozen=True)
class GridNumbers:
    """Everything that the grid shows of a stream."""

    stream: str
    """A random name, by which an open page notices that another stream is shown."""
    model: str
    backend: BackendNumbers
    ended: bool
    budget_ms: float
    judged: bool
    thermal: Thermal
    recording: RecordingNumbers | None
    """Of all sources together: on where one of them is recorded, failed where all have failed."""
    sources: tuple[TileNumbers, ...]


class GridViewer(Sink):
    """Serves the pages of several sources at `url`; each has a `SourceView` that takes its results."""

    def __init__(self, views: Sequence[SourceView], describe: Describe, port: int, access: Access) -> None:
        """Start serving.

        Args:
            views: Of the sources, in their order; they share their count of viewers.
            describe: Describes the state of every source.
            port: The port; 0 takes any free one.
            access: Where to serve, and the access control.

        Raises:
            OutputError: The port is in use.
        """
        self.views, self.describe = tuple(views), describe
        self.ended = threading.Event()
        self._tiles = [_TileCache(view) for view in views]
        self._server = open_server(port, partial(GridHandler, self), "edgeseg-viewer", access)
        self.url = access.write_url(self._server.server_port)

    def publish(self, result: Result) -> None:
        """Do nothing: the view of its source shows it."""

    def close(self) -> None:
        """End the server, after open pages had about a second to learn that the stream has ended."""
        if self.ended.is_set():
            return
        self.ended.set()
        self.views[0].context.viewers.wait_for_pages()
        self._server.stop()

    def collect(self) -> GridNumbers:
        """Collect the figures of this moment."""
        first = self.views[0].context
        backend = first.info.backend()
        return GridNumbers(
            stream=first.live_state.name,
            model=first.info.model,
            backend=BackendNumbers(backend.name, backend.requested, backend.fallback_reason),
            ended=self.ended.is_set(),
            budget_ms=first.info.recorder.budget_ms,
            judged=not first.info.every_frame,
            thermal=first.thermal.read(),
            recording=_sum_recordings([view.context for view in self.views]),
            sources=tuple(map(_describe_tile, self.views, self.describe())),
        )

    def stream_tiles(self, client: socket.socket) -> Iterator[bytes]:
        """Yield the parts of the response, the sources in turn, until the stream ends or the client disconnects."""
        count = len(self.views)
        pause = 1.0 / min(TILE_FPS * count, ALL_TILES_FPS)
        seen, due = [0] * count, monotonic()
        for place in cycle(range(count)):
            if self.ended.is_set():
                yield CLOSING_DELIMITER
                return
            shown = self.views[place].context.live_state.newest
            if shown is not None and shown.number != seen[place]:
                seen[place] = shown.number
                yield self._tiles[place].write(shown)
            due = max(due + pause, monotonic())
            self.ended.wait(due - monotonic())
            if place == 0 and has_disconnected(client):
                return


class _TileCache:
    """The newest small picture of a source, encoded once for all clients."""

    def __init__(self, view: SourceView) -> None:
        self._classes = view.context.classes
        self._lock = threading.Lock()
        self._number, self._part = 0, b""

    def write(self, shown: NumberedPicture) -> bytes:
        """Write a picture and its figures as one part of the response; another client may have a newer one already."""
        with self._lock:
            if shown.number > self._number:
                figures = json.dumps(to_plain(_describe_picture(shown, self._classes)))
                self._part = write_multipart(encode_tile(shown.picture, self._classes), figures)
                self._number = shown.number
            return self._part


def _describe_picture(shown: NumberedPicture, classes: Sequence[ClassSpec]) -> TileFigures:
    segmentation = shown.picture.segmentation
    findings = () if segmentation is None else segmentation.findings
    return TileFigures(
        shown.source,
        shown.picture.number,
        tuple(
            TileFinding(spec.name, write_colour(spec), found.state, found.confidence)
            for spec, found in zip(classes, findings, strict=False)
        ),
        segmentation is not None and segmentation.out_of_distribution,
    )


def _describe_tile(view: SourceView, status: SourceStatus) -> TileNumbers:
    context = view.context
    seen, recorder, member = context.live_state.snapshot(), context.info.recorder, context.info.member
    ages = recorder.report_ages(KEPT_FRAMES)
    return TileNumbers(
        number=status.number,
        label=str(status.number) if member is None else member.label,
        name=status.name,
        state=status.state,
        sentence=status.sentence,
        frames=seen.results,
        fps=round(seen.fps, 2),
        captured_fps=round(seen.captured_fps, 2),
        age_p50_ms=ages.p50,
        age_p95_ms=ages.p95,
        age_p99_ms=ages.p99,
        late=recorder.late,
        misses=recorder.misses,
        idle_ms=None if seen.idle_ms is None else round(seen.idle_ms, 1),
        camera=context.info.uses_camera,
        recording=_write_recording(context),
    )


def _write_recording(context: ViewerContext) -> str | None:
    recording = describe_recording(context.recording)
    if recording is None or context.live_state.ended:
        return None
    if recording.failure is not None:
        return f"recording ended: {recording.failure}"
    return "recording" if recording.on else None


def _sum_recordings(contexts: Sequence[ViewerContext]) -> RecordingNumbers | None:
    found = [describe_recording(context.recording) for context in contexts]
    all_of = [one for one in found if one is not None]
    if not all_of:
        return None
    failures = [one.failure for one in all_of if one.failure is not None]
    return RecordingNumbers(
        on=any(_write_recording(context) == "recording" for context in contexts),
        taken=sum(one.taken for one in all_of),
        missed=sum(one.missed for one in all_of),
        failure=failures[0] if len(failures) == len(all_of) else None,
    )


class GridHandler(ViewerHandler):
    """Answers one request: for the grid, or below `/NUMBER/` for the page of one source."""

    def __init__(self, viewer: GridViewer, *args: Any) -> None:
        self._viewer = viewer
        super().__init__(viewer.views[0].context, *args)

    def handle_get(self) -> None:
        """Send the grid, one of its files, its figures or pictures; or what the page of a source asks for."""
        if self._enter_source():
            super().handle_get()
            return
        path, query = split_target(self.path)
        if path == "/":
            cookie = self.access.make_cookie(self.reached_at[1])
            self.send(HTTPStatus.OK, HTML, write_page("grid"), cookie)
        elif path in GRID_FILES:
            self.send(HTTPStatus.OK, GRID_FILES[path], (FOLDER / path[1:]).read_bytes())
        elif path == "/numbers":
            self.answer_poll(query, self._viewer.collect)
        elif path == "/tiles":
            self.send_parts(self._viewer.stream_tiles(self.connection), GRID)
        else:
            self.refuse_unknown()

    def handle_post(self, body: bytes) -> None:
        """Carry out what the page of a source orders, or switch the recordings of all sources."""
        if self._enter_source():
            super().handle_post(body)
        elif split_target(self.path)[0] in RECORDING_ORDERS:
            self.switch_recordings([view.context.recording for view in self._viewer.views])
        else:
            self.refuse_unknown()

    def _enter_source(self) -> bool:
        """Where the path begins with the number of a source, go on with the rest of it there."""
        number, mark, rest = self.path.removeprefix("/").partition("/")
        views = self._viewer.views
        # isdecimal() alone lets digits of other scripts pass
        if not mark or len(number) > 2 or not (number.isascii() and number.isdecimal()):
            return False
        if not 1 <= int(number) <= len(views) or number.startswith("0"):
            return False
        self._context = views[int(number) - 1].context
        self.uses_camera = self._context.info.uses_camera
        self.path = f"/{rest}"
        return True
