"""A second modality of a phantom, on the same grid: power Doppler of its vessels, or the stiffness of its lesion."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.spec import check_choice
from edgeseg.phantom.scene import LABELS, PhantomFrame

DOPPLER, ELASTOGRAPHY = "doppler", "elastography"
SECOND = (DOPPLER, ELASTOGRAPHY)
# Blur in pixels per side of the image, and grey levels: around, inside, noise.
_BLUR, _AROUND, _INSIDE, _NOISE = 0.012, {DOPPLER: 8.0, ELASTOGRAPHY: 150.0}, {DOPPLER: 210.0, ELASTOGRAPHY: 50.0}, 14.0


def render_second(frame: PhantomFrame, kind: str, seed: int) -> NDArray[np.uint8]:
    """Render the second modality of a frame; blurred, since its resolution is lower than that of B-mode.

    Args:
        frame: The phantom.
        kind: doppler shows vessels, elastography the stiff lesion dark.
        seed: Of its noise.
    """
    check_choice("modality", kind, SECOND)
    shown = LABELS.index("vessel" if kind == DOPPLER else "lesion")
    height, width = frame.labels.shape
    inside = cv2.GaussianBlur((frame.labels == shown).astype(np.float32), (0, 0), _BLUR * max(height, width))
    noise = np.random.default_rng(seed).normal(0.0, _NOISE, (height, width))
    levels = _AROUND[kind] + (_INSIDE[kind] - _AROUND[kind]) * np.asarray(inside) + noise
    # nothing is seen outside of the scanned field, where the B-mode is black
    seen = cv2.dilate((frame.image > 0).astype(np.uint8), np.ones((9, 9), np.uint8))
    return np.asarray(np.clip(levels, 0, 255) * (np.asarray(seen) > 0), dtype=np.uint8)
