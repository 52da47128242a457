"""This machine's heat for every open page, read from the kernel's files now and then only."""

from __future__ import annotations

import threading
from time import monotonic

from edgeseg.core.thermal import Thermal, read_thermal

FRESH_SECONDS = 2.0


class Thermometer:
    """Remembers a reading for two seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read_at: float | None = None
        self._reading = Thermal(None, None)

    def read(self) -> Thermal:
        """Give a reading that is no older than that."""
        with self._lock:
            if self._read_at is None or monotonic() - self._read_at > FRESH_SECONDS:
                self._reading, self._read_at = read_thermal(), monotonic()
            return self._reading
