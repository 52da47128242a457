"""How frames are taken from a source: how fast, all of them or the newest, once or again, and which part."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from types import TracebackType
from typing import Any

from numpy.typing import NDArray

from edgeseg.core.spec import Region, read_region
from edgeseg.inference.regions import RegionFinder
from edgeseg.streaming.sources.base import Frame, Health, Source

AUTO = "auto"
JOIN_TIMEOUT_S = 10.0
"""How long a capture that hangs in a driver may keep the end waiting."""


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


DEFAULT_CAPTURE_OPTIONS = CaptureOptions()


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


class Grabber:
    """Captures in the background; `newest` waits for a frame that was not seen yet.

    A recorded source is played at its own rate. What the consumer was too slow for is dropped and counted, unless
    every frame is asked for: then a frame is handed over when the consumer comes for it.
    """

    def __init__(
        self,
        source: Source,
        options: CaptureOptions = DEFAULT_CAPTURE_OPTIONS,
        on_frame: Callable[[Frame], None] | None = None,
    ) -> None:
        """Prepare to capture; `on_frame` gets every captured frame, on the capturing thread."""
        self._source = source
        self._on_frame = on_frame
        self._rate = options.find_rate(source)
        self._every_frame = options.every_frame
        self._regions = RegionFinder(options.roi, source.region)
        self._consumer_waits = False
        self._skipped = 0
        self._condition = threading.Condition()
        self._frame: Frame | None = None
        self._ended = False
        self._error: Exception | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="edgeseg-grabber", daemon=True)
        self.captured = 0
        self.dropped = 0

    def __enter__(self) -> Grabber:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._thread.join(JOIN_TIMEOUT_S)
        if not self._thread.is_alive():
            self._source.close()

    @property
    def stopped(self) -> bool:
        """Say whether somebody called `stop`."""
        return self._stop.is_set()

    @property
    def health(self) -> Health:
        """Say what went wrong with the source until now without ending it."""
        return self._source.health

    def stop(self) -> None:
        """End the capture; whoever waits or comes for a frame is told that there is none."""
        self._stop.set()
        self._source.interrupt()
        with self._condition:
            self._ended = True
            self._condition.notify_all()

    def newest(self) -> Frame | None:
        """Wait for the newest frame; None when the source has ended.

        Raises:
            SourceError: The source failed; what it had captured before was still given out.
        """
        with self._condition:
            self._consumer_waits = True
            self._condition.notify_all()
            self._condition.wait_for(lambda: self._frame is not None or self._ended)
            self._consumer_waits = False
            frame, self._frame = self._frame, None
            if frame is not None and self.stopped:
                self.dropped += 1
                return None
            if frame is None and self._error is not None:
                raise self._error
            return frame

    def _run(self) -> None:
        try:
            self._drain()
        except Exception as error:  # noqa: BLE001 - raised again by newest()
            self._error = error
        finally:
            with self._condition:
                self._ended = True
                self._condition.notify_all()

    def _drain(self) -> None:
        due = monotonic()
        while not self._stop.is_set():
            image = self._source.read()
            if image is None:
                return
            due = max(due + 1.0 / self._rate, monotonic() - 1.0)
            if self._stop.wait(max(0.0, due - monotonic())):
                return
            self._put(image, self._regions.find(image))

    def _put(self, image: NDArray[Any], region: Region | None) -> None:
        with self._condition:
            if self._every_frame:
                self._condition.wait_for(lambda: self._ended or (self._consumer_waits and self._frame is None))
            arrived_at = self._source.arrived_at if self._source.live else None
            self._count_skipped()
            frame = Frame(image, self.captured, arrived_at or monotonic(), region, self._source.name)
            self.captured += 1
            self.dropped += self._frame is not None
            self._frame = frame
            self._condition.notify_all()
        if self._on_frame is not None:
            self._on_frame(frame)

    def _count_skipped(self) -> None:
        skipped = self._source.health.skipped
        self.captured += skipped - self._skipped
        self.dropped += skipped - self._skipped
        self._skipped = skipped
