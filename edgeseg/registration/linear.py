"""Rigid, similarity and affine registration: starts that find large motions, then ECC on a pyramid.

Three starts compete: no motion, a fit to dense flow, and matched ORB features. Which one is nearest is decided by the
images, through their correlation at half resolution; ECC (Evangelidis and Psarakis, IEEE TPAMI 30(10), 2008), which is
the most precise and reaches the least far, goes on from there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.registration.displacement import Matrix
from edgeseg.registration.flow import DisFlow
from edgeseg.registration.preparation import Prepared, encode

_LOG = logging.getLogger(__name__)
LinearKind = Literal["rigid", "similarity", "affine"]
LINEAR_KINDS: tuple[LinearKind, ...] = ("rigid", "similarity", "affine")
# Below this correlation of the two images after registration, they are not the same tissue.
LEAST_SIMILARITY = 0.15
# A matrix beyond this turns, stretches or shrinks as no probe and no tissue does.
_MOST_STRETCH = 1.6
# The longest side at which starts are compared, and that ECC works on.
_SCORED_SIDE, _PRECISE_SIDE = 128, 256
_ECC_STEPS = ((4, 60), (2, 40), (1, 25))
_ECC_EPSILON = 1e-4
_ECC_BLUR = 5
_FEATURES = 500
# Pairs of points without which no matrix is fitted.
_FEWEST = 8
# Pixels of the reduced image: how far an inlier may lie from the model, for flow and for features.
_FLOW_INLIER_PX, _FEATURE_INLIER_PX = 2.0, 4.0
_FLOW_GRID = 5
# Draws of RANSAC: most vectors of a flow are inliers.
_FLOW_TRIES = 60
_FLOW_LEVEL = 1
# The side at which flow is searched first, before that at which starts are compared.
_FLOW_SIDE = 64
# Similarities at which no other start is tried, and at which a fit to flow is near enough for a deformation.
_CLEAR, _COARSE_FITS = 0.6, 0.25
_MOTIONS = {"rigid": cv2.MOTION_EUCLIDEAN, "similarity": cv2.MOTION_AFFINE, "affine": cv2.MOTION_AFFINE}


@dataclass(frozen=True)
class LinearFit:
    """A matrix that maps pixels of the fixed image into the moving one.

    Args:
        matrix: 2x3.
        similarity: Correlation of the normalised images after the motion, -1 to 1.
        start: Which start it came from: none, flow or features.
        converged: Whether the images are alike after the motion, and the matrix is a plausible one.
    """

    matrix: Matrix
    similarity: float
    start: str
    converged: bool


def fit_linear(fixed: Prepared, moving: Prepared, kind: LinearKind = "affine", method: str = "auto") -> LinearFit:
    """Find the matrix from the fixed image into the moving one.

    Args:
        fixed: The image that stays.
        moving: The image that is moved onto it, of any size.
        kind: What the matrix may do.
        method: "ecc" starts from no motion, "features" from features and does not refine, "auto" tries every start;
            "coarse" fits to flow, and does "auto" only where that fits badly.
    """
    if method == "coarse":
        scored = _Pair(fixed, moving, _SCORED_SIDE, wide=True)
        matrix = fit_flow(scored, center(fixed.size, moving.size), kind)
        similarity = scored.compare(matrix)
        if similarity >= _COARSE_FITS and _is_plausible(matrix):
            return LinearFit(project(matrix, kind, fixed.size), similarity, "flow", True)
        method = "auto"
    scored = _Pair(fixed, moving, _SCORED_SIDE, wide=True)
    listed = list(_list_starts(fixed, moving, scored, kind, method))
    starts = [one for one in listed if _is_plausible(one[1])] or [("none", center(fixed.size, moving.size))]
    rated = sorted(((scored.compare(matrix), name, matrix) for name, matrix in starts), key=lambda one: -one[0])
    if method == "features":
        similarity, name, matrix = rated[0]
        return _finish(fixed, moving, kind, matrix, name)
    best: LinearFit | None = None
    for _, name, matrix in rated[:2]:
        fit = _finish(fixed, moving, kind, refine(fixed, moving, matrix, kind), name)
        if best is None or fit.similarity > best.similarity:
            best = fit
        if best.similarity > _CLEAR:
            break
    assert best is not None
    return best


def _finish(fixed: Prepared, moving: Prepared, kind: LinearKind, matrix: Matrix, name: str) -> LinearFit:
    projected = project(matrix, kind, fixed.size)
    similarity = _Pair(fixed, moving, _PRECISE_SIDE).compare(projected)
    return LinearFit(projected, similarity, name, similarity >= LEAST_SIMILARITY and _is_plausible(projected))


def _list_starts(
    fixed: Prepared, moving: Prepared, scored: _Pair, kind: LinearKind, method: str
) -> Iterator[tuple[str, Matrix]]:
    still = center(fixed.size, moving.size)
    if method != "features":
        yield "none", still
    if method == "auto":
        yield "flow", fit_flow(scored, still, kind)
    if method in ("auto", "features"):
        yield "features", fit_features(fixed, moving, kind)


def center(fixed: tuple[int, int], moving: tuple[int, int]) -> Matrix:
    """The start for images of unlike size: middle on middle, without a change of scale."""
    shift = [(moving[1] - fixed[1]) / 2, (moving[0] - fixed[0]) / 2]
    return np.column_stack([np.eye(2), shift])


class _Pair:
    """Both images at a reduced size, and the matrices on that grid."""

    def __init__(self, fixed: Prepared, moving: Prepared, side: int, wide: bool = False) -> None:
        self.factor = min(1.0, side / max(*fixed.size, *moving.size))
        self.fixed, self.moving, self.fixed_valid, self.moving_valid = (
            _reduce(image, self.factor)
            for image in (
                fixed.wide if wide else fixed.pixels,
                moving.wide if wide else moving.pixels,
                fixed.valid,
                moving.valid,
            )
        )

    def reduce_again(self, side: int) -> _Pair:
        """Both images, reduced from here to another side; this pair where it is as small."""
        reduced = copy(self)
        factor = min(1.0, side / max(*self.fixed.shape, *self.moving.shape))
        reduced.factor = self.factor * factor
        for name in ("fixed", "moving", "fixed_valid", "moving_valid"):
            setattr(reduced, name, _reduce(getattr(self, name), factor))
        return reduced

    def shrink(self, matrix: Matrix) -> Matrix:
        """The matrix on the reduced grid."""
        return _rescale(matrix, self.factor)

    def grow(self, matrix: NDArray[Any]) -> Matrix:
        """The matrix on the full grid."""
        return _rescale(np.asarray(matrix, dtype=np.float64), 1 / self.factor)

    def warp(self, image: NDArray[Any], matrix: Matrix, how: int = cv2.INTER_LINEAR) -> NDArray[Any]:
        size = self.fixed.shape[1], self.fixed.shape[0]
        return np.asarray(cv2.warpAffine(image, self.shrink(matrix), size, flags=how | cv2.WARP_INVERSE_MAP))

    def compare(self, matrix: Matrix) -> float:
        """Correlate both images where both show tissue; 0 where less than a quarter of them meets."""
        where = (self.warp(self.moving_valid, matrix, cv2.INTER_NEAREST) > 0) & (self.fixed_valid > 0)
        if np.count_nonzero(where) < 0.25 * min(
            np.count_nonzero(self.fixed_valid), np.count_nonzero(self.moving_valid)
        ):
            return 0.0
        return correlate(self.fixed[where], self.warp(self.moving, matrix)[where])


def _reduce(image: NDArray[Any], factor: float) -> NDArray[Any]:
    if factor == 1.0:
        return image
    size = max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def correlate(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Pearson's correlation of two arrays; 0 where one is constant."""
    first, second = (np.asarray(part, dtype=np.float64) - float(part.mean()) for part in (one, other))
    scale = float(np.sqrt(np.sum(first * first) * np.sum(second * second)))
    return float(np.sum(first * second)) / scale if scale > 0 else 0.0


def _rescale(matrix: Matrix, factor: float) -> Matrix:
    """Bring a matrix onto a grid that is `factor` times as fine, whose pixels have their centres in between."""
    offset = (factor - 1) / 2
    scaled = matrix.copy()
    middle = np.array([offset, offset])
    # small = factor * full + offset
    scaled[:, 2] = factor * matrix[:, 2] + middle - matrix[:, :2] @ middle
    return scaled


def refine(fixed: Prepared, moving: Prepared, start: Matrix, kind: LinearKind) -> Matrix:
    """Refine a start by ECC, from coarse to fine; a step that does not converge keeps what was there."""
    matrix = start
    for step, iterations in _ECC_STEPS:
        pair = _Pair(fixed, moving, _PRECISE_SIDE // step)
        criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, iterations, _ECC_EPSILON)
        warp = pair.shrink(matrix).astype(np.float32)
        mask = (pair.moving_valid > 0).astype(np.uint8)
        try:
            _, found = cv2.findTransformECC(pair.fixed, pair.moving, warp, _MOTIONS[kind], criteria, mask, _ECC_BLUR)
        except cv2.error:  # its way to say that it does not converge
            _LOG.debug("ECC does not converge at a side of %d pixels", _PRECISE_SIDE // step)
            continue
        refined = pair.grow(found)
        if pair.compare(refined) >= pair.compare(matrix):
            matrix = refined
    return matrix


def fit_flow(pair: _Pair, start: Matrix, kind: LinearKind) -> Matrix:
    """Fit a matrix to dense flow between the images, again after each warp.

    Args:
        pair: The images at the size that starts are compared at.
        start: The first matrix.
        kind: What the matrix may do.
    """
    matrix, flow = start, DisFlow(finest=_FLOW_LEVEL)
    small = pair.reduce_again(_FLOW_SIDE)
    for one in (small, pair, pair):
        matrix = _fit_flow_once(one, matrix, kind, flow)
    return matrix


def _fit_flow_once(pair: _Pair, matrix: Matrix, kind: LinearKind, flow: DisFlow) -> Matrix:
    """Fit a matrix to the flow that is left after another; that one where it fails."""
    fixed = encode(pair.fixed)
    vectors = flow.find(fixed, encode(pair.warp(pair.moving, matrix)))
    columns, rows = _list_grid(fixed.shape[0], fixed.shape[1])
    texture = cv2.blur(np.abs(cv2.Laplacian(fixed, cv2.CV_32F)), (9, 9))[rows, columns]
    kept = (texture >= np.median(texture)) & (pair.fixed_valid[rows, columns] > 0)
    places = np.stack([columns, rows], axis=1)[kept].astype(np.float32)
    if len(places) < _FEWEST:
        return matrix
    moved = cv2.transform((places + vectors[rows[kept], columns[kept]])[:, None], pair.shrink(matrix))
    found = estimate(places, np.asarray(moved)[:, 0], kind, _FLOW_INLIER_PX, _FLOW_TRIES)
    return matrix if found is None else pair.grow(found)


@lru_cache(maxsize=16)
def _list_grid(height: int, width: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Columns and rows of the pixels at which flow is read."""
    rows, columns = np.mgrid[2:height:_FLOW_GRID, 2:width:_FLOW_GRID]
    return columns.ravel(), rows.ravel()


def fit_features(fixed: Prepared, moving: Prepared, kind: LinearKind) -> Matrix:
    """Fit a matrix to matched ORB features; no motion where too few match."""
    pair = _Pair(fixed, moving, _PRECISE_SIDE, wide=True)
    detector = cv2.ORB.create(_FEATURES, fastThreshold=5)
    points, descriptions = zip(
        *(detector.detectAndCompute(encode(image), None) for image in (pair.fixed, pair.moving)), strict=True
    )
    still = center(fixed.size, moving.size)
    if any(one is None for one in descriptions):
        return still
    matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(descriptions[0], descriptions[1])
    if len(matches) < _FEWEST:
        return still
    places = np.array([points[0][match.queryIdx].pt for match in matches], np.float32)
    moved = np.array([points[1][match.trainIdx].pt for match in matches], np.float32)
    found = estimate(places, moved, kind, _FEATURE_INLIER_PX)
    return still if found is None else pair.grow(found)


def estimate(
    places: NDArray[Any], moved: NDArray[Any], kind: LinearKind, inlier_px: float, iterations: int = 500
) -> Matrix | None:
    """Estimate a matrix from pairs of points, some of which are wrong (RANSAC); None if it fails."""
    cv2.setRNGSeed(0)  # equal images give equal matrices
    how = cv2.estimateAffine2D if kind == "affine" else cv2.estimateAffinePartial2D
    found, _ = how(
        places, moved, method=cv2.RANSAC, ransacReprojThreshold=inlier_px, maxIters=iterations, refineIters=3
    )
    if found is None or not np.isfinite(found).all():
        return None
    return np.asarray(found, dtype=np.float64)


def project(matrix: Matrix, kind: LinearKind, size: tuple[int, int]) -> Matrix:
    """The nearest matrix of a kind: least squares over the pixels of an image of this height and width."""
    if kind == "affine":
        return matrix
    middle = np.array([(size[1] - 1) / 2, (size[0] - 1) / 2])
    linear = matrix[:, :2]
    # the polar factor, weighted by the image's extent along both axes
    spread = np.diag([size[1] ** 2, size[0] ** 2]).astype(np.float64)
    left, _, right = np.linalg.svd(linear @ spread)
    turned = left @ np.diag([1.0, np.sign(np.linalg.det(left @ right))]) @ right
    scale = 1.0 if kind == "rigid" else float(np.trace(turned.T @ linear @ spread) / np.trace(spread))
    return np.column_stack([scale * turned, linear @ middle + matrix[:, 2] - scale * turned @ middle])


def _is_plausible(matrix: Matrix) -> bool:
    values = np.linalg.svd(matrix[:, :2], compute_uv=False)
    return bool(
        np.isfinite(matrix).all()
        and np.linalg.det(matrix[:, :2]) > 0
        and values[0] <= _MOST_STRETCH
        and values[-1] >= 1 / _MOST_STRETCH
    )
