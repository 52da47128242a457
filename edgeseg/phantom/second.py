"""A second modality of a phantom, on the same grid: power Doppler of its vessels, or the stiffness of its lesion."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.spec import check_choice
from edgeseg.phantom.scene import LABELS, PhantomFrame, build_scene, render_case
from edgeseg.phantom.tissue import draw_mottle

DOPPLER, ELASTOGRAPHY = "doppler", "elastography"
SECOND = (DOPPLER, ELASTOGRAPHY)
# Blur in pixels per side of the image, and grey levels: around, inside, noise.
_BLUR, _AROUND, _INSIDE, _NOISE = 0.012, {DOPPLER: 8.0, ELASTOGRAPHY: 150.0}, {DOPPLER: 210.0, ELASTOGRAPHY: 50.0}, 14.0
# How much the stiffness of tissue varies from place to place, in grey levels, and over what share of a side.
_UNEVEN, _GRAIN = 18.0, 0.15
# Elastography sets: shares of the cases whose lesion is as echogenic as its surroundings, or as soft.
ISOECHOIC_SHARE, SOFT_SHARE = 0.4, 0.3


def render_both(
    seed: int, index: int, size: tuple[int, int] = (256, 256), kind: str = ELASTOGRAPHY
) -> tuple[PhantomFrame, NDArray[np.uint8]]:
    """Render a case and its second modality, of which each shows something that the other does not.

    Doppler tells vessels from cysts. With elastography some lesions are isoechoic, which B-mode does not show, and
    some are soft, which elastography does not show.

    Returns:
        The case, whose labels hold for both, and the picture of the second modality.
    """
    frame = render_case(seed, index, size)
    if kind != ELASTOGRAPHY:
        return frame, render_second(frame, kind, index)
    appearance = find_appearance(seed, index)
    if appearance == "isoechoic":
        bare = build_scene(seed, index, size, None, always_lesion=False, paints_lesion=False)
        frame = replace(frame, image=bare.render(0.0, 0).image)
    felt = replace(frame, labels=np.zeros_like(frame.labels)) if appearance == "soft" else frame
    return frame, render_second(felt, kind, index)


def find_appearance(seed: int, index: int) -> str:
    """Say how the lesion of a case with elastography looks: isoechoic, soft, or plain, which both modalities show."""
    # a stream of its own: those of the scene decide every image
    drawn = np.random.default_rng(np.random.SeedSequence([seed, index, 2])).random()
    if drawn < ISOECHOIC_SHARE:
        return "isoechoic"
    return "soft" if drawn < ISOECHOIC_SHARE + SOFT_SHARE else "plain"


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
    side = max(height, width)
    inside = cv2.GaussianBlur((frame.labels == shown).astype(np.float32), (0, 0), _BLUR * side)
    random = np.random.default_rng(seed)
    levels = _AROUND[kind] + (_INSIDE[kind] - _AROUND[kind]) * np.asarray(inside)
    levels = levels + random.normal(0.0, _NOISE, (height, width))
    if kind == ELASTOGRAPHY:
        levels = levels + _UNEVEN * draw_mottle(random, (height, width), (_GRAIN * side, _GRAIN * side))
    # nothing is seen outside of the scanned field, where the B-mode is black
    seen = cv2.dilate((frame.image > 0).astype(np.uint8), np.ones((9, 9), np.uint8))
    return np.asarray(np.clip(levels, 0, 255) * (np.asarray(seen) > 0), dtype=np.uint8)
