"""Numbers that describe a frame as the network sees it, to tell frames that are not like those of the training.

They come from the pixels on the network's grid, and say how bright, how rough and how laid out a frame is: quantiles of
the grey levels, black, white and flat shares, differences of neighbours at four scales, tiles and borders.
"""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.decision import KnownFrames
from edgeseg.frame.preprocess import Pixels, Placement

# Of the features below: a change of any of them is another version, and cards of the old one are not judged by it.
VERSION = 1
# Resolutions at which neighbours are compared, each half of the one before.
SCALES = 4
_QUANTILES = np.array([0.05, 0.25, 0.5, 0.75, 0.9, 0.98])
# Grey levels up to this count as black, and those from 255 minus this as white.
_MARGIN = 6
# Tiles along each side of which the brightness is taken.
_TILES = 4
# Shorter sides are enlarged: at the coarsest scale there must be neighbours.
_SHORTEST = 32
Features = NDArray[np.float64]


def describe_pixels(pixels: Pixels, placement: Placement | None = None) -> Features:
    """Describe preprocessed pixels (height, width, channels) by finite numbers: as many for every size.

    Args:
        pixels: As `frame_to_pixels` gives them.
        placement: Where the frame lies on the grid: the black margins beside it do not count.
    """
    grey, colour = _to_grey(pixels if placement is None else cut_padding(pixels, placement))
    scales = _list_scales(grey)
    roughness = [number for level in scales for number in _measure_roughness(level)]
    numbers = [*_measure_levels(grey, scales[1]), *roughness, *_measure_layout(scales[-1]), *colour]
    return np.array(numbers, np.float64)


class FrameJudge:
    """Measures how far frames are from those of the training, as a card describes them."""

    def __init__(self, known: KnownFrames) -> None:
        self._threshold = known.threshold
        self._mean = np.array(known.mean, np.float64)
        self._whitening = np.array(known.whitening, np.float64)

    def __call__(self, pixels: Pixels, placement: Placement | None = None) -> float:
        """Measure the distance of preprocessed pixels as a multiple of the card's threshold."""
        return self.measure_length(describe_pixels(pixels, placement)) / self._threshold

    def measure_length(self, features: Features) -> float:
        """Measure the Mahalanobis distance of features, divided by the square root of the number of components."""
        components = self._whitening @ (features - self._mean)
        return math.sqrt(float(np.dot(components, components)) / components.size)


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


def _to_grey(pixels: Pixels) -> tuple[Pixels, list[float]]:
    """Return the grey image, and for colour frames how far red and blue are from green."""
    if pixels.shape[2] == 1:
        return _enlarge(np.ascontiguousarray(pixels[:, :, 0])), []
    pixels = np.ascontiguousarray(pixels)
    grey = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)
    half = (max(1, grey.shape[1] // 2), max(1, grey.shape[0] // 2))
    red, green, blue = cv2.split(cv2.resize(pixels, half, interpolation=cv2.INTER_AREA))
    apart = [cv2.norm(channel, green, cv2.NORM_L1) / green.size for channel in (red, blue)]
    return _enlarge(grey), [math.log(value + 0.5) for value in apart]


def _enlarge(grey: Pixels) -> Pixels:
    height, width = grey.shape
    if min(height, width) >= _SHORTEST:
        return grey
    size = (max(width, _SHORTEST), max(height, _SHORTEST))
    return np.asarray(cv2.resize(np.ascontiguousarray(grey), size, interpolation=cv2.INTER_NEAREST), np.uint8)


def _list_scales(grey: Pixels) -> list[Pixels]:
    scales = [grey]
    while len(scales) < SCALES:
        height, width = scales[-1].shape
        half = cv2.resize(scales[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        scales.append(np.asarray(half, np.uint8))
    return scales


def _measure_levels(grey: Pixels, half: Pixels) -> list[float]:
    """Take quantiles of the grey levels, and the shares of black, of white and of pixels equal to their neighbour."""
    counts = np.cumsum(cv2.calcHist([half], [0], None, [256], [0, 256]).ravel(), dtype=np.float64)
    quantiles = np.searchsorted(counts, _QUANTILES * half.size)
    black, white = counts[_MARGIN] / half.size, 1.0 - counts[255 - _MARGIN] / half.size
    flat = cv2.countNonZero(cv2.compare(grey[:, 1:], grey[:, :-1], cv2.CMP_EQ)) / grey.size
    return [*np.sqrt(quantiles / 255.0), *(math.sqrt(max(0.0, share)) for share in (black, white, flat))]


def _measure_roughness(grey: Pixels) -> tuple[float, ...]:
    """Measure how much neighbours differ across and down, and how far few of them make up for it."""
    across = (grey[:, 1:], grey[:, :-1])
    down = (grey[1:], grey[:-1])
    means = [cv2.norm(*pair, cv2.NORM_L1) / grey.size for pair in (across, down)]
    squares = [cv2.norm(*pair, cv2.NORM_L2SQR) / grey.size for pair in (across, down)]
    # half a grey level is added, since a smooth image has no logarithm
    logarithms = [math.log(mean + 0.5) for mean in means]
    tails = [0.5 * math.log(square + 0.25) - log for square, log in zip(squares, logarithms, strict=True)]
    return (*logarithms, *tails)


def _measure_layout(grey: Pixels) -> list[float]:
    """Take the brightness of tiles, and of the four borders."""
    tiles = cv2.resize(grey, (_TILES, _TILES), interpolation=cv2.INTER_AREA).ravel()
    borders = [cv2.mean(strip)[0] for strip in (grey[:1], grey[-1:], grey[:, :1], grey[:, -1:])]
    return [*np.sqrt(tiles / 255.0), *(math.sqrt(border / 255.0) for border in borders)]
