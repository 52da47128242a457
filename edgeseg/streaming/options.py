"""What a user can choose of a stream: how frames are taken, when it ends, and where results go.

Light to import: the command line is built from these fields.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeseg.core.errors import UnknownNameError
from edgeseg.core.schema import check_options, option
from edgeseg.core.spec import Region, read_region

if TYPE_CHECKING:
    from edgeseg.streaming.sources.base import Source

AUTO = "auto"
VIEWS = ("web", "window", "none")
# Which masks are drawn: those that are found, or doubtful ones too.
SHOWS = ("found", "doubtful")
RECORD_FORMATS = ("png", "video")
# Of one stream: more than a page can show as buttons, or a person tells apart.
MAX_SOURCES = 16
# The header in the folder of a recording.
RECORDING = "recording.json"
LOCAL = "127.0.0.1"
LARGEST_PORT = 65535
# Where neither the user nor a board's profile names one.
BUDGET_MS = 50.0
# Headings of the options in --help.
INPUT, OUTPUT, BUDGET = "Source", "Results", "Budget"


class LiveSourceError(ValueError):
    """What happens now cannot be slowed, held or repeated, and a browser's camera needs the page."""


def read_rate(text: str) -> float:
    """Read frames per second as they are written on the command line."""
    if text == "max":
        return math.inf
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"expected a rate in frames per second or max, got {text}") from error


def read_roi(text: str) -> Region | str:
    """Read the region of interest as it is written on the command line."""
    return AUTO if text == AUTO else read_region(text)


def read_regions(text: str) -> dict[str, Region]:
    """Read the region of each modality on one screen, as they are written on the command line."""
    pairs = [part.partition("=") for part in text.split("+")]
    if len({name for name, _, _ in pairs}) < len(pairs) or not all(name.strip() and place for name, _, place in pairs):
        raise ValueError(f"expected regions as NAME=X,Y,W,H+NAME=X,Y,W,H, got {text[:200]!r}")
    return {name.strip(): read_region(place) for name, _, place in pairs}


@dataclass(frozen=True)
class CaptureOptions:
    """How frames are taken from a source."""

    rate: float | None = option(
        None,
        "Frames per second of a recorded source; max reads as fast as possible.",
        metavar="N|max",
        default_text="its own",
        parse=read_rate,
        panel=INPUT,
    )
    every_frame: bool = option(False, "Drop no frame of a recorded source: it waits for the model.", panel=INPUT)
    loop: bool = option(False, "Start a recorded source again at its end.", panel=INPUT)
    roi: Region | str | None = option(
        None,
        "Region of the frame that shows the ultrasound picture; auto detects it.",
        metavar="X,Y,W,H|auto",
        default_text="as the source or the card says",
        parse=read_roi,
        panel=INPUT,
    )
    regions: dict[str, Region] | None = option(
        None,
        "Where a screen of one source shows each modality of the model; all of one size.",
        metavar="NAME=X,Y,W,H+...",
        parse=read_regions,
        panel=INPUT,
    )

    def __post_init__(self) -> None:
        if self.regions is not None and self.roi is not None:
            raise ValueError("expected --roi or --regions, got both")
        if self.regions is not None and len({(one.width, one.height) for one in self.regions.values()}) > 1:
            raise ValueError("expected --regions of one width and height, got different ones")
        # infinite is allowed: as fast as possible
        if self.rate is not None and not self.rate > 0:
            raise ValueError(f"expected a rate above 0, got {self.rate}")

    @property
    def only_recorded(self) -> bool:
        """Say whether something is asked for that a live source cannot give."""
        return self.rate is not None or self.every_frame or self.loop

    def check_source(self, source: Source, among_others: bool = False) -> None:
        """Refuse a live source where only a recorded one can do what is asked for."""
        if source.live and (self.every_frame if among_others else self.only_recorded):
            raise LiveSourceError("expected a recorded source for --rate, --every-frame and --loop, got a live one")

    def find_rate(self, source: Source) -> float:
        """Give the frames per second at which a source is played; infinite for a live one, which sets its own."""
        return math.inf if source.live else self.rate or source.fps


DEFAULT_CAPTURE_OPTIONS = CaptureOptions()


@dataclass(frozen=True)
class StreamOptions:
    """When to stop, and what counts as too late."""

    budget_ms: float = BUDGET_MS
    max_miss: float = option(
        0.01, "Share of the frames that may exceed the budget.", minimum=0.0, maximum=1.0, panel=BUDGET
    )
    frames: int | None = option(
        None, "Stop after this many frames; each of several sources, after so many of its own.", minimum=1, panel=INPUT
    )
    capture: CaptureOptions = DEFAULT_CAPTURE_OPTIONS
    steady: bool = option(
        True, "Hold found and doubtful over a few frames; otherwise each frame is decided by itself.", panel=OUTPUT
    )

    one_at_a_time: bool = option(
        False, "Of several sources, segment only the one that is chosen on the page.", panel=INPUT
    )

    def __post_init__(self) -> None:
        check_options(self)
        if not 0 < self.budget_ms < math.inf:
            raise ValueError(f"expected a budget above 0 ms, got {self.budget_ms}")


DEFAULT_STREAM_OPTIONS = StreamOptions()


@dataclass(frozen=True)
class SinkOptions:
    """Where results go."""

    view: str = option(
        "none",
        "web serves a page on this machine, window opens a window, none shows nothing.",
        metavar="|".join(VIEWS),
        panel=OUTPUT,
    )
    port: int = option(8765, "Port of the page; 0 takes any free one.", minimum=0, maximum=LARGEST_PORT, panel=OUTPUT)
    track_mask: bool = option(
        True,
        "Show the newest frame and move the newest mask with the image; otherwise each mask on its own frame.",
        former="hold",
        panel=OUTPUT,
    )
    track_model: Path | None = option(
        None,
        "Move the mask with this registering file, made by edgeseg train --task register, in place of optical flow.",
        metavar="FILE",
        panel=OUTPUT,
    )
    show: str = option(
        "doubtful",
        "Draw the masks that are found, or doubtful ones too, with a dashed outline.",
        choices=SHOWS,
        panel=OUTPUT,
    )
    record: Path | None = option(None, "Write every mask and an index into this folder.", metavar="DIR", panel=OUTPUT)
    record_frames: bool = option(False, "Write the frames, too: they are patients' data.", panel=OUTPUT)
    emit_to: int | None = None
    """A file descriptor for JSON lines."""
    metrics: int | None = option(
        None,
        "Serve metrics for Prometheus at this port of this machine.",
        metavar="PORT",
        minimum=0,
        maximum=LARGEST_PORT,
        panel=OUTPUT,
    )
    mm_per_px: float | None = option(
        None, "Pixel size in mm, for areas in mm2; overrides what the source says.", minimum=1e-6, panel=OUTPUT
    )
    record_as: str = option(
        "png", "A PNG file per mask, or one lossless video.", metavar="|".join(RECORD_FORMATS), panel=OUTPUT
    )
    host: str = option(
        LOCAL,
        "Address at which the page is served, 0.0.0.0 for all networks; other machines need its token.",
        metavar="ADDRESS",
        panel=OUTPUT,
    )
    record_wait: bool = option(False, "Record only while the page's record button is on; it starts off.", panel=OUTPUT)

    def __post_init__(self) -> None:
        self._check_page()
        self._check_recording()
        if self.mm_per_px is not None:
            from edgeseg.inference.masks import check_pixel_size

            check_pixel_size(self.mm_per_px)
        check_options(self)

    def _check_page(self) -> None:
        if self.view not in VIEWS:
            raise UnknownNameError("view", self.view, VIEWS)
        if self.host == LOCAL:
            return
        from edgeseg.web.access import check_address

        check_address(self.host)
        if self.view != "web":
            raise ValueError(f"expected --view web beside --host, got --view {self.view}")

    def _check_recording(self) -> None:
        if self.record_frames and self.record is None:
            raise ValueError("expected --record DIR beside --record-frames, got none")
        if self.record_as not in RECORD_FORMATS:
            raise UnknownNameError("form of a recording", self.record_as, RECORD_FORMATS)
        if self.record_wait and (self.record is None or self.view != "web"):
            raise ValueError("expected --record DIR and --view web beside --record-wait, since the page has its button")

    def check_many(self, has_camera: bool) -> None:
        """Refuse what makes no sense with several sources that are segmented at the same time.

        Args:
            has_camera: Whether one of them is the page's camera.
        """
        if self.view == "window":
            raise LiveSourceError("expected --view web or none with several sources, got --view window, for one")
        self.check_page(has_camera, has_choice=False)

    def check_page(self, has_camera: bool, has_choice: bool) -> None:
        """Refuse to wait for a page's camera, or for a choice of sources, without a page.

        Args:
            has_camera: Whether a source of the stream is the page's camera.
            has_choice: Whether there are several sources.
        """
        if has_choice and self.view != "web":
            raise LiveSourceError(
                f"expected --view web, whose page switches between several sources, got --view {self.view}"
            )
        if has_camera and self.view != "web":
            raise LiveSourceError(
                f"expected --view web, whose page sends the camera's pictures, got --view {self.view}"
            )


DEFAULT_SINK_OPTIONS = SinkOptions()
