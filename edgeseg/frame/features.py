"""Numbers that describe a frame as the network sees it, to tell frames that are not like those of the training.

They come from the pixels on the network's grid, and say how bright, how rough and how laid out a frame is: shares of
black and white, differences of neighbours at two scales, tiles and borders. The frame at full resolution does not
count: its finest differences are the noise of a converter.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.decision import KnownFrames
from edgeseg.frame.preprocess import Pixels, Placement

# Of the features below: a change of any of them is another version, and cards of the old one are not judged by it.
VERSION = 2
# Grey levels up to this count as black, and those from 255 minus this as white.
_MARGIN = 6
# Rows and columns of tiles of which the brightness is taken.
_TILES = (4, 4)
# Shorter sides are enlarged: at an eighth of the resolution there must be neighbours.
_SHORTEST = 32
_COLOURS = 3
Features = NDArray[np.float64]


def describe_pixels(pixels: Pixels, placement: Placement | None = None) -> Features:
    """Describe preprocessed pixels (height, width, channels) by finite numbers: as many for every size.

    All sums are of whole numbers, so that machines differ in the last digits of a logarithm (1e-9) at most. Sides that
    32 does not divide are resized with fractions, where another processor may round a grey level the other way.

    Args:
        pixels: As `frame_to_pixels` gives them.
        placement: Where the frame lies on the grid: the black margins beside it do not count.
    """
    half, colour = _halve_pixels(pixels if placement is None else cut_padding(pixels, placement))
    quarter = _halve(half)
    eighth = _halve(quarter)
    levels = [*_measure_levels(quarter), *_measure_layout(eighth)]
    roughness = [*_measure_roughness(half), *_measure_roughness(eighth)]
    return np.array([*(math.sqrt(level / 255.0) for level in levels), *roughness, *colour], np.float64)


class FrameJudge:
    """Measures how far frames are from those of the training, as a card describes them."""

    def __init__(self, known: KnownFrames) -> None:
        self._threshold = known.threshold
        self._mean = np.array(known.mean, np.float64)
        # rows leave out their first zeros
        rows = ([0.0] * (len(known.mean) - len(row)) + list(row) for row in known.whitening)
        self._whitening = np.array(list(rows), np.float64)

    def __call__(self, pixels: Pixels, placement: Placement | None = None) -> float:
        """Measure the distance of preprocessed pixels as a multiple of the card's threshold."""
        return self.measure_length(describe_pixels(pixels, placement)) / self._threshold

    def measure_length(self, features: Features) -> float:
        """Measure the Mahalanobis distance of features, divided by the square root of the number of components."""
        components = self._whitening.dot(features - self._mean)
        return math.sqrt(float(components.dot(components)) / components.size)


def open_judge(known: KnownFrames | None, channels: int) -> FrameJudge | None:
    """Open the judge of a card's frames; None where the card describes none, or by other features than these.

    Args:
        known: Of the card.
        channels: Of the network's input.
    """
    if known is None or known.features != VERSION or len(known.mean) != count_features(channels):
        return None
    return FrameJudge(known)


@lru_cache(maxsize=4)
def count_features(channels: int) -> int:
    """Count the features of an input with that many channels."""
    return describe_pixels(np.zeros((_SHORTEST, _SHORTEST, channels), np.uint8)).size


def cut_padding(pixels: Pixels, placement: Placement) -> Pixels:
    """Cut off the black margins that the letterbox has put beside a frame."""
    return pixels[placement.y : placement.y + placement.height, placement.x : placement.x + placement.width]


def _halve_pixels(pixels: Pixels) -> tuple[Pixels, list[float]]:
    """Return the grey image at half the resolution, and for colour frames how far red and blue are from green."""
    pixels = _enlarge(pixels)
    if pixels.shape[2] == 1:
        return _halve(pixels[:, :, 0]), []
    half = _halve(pixels)
    if pixels.shape[2] != _COLOURS:
        # modalities: the first as it is, and how far the others are from it
        first, *others = cv2.split(half)
        return np.asarray(first, np.uint8), [_compare(other, first) for other in others]
    red, green, blue = cv2.split(half)
    grey = np.asarray(cv2.cvtColor(half, cv2.COLOR_RGB2GRAY), np.uint8)
    return grey, [_compare(channel, green) for channel in (red, blue)]


def _compare(channel: Any, other: Any) -> float:
    return math.log(cv2.norm(channel, other, cv2.NORM_L1) / other.size + 0.5)


def _enlarge(pixels: Pixels) -> Pixels:
    height, width, channels = pixels.shape
    if min(height, width) >= _SHORTEST:
        return pixels
    size = (max(width, _SHORTEST), max(height, _SHORTEST))
    large = cv2.resize(np.ascontiguousarray(pixels), size, interpolation=cv2.INTER_NEAREST)
    return np.asarray(large, np.uint8).reshape(size[1], size[0], channels)


def _halve(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    return np.asarray(cv2.resize(pixels, (width // 2, height // 2), interpolation=cv2.INTER_AREA), np.uint8)


def _measure_levels(grey: Pixels) -> list[float]:
    """Take the shares of black and of white, of 255."""
    bright, white = (
        cv2.countNonZero(cv2.threshold(grey, level, 255, cv2.THRESH_BINARY)[1]) / grey.size
        for level in (_MARGIN, 255 - _MARGIN)
    )
    return [255.0 * (1.0 - bright), 255.0 * white]


def _measure_roughness(grey: Pixels) -> tuple[float, float, float, float]:
    """Measure how much neighbours differ across and down, and how far few of them make up for it."""
    left, right, upper, lower = grey[:, :-1], grey[:, 1:], grey[:-1], grey[1:]
    # half a grey level is added, since a smooth image has no logarithm
    across = math.log(cv2.norm(left, right, cv2.NORM_L1) / grey.size + 0.5)
    down = math.log(cv2.norm(upper, lower, cv2.NORM_L1) / grey.size + 0.5)
    spread_across = 0.5 * math.log(cv2.norm(left, right, cv2.NORM_L2SQR) / grey.size + 0.25)
    spread_down = 0.5 * math.log(cv2.norm(upper, lower, cv2.NORM_L2SQR) / grey.size + 0.25)
    return across, down, spread_across - across, spread_down - down


def _measure_layout(grey: Pixels) -> list[float]:
    """Take the brightness of tiles, and of the four borders."""
    tiles = cv2.resize(grey, _TILES, interpolation=cv2.INTER_AREA).ravel().tolist()
    height, width = grey.shape
    # bytes are summed faster than arrays as short as these
    across = [sum(row.tobytes()) / width for row in (grey[0], grey[-1])]
    down = [sum(column.tobytes()) / height for column in (grey[:, 0], grey[:, -1])]
    return [*tiles, *across, *down]
