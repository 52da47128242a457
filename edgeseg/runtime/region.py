"""Which part of a frame is the ultrasound picture: said by the user, said by the source, or found."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from edgeseg.core.spec import Region
from edgeseg.runtime.fan import FanFinder


class RegionFinder:
    """Gives the region of every frame; None where nothing is known and the card or the whole frame holds."""

    def __init__(self, asked: Region | str | None, source_region: Region | None) -> None:
        """Remember what was said.

        Args:
            asked: What the user said: a region, "auto", or nothing.
            source_region: What the source says, which "auto" prefers to looking.
        """
        self._known = asked if isinstance(asked, Region) else source_region
        self._fan = FanFinder() if asked is not None and self._known is None else None

    def find(self, image: NDArray[Any]) -> Region | None:
        """Give the region of a frame."""
        return self._known if self._fan is None else self._fan.find(image)
