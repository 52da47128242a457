"""How two frames become the input of a registering network, and its output a displacement field.

Training, calibration and the device call this file, so they cannot differ.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.registration.displacement import Field

# Standard deviation of the window for local statistics, in pixels of an image of 256 pixels; the statistics are
# computed on an image that is _STEP times smaller.
WINDOW_PX, _STEP, _REFERENCE_PX = 12.0, 4, 256.0
# Added to the local standard deviation, in grey levels: below it there is only noise.
_NOISE_LEVEL = 4.0
# Grey levels in 8 bit for one standard deviation, and the middle.
_LEVELS_PER_SIGMA, _MIDDLE = 40.0, 128.0
# Brightness up to which a smoothed pixel lies outside the picture.
_DARK_LEVEL = 3.0
# Smooths the field on the network's output grid, in cells: an int8 output has steps of 0.2 px.
_SMOOTHING_CELLS = 1.0


def even_out(grey: NDArray[np.uint8], sigma: float) -> NDArray[np.uint8]:
    """Even out gain: brightness less its local mean, over the local standard deviation, in 8 bit around 128.

    Args:
        grey: A grey image.
        sigma: The standard deviation of the window in pixels.
    """
    height, width = grey.shape
    size = (max(8, width // _STEP), max(8, height // _STEP))
    values = grey.astype(np.float32)
    mean = np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_AREA))
    squares = np.asarray(cv2.resize(values * values, size, interpolation=cv2.INTER_AREA))
    shown = np.asarray(cv2.GaussianBlur(mean, (0, 0), 1.0) > _DARK_LEVEL, dtype=np.float32)
    layers = np.dstack([shown, mean * shown, squares * shown])
    layers = np.asarray(cv2.GaussianBlur(layers, (0, 0), max(0.5, sigma / _STEP)), dtype=np.float32)
    count = np.maximum(layers[..., 0], 1e-3)
    mean = layers[..., 1] / count
    deviation = np.sqrt(np.maximum(layers[..., 2] / count - mean * mean, 0)) + np.float32(_NOISE_LEVEL)
    # what lies outside the picture becomes the middle grey
    gain = np.float32(_LEVELS_PER_SIGMA) * shown / deviation
    planes = np.dstack([gain, np.float32(_MIDDLE) - gain * mean])
    full = np.asarray(cv2.resize(planes, (width, height), interpolation=cv2.INTER_LINEAR))
    coded = values * full[..., 0] + full[..., 1]
    return np.asarray(cv2.convertScaleAbs(np.maximum(coded, 0)), dtype=np.uint8)


def pair_to_pixels(fixed: NDArray[np.uint8], moving: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Make the two channels of the network's input of two grey images on its grid."""
    sigma = WINDOW_PX * max(fixed.shape) / _REFERENCE_PX
    return np.dstack([even_out(fixed, sigma), even_out(moving, sigma)])


def outputs_to_field(outputs: NDArray[Any], reach_px: float, size: tuple[int, int]) -> Field:
    """Make the displacement field of a grid of numbers from 0 to 1.

    Args:
        outputs: (height, width, 2), of which 0.5 is no motion.
        reach_px: The displacement that 1 stands for, in pixels of `size`.
        size: Height and width of the field.
    """
    coarse = (outputs.astype(np.float32) - np.float32(0.5)) * np.float32(2 * reach_px)
    coarse = np.asarray(cv2.GaussianBlur(coarse, (0, 0), _SMOOTHING_CELLS))
    return np.asarray(cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_LINEAR), dtype=np.float32)
