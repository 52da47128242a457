"""A source that is waited for without an end: when it fell silent, that it did, and when it is back."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from edgeseg.runtime.sources.base import Notice


class Absence:
    """Counts the times that a source was away, and how long."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._since: float | None = None
        self.interruptions = 0
        self.seconds = 0.0

    def begin(self, sentence: str) -> Notice | None:
        """Note that it is away; gives what to say, None where that was said."""
        if self._since is not None:
            return None
        self._since = self._clock()
        self.interruptions += 1
        return Notice("lost", sentence)

    def end(self, name: str) -> Notice | None:
        """Note that it is here, or that nobody waits for it any more; gives what to say, None where it was never away.

        Args:
            name: Its name, as a sentence begins with it.
        """
        if self._since is None:
            return None
        seconds, self._since = self._clock() - self._since, None
        self.seconds += seconds
        return Notice("back", f"{name} is back after {seconds:.1f} s.")
