"""What every source can do: give the next frame, say how fast it runs, and be closed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True)
class Frame:
    """One captured frame: grey or BGR, its number in the source, and when it was captured (monotonic seconds)."""

    image: NDArray[Any]
    number: int
    captured_at: float


class Source(ABC):
    """A sequence of images."""

    live: bool = False
    """A live source sets its own pace and never ends; a recorded one is played at `fps`."""
    fps: float = 30.0
    mm_per_px: float | None = None

    @abstractmethod
    def read(self) -> NDArray[Any] | None:
        """Give the next image, waiting for it where the source is live; None at the end."""

    def close(self) -> None:  # noqa: B027 - a source that holds nothing open has nothing to close
        """Let go of the camera or file."""
