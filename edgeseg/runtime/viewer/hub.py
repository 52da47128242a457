"""The newest result, between the one thread that makes results and the many that show them."""

from __future__ import annotations

import secrets
import threading
from collections import deque
from dataclasses import dataclass
from time import monotonic

from edgeseg.runtime.picture import Picture
from edgeseg.runtime.sinks.base import Result

KEPT_FRAMES = 300
RATE_SECONDS = 2.0


@dataclass(frozen=True)
class Shown:
    """A picture and its place in the order of showing, from 1."""

    number: int
    picture: Picture


@dataclass(frozen=True)
class Snapshot:
    """What the hub knows at one moment."""

    newest: Result | None
    results: int
    ages_ms: tuple[float, ...]
    fps: float
    idle_ms: float | None
    """How long ago the newest result came; None before the first."""
    ended: bool


class Hub:
    """Keeps the newest result and the newest picture, and wakes whoever waits for that; older ones are gone."""

    def __init__(self) -> None:
        self.name = secrets.token_hex(8)
        self._news = threading.Condition()
        self._newest: Result | None = None
        self._results = 0
        self._shown: Shown | None = None
        self._ended = False
        self._times: deque[float] = deque(maxlen=KEPT_FRAMES)
        self._ages: deque[float] = deque(maxlen=KEPT_FRAMES)

    def publish(self, result: Result) -> None:
        """Make a result the newest."""
        with self._news:
            self._newest = result
            self._results += 1
            self._times.append(monotonic())
            self._ages.append(result.age_ms)

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
            newest, results, ended = self._newest, self._results, self._ended
            ages, times = tuple(self._ages), tuple(self._times)
        now = monotonic()
        idle = 1e3 * (now - times[-1]) if times else None
        return Snapshot(newest, results, ages, _count_rate(times, now), idle, ended)

    def _shown_number(self) -> int:
        return self._shown.number if self._shown else 0


def _count_rate(times: tuple[float, ...], now: float) -> float:
    recent = [time for time in times if now - time <= RATE_SECONDS]
    if len(recent) < 2 or recent[-1] <= recent[0]:
        return 0.0
    return (len(recent) - 1) / (recent[-1] - recent[0])
