"""`Grabber`: captures frames on its own thread and keeps the newest."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Any

from numpy.typing import NDArray

from edgeseg.core.spec import Region
from edgeseg.inference.regions import RegionFinder
from edgeseg.streaming.options import DEFAULT_CAPTURE_OPTIONS, CaptureOptions
from edgeseg.streaming.sources.base import Frame, Health, Source

# A read that hangs in a driver delays the end of the stream by this much at most.
JOIN_TIMEOUT_S = 10.0
# A recorded source that fell behind by more goes on from there instead of catching up in a burst.
MAX_LAG_S = 1.0


class Grabber:
    """Captures on a background thread into a latest-value slot, so that the segmenter always gets the newest frame.

    A recorded source is played at its own rate. A frame that is replaced before `newest` took it counts as dropped.
    With `every_frame` the capture waits until the consumer takes the frame (back-pressure), and nothing is dropped.
    """

    def __init__(
        self,
        source: Source,
        options: CaptureOptions = DEFAULT_CAPTURE_OPTIONS,
        on_frame: Callable[[Frame], None] | None = None,
    ) -> None:
        """Prepare to capture; entering the context starts it.

        Args:
            source: Closed at the end.
            options: How fast, and which frames.
            on_frame: Called with every captured frame, on the capture thread.
        """
        self._source = source
        self._on_frame = on_frame
        self._rate = options.find_rate(source)
        self._every_frame = options.every_frame
        self._regions = RegionFinder(options.roi, source.region)
        self._consumer_waits = False
        self._counted_skips = 0
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
        # closing a source under a hanging read can crash in the driver
        if not self._thread.is_alive():
            self._source.close()

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stop.is_set()

    @property
    def health(self) -> Health:
        """Faults of the source so far that did not end it."""
        return self._source.health

    def stop(self) -> None:
        """End the capture from any thread; `newest` then returns None."""
        self._stop.set()
        self._source.interrupt()
        with self._condition:
            self._ended = True
            self._condition.notify_all()

    def newest(self) -> Frame | None:
        """Wait for a frame that was not taken yet; None when the source has ended.

        Raises:
            SourceError: The source failed; the last frame before that was returned first.
        """
        with self._condition:
            self._consumer_waits = True
            self._condition.notify_all()
            self._condition.wait_for(lambda: self._frame is not None or self._ended)
            self._consumer_waits = False
            frame, self._frame = self._frame, None
            # after `stop` a waiting frame is not segmented, so that a signal ends the stream at once
            if frame is not None and self.stopped:
                self.dropped += 1
                return None
            if frame is None and self._error is not None:
                raise self._error
            return frame

    def _run(self) -> None:
        try:
            self._capture()
        except Exception as error:  # noqa: BLE001 - raised again by newest()
            self._error = error
        finally:
            with self._condition:
                self._ended = True
                self._condition.notify_all()

    def _capture(self) -> None:
        due = monotonic()
        while not self._stop.is_set():
            image = self._source.read()
            if image is None:
                return
            # 1 / infinity is 0: live sources and --rate max never sleep here
            due = max(due + 1.0 / self._rate, monotonic() - MAX_LAG_S)
            if self._stop.wait(max(0.0, due - monotonic())):
                return
            self._put(image, self._regions.find(image))

    def _put(self, image: NDArray[Any], region: Region | None) -> None:
        with self._condition:
            if self._every_frame:
                self._condition.wait_for(lambda: self._ended or (self._consumer_waits and self._frame is None))
            # a frame's age starts when it arrived; a recorded one "arrives" when it is due
            arrived_at = self._source.arrived_at if self._source.live else None
            self._count_skips()
            frame = Frame(image, self.captured, arrived_at or monotonic(), region, self._source.name)
            self.captured += 1
            self.dropped += self._frame is not None
            self._frame = frame
            self._condition.notify_all()
        # outside of the lock: a sink may be slow, and `newest` must not wait for it
        if self._on_frame is not None:
            self._on_frame(frame)

    def _count_skips(self) -> None:
        """Count frames that the source skipped undecoded as captured and dropped."""
        skipped = self._source.health.skipped
        self.captured += skipped - self._counted_skips
        self.dropped += skipped - self._counted_skips
        self._counted_skips = skipped
