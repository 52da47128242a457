"""How much each class counts in the loss, so that a rare one is not drowned by the others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeseg.data.dataset import LabelledImage

LARGEST_RATIO = 10.0
"""The rarest class counts at most this many times as much as the most frequent one."""


def weigh_by_rarity(images: Sequence[LabelledImage]) -> tuple[float, ...]:
    """Weigh each class by the inverse square root of its share of the pixels, 1 on average; one class has no weight."""
    shares = np.mean([[np.mean(mask > 0) for mask in image.masks] for image in images], axis=0)
    if len(shares) == 1 or not shares.any():
        return ()
    least = shares.max() / LARGEST_RATIO**2
    weights = np.maximum(shares, least) ** -0.5
    return tuple(round(float(weight), 4) for weight in weights / weights.mean())
