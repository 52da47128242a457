"""Bring cases onto the network's grid and keep them in memory as bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.denoise import denoise_pixels
from edgeseg.core.frame import frame_to_grid, mask_to_grid
from edgeseg.core.spec import InputSpec
from edgeseg.data.dataset import LabelledImage


@dataclass(frozen=True)
class GridArrays:
    """Pixels (n, height, width, channels) and masks (n, height, width, classes), masks as 0 and 1."""

    pixels: NDArray[np.uint8]
    """Not yet denoised: what varies them comes first, as noise comes first on the device."""
    masks: NDArray[np.uint8]
    denoise: str = "none"

    @property
    def images(self) -> NDArray[np.uint8]:
        """Give the pixels as the network sees them."""
        if self.denoise == "none":
            return self.pixels
        return np.stack([denoise_pixels(pixels, self.denoise) for pixels in self.pixels])

    def __len__(self) -> int:
        return int(self.pixels.shape[0])


def to_grid(images: Sequence[LabelledImage], spec: InputSpec) -> GridArrays:
    """Bring cases onto the grid."""
    return GridArrays(
        np.stack([frame_to_grid(image.frame, spec) for image in images]),
        np.stack([np.stack([mask_to_grid(mask, spec) for mask in image.masks], axis=-1) for image in images]),
        spec.denoise,
    )


def to_reals(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Give pixels the values that the float input tensor has."""
    return images.astype(np.float32) / np.float32(255.0)


def grid_dice(predicted: NDArray[np.float32], masks: NDArray[np.uint8], threshold: float = 0.5) -> float:
    """Average Dice on the grid over the masks that are not empty; quick enough for every epoch."""
    found = _find_masks(predicted, masks.shape[-1], threshold)
    hit = np.asarray(np.sum(found & (masks > 0), axis=(1, 2)), dtype=np.float64)
    total = np.asarray(found.sum(axis=(1, 2)) + masks.sum(axis=(1, 2), dtype=np.int64), dtype=np.float64)
    filled = masks.any(axis=(1, 2))
    return float(np.mean(2 * hit[filled] / total[filled])) if filled.any() else 0.0


def _find_masks(predicted: NDArray[np.float32], classes: int, threshold: float) -> NDArray[np.bool_]:
    """Decide as the device does: by the threshold, or by the best where the background has a channel, too."""
    if predicted.shape[-1] == classes:
        return predicted > threshold
    return np.asarray(predicted.argmax(axis=-1)[..., np.newaxis] == np.arange(1, classes + 1))
