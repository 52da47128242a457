"""A recorded source that begins again at its end."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from edgeseg.core.errors import SourceError
from edgeseg.runtime.sources.base import Source


class LoopedSource(Source):
    """Plays a source again and again."""

    def __init__(self, open_again: Callable[[], Source], source: Source) -> None:
        """Take over a source.

        Args:
            open_again: Opens the same source anew.
            source: The source, open.
        """
        self._open_again, self._source = open_again, source
        self._corrupt = 0
        self.fps, self.region, self.mm_per_px = source.fps, source.region, source.mm_per_px

    def read(self) -> NDArray[Any]:
        """Give the next image, after the last the first."""
        self._source.tell = self.tell
        image = self._source.read()
        if image is None:
            self._begin_again()
            image = self._source.read()
        self.health = dataclasses.replace(self._source.health, corrupt=self._corrupt + self._source.health.corrupt)
        self.name = self._source.name
        if image is None:
            raise SourceError("Expected a source that can be played twice, got no frame the second time.", "No --loop.")
        return image

    def interrupt(self) -> None:
        """Wake a read that waits."""
        self._source.interrupt()

    def close(self) -> None:
        """Let go of the file."""
        self._source.close()

    def _begin_again(self) -> None:
        self._corrupt += self._source.health.corrupt
        self._source.close()
        self._source = self._open_again()
