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
    no_motion,
    resize_field,
    scale_matrix,
    to_positions,
)
from edgeseg.registration.flow import DisFlow
from edgeseg.registration.preparation import Prepared, encode

# Disagreement of both ways, in pixels, at which a vector counts little.
_DISAGREEMENT_PX = 1.0
_REFERENCE_PX = 256.0
# Vectors are smoothed on a grid of so many pixels of the image.
_STEP = 4
# The wide Gaussian fills what the narrow one does not reach.
_WIDER = 3.0
_MIDDLE_GREY = 128.0
# Images below this size are matched at full resolution: DIS needs patches.
_SMALLEST_HALVED = 64


@dataclass(frozen=True)
class FlowPass:
    """One search for what the passes before have left.

    Args:
        preset: Of DIS.
        finest: The finest level that is matched: 0 the full resolution, 1 half of it, 2 a quarter.
        sigma_px: Of the Gaussian over the vectors, in pixels of an image of 256 pixels.
        both_ways: Whether vectors are checked by the flow back.
        refinements: Iterations of the variational refinement; None as the preset has it.
    """

    preset: str
    finest: int
    sigma_px: float
    both_ways: bool = False
    refinements: int | None = None


DEFAULT_PASSES = (FlowPass("fast", 2, 14.0), FlowPass("fast", 2, 10.0), FlowPass("fast", 1, 8.0))


class _Grid:
    """Both images on the grid that a pass works on: half as fine as the images where full resolution is not matched."""

    def __init__(self, fixed: Prepared, moving: Prepared, start: Matrix, step: int) -> None:
        (self.one, self.shown, scale), (self.other, self.other_shown, other_scale) = (
            _reduce(image, step) for image in (fixed, moving)
        )
        self.step, self.start = step, scale_matrix(start, scale, other_scale)
        self.size = self.one.shape[0], self.one.shape[1]
        self.texture = _measure_texture(self.one)


def _reduce(image: Prepared, step: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float64]]:
    """The coded image and what it shows on a coarser grid, and by how much that is finer along x and y (below 1)."""
    height, width = image.size
    coded, size = encode(image.wide), (max(1, width // step), max(1, height // step))
    if step > 1:
        coded = np.asarray(cv2.resize(coded, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    shown = cv2.resize(image.valid, size, interpolation=cv2.INTER_NEAREST) if step > 1 else image.valid
    return coded, np.asarray(shown, dtype=np.uint8), np.array([size[0] / width, size[1] / height])


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
    left = no_motion((1, 1))
    grid: _Grid | None = None
    for one in passes:
        step = 1 if one.finest == 0 or min(*fixed.size, *moving.size) < _SMALLEST_HALVED else 2
        if grid is None or grid.step != step:
            grid = _Grid(fixed, moving, start, step)
            left = resize_field(left, grid.size)
        vectors = _search(grid, compose_with_matrix(left, grid.start), one)
        left = compose(vectors, left)
    return compose_with_matrix(resize_field(left, fixed.size), start)


def _search(grid: _Grid, field: Field, one: FlowPass) -> Field:
    """Find what a field has left, smoothed by what every vector is worth."""
    halvings = grid.step.bit_length() - 1
    flow = DisFlow(one.preset, one.finest - halvings, one.refinements)
    columns, rows = to_positions(field)
    # on a coarser grid, linear interpolation would blur what is to be matched
    how = cv2.INTER_LINEAR if grid.step == 1 else cv2.INTER_CUBIC
    moved = np.asarray(cv2.remap(grid.other, columns, rows, how, borderValue=_MIDDLE_GREY), dtype=np.uint8)
    shown = cv2.remap(grid.other_shown, columns, rows, cv2.INTER_NEAREST)
    vectors = flow.find(grid.one, moved)
    weight = grid.texture * grid.shown * np.asarray(shown)
    if one.both_ways:
        weight = weight * _agree(vectors, flow.find(moved, grid.one))
    unit = max(grid.size) / _REFERENCE_PX
    return _fill(vectors, weight, one.sigma_px * unit, max(1, _STEP // grid.step))


def _measure_texture(coded: NDArray[np.uint8]) -> NDArray[np.float32]:
    texture = cv2.blur(np.abs(cv2.Laplacian(coded, cv2.CV_32F)), (9, 9))
    return np.asarray(texture / max(1e-6, float(texture.mean())), dtype=np.float32)


def _agree(there: Field, back: Field) -> NDArray[np.float32]:
    """From 1 where the way there and back ends where it began, to 0 where it does not."""
    columns, rows = to_positions(there)
    rest = there + cv2.remap(back, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    squares = rest[..., 0] ** 2 + rest[..., 1] ** 2
    return np.asarray(cv2.exp(squares * np.float32(-0.5 / _DISAGREEMENT_PX**2)), dtype=np.float32)


def _fill(vectors: Field, weight: NDArray[np.float32], sigma: float, step: int) -> Field:
    """Smooth vectors by their weight, and fill what has none from further away, on a grid that is `step` coarser."""
    height, width = weight.shape
    size = max(4, width // step), max(4, height // step)
    layers = cv2.merge([vectors[..., 0] * weight, vectors[..., 1] * weight, weight])
    layers = cv2.resize(layers, size, interpolation=cv2.INTER_AREA)
    near = np.asarray(cv2.GaussianBlur(layers, (0, 0), sigma / step), dtype=np.float32)
    far = np.asarray(cv2.GaussianBlur(near, (0, 0), sigma * _WIDER / step), dtype=np.float32)
    # where the sum of near weights is a tenth of the mean, both count alike
    usual = max(1e-6, 0.1 * float(weight.mean()))
    share = (near[..., 2] / (near[..., 2] + usual))[..., None]
    smoothed = share * _divide(near) + (1 - share) * _divide(far)
    # vectors stay in pixels of the grid that they came from, so they are not scaled with it
    return np.asarray(cv2.resize(smoothed.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR))


def _divide(layers: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(layers[..., :2] / np.maximum(layers[..., 2:], 1e-6), dtype=np.float32)
