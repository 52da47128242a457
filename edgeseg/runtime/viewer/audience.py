"""Who is watching: a limited number of seats, and which open pages have not yet heard that the stream has ended."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

SEATS = 8
FAREWELL_SECONDS = 1.2
GONE_AFTER_SECONDS = 1.5


class Audience:
    """Counts who watches."""

    def __init__(self) -> None:
        self._seats = threading.BoundedSemaphore(SEATS)
        self._seated = 0
        self._change = threading.Condition()
        self._pages: dict[str, float] = {}

    @contextmanager
    def take_seat(self) -> Iterator[bool]:
        """Hold a seat for a picture; False when all are taken."""
        seated = self._seats.acquire(blocking=False)
        self._count(seated)
        try:
            yield seated
        finally:
            self._count(-seated)
            if seated:
                self._seats.release()

    def is_watching(self) -> bool:
        """Say whether anyone looks at the picture."""
        return self._seated > 0

    def _count(self, change: int) -> None:
        with self._change:
            self._seated += change

    def note_page(self, page: str, told_end: bool) -> None:
        """Remember that a page has just got the numbers, and whether they said that the stream has ended."""
        with self._change:
            self._pages[page] = monotonic()
            if told_end:
                del self._pages[page]
            self._forget_gone()
            self._change.notify_all()

    def wait_told(self) -> None:
        """Wait shortly until every open page has heard of the end, so that none takes it for a lost connection."""
        with self._change:
            self._forget_gone()
            self._change.wait_for(lambda: not self._pages, FAREWELL_SECONDS)

    def _forget_gone(self) -> None:
        oldest = monotonic() - GONE_AFTER_SECONDS
        self._pages = {page: seen for page, seen in self._pages.items() if seen >= oldest}
