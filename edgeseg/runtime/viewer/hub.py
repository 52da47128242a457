"""The newest result, between the one thread that makes results and the many that show them."""

from __future__ import annotations

import secrets
import threading
from collections import deque
from dataclasses import dataclass
from time import monotonic

from edgeseg.runtime.picture import Picture
from edgeseg.runtime.sinks.base import Result
from edgeseg.runtime.sources.base import Frame, Notice
from edgeseg.runtime.viewer.meter import Meter

KEPT_FRAMES = 300
KEPT_NOTICES = 5


@dataclass(frozen=True)
class Shown:
    """A picture and its place in the order of showing, from 1."""

    number: int
    picture: Picture


@dataclass(frozen=True)
class Heard:
    """A notice, and when it came (monotonic seconds)."""

    notice: Notice
    at: float


@dataclass(frozen=True)
class Snapshot:
    """What the hub knows at one moment."""

    results: int
    ages_ms: tuple[float, ...]
    fps: float
    captured_fps: float
    rates: tuple[int, ...]
    """Results in each of the last seconds."""
    notices: tuple[Heard, ...]
    """What happened to the source, the newest last."""
    idle_ms: float | None
    """How long ago the newest result came; None before the first."""
    ended: bool


class Hub:
    """Keeps the newest result and the newest picture, and wakes whoever waits for that; older ones are gone."""

    def __init__(self) -> None:
        self.name = secrets.token_hex(8)
        self._news = threading.Condition()
        self._results = 0
        self._shown: Shown | None = None
        self._ended = False
        self._result_at: float | None = None
        self._masks, self._frames = Meter(), Meter()
        self._notices: deque[Heard] = deque(maxlen=KEPT_NOTICES)
        self._ages: deque[float] = deque(maxlen=KEPT_FRAMES)

    def publish(self, result: Result) -> None:
        """Make a result the newest."""
        with self._news:
            self._results += 1
            self._result_at = monotonic()
            self._masks.add(self._result_at, self._results)
            self._ages.append(result.age_ms)

    def count_frame(self, frame: Frame) -> None:
        """Note that a frame was captured."""
        with self._news:
            self._frames.add(monotonic(), frame.number)

    def hear(self, notice: Notice) -> None:
        """Keep what happened to the source."""
        with self._news:
            self._notices.append(Heard(notice, monotonic()))

    def show(self, picture: Picture) -> None:
        """Make a picture the newest."""
        with self._news:
            self._shown = Shown(self._shown_number() + 1, picture)
            self._news.notify_all()

    def end(self) -> None:
        """Tell everyone who waits that nothing more will come."""
        with self._news:
            self._ended = True
            self._news.notify_all()

    @property
    def ended(self) -> bool:
        """Say whether nothing more will come."""
        return self._ended

    def wait_newer(self, seen: int, timeout: float) -> Shown | None:
        """Wait for a picture after the one numbered `seen`; None when none came in time or none will come."""
        with self._news:
            self._news.wait_for(lambda: self._ended or self._shown_number() > seen, timeout)
            return self._shown if self._shown_number() > seen else None

    def wait_end(self, timeout: float) -> None:
        """Sleep, but not past the end."""
        with self._news:
            self._news.wait_for(lambda: self._ended, timeout)

    def look(self) -> Snapshot:
        """Take a snapshot."""
        with self._news:
            now = monotonic()
            return Snapshot(
                results=self._results,
                ages_ms=tuple(self._ages),
                fps=self._masks.rate(now),
                captured_fps=self._frames.rate(now),
                rates=self._masks.history(now),
                notices=tuple(self._notices),
                idle_ms=None if self._result_at is None else 1e3 * (now - self._result_at),
                ended=self._ended,
            )

    def _shown_number(self) -> int:
        return self._shown.number if self._shown else 0
