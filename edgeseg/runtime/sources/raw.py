"""Raw frames on standard input: what any other program can write."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import SourceError
from edgeseg.core.limits import check_pixels
from edgeseg.core.spec import check_choice
from edgeseg.runtime.sources.absence import Absence
from edgeseg.runtime.sources.base import STALL_S, Notice, Source
from edgeseg.runtime.sources.options import Size, read_options
from edgeseg.runtime.sources.pipe import Pipe

EXAMPLE = "-?size=640x480&format=gray"
CHANNELS = {"gray": 1, "bgr": 3}
_NAME = "standard input"


@dataclass(frozen=True)
class RawOptions:
    """How the bytes lie; without fps the writer sets the pace, with it the frames are played at that rate."""

    size: Size
    format: str = "gray"
    fps: float | None = None

    def __post_init__(self) -> None:
        check_choice("format", self.format, CHANNELS)
        check_pixels(_NAME, self.size.width, self.size.height)

    @property
    def shape(self) -> tuple[int, ...]:
        """Give the shape of one frame."""
        grey = (self.size.height, self.size.width)
        return grey if self.format == "gray" else (*grey, CHANNELS[self.format])


class RawSource(Source):
    """Reads frames of one size and format, one after the other, from standard input.

    A writer that falls silent is told and waited for: the frames of a pipe that is opened anew would begin anywhere.
    """

    returns = True

    def __init__(self, text: str, stall_s: float = STALL_S) -> None:
        """Prepare to read.

        Args:
            text: `-` with the frames' size, as in `-?size=640x480&format=gray`.
            stall_s: How long a frame may take until the writer counts as lost.
        """
        options = read_options(text, RawOptions, EXAMPLE)
        self._shape = options.shape
        self._absence, self._corrupt, self._stall_s = Absence(), 0, stall_s
        self._pipe = Pipe(_find_input(), _NAME, stall_s, self._lose)
        self.live = options.fps is None
        self.fps = options.fps or Source.fps

    def read(self) -> NDArray[Any] | None:
        """Read the next frame; an unfinished one at the end is counted as corrupt."""
        self._pipe.begin_frame()
        data = self._pipe.read(int(np.prod(self._shape)))
        whole = len(data) == np.prod(self._shape)
        self._corrupt += bool(data) and not whole and not self._pipe.interrupted
        back = self._absence.end("Standard input")
        self._note(back if whole else None)
        return np.frombuffer(data, np.uint8).reshape(self._shape) if whole else None

    def interrupt(self) -> None:
        """Stop waiting for the writer."""
        self._pipe.interrupt()

    def _lose(self) -> None:
        self._note(self._absence.begin(f"Expected frames on {_NAME}, got no whole one within {self._stall_s:g} s."))

    def _note(self, notice: Notice | None) -> None:
        self.health = dataclasses.replace(
            self.health,
            interruptions=self._absence.interruptions,
            lost_seconds=round(self._absence.seconds, 3),
            corrupt=self._corrupt,
        )
        if notice is not None:
            self.tell(notice)


def _find_input() -> int:
    """Give the descriptor of standard input, which a service may have closed."""
    try:
        return sys.stdin.fileno()
    except (AttributeError, ValueError, OSError) as error:  # None, closed, or replaced by what is no file
        raise SourceError(
            "Expected frames on standard input, got none that is open.", "Pipe them in: ffmpeg ... | edgeseg stream ..."
        ) from error
