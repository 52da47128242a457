"""A moving phantom: ultrasound-like frames without a probe, a file or a patient."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

from numpy.typing import NDArray

from edgeseg.core.errors import SourceError
from edgeseg.data.phantom import PhantomClip
from edgeseg.data.reading import to_channels
from edgeseg.runtime.sources.base import Source

EXAMPLE = "phantom://?seed=1&frames=300&size=256"
_DEFAULTS = {"seed": 1, "frames": 0, "size": 256}
_RENDERED = 90


class PhantomSource(Source):
    """Plays a phantom clip; the frames are rendered ahead and played to and fro, so that rendering costs nothing."""

    def __init__(self, text: str, colour: bool = False) -> None:
        """Prepare a clip.

        Args:
            text: phantom:// with optional seed, frames (0: endless) and size, as in `phantom://?seed=2&frames=300`.
            colour: Whether the model wants colour.
        """
        options = _parse_options(text)
        self._left = options["frames"] or -1
        clip = PhantomClip(seed=options["seed"], size=(options["size"], options["size"]))
        self.fps = clip.fps
        count = min(_RENDERED, options["frames"] or _RENDERED)
        self._images = [to_channels(clip.frame(number).image, colour) for number in range(count)]
        self._position = 0

    def read(self) -> NDArray[Any] | None:
        """Give the next frame of the clip."""
        if self._left == 0:
            return None
        self._left -= 1
        image = self._images[_to_and_fro(self._position, len(self._images))]
        self._position += 1
        return image


def _to_and_fro(position: int, count: int) -> int:
    period = max(2 * (count - 1), 1)
    return min(position % period, period - position % period) if count > 1 else 0


def _parse_options(text: str) -> dict[str, int]:
    given = dict(parse_qsl(urlsplit(text).query, keep_blank_values=True))
    for name, value in given.items():
        if name not in _DEFAULTS or not value.isdigit():
            raise SourceError(
                f"Expected {', '.join(_DEFAULTS)} with whole numbers in {text}, got {name}={value}.",
                f"Write for example '{EXAMPLE}'.",
            )
    options = _DEFAULTS | {name: int(value) for name, value in given.items()}
    if not 32 <= options["size"] <= 1024:
        raise SourceError(f"Expected a size from 32 to 1024 in {text}, got {options['size']}.", f"Try '{EXAMPLE}'.")
    return options
