"""phantom://: a synthetic moving ultrasound clip, without a probe, a file or a patient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from edgeseg.core.errors import SourceError
from edgeseg.core.spec import check_choice
from edgeseg.data.reading import to_channels
from edgeseg.phantom import PhantomClip
from edgeseg.phantom.second import SECOND, render_second
from edgeseg.phantom.structures import MOST_LESIONS
from edgeseg.streaming.sources.address import Size, read_options, split_address
from edgeseg.streaming.sources.base import Source

PREFIX = "phantom://"
EXAMPLE = "phantom://?seed=1&frames=300&size=256"
# Frames that are rendered ahead.
_RENDERED = 90

_SIZE = Size(256, 256)


@dataclass(frozen=True)
class PhantomOptions:
    """Which clip is played; 0 frames is an endless one."""

    seed: int = 1
    frames: int = 0
    size: Size = _SIZE
    comes_and_goes: bool = False
    lesions: int = -1
    """Several smaller ones in place of the one; below 0 the one."""
    touching: bool = False
    modality: str = ""

    def __post_init__(self) -> None:
        if not (32 <= self.size.width <= 1024 and 32 <= self.size.height <= 1024):
            raise ValueError(f"expected a size from 32 to 1024, got {self.size}")
        if self.lesions > MOST_LESIONS or (self.comes_and_goes and self.lesions >= 0):
            raise ValueError(f"expected up to {MOST_LESIONS} lesions that do not come and go, got {self.lesions}")
        if self.modality:
            check_choice("modality", self.modality, ("bmode", *SECOND))


class PhantomSource(Source):
    """Plays a clip that was rendered ahead, forwards and backwards, so that rendering takes no time of the stream."""

    def __init__(self, text: str, colour: bool = False) -> None:
        """Render the clip.

        Args:
            text: phantom:// with optional seed, frames (0: endless), size and comes_and_goes, as in
                `phantom://?seed=2&frames=300`.
            colour: Whether the model's input is colour.
        """
        if split_address(text)[0] != PREFIX:
            raise SourceError(f"Expected options after {PREFIX}, got {text}.", f"Write for example '{EXAMPLE}'.")
        options = read_options(text, PhantomOptions, EXAMPLE)
        self._left = options.frames or -1
        size = (options.size.height, options.size.width)
        clip = PhantomClip(
            seed=options.seed,
            size=size,
            comes_and_goes=options.comes_and_goes,
            lesions=None if options.lesions < 0 else options.lesions,
            touching=options.touching,
        )
        self.fps = clip.fps
        count = min(_RENDERED, options.frames or _RENDERED)
        self._images = [to_channels(_render(clip, number, options), colour) for number in range(count)]
        self._position = 0

    def read(self) -> NDArray[Any] | None:
        """Give the next frame of the clip."""
        if self._left == 0:
            return None
        self._left -= 1
        image = self._images[_ping_pong(self._position, len(self._images))]
        self._position += 1
        return image


def _render(clip: PhantomClip, number: int, options: PhantomOptions) -> NDArray[Any]:
    frame = clip.frame(number)
    return render_second(frame, options.modality, number) if options.modality in SECOND else frame.image


def _ping_pong(position: int, count: int) -> int:
    """Index of the frame at a position: 0, 1, 2, 1, 0, 1, ... for three frames."""
    # the two end frames are shown once per turn
    period = max(2 * (count - 1), 1)
    return min(position % period, period - position % period) if count > 1 else 0
