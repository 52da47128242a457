"""Raw frames on standard input: what any other program can write."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.spec import check_choice
from edgeseg.runtime.sources.base import Source
from edgeseg.runtime.sources.options import Size, read_options
from edgeseg.runtime.sources.pipe import Pipe

EXAMPLE = "-?size=640x480&format=gray"
CHANNELS = {"gray": 1, "bgr": 3}


@dataclass(frozen=True)
class RawOptions:
    """How the bytes lie; without fps the writer sets the pace, with it the frames are played at that rate."""

    size: Size
    format: str = "gray"
    fps: float | None = None

    def __post_init__(self) -> None:
        check_choice("format", self.format, CHANNELS)

    @property
    def shape(self) -> tuple[int, ...]:
        """Give the shape of one frame."""
        grey = (self.size.height, self.size.width)
        return grey if self.format == "gray" else (*grey, CHANNELS[self.format])


class RawSource(Source):
    """Reads frames of one size and format, one after the other, from standard input."""

    def __init__(self, text: str) -> None:
        """Prepare to read.

        Args:
            text: `-` with the frames' size, as in `-?size=640x480&format=gray`.
        """
        options = read_options(text, RawOptions, EXAMPLE)
        self._shape = options.shape
        self._pipe = Pipe(sys.stdin.fileno(), "standard input")
        self.live = options.fps is None
        self.fps = options.fps or Source.fps

    def read(self) -> NDArray[Any] | None:
        """Read the next frame; an unfinished one at the end is counted as corrupt."""
        data = self._pipe.read(int(np.prod(self._shape)))
        if len(data) == np.prod(self._shape):
            return np.frombuffer(data, np.uint8).reshape(self._shape)
        if data and not self._pipe.interrupted:
            self.health = dataclasses.replace(self.health, corrupt=self.health.corrupt + 1)
        return None

    def interrupt(self) -> None:
        """Stop waiting for the writer."""
        self._pipe.interrupt()
