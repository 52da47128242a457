"""Who is watching: a limited number of seats, and which open pages have not yet heard that the stream has ended."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

SEATS = 8
SEATS_PER_ADDRESS = 6
"""Whoever takes these, or never reads what is sent there, leaves two for others."""
MOST_PAGES = 64
FAREWELL_SECONDS = 1.2
GONE_AFTER_SECONDS = 1.5


class Audience:
    """Counts who watches."""

    def __init__(self) -> None:
        self._seated: Counter[str] = Counter()
        self._taken = 0
        self._change = threading.Condition()
        self._pages: dict[str, float] = {}

    @contextmanager
    def take_seat(self, address: str) -> Iterator[bool]:
        """Hold a seat for a picture; False when all are taken, or as many as one address may have."""
        with self._change:
            seated = self._taken < SEATS and self._seated[address] < SEATS_PER_ADDRESS
            self._count(address, seated)
        try:
            yield seated
        finally:
            with self._change:
                self._count(address, -seated)

    def is_watching(self) -> bool:
        """Say whether anyone looks at the picture."""
        return self._taken > 0

    def _count(self, address: str, change: int) -> None:
        self._taken += change
        self._seated[address] += change
        if not self._seated[address]:
            del self._seated[address]

    def note_page(self, page: str, told_end: bool) -> None:
        """Remember that a page has just got the numbers, and whether they said that the stream has ended."""
        with self._change:
            self._pages[page] = monotonic()
            if told_end:
                del self._pages[page]
            self._forget_gone()
            while len(self._pages) > MOST_PAGES:  # a client may call itself by another name each time
                del self._pages[next(iter(self._pages))]
            self._change.notify_all()

    def wait_told(self) -> None:
        """Wait shortly until every open page has heard of the end, so that none takes it for a lost connection."""
        with self._change:
            self._forget_gone()
            self._change.wait_for(lambda: not self._pages, FAREWELL_SECONDS)

    def _forget_gone(self) -> None:
        oldest = monotonic() - GONE_AFTER_SECONDS
        self._pages = {page: seen for page, seen in self._pages.items() if seen >= oldest}
