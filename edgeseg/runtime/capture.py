"""How frames are taken from a source: how fast, all of them or the newest, once or again, and which part."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgeseg.core.spec import Region, read_region
from edgeseg.runtime.sources.base import Source

AUTO = "auto"


class LiveSourceError(ValueError):
    """What happens now cannot be slowed, held or repeated, and a browser's camera needs the page."""


@dataclass(frozen=True)
class CaptureOptions:
    """What the user wants of a source.

    Args:
        rate: Frames per second of a recorded source; None its own, infinite as fast as they can be read.
        every_frame: No frame is dropped; the source waits.
        loop: A recorded source begins again at its end.
        roi: Where the ultrasound picture is, or "auto" to find it.
    """

    rate: float | None = None
    every_frame: bool = False
    loop: bool = False
    roi: Region | str | None = None

    def __post_init__(self) -> None:
        if self.rate is not None and not self.rate > 0:
            raise ValueError(f"expected a rate above 0, got {self.rate}")

    @property
    def only_recorded(self) -> bool:
        """Say whether something is asked for that a live source cannot give."""
        return self.rate is not None or self.every_frame or self.loop

    def check_source(self, source: Source) -> None:
        """Refuse a live source where only a recorded one can do what is asked for."""
        if source.live and self.only_recorded:
            raise LiveSourceError("expected a recorded source for --rate, --every-frame and --loop, got a live one")

    def find_rate(self, source: Source) -> float:
        """Give the frames per second at which a source is played; infinite for a live one, which sets its own."""
        return math.inf if source.live else self.rate or source.fps


AS_IT_COMES = CaptureOptions()


def read_capture_options(rate: str | None, every_frame: bool, loop: bool, roi: str | None) -> CaptureOptions:
    """Read the options as they are written on the command line."""
    region = AUTO if roi == AUTO else read_region(roi) if roi else None
    return CaptureOptions(_read_rate(rate) if rate else None, every_frame, loop, region)


def _read_rate(text: str) -> float:
    if text == "max":
        return math.inf
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"expected a rate in frames per second or max, got {text}") from error
