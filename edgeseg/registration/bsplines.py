"""Deformable registration with B-splines through SimpleITK, for the workstation (extra `medical`).

A free-form deformation on a grid of control points (Rueckert et al., IEEE TMI 18(8), 1999), refined over several
resolutions, driven by correlation or mutual information over the pixels that both images show.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.install import need_extra
from edgeseg.registration.displacement import (
    Field,
    Matrix,
    compose_with_matrix,
    matrix_to_field,
    warp_image,
    warp_labels,
)
from edgeseg.registration.preparation import Prepared

Metric = Literal["correlation", "mutual-information"]
METRICS: tuple[Metric, ...] = ("correlation", "mutual-information")
# Meshes along the shorter side on the coarsest level, and how many times as many the finer ones have.
_COARSEST_KNOTS = 4
# Shrinking and smoothing of the images by level, the latter in pixels.
_SHRINK, _BLUR = (4, 2, 1), (2.0, 1.0, 0.5)
_KNOTS = (1, 2, 2)
_ITERATIONS = 30
_BINS = 32


@dataclass(frozen=True)
class BSplineFit:
    """A displacement field, and whether the optimiser came to an end by itself."""

    field: Field
    converged: bool


def fit_bsplines(
    fixed: Prepared, moving: Prepared, start: Matrix, metric: Metric = "correlation", threads: int = 1
) -> BSplineFit:
    """Find a free-form deformation on top of a matrix.

    Args:
        fixed: The image that stays.
        moving: The image that is moved onto it.
        start: The matrix from the fixed image into the moving one.
        metric: What is made as large as possible.
        threads: CPU threads.

    Raises:
        EdgesegError: SimpleITK is not installed.
    """
    need_extra("medical")
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    field = matrix_to_field(start, fixed.size)
    one, other = fixed.wide, np.asarray(warp_image(moving.wide, field), dtype=np.float32)
    method = _set_up(SimpleITK, metric, threads)
    shown = np.asarray(fixed.valid * warp_labels(moving.valid, field), dtype=np.uint8)
    method.SetMetricFixedMask(SimpleITK.GetImageFromArray(shown))
    reference = SimpleITK.GetImageFromArray(one)
    shortest = min(fixed.size)
    mesh = [max(2, round(_COARSEST_KNOTS * side / shortest)) for side in fixed.size[::-1]]
    transform = SimpleITK.BSplineTransformInitializer(reference, mesh, 3)
    method.SetInitialTransformAsBSpline(transform, inPlace=True, scaleFactors=list(_KNOTS))
    try:
        found = method.Execute(reference, SimpleITK.GetImageFromArray(other))
    except RuntimeError:  # all samples have left the image
        return BSplineFit(field, False)
    return BSplineFit(compose_with_matrix(_sample(SimpleITK, found, fixed.size), start), True)


def _set_up(sitk: Any, metric: Metric, threads: int) -> Any:
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(threads)
    if metric == "correlation":
        method.SetMetricAsCorrelation()
    else:
        method.SetMetricAsMattesMutualInformation(_BINS)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetShrinkFactorsPerLevel(list(_SHRINK))
    method.SetSmoothingSigmasPerLevel(list(_BLUR))
    # LBFGSB keeps the number of parameters of the first level, and fails at the next
    method.SetOptimizerAsLBFGS2(numberOfIterations=_ITERATIONS)
    return method


def _sample(sitk: Any, transform: Any, size: tuple[int, int]) -> Field:
    """Sample a transform at every pixel of an image of this height and width."""
    field = sitk.TransformToDisplacementField(transform, sitk.sitkVectorFloat32, size[::-1])
    values: NDArray[Any] = sitk.GetArrayFromImage(field)
    return np.ascontiguousarray(values[..., :2], dtype=np.float32)
