"""Deformable registration on the device: a linear start, then DIS flow in passes, each smoothed by what it is worth.

Flow is wrong where nothing is seen: in anechoic vessels, in shadows, beyond the margin. There both ways disagree
(forward-backward consistency) and texture is missing, so such pixels take the motion of their surroundings.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.registration.displacement import (
    Field,
    Matrix,
    compose,
    compose_with_matrix,
    matrix_to_field,
    no_motion,
    to_positions,
    warp_image,
    warp_labels,
)
from edgeseg.registration.flow import DisFlow
from edgeseg.registration.preparation import Prepared, encode

# Disagreement of both ways, in pixels, at which a vector counts little.
_DISAGREEMENT_PX = 1.0
_REFERENCE_PX = 256.0
# Vectors are smoothed on a grid that is this much coarser.
_STEP = 4
# The wide Gaussian fills what the narrow one does not reach.
_WIDER = 3.0
_MIDDLE_GREY = 128.0


@dataclass(frozen=True)
class FlowPass:
    """One search for what the passes before have left.

    Args:
        preset: Of DIS.
        finest: The finest pyramid level that is matched; None as the preset has it.
        sigma_px: Of the Gaussian over the vectors, in pixels of an image of 256 pixels.
        both_ways: Whether vectors are checked by the flow back.
        refinements: Iterations of the variational refinement; None as the preset has it.
    """

    preset: str
    finest: int | None
    sigma_px: float
    both_ways: bool = False
    refinements: int | None = None


DEFAULT_PASSES = (FlowPass("fast", None, 14.0), FlowPass("fast", None, 10.0), FlowPass("fast", 1, 8.0))


def fit_deformable(
    fixed: Prepared, moving: Prepared, start: Matrix, passes: tuple[FlowPass, ...] = DEFAULT_PASSES
) -> Field:
    """Find the displacement field from the fixed image into the moving one.

    Args:
        fixed: The image that stays.
        moving: The image that is moved onto it.
        start: The matrix from the fixed image into the moving one.
        passes: From coarse to fine.
    """
    one, other = encode(fixed.wide), encode(moving.wide)
    texture = _measure_texture(one)
    left = no_motion(fixed.size)
    field = matrix_to_field(start, fixed.size)
    for step in passes:
        flow = DisFlow(step.preset, step.finest, step.refinements)
        moved = np.asarray(warp_image(other, field, outside=_MIDDLE_GREY), dtype=np.uint8)
        vectors = flow.find(one, moved)
        weight = texture * fixed.valid * warp_labels(moving.valid, field)
        if step.both_ways:
            weight = weight * _agree(vectors, flow.find(moved, one))
        vectors = _fill(vectors, weight, step.sigma_px * max(fixed.size) / _REFERENCE_PX)
        left = compose(vectors, left)
        field = compose_with_matrix(left, start)
    return field


def _measure_texture(coded: NDArray[np.uint8]) -> NDArray[np.float32]:
    texture = cv2.blur(np.abs(cv2.Laplacian(coded, cv2.CV_32F)), (9, 9))
    return np.asarray(texture / max(1e-6, float(texture.mean())), dtype=np.float32)


def _agree(there: Field, back: Field) -> NDArray[np.float32]:
    """From 1 where the way there and back ends where it began, to 0 where it does not."""
    columns, rows = to_positions(there)
    rest = there + cv2.remap(back, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    squares = rest[..., 0] ** 2 + rest[..., 1] ** 2
    return np.asarray(cv2.exp(squares * np.float32(-0.5 / _DISAGREEMENT_PX**2)), dtype=np.float32)


def _fill(vectors: Field, weight: NDArray[np.float32], sigma: float) -> Field:
    """Smooth vectors by their weight, and fill what has none from further away."""
    height, width = weight.shape
    size = max(4, width // _STEP), max(4, height // _STEP)
    layers = cv2.resize(np.dstack([vectors * weight[..., None], weight]), size, interpolation=cv2.INTER_AREA)
    near = np.asarray(cv2.GaussianBlur(layers, (0, 0), sigma / _STEP), dtype=np.float32)
    far = np.asarray(cv2.GaussianBlur(near, (0, 0), sigma * _WIDER / _STEP), dtype=np.float32)
    # where the sum of near weights is a tenth of the mean, both count alike
    usual = max(1e-6, 0.1 * float(weight.mean()))
    share = (near[..., 2] / (near[..., 2] + usual))[..., None]
    smoothed = share * _divide(near) + (1 - share) * _divide(far)
    # vectors stay in pixels of the full grid, so they are not scaled with it
    return np.asarray(cv2.resize(smoothed.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR))


def _divide(layers: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(layers[..., :2] / np.maximum(layers[..., 2:], 1e-6), dtype=np.float32)
