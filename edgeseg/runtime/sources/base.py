"""What every source can do: give the next frame, say how it fares, be woken from a wait, and be closed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from edgeseg.core.redact import redact
from edgeseg.core.spec import Region
from edgeseg.runtime.sources.inbox import Inbox

STALL_S = 5.0
"""How long the next whole frame of a live source may take before it counts as lost."""


@dataclass(frozen=True)
class Frame:
    """One captured frame: grey or BGR, its number in the source, and when it was captured (monotonic seconds)."""

    image: NDArray[Any]
    number: int
    captured_at: float
    region: Region | None = None
    """Where the ultrasound picture is, when the user or the source says so; it goes before the card's region."""
    name: str = ""
    """The name of its file, where every frame has a file of its own."""


@dataclass(frozen=True)
class Health:
    """What went wrong with a source without ending it."""

    interruptions: int = 0
    lost_seconds: float = 0.0
    corrupt: int = 0
    """Frames that could not be decoded and were left out."""
    missing: int = 0
    """Frames that a recorded file announces and does not hold."""
    skipped: int = 0
    """Frames that had arrived and were left undecoded, since newer ones lay behind them."""


@dataclass(frozen=True)
class Notice:
    """A live source was lost, or is back; it is told on pages too, so without secrets."""

    state: str
    sentence: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "sentence", redact(self.sentence))


def ignore_notice(notice: Notice) -> None:
    """Take a notice and do nothing."""


class Source(ABC):
    """A sequence of images."""

    returns: bool = False
    """A source that was lost and comes back by itself, so that it need not be opened again."""
    live: bool = False
    """A live source sets its own pace; a recorded one is played at `fps`."""
    fps: float = 30.0
    region: Region | None = None
    """Where the ultrasound picture is, where the source knows."""
    mm_per_px: float | None = None
    arrived_at: float | None = None
    """When the newest image arrived (monotonic seconds), where that is earlier than the end of its decoding."""
    name: str = ""
    """The newest image's file, without its folder: of images and DICOM; empty for videos and live sources."""
    inbox: Inbox | None = None
    """Where the page puts its pictures, for a source that is fed by one."""
    health: Health = Health()
    tell: Callable[[Notice], None] = staticmethod(ignore_notice)
    """Called from the capturing thread."""

    @abstractmethod
    def read(self) -> NDArray[Any] | None:
        """Give the next image, waiting for it where the source is live; None at the end."""

    def interrupt(self) -> None:  # noqa: B027 - a source that never waits long needs no waking
        """Wake a read that waits, from another thread; it then gives None."""

    def close(self) -> None:  # noqa: B027 - a source that holds nothing open has nothing to close
        """Let go of the camera or file."""
