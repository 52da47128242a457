"""Captures frames in the background: how fast, all of them or the newest, and which part."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Any

from numpy.typing import NDArray

from edgeseg.core.spec import Region
from edgeseg.inference.regions import RegionFinder
from edgeseg.streaming.options import AS_IT_COMES, CaptureOptions
from edgeseg.streaming.sources.base import Frame, Health, Source

PATIENCE_S = 10.0
"""How long a capture that hangs in a driver may keep the end waiting."""


class Grabber:
    """Captures in the background; `newest` waits for a frame that was not seen yet.

    A recorded source is played at its own rate. What the consumer was too slow for is dropped and counted, unless
    every frame is asked for: then a frame is handed over when the consumer comes for it.
    """

    def __init__(
        self, source: Source, options: CaptureOptions = AS_IT_COMES, see: Callable[[Frame], None] | None = None
    ) -> None:
        """Prepare to capture; `see` gets every captured frame, on the capturing thread."""
        self._source = source
        self._see = see
        self._rate = options.find_rate(source)
        self._every_frame = options.every_frame
        self._regions = RegionFinder(options.roi, source.region)
        self._awaited = False
        self._skipped = 0
        self._news = threading.Condition()
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
        self._thread.join(PATIENCE_S)
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
        with self._news:
            self._ended = True
            self._news.notify_all()

    def newest(self) -> Frame | None:
        """Wait for the newest frame; None when the source has ended.

        Raises:
            SourceError: The source failed; what it had captured before was still given out.
        """
        with self._news:
            self._awaited = True
            self._news.notify_all()
            self._news.wait_for(lambda: self._frame is not None or self._ended)
            self._awaited = False
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
            with self._news:
                self._ended = True
                self._news.notify_all()

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
        with self._news:
            if self._every_frame:
                self._news.wait_for(lambda: self._ended or (self._awaited and self._frame is None))
            arrived_at = self._source.arrived_at if self._source.live else None
            self._count_skipped()
            frame = Frame(image, self.captured, arrived_at or monotonic(), region, self._source.name)
            self.captured += 1
            self.dropped += self._frame is not None
            self._frame = frame
            self._news.notify_all()
        if self._see is not None:
            self._see(frame)

    def _count_skipped(self) -> None:
        skipped = self._source.health.skipped
        self.captured += skipped - self._skipped
        self.dropped += skipped - self._skipped
        self._skipped = skipped
