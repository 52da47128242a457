"""`edgeseg.register`: two images in, one displacement field out, with what it is worth."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import DataError, UnknownNameError
from edgeseg.frame.images import read_image, to_frame, to_grey
from edgeseg.inference.masks import check_pixel_size
from edgeseg.registration.bsplines import fit_bsplines
from edgeseg.registration.deformable import fit_deformable
from edgeseg.registration.displacement import (
    DisplacementStatistics,
    Field,
    Matrix,
    find_inside,
    folding_share,
    matrix_to_field,
    measure_field,
    no_motion,
    scale_matrix,
    to_positions,
    warp_image,
    warp_labels,
)
from edgeseg.registration.learned import LearnedRegistration
from edgeseg.registration.linear import (
    LEAST_SIMILARITY,
    LINEAR_KINDS,
    LinearFit,
    correlate,
    fit_linear,
)
from edgeseg.registration.preparation import (
    Prepared,
    check_structure,
    join_prepared,
    prepare,
    prepare_mask,
)
from edgeseg.registration.quality import Change, MaskFit, compare_masks, mutual_information

Kind = Literal["rigid", "similarity", "affine", "deformable"]
KINDS: tuple[Kind, ...] = (*LINEAR_KINDS, "deformable")
LINEAR_METHODS = ("auto", "ecc", "features")
DEFORMABLE_METHODS = ("auto", "dis", "bspline", "learned")
LEARNED = "learned"
METHODS = ("auto", "ecc", "features", "dis", "bspline", LEARNED)
DRIVES = ("auto", "image", "mask", "both")
StrPath = str | os.PathLike[str]
Image = NDArray[Any] | StrPath
# A registration that leaves the images less alike than they were, by more than this, has failed.
_TOLERANCE = 0.02
# The longest side that is matched; larger images are registered at this size and their field is enlarged.
LARGEST_MATCHED_PX = 1024
# Relative difference of sizes up to which images have the same scale.
_SAME_SIZE, _LEAST_SHRUNK = 0.02, 0.5
# Relative difference of pixel sizes up to which they are the same.
_SAME_PIXELS = 1e-3
# A deformation brings unlike images to some 0.25; the same tissue reaches more than this.
LEAST_DEFORMED_SIMILARITY = 0.3
# From here on a deformation is believed whose linear start is none.
CLEAR_SIMILARITY = 0.5


@dataclass(frozen=True)
class RegistrationFigures:
    """What a registration is worth."""

    similarity: Change
    """Correlation of what drove it, locally normalised, over the pixels that both show: -1 to 1."""
    normalised_mutual_information: Change
    folding_share: float
    displacement_px: DisplacementStatistics
    displacement_mm: DisplacementStatistics | None
    shown_share: float
    """The share of the fixed image that the moving one shows as well."""
    masks: MaskFit | None
    seconds: float


@dataclass(frozen=True, eq=False)
class Registration:
    """Two images brought together.

    Args:
        kind: Of motion.
        method: What found it.
        displacement: float32 (height, width, 2): moved(x) = moving(x + d), in pixels of the fixed image.
        matrix: The 2x3 matrix of a linear motion, from fixed pixels to moving ones; of a deformable one its start.
        moved: The moving image on the fixed one's grid.
        moved_mask: The moving mask on the fixed one's grid, where there is one.
        converged: Whether both images show the same tissue after the motion, as far as can be seen.
        figures: What it is worth.
        mm_per_px: The size of the fixed image's pixels, where known.
    """

    kind: Kind
    method: str
    displacement: Field
    matrix: Matrix
    moved: NDArray[Any]
    moved_mask: NDArray[np.uint8] | None
    converged: bool
    figures: RegistrationFigures
    mm_per_px: float | None = None


def register(
    fixed: Image,
    moving: Image,
    *,
    kind: Kind = "affine",
    method: str = "auto",
    masks: tuple[Image, Image] | None = None,
    drive: str = "auto",
    mm_per_px: float | None = None,
) -> Registration:
    """Bring a moving image onto a fixed one: `edgeseg.register("before.png", "after.png", kind="deformable")`.

    Args:
        fixed: The image that stays: an array, an image file or a DICOM file (its first frame).
        moving: The image that is moved; it may have another size.
        kind: rigid, similarity, affine or deformable.
        method: "auto"; for linear kinds also "ecc" and "features"; for deformable ones "dis", and "bspline", which is
            the more accurate and by far the slower one (extra `medical`).
        masks: The masks of both images, of their sizes.
        drive: What is matched: "image", "mask", "both", or "auto" for the images.
        mm_per_px: The size of the fixed image's pixels, where its file does not know it.

    Raises:
        DataError: An image cannot be read, shows no structure, or a mask does not fit.
    """
    first, own_size = read_input(fixed, "the fixed image")
    second, other_size = read_input(moving, "the moving image")
    labels = None if masks is None else (read_labels(masks[0], first), read_labels(masks[1], second))
    ratio = find_ratio(own_size, other_size)
    return register_frames(first, second, kind, method, labels, drive, mm_per_px or own_size, ratio=ratio)


def register_frames(
    fixed: NDArray[Any],
    moving: NDArray[Any],
    kind: Kind = "affine",
    method: str = "auto",
    masks: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None = None,
    drive: str = "auto",
    mm_per_px: float | None = None,
    network: LearnedRegistration | None = None,
    ratio: float | None = None,
) -> Registration:
    """Do what `register` does, with images that were read already.

    Args:
        fixed: The image that stays.
        moving: The image that is moved.
        kind: As in `register`.
        method: As in `register`; "learned" needs a network.
        masks: As in `register`.
        drive: As in `register`.
        mm_per_px: The size of the fixed image's pixels.
        network: Of the method "learned".
        ratio: How many times as large the moving image's pixels are, where both sizes are known.
    """
    check_choices(kind, method, drive, masks is not None)
    if (method == LEARNED) != (network is not None):
        raise DataError(
            f"Expected a registering network with the method {LEARNED} and with no other, got the method {method}.",
            "Give --method learned --model FILE, with a file of edgeseg train --task register.",
        )
    if mm_per_px is not None:
        check_pixel_size(mm_per_px)
    started = perf_counter()
    one, other = _match_sizes(fixed, moving, kind, masks, drive, ratio)
    start, field, chosen, ended = _fit(one, other, kind, method, network)
    before = _compare(one, other, no_motion(one.size))
    after = _compare(one, other, field)
    least = LEAST_DEFORMED_SIMILARITY if kind == "deformable" else LEAST_SIMILARITY
    # flow makes even unlike images somewhat alike, a matrix does not
    same = start.converged or after >= CLEAR_SIMILARITY
    converged = ended and same and after >= least and after >= before - _TOLERANCE
    field, matrix = enlarge(field, start.matrix, fixed.shape[:2], moving.shape[:2], (one.size, other.size))
    seconds = perf_counter() - started
    figures = _measure((fixed, moving), field, masks, Change(before, after), seconds, mm_per_px, ratio)
    moved_mask = None if masks is None else warp_labels(masks[1], field)
    return Registration(
        kind, chosen, field, matrix, warp_image(moving, field), moved_mask, converged, figures, mm_per_px
    )


def find_ratio(fixed: float | None, moving: float | None) -> float | None:
    """How many times as large the pixels of the moving image are; None where one size is not known."""
    return moving / fixed if fixed is not None and moving is not None else None


def _match_sizes(
    fixed: NDArray[Any],
    moving: NDArray[Any],
    kind: Kind,
    masks: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None,
    drive: str,
    ratio: float | None,
) -> tuple[Prepared, Prepared]:
    """Prepare both images at the size that they are matched at.

    With known pixel sizes, both show the same at the same scale. Else, of unlike sizes, the moving image may show the
    same at another scale, or more or less at the same one: whichever is more alike is taken. Rigid motion keeps the
    scale.
    """
    longest, other = max(fixed.shape[:2]), max(moving.shape[:2])
    factor = min(1.0, LARGEST_MATCHED_PX / longest)
    same = min(factor, LARGEST_MATCHED_PX / other)
    tried = [(same, same)]
    if ratio is not None:
        factor = min(factor, LARGEST_MATCHED_PX / (other * ratio))
        tried = [(factor, factor if abs(ratio - 1) < _SAME_PIXELS else factor * ratio)]
    elif kind != "rigid" and abs(longest / other - 1) > _SAME_SIZE:
        scaled = factor, factor * longest / other
        # too much would be lost of the fixed image at one scale with a far larger one
        tried = [scaled] if same < _LEAST_SHRUNK * factor else [(same, same), scaled]
    pairs = [prepare_pair(fixed, moving, masks, drive, factors) for factors in tried]
    if len(pairs) == 1:
        return pairs[0]
    return max(pairs, key=lambda pair: fit_linear(pair[0], pair[1], "similarity").similarity)


def check_choices(kind: str, method: str, drive: str, masked: bool) -> None:
    """Refuse choices that are unknown or do not go together."""
    for what, given, known in (("kind", kind, KINDS), ("method", method, METHODS), ("drive", drive, DRIVES)):
        if given not in known:
            raise UnknownNameError(what, given, known)
    fitting = DEFORMABLE_METHODS if kind == "deformable" else LINEAR_METHODS
    if method not in fitting:
        raise DataError(
            f"Expected a method for {kind} motion, one of {', '.join(fitting)}, got {method}.",
            "Leave --method out, or choose --kind deformable for dis, bspline and learned.",
        )
    if drive in ("mask", "both") and not masked:
        raise DataError(f"Expected masks for a registration driven by {drive}, got none.", "Give both masks.")


def _fit(
    fixed: Prepared, moving: Prepared, kind: Kind, method: str, network: LearnedRegistration | None
) -> tuple[LinearFit, Field, str, bool]:
    """Find the motion: its linear part, the field, the method's name, and whether the search came to an end."""
    if kind != "deformable":
        fit = fit_linear(fixed, moving, kind, method)
        name = "features" if method == "features" else "ecc"
        return fit, matrix_to_field(fit.matrix, fixed.size), name, fit.converged
    if method == "bspline":
        start = fit_linear(fixed, moving, "affine")
        found = fit_bsplines(fixed, moving, start.matrix)
        return start, found.field, "bspline", found.converged
    start = fit_linear(fixed, moving, "affine", "coarse")
    if network is not None:
        field = network(fixed.grey, moving.grey)
        # of what a matrix alone finds, a network that has learned something finds half
        none, linear = (
            _compare(fixed, moving, one) for one in (no_motion(fixed.size), matrix_to_field(start.matrix, fixed.size))
        )
        gained = _compare(fixed, moving, field)
        return start, field, LEARNED, not start.converged or gained >= (none + linear) / 2 - _TOLERANCE
    return start, fit_deformable(fixed, moving, start.matrix), "dis", True


def prepare_pair(
    fixed: NDArray[Any],
    moving: NDArray[Any],
    masks: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None,
    drive: str = "auto",
    factors: tuple[float, float] = (1.0, 1.0),
) -> tuple[Prepared, Prepared]:
    """Prepare both images, both masks, or both of each, reduced or enlarged by a factor."""
    images: list[Prepared] = []
    if drive != "mask":
        images = [prepare(rescale(image, factor)) for image, factor in zip((fixed, moving), factors, strict=True)]
        for image, where in zip(images, ("the fixed image", "the moving image"), strict=True):
            check_structure(image, where)
    if drive in ("auto", "image") or masks is None:
        return images[0], images[1]
    maps = [
        prepare_mask(rescale(mask, factor, labels=True), where)
        for mask, factor, where in zip(masks, factors, ("the fixed mask", "the moving mask"), strict=True)
    ]
    if drive == "mask":
        return maps[0], maps[1]
    return join_prepared(images[0], maps[0]), join_prepared(images[1], maps[1])


def rescale(image: NDArray[Any], factor: float, labels: bool = False) -> NDArray[Any]:
    """Reduce or enlarge an image or a mask."""
    if factor == 1.0:
        return image
    size = max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))
    smooth = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_NEAREST if labels else smooth))


def enlarge(
    field: Field,
    matrix: Matrix,
    fixed: tuple[int, ...],
    moving: tuple[int, ...],
    matched: tuple[tuple[int, int], tuple[int, int]],
) -> tuple[Field, Matrix]:
    """Bring field and matrix from the matched grids to the images' own."""
    if matched == (tuple(fixed[:2]), tuple(moving[:2])):
        return field, matrix
    scales = [
        np.array([full[1] / small[1], full[0] / small[0]]) for full, small in zip((fixed, moving), matched, strict=True)
    ]
    grown = scale_matrix(matrix, scales[0], scales[1])
    large = matrix_to_field(grown, (fixed[0], fixed[1]))
    rest = (field - matrix_to_field(matrix, matched[0])) * scales[1].astype(np.float32)
    return large + cv2.resize(rest, (fixed[1], fixed[0]), interpolation=cv2.INTER_LINEAR), grown


def _compare(fixed: Prepared, moving: Prepared, field: Field) -> float:
    where = (fixed.valid > 0) & (warp_labels(moving.valid, field) > 0) & find_inside(field, moving.size)
    return correlate(fixed.pixels[where], warp_image(moving.pixels, field)[where]) if where.any() else 0.0


def _measure(
    images: tuple[NDArray[Any], NDArray[Any]],
    field: Field,
    masks: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None,
    similarity: Change,
    seconds: float,
    mm_per_px: float | None,
    ratio: float | None,
) -> RegistrationFigures:
    fixed, (height, width) = to_grey(images[0]), images[1].shape[:2]
    still = no_motion((fixed.shape[0], fixed.shape[1]))
    before, after = (to_grey(warp_image(images[1], one)) for one in (still, field))
    inside = find_inside(field, (height, width))
    statistics = measure_field(field if ratio is None else _same_pixels(field, ratio))
    return RegistrationFigures(
        similarity=similarity,
        normalised_mutual_information=Change(
            mutual_information(fixed, before, find_inside(still, (height, width))),
            mutual_information(fixed, after, inside),
        ),
        folding_share=folding_share(field),
        displacement_px=statistics,
        displacement_mm=None if mm_per_px is None else statistics.scaled(mm_per_px),
        shown_share=float(inside.mean()),
        masks=None
        if masks is None
        else compare_masks(masks[0], warp_labels(masks[1], still), warp_labels(masks[1], field), mm_per_px),
        seconds=seconds,
    )


def _same_pixels(field: Field, ratio: float) -> Field:
    """The motion of tissue in pixels of the fixed image, where those of the moving one are `ratio` times as large."""
    columns, rows = to_positions(field)
    still = to_positions(no_motion((field.shape[0], field.shape[1])))
    axes = [(place + 0.5) * ratio - 0.5 - own for place, own in zip((columns, rows), still, strict=True)]
    return np.asarray(np.stack(axes, axis=-1), dtype=np.float32)


def read_input(image: Image, where: str) -> tuple[NDArray[Any], float | None]:
    """Read an array, an image file or the first frame of a DICOM file, and its pixel size where the file has it."""
    if isinstance(image, np.ndarray):
        if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)):
            raise DataError(
                f"Expected a grey or BGR image as {where}, got an array of {image.shape}.", "Give one image."
            )
        return to_frame(image, where), None
    path = Path(image)
    if is_dicom(path):
        from edgeseg.data.dicom import find_pixel_size, read_dicom_image, read_pixels_header

        header, _ = read_pixels_header(path, ("PixelSpacing", "SequenceOfUltrasoundRegions"))
        return read_dicom_image(header, path), find_pixel_size(header)
    return read_image(path), None


def is_dicom(path: Path) -> bool:
    """Say whether a file has the signature of DICOM (PS3.10, 7.1)."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def read_labels(mask: Image, frame: NDArray[Any]) -> NDArray[np.uint8]:
    """Read a mask of a frame's size as 0 and 1."""
    from edgeseg.data.reading import binary_mask, read_mask

    if isinstance(mask, np.ndarray):
        return binary_mask(mask, frame, "the mask")
    return read_mask(Path(mask), frame)


def describe(registration: Registration) -> dict[str, Any]:
    """Describe a registration as `registration.json` has it."""
    figures = dataclasses.asdict(registration.figures)
    masks = figures.pop("masks")
    return {
        "kind": registration.kind,
        "method": registration.method,
        "converged": registration.converged,
        "mm_per_px": registration.mm_per_px,
        "matrix": registration.matrix.tolist(),
        **figures,
        **({} if masks is None else {key: value for key, value in masks.items() if value is not None}),
    }
