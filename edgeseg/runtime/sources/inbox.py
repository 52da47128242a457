"""Where a page puts the pictures of its device's camera: the newest one, until the stream comes for it."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from time import monotonic

from edgeseg.runtime.sources.options import Size

SILENT_SECONDS = 2.0
"""After how long without a picture another page may send its own."""


@dataclass(frozen=True)
class Letter:
    """A picture as it was sent, and when all of it was here (monotonic seconds)."""

    jpeg: bytes
    arrived_at: float


class Inbox:
    """Holds one picture; a newer one takes its place."""

    def __init__(self, size: Size, fps: float) -> None:
        """Say what the camera is asked for."""
        self.size, self.fps = size, fps
        self.replaced = 0
        """How many pictures a newer one has pushed out."""
        self._news = threading.Condition()
        self._letter: Letter | None = None
        self._sender, self._sent_at = "", 0.0
        self._closed = False

    def put(self, sender: str, jpeg: bytes) -> bool:
        """Make a picture the newest; False while another page's camera is in use."""
        now = monotonic()
        with self._news:
            if sender != self._sender and now - self._sent_at < SILENT_SECONDS:
                return False
            self._sender, self._sent_at = sender, now
            self.replaced += self._letter is not None
            self._letter = Letter(jpeg, now)
            self._news.notify_all()
        return True

    def take(self, timeout: float) -> Letter | None:
        """Wait for a picture; None when none came in time or none will come."""
        with self._news:
            self._news.wait_for(lambda: self._letter is not None or self._closed, timeout)
            letter, self._letter = self._letter, None
            return letter

    @property
    def closed(self) -> bool:
        """Say whether nobody will come for pictures any more."""
        return self._closed

    def close(self) -> None:
        """Wake whoever waits for a picture: none will be taken any more."""
        with self._news:
            self._closed = True
            self._news.notify_all()
