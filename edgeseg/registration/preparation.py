"""Images as registration sees them: where tissue is shown, with gain and speckle evened out, and whether any is there.

What stays with the probe while tissue moves under it would be matched instead of the tissue: the outline of a fan, the
gain over depth, shadows. So pixels outside the picture do not count, and every pixel is compared with its surroundings:
its brightness less their mean, over their standard deviation (local normalisation).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import DataError
from edgeseg.frame.images import to_grey

# Standard deviation of the windows for local statistics, in pixels of an image of 256 pixels: a narrow one is precise,
# since slow changes of gain vanish; in a wide one large structures remain, which are found from further away.
NARROW_PX, WIDE_PX = 6.0, 14.0
# Added to the standard deviation, in grey levels: below it there is only noise.
NOISE_LEVEL = 4.0
# Grey levels in 8 bit for one standard deviation.
LEVELS_PER_SIGMA = 40.0
# Brightness up to which a pixel may lie outside the ultrasound picture, after smoothing.
DARK_LEVEL = 3.0
SMALLEST_SIDE = 32
# The correlation of neighbours two pixels apart: below 0.02 for white noise, above 0.37 for images of a probe, and down
# to 0.09 for those that were reduced to 128 pixels.
LEAST_STRUCTURE = 0.06
# Share of the image that must show more than one grey level around it, and the level.
_LEAST_TEXTURE, _TEXTURE_LEVELS = 0.02, 1.0
# Statistics are computed on an image that is this much smaller.
_STEP = 4
_REFERENCE_PX = 256.0
# How far a mask's distance map reaches, as a share of the longer side.
_MASK_REACH = 0.15

Pixels = NDArray[np.float32]


@dataclass(frozen=True)
class Prepared:
    """One image, ready to be matched.

    Args:
        grey: 8-bit grey (height, width).
        valid: 1 where the image shows tissue.
        pixels: Brightness, normalised in a narrow window; 0 where nothing is shown.
        wide: The same in a wide window.
    """

    grey: NDArray[np.uint8]
    valid: NDArray[np.uint8]
    pixels: Pixels
    wide: Pixels

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.grey.shape[0], self.grey.shape[1]


def prepare(image: NDArray[Any]) -> Prepared:
    """Prepare a grey or BGR image of 8 or 16 bit."""
    grey = to_grey(image)
    valid = find_valid(grey)
    unit = max(grey.shape) / _REFERENCE_PX
    pixels, wide = (normalise(grey, valid, window * unit) for window in (NARROW_PX, WIDE_PX))
    return Prepared(grey, valid, pixels, wide)


def prepare_mask(mask: NDArray[np.uint8], where: str) -> Prepared:
    """Prepare a mask: its signed distance map takes the place of brightness, up to some distance of the outline.

    Args:
        mask: 0 outside of what is to be matched.
        where: The mask, for messages.
    """
    inside = np.asarray(mask > 0, dtype=np.uint8)
    if not inside.any() or inside.all():
        raise DataError(
            f"Expected an outline in {where}, got {'a full' if inside.any() else 'an empty'} mask.",
            "Give a mask with a finding, or register the images.",
        )
    reach = _MASK_REACH * max(mask.shape)
    there, away = (cv2.distanceTransform(part, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) for part in (inside, 1 - inside))
    pixels = np.asarray(np.clip((there - away) / reach, -1, 1), dtype=np.float32)
    return Prepared(inside * np.uint8(255), np.ones(mask.shape, np.uint8), pixels, pixels)


def join_prepared(image: Prepared, mask: Prepared) -> Prepared:
    """Let an image and a mask drive together: both have about the same standard deviation."""
    pixels, wide = image.pixels + mask.pixels, image.wide + mask.wide
    return Prepared(image.grey, image.valid, pixels * image.valid, wide * image.valid)


def encode(pixels: Pixels) -> NDArray[np.uint8]:
    """Code normalised pixels in 8 bit, for methods that need it."""
    return np.asarray(cv2.convertScaleAbs(np.maximum(pixels * LEVELS_PER_SIGMA + 128, 0)), dtype=np.uint8)


def find_valid(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Find the pixels that show tissue: a dark vessel counts, the black around a fan does not."""
    small = cv2.resize(grey, _shrunk(grey.shape), interpolation=cv2.INTER_AREA)
    bright = np.asarray(cv2.GaussianBlur(small, (0, 0), 1.0) > DARK_LEVEL, dtype=np.uint8)
    if not bright.any():
        return np.ones(grey.shape, np.uint8)
    closed = cv2.morphologyEx(bright, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    # what is enclosed by tissue belongs to it
    contours, _ = cv2.findContours(np.asarray(closed, np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    filled = np.zeros(small.shape[:2], np.uint8)
    cv2.drawContours(filled, contours, -1, (1,), cv2.FILLED)
    # the margin of a fan is no structure of the tissue
    filled = cv2.erode(np.pad(filled, 1, mode="edge"), np.ones((3, 3), np.uint8), borderValue=1)[1:-1, 1:-1]
    full = cv2.resize(np.asarray(filled, np.uint8), (grey.shape[1], grey.shape[0]), interpolation=cv2.INTER_NEAREST)
    return np.asarray(full, dtype=np.uint8)


def normalise(grey: NDArray[Any], valid: NDArray[np.uint8], sigma: float) -> Pixels:
    """Subtract the local mean, and divide by the local standard deviation, both over valid pixels alone."""
    size = _shrunk(grey.shape)
    values = grey.astype(np.float32)
    weight = valid.astype(np.float32)
    shown = cv2.multiply(values, weight)
    layers = (weight, shown, cv2.multiply(values, shown))
    small = cv2.merge([cv2.resize(layer, size, interpolation=cv2.INTER_AREA) for layer in layers])
    blurred = np.asarray(cv2.GaussianBlur(small, (0, 0), max(0.5, sigma / _STEP)), dtype=np.float32)
    count = np.maximum(blurred[..., 0], 1e-4)
    mean = blurred[..., 1] / count
    deviation = np.sqrt(np.maximum(blurred[..., 2] / count - mean * mean, 0)) + np.float32(NOISE_LEVEL)
    width_height = (grey.shape[1], grey.shape[0])
    middle, scale = (cv2.resize(part, width_height, interpolation=cv2.INTER_LINEAR) for part in (mean, 1 / deviation))
    return np.asarray(cv2.multiply(cv2.multiply(cv2.subtract(values, middle), scale), weight), dtype=np.float32)


def _shrunk(shape: tuple[int, ...]) -> tuple[int, int]:
    """Width and height of the image that statistics are computed on."""
    return max(8, shape[1] // _STEP), max(8, shape[0] // _STEP)


def measure_structure(image: Prepared) -> float:
    """Measure how much of an image is more than noise: the correlation of pixels that are two apart.

    An image from a probe is smooth over the width of its point spread function; white noise is not. 0 for an image
    without texture.
    """
    valid = (image.valid > 0) & (image.grey > 0) & (image.grey < 255)
    textured = valid & (np.abs(image.pixels) * NOISE_LEVEL > _TEXTURE_LEVELS)
    if textured.mean() < _LEAST_TEXTURE:
        return 0.0
    # over the narrow window, a small image would keep little but its speckle
    pixels = image.wide - float(image.wide[valid].mean())
    along = _correlate(pixels[2:], pixels[:-2], valid[2:] & valid[:-2])
    across = _correlate(pixels[:, 2:], pixels[:, :-2], valid[:, 2:] & valid[:, :-2])
    return max(0.0, min(along, across))


def _correlate(one: Pixels, other: Pixels, where: NDArray[np.bool_]) -> float:
    first, second = one[where].astype(np.float64), other[where].astype(np.float64)
    scale = np.sqrt(np.sum(first * first) * np.sum(second * second))
    return float(np.sum(first * second) / scale) if scale > 0 else 0.0


def check_structure(image: Prepared, where: str) -> None:
    """Refuse an image in which nothing can be found again: constant, saturated, or noise.

    Args:
        image: To be checked.
        where: The image, for messages.

    Raises:
        DataError: It is too small or shows no structure.
    """
    if min(image.size) < SMALLEST_SIDE:
        raise DataError(
            f"Expected at least {SMALLEST_SIDE} pixels on each side of {where}, got {image.size[1]}x{image.size[0]}.",
            "Register larger images.",
        )
    structure = measure_structure(image)
    if structure < LEAST_STRUCTURE:
        raise DataError(
            f"Expected structure in {where}, got none: neighbouring pixels correlate by {structure:.2f}, "
            f"and images by at least {LEAST_STRUCTURE}.",
            "Constant, saturated and noisy images cannot be registered; look at the image.",
        )
