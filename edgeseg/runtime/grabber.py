"""A thread that always drains the source and keeps only the newest frame, so that no frame is ever stale."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from types import TracebackType

from edgeseg.runtime.sources.base import Frame, Source


class Grabber:
    """Captures in the background; `newest` waits for a frame that was not seen yet.

    A recorded source is played at its own rate. What the consumer was too slow for is dropped and counted.
    """

    def __init__(self, source: Source, see: Callable[[Frame], None] | None = None) -> None:
        """Prepare to capture; `see` gets every captured frame, on the capturing thread."""
        self._source = source
        self._see = see
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
        self._thread.join(timeout=5)
        if not self._thread.is_alive():
            self._source.close()

    def stop(self) -> None:
        """End the capture; whoever waits for a frame is told that there is none."""
        self._stop.set()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def newest(self) -> Frame | None:
        """Wait for the newest frame; None when the source has ended.

        Raises:
            SourceError: The source failed; what it had captured before was still given out.
        """
        with self._news:
            self._news.wait_for(lambda: self._frame is not None or self._ended)
            frame, self._frame = self._frame, None
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
            if not self._source.live:
                due = max(due + 1.0 / self._source.fps, monotonic() - 1.0)
                if self._stop.wait(max(0.0, due - monotonic())):
                    return
            self._put(Frame(image, self.captured, monotonic()))

    def _put(self, frame: Frame) -> None:
        with self._news:
            self.captured += 1
            self.dropped += self._frame is not None
            self._frame = frame
            self._news.notify_all()
        if self._see is not None:
            self._see(frame)
