"""What shape labels have: heads whose circumference was measured are labelled as ellipses."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from edgeseg.core.ellipse import draw_ellipses
from edgeseg.data.dataset import LabelledImage

LIKENESS = 0.99
"""The Dice of a labelled ellipse and the one fitted to it; free outlines of heads, vessels and lesions have less."""


def find_shape(images: Iterable[LabelledImage]) -> str:
    """Say "ellipse" where each image has a head that was measured and labelled as one, else "free"."""
    return "ellipse" if all(_shows_ellipse(image) for image in images) else "free"


def _shows_ellipse(image: LabelledImage) -> bool:
    if image.case.head_circumference_mm is None:
        return False
    labels = image.labels
    fitted = draw_ellipses(labels, len(image.masks))
    shared = np.count_nonzero((fitted == labels) & (labels > 0))
    return bool(2 * shared >= LIKENESS * (np.count_nonzero(fitted) + np.count_nonzero(labels)))
