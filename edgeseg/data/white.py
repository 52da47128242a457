"""Which value of 16 bits is white: files often hold 10 or 12 of them, and would look almost black."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from edgeseg.core.images import choose_white
from edgeseg.data.dataset import LabelledImage


def find_white(images: Iterable[LabelledImage]) -> int:
    """Find the white of images; those of 8 bits have their own and do not count."""
    return choose_white(int(image.frame.max()) for image in images if image.frame.dtype == np.uint16)
