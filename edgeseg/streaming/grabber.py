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
from edgeseg.streaming.sources.base import Frame, Health, LatestSlot, Notice, Source

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
        source: Source | Callable[[], Source],
        options: CaptureOptions = DEFAULT_CAPTURE_OPTIONS,
        on_frame: Callable[[Frame], None] | None = None,
        number: int = 1,
        first_frame: int = 0,
    ) -> None:
        """Prepare to capture; entering the context starts it.

        Args:
            source: Open, or a function that opens it on the capture thread; closed at the end, on that thread.
            options: How fast, and which frames.
            on_frame: Called with every captured frame, on the capture thread.
            number: Of the source, among those of the stream.
            first_frame: The number of its first frame.
        """
        self._source = source if isinstance(source, Source) else None
        self._open = None if isinstance(source, Source) else source
        self.on_frame = on_frame
        self.on_notice: Callable[[Notice], None] | None = None
        """Called with the notices of the source, on the capture thread."""
        self.on_ready: Callable[[], None] | None = None
        """Called when `poll` has something new, on the capture thread."""
        self._options, self._number, self._first_frame = options, number, first_frame
        self._every_frame = options.every_frame
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
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self.join(JOIN_TIMEOUT_S)

    def start(self) -> None:
        """Start the capture thread."""
        self._thread.start()

    def join(self, seconds: float) -> None:
        """Wait until the source is closed, or for so many seconds where it hangs."""
        self._thread.join(seconds)

    @property
    def has_ended(self) -> bool:
        """Whether the capture has ended and the source is closed."""
        return not self._thread.is_alive()

    @property
    def next_frame(self) -> int:
        """The number of the next frame."""
        return self._first_frame + self.captured

    @property
    def latest_slot(self) -> LatestSlot | None:
        """Where the page puts the images of its camera, where that is the source."""
        return None if self._source is None else self._source.latest_slot

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stop.is_set()

    @property
    def health(self) -> Health:
        """Faults of the source so far that did not end it."""
        return Health() if self._source is None else self._source.health

    def stop(self) -> None:
        """End the capture from any thread; `newest` then returns None."""
        self._stop.set()
        if self._source is not None:
            self._source.interrupt()
        with self._condition:
            self._ended = True
            self._condition.notify_all()

    def wait(self, seconds: float) -> bool:
        """Wait for a frame that was not taken yet, or for the end; False where neither came in time."""
        with self._condition:
            return self._condition.wait_for(lambda: self._frame is not None or self._ended, seconds)

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

    def poll(self) -> Frame | None:
        """Take a frame that was not taken yet, without waiting; None where there is none at this moment.

        Raises:
            SourceError: The source failed; the last frame before that was returned first.
        """
        with self._condition:
            frame, self._frame = self._frame, None
            # a recorded source that drops no frame gives the next one when it is asked for
            self._consumer_waits = frame is None
            self._condition.notify_all()
            if frame is None and self._error is not None:
                raise self._error
            return frame

    @property
    def is_over(self) -> bool:
        """Whether the source has ended, and its last frame was taken."""
        with self._condition:
            return self._ended and self._frame is None

    def _run(self) -> None:
        try:
            source = self._open_source()
            try:
                self._capture(source)
            finally:
                # here, since closing a source under a hanging read can crash in the driver
                source.close()
        except Exception as error:  # noqa: BLE001 - raised again by newest()
            self._error = error
        finally:
            with self._condition:
                self._ended = True
                self._condition.notify_all()
            self._tell_ready()

    def _tell_ready(self) -> None:
        if self.on_ready is not None:
            self.on_ready()

    def _open_source(self) -> Source:
        source = self._source
        if source is None:
            assert self._open is not None
            source = self._source = self._open()
        if self.on_notice is not None:
            source.on_notice = self.on_notice
        return source

    def _capture(self, source: Source) -> None:
        rate, regions = self._options.find_rate(source), RegionFinder(self._options.roi, source.region)
        due = monotonic()
        while not self._stop.is_set():
            image = source.read()
            if image is None:
                return
            # 1 / infinity is 0: live sources and --rate max never sleep here
            due = max(due + 1.0 / rate, monotonic() - MAX_LAG_S)
            pause = due - monotonic()
            if pause > 0.0 and self._stop.wait(pause):
                return
            self._put(source, image, regions.find(image))

    def _put(self, source: Source, image: NDArray[Any], region: Region | None) -> None:
        with self._condition:
            if self._every_frame:
                self._condition.wait_for(lambda: self._ended or (self._consumer_waits and self._frame is None))
            # a frame's age starts when it arrived; a recorded one "arrives" when it is due
            arrived_at = source.arrived_at if source.live else None
            self._count_skips(source)
            frame = Frame(
                image,
                self.next_frame,
                arrived_at or monotonic(),
                region,
                source.name,
                self._number,
                source.mm_per_px,
            )
            self.captured += 1
            self.dropped += self._frame is not None
            self._frame = frame
            self._condition.notify_all()
        self._tell_ready()
        # outside of the lock: a sink may be slow, and `newest` must not wait for it
        if self.on_frame is not None:
            self.on_frame(frame)

    def _count_skips(self, source: Source) -> None:
        """Count frames that the source skipped undecoded as captured and dropped."""
        skipped = source.health.skipped
        self.captured += skipped - self._counted_skips
        self.dropped += skipped - self._counted_skips
        self._counted_skips = skipped
