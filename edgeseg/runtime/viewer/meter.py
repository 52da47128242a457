"""How fast something comes: at this moment, and in each of the last seconds."""

from __future__ import annotations

from collections import deque
from math import floor

RECENT_SECONDS = 2.0
HISTORY_SECONDS = 60
KEPT = 600


class Meter:
    """Counts events by the clock; not for several threads at once."""

    def __init__(self) -> None:
        self._recent: deque[tuple[float, int]] = deque(maxlen=KEPT)
        self._seconds: dict[int, int] = {}

    def add(self, now: float, total: int) -> None:
        """Note that by now there were so many events in all."""
        before = self._recent[-1][1] if self._recent else total - 1
        self._recent.append((now, total))
        second = floor(now)
        self._seconds[second] = self._seconds.get(second, 0) + total - before
        if len(self._seconds) > HISTORY_SECONDS + 1:
            del self._seconds[next(iter(self._seconds))]

    def rate(self, now: float) -> float:
        """Give the events per second of the last moments."""
        recent = [pair for pair in self._recent if now - pair[0] <= RECENT_SECONDS]
        if len(recent) < 2 or recent[-1][0] <= recent[0][0]:
            return 0.0
        return (recent[-1][1] - recent[0][1]) / (recent[-1][0] - recent[0][0])

    def history(self, now: float) -> tuple[int, ...]:
        """Count the events of each of the last whole seconds, from the first event on."""
        if not self._seconds:
            return ()
        end = floor(now)
        begin = max(next(iter(self._seconds)) + 1, end - HISTORY_SECONDS)
        return tuple(self._seconds.get(second, 0) for second in range(begin, end))
