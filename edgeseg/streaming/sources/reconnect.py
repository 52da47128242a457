"""Sources that open another source again: after a fault (`ReconnectingSource`) or at its end (`LoopedSource`)."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

from numpy.typing import NDArray

from edgeseg.core.errors import SourceError, SourceTextError
from edgeseg.streaming.sources.base import Health, Notice, Source

RETRY_PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Exponential back-off before each attempt; the last value repeats.

It starts again once the source has delivered frames for longer than the last pause, so that one which fails soon after
every connection is not opened twice a second.
"""
TRYING = " Trying again."
"""The end of the notice that a source did not open."""


class ReconnectingSource(Source):
    """Opens a live source again, with exponential back-off, when it fails after its first frame.

    One that is not open yet is looked for in the same way from the start: among others it may come later than they do.
    """

    live = reconnects = True

    def __init__(
        self,
        open_again: Callable[[], Source],
        source: Source | None = None,
        retry_pauses_s: tuple[float, ...] = RETRY_PAUSES_S,
    ) -> None:
        """Take over a source.

        Args:
            open_again: Opens the same source again.
            source: The source, open; None leaves opening it to the first `read`, and a failure there is no error.
            retry_pauses_s: The back-off.
        """
        self._open_again, self._retry_pauses_s = open_again, retry_pauses_s
        self._source = source
        self._is_patient = source is None
        self._seen = False
        self._attempts = 0
        self._found_at: float | None = None
        self._lost_at: float | None = None
        self._past = Health()
        self._stopped = threading.Event()
        if source is not None:
            self.fps, self.region, self.mm_per_px = source.fps, source.region, source.mm_per_px

    def read(self) -> NDArray[Any] | None:
        """Wait for the next frame, through any number of interruptions.

        Raises:
            SourceError: The source failed before its first frame, and was open at the start or can never be.
        """
        lost, image = True, None
        while lost and not self._stopped.is_set():
            lost, image = self._read_or_lose()
        return image

    def interrupt(self) -> None:
        """Stop waiting, for a frame or for the next attempt."""
        self._stopped.set()
        source = self._source
        if source is not None:
            source.interrupt()

    def close(self) -> None:
        """Close the source and add its faults to the total."""
        source, self._source = self._source, None
        if source is not None:
            self._past = self._past + source.health
            source.close()
        self._found_at = None
        if self._stopped.is_set() and self._lost_at is not None:
            self._end_search(self._lost_at)
        self.health = self._past

    def _read_or_lose(self) -> tuple[bool, NDArray[Any] | None]:
        try:
            source = self._open()
            image = source.read()
        except SourceError as error:
            # alone, a source that never worked is a wrong address, not an outage
            if not self._seen and (isinstance(error, SourceTextError) or not self._is_patient):
                raise
            self._lose(error)
            return True, None
        if image is not None:
            self._note_frame(source)
        return False, image

    def _open(self) -> Source:
        if self._source is None:
            self._source = self._open_again()
            # interrupt() may have come while the source was being opened, before it was stored
            if self._stopped.is_set():
                self._source.interrupt()
        return self._source

    def _lose(self, error: SourceError) -> None:
        self.close()
        if self._lost_at is None:
            self._lost_at = monotonic()
            self._past = dataclasses.replace(self._past, interruptions=self._past.interruptions + self._seen)
            lost = Notice("lost", f"{error.message} Looking for it again.")
            self.on_notice(lost if self._seen else Notice("connecting", f"{error.message}{TRYING}"))
        self._stopped.wait(self._find_pause(self._attempts))
        self._attempts += 1

    def _find_pause(self, attempt: int) -> float:
        return self._retry_pauses_s[min(attempt, len(self._retry_pauses_s) - 1)]

    def _note_frame(self, source: Source) -> None:
        self._found_at = self._found_at or monotonic()
        if self._attempts and monotonic() - self._found_at > self._find_pause(self._attempts - 1):
            self._attempts = 0
        self.arrived_at = source.arrived_at
        if self._lost_at is not None:
            seconds = self._end_search(self._lost_at)
            self.on_notice(Notice("back", f"The source is {'back' if self._seen else 'there'} after {seconds:.1f} s."))
        self._seen = True
        self.health = self._past + source.health

    def _end_search(self, since: float) -> float:
        """Count the time of an outage; before its first frame a source was not lost."""
        seconds, self._lost_at = monotonic() - since, None
        if self._seen:
            self._past = dataclasses.replace(self._past, lost_seconds=round(self._past.lost_seconds + seconds, 3))
        return seconds


class LoopedSource(Source):
    """Plays a recorded source again at its end."""

    def __init__(self, open_again: Callable[[], Source], source: Source) -> None:
        """Take over a source.

        Args:
            open_again: Opens the same source again.
            source: The source, open.
        """
        self._open_again, self._source = open_again, source
        self._corrupt = 0
        self.fps, self.region, self.mm_per_px = source.fps, source.region, source.mm_per_px

    def read(self) -> NDArray[Any]:
        """Return the next image; after the last one, the first."""
        # the pipeline sets the callback after the source was opened
        self._source.on_notice = self.on_notice
        image = self._source.read()
        if image is None:
            self._reopen()
            image = self._source.read()
        self.health = dataclasses.replace(self._source.health, corrupt=self._corrupt + self._source.health.corrupt)
        self.name = self._source.name
        if image is None:
            raise SourceError("Expected a source that can be played twice, got no frame the second time.", "No --loop.")
        return image

    def interrupt(self) -> None:
        """Wake a waiting `read`."""
        self._source.interrupt()

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def _reopen(self) -> None:
        self._corrupt += self._source.health.corrupt
        self._source.close()
        self._source = self._open_again()
