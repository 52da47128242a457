"""Say on stderr when the source is lost and when it is back."""

from __future__ import annotations

import sys

from edgeseg.runtime.sinks.base import Result, Sink
from edgeseg.runtime.sources.base import Notice


class NoticePrinter(Sink):
    """Prints what happens to the source, and nothing of its results."""

    def publish(self, result: Result) -> None:
        """Take a result and show nothing of it."""

    def notice(self, notice: Notice) -> None:
        """Print what happened."""
        print(f"edgeseg: {notice.sentence}", file=sys.stderr, flush=True)
