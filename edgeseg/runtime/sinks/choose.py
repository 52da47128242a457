"""Open what a user wants to see and keep of a stream."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from edgeseg.core.errors import UnknownNameError
from edgeseg.core.spec import ClassSpec
from edgeseg.runtime.access import LOCAL, check_address, grant_access
from edgeseg.runtime.areas import check_pixel_size
from edgeseg.runtime.capture import LiveSourceError
from edgeseg.runtime.sinks.base import Sink, StreamInfo
from edgeseg.runtime.sinks.courier import Courier
from edgeseg.runtime.sinks.emit import Emitter
from edgeseg.runtime.sinks.metrics import Metrics
from edgeseg.runtime.sinks.record import Recording
from edgeseg.runtime.sinks.shelves import SHELVES
from edgeseg.runtime.sinks.window import Window
from edgeseg.runtime.viewer import WebViewer

VIEWS = ("web", "window", "none")


@dataclass(frozen=True)
class SinkWishes:
    """Where results shall go."""

    view: str = "none"
    port: int = 8765
    hold: bool = True
    record: Path | None = None
    record_frames: bool = False
    emit_to: int | None = None
    """A file descriptor for JSON lines."""
    metrics: int | None = None
    """A port for Prometheus."""
    mm_per_px: float | None = None
    """The size of a pixel, for areas; goes before what the source tells."""
    record_as: str = "png"
    host: str = LOCAL
    """Where the page is served; anywhere but on this machine alone, it demands a token."""
    record_wait: bool = False
    """The recording waits for the page's button."""

    def __post_init__(self) -> None:
        if self.view not in VIEWS:
            raise UnknownNameError("view", self.view, VIEWS)
        if self.record_frames and self.record is None:
            raise ValueError("expected --record DIR beside --record-frames, got none")
        if self.record_as not in SHELVES:
            raise UnknownNameError("form of a recording", self.record_as, SHELVES)
        if self.mm_per_px is not None:
            check_pixel_size(self.mm_per_px)
        if self.record_wait and (self.record is None or self.view != "web"):
            raise ValueError("expected --record DIR and --view web beside --record-wait, since the page has its button")
        check_address(self.host)
        if self.host != LOCAL and self.view != "web":
            raise ValueError(f"expected --view web beside --host, got --view {self.view}")

    def check_info(self, info: StreamInfo) -> None:
        """Refuse to wait for a page's camera without a page."""
        if info.inbox is not None and self.view != "web":
            raise LiveSourceError(
                f"expected --view web, whose page sends the camera's pictures, got --view {self.view}"
            )


SHOW_NOTHING = SinkWishes()


def open_sinks(wishes: SinkWishes, info: StreamInfo, classes: Sequence[ClassSpec]) -> list[Sink]:
    """Open every sink, and say on stderr where a page is served; when one cannot be opened, none stays open."""
    with ExitStack() as opened:
        sinks: list[Sink] = []
        for opener in _list_openers(wishes, info, classes, sinks):
            sinks.append(opener())
            opened.callback(sinks[-1].close)
        opened.pop_all()
    return sinks


def _list_openers(
    wishes: SinkWishes, info: StreamInfo, classes: Sequence[ClassSpec], opened: Sequence[Sink]
) -> Iterator[Callable[[], Sink]]:
    record, emit_to, metrics = wishes.record, wishes.emit_to, wishes.metrics
    if record is not None:
        yield lambda: Courier(
            Recording(record, info, classes, wishes.record_frames, wishes.record_as),
            is_on=not wishes.record_wait,
            waits=info.every_frame,
        )
    if wishes.view == "window":
        yield lambda: Window(info, classes, wishes.hold)
    if metrics is not None:
        yield lambda: _open_metrics(info, metrics)
    if wishes.view == "web":
        recording = next((sink for sink in opened if isinstance(sink, Courier)), None)
        yield lambda: _open_page(info, classes, wishes, recording)
    if emit_to is not None:
        yield lambda: Courier(Emitter(emit_to, classes, info.mm_per_px), waits=info.every_frame)


def _open_page(info: StreamInfo, classes: Sequence[ClassSpec], wishes: SinkWishes, recording: Courier | None) -> Sink:
    viewer = WebViewer(info, classes, wishes.port, wishes.hold, grant_access(wishes.host), recording)
    place = "in a browser on this machine" if wishes.host == LOCAL else "in a browser; keep it to yourself"
    camera = "" if info.inbox is None else " and press 'Use this device's camera'"
    print(f"Open {viewer.url} {place}{camera}; Ctrl-C ends the stream.", file=sys.stderr, flush=True)
    return viewer


def _open_metrics(info: StreamInfo, port: int) -> Sink:
    metrics = Metrics(info, port)
    print(f"Figures for Prometheus at {metrics.url}", file=sys.stderr, flush=True)
    return metrics
