"""Displacement fields: check, resize, compose and apply them, and measure how far and how evenly they move.

A field is float32 of shape (height, width, 2): dx and dy in pixels of the fixed image, so that
moved(x) = moving(x + d(x)). This is the direction that an image is resampled in: every pixel of the result asks where
it comes from. The moving image may have another size; the field has that of the fixed one.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import DataError
from edgeseg.core.files import write_bytes
from edgeseg.core.limits import ARRAY_BYTES, IMAGE_PIXELS, IMAGE_SIDE, check_regular
from edgeseg.frame.images import as_data_error

Field = NDArray[np.float32]
Matrix = NDArray[np.float64]
_SAVE_AS = "Save it with numpy.save() as float32 of shape (height, width, 2): dx, dy in pixels."


def check_field(values: NDArray[Any], where: str = "the displacement field") -> Field:
    """Return values as a displacement field.

    Raises:
        DataError: They have another shape, are not numbers, or not all finite.
    """
    if values.ndim != 3 or values.shape[2] != 2 or 0 in values.shape or values.dtype.kind not in "iuf":
        raise DataError(
            f"Expected numbers of shape (height, width, 2) in {where}, got {values.dtype} of {values.shape}.", _SAVE_AS
        )
    height, width = values.shape[:2]
    if max(height, width) > IMAGE_SIDE or height * width > IMAGE_PIXELS:
        raise DataError(
            f"Expected at most {IMAGE_PIXELS // 1_000_000} million pixels in {where}, got {width}x{height}.", _SAVE_AS
        )
    field = np.ascontiguousarray(values, dtype=np.float32)
    if not np.isfinite(field).all():
        raise DataError(f"Expected finite displacements in {where}, got NaN or infinity.", "Register the pair again.")
    return field


def read_field(path: str | Path) -> Field:
    """Read a displacement field from an `.npy` file."""
    as_data_error(check_regular, Path(path), ARRAY_BYTES)
    try:
        # mapped, so that a header cannot announce more than the file holds
        values = np.lib.format.open_memmap(Path(path), mode="r")
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"Expected an array of NumPy in {path}, got an unreadable file.", _SAVE_AS) from error
    return check_field(values, str(path))


def write_field(path: str | Path, field: Field) -> None:
    """Write a displacement field as `.npy`, whole or not at all."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(field, dtype=np.float32), allow_pickle=False)
    write_bytes(Path(path), buffer.getvalue())


def no_motion(size: tuple[int, int]) -> Field:
    """The field of a height and width that moves nothing."""
    return np.zeros((*size, 2), np.float32)


def resize_field(field: Field, size: tuple[int, int]) -> Field:
    """Bring a field onto a grid of another height and width; its vectors grow with the image."""
    height, width = size
    if field.shape[:2] == (height, width):
        return field
    scale = np.array([width / field.shape[1], height / field.shape[0]], np.float32)
    resized = np.asarray(cv2.resize(field, (width, height), interpolation=cv2.INTER_LINEAR))
    return np.asarray(resized * scale, dtype=np.float32)


def to_positions(field: Field) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Say where every pixel comes from: columns and rows of the moving image."""
    height, width = field.shape[:2]
    columns, rows = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    return field[..., 0] + columns, field[..., 1] + rows


def warp_image(image: NDArray[Any], field: Field, outside: float | None = 0.0) -> NDArray[Any]:
    """Move an image by a field of the fixed image's size, with linear interpolation.

    Args:
        image: The moving image, of any size.
        field: Of the fixed image's size.
        outside: The brightness of what lies outside the moving image; None repeats its margin.
    """
    border = cv2.BORDER_REPLICATE if outside is None else cv2.BORDER_CONSTANT
    value = (outside or 0.0,) * 4
    columns, rows = to_positions(field)
    return np.asarray(cv2.remap(image, columns, rows, cv2.INTER_LINEAR, borderMode=border, borderValue=value))


def warp_labels(labels: NDArray[np.uint8], field: Field) -> NDArray[np.uint8]:
    """Move labels by a field of the fixed image's size, without interpolation: labels must not be mixed."""
    columns, rows = to_positions(field)
    return np.asarray(cv2.remap(labels, columns, rows, cv2.INTER_NEAREST), dtype=np.uint8)


def find_inside(field: Field, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Say which pixels of the fixed image come from inside a moving image of this height and width."""
    columns, rows = to_positions(field)
    inside = (columns >= 0) & (columns <= size[1] - 1) & (rows >= 0) & (rows <= size[0] - 1)
    return np.asarray(inside, dtype=np.bool_)


def matrix_to_field(matrix: NDArray[Any], size: tuple[int, int]) -> Field:
    """The field of a 2x3 matrix that maps a pixel (x, y) of the fixed image into the moving one.

    Args:
        matrix: As OpenCV has it with `WARP_INVERSE_MAP`.
        size: Height and width of the fixed image.
    """
    return compose_with_matrix(no_motion(size), matrix)


def compose(first: Field, second: Field) -> Field:
    """The field that moves an image by `second`, and the result by `first`, without resampling twice.

    Args:
        first: From the fixed image to one in between.
        second: From the one in between to the moving image.
    """
    columns, rows = to_positions(first)
    # outside its grid the second field goes on as at its margin
    further = cv2.remap(second, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(first + further, dtype=np.float32)


def compose_with_matrix(first: Field, matrix: NDArray[Any]) -> Field:
    """`compose` with a matrix in the second place; exact, also outside the grid."""
    values = np.asarray(matrix, dtype=np.float64)
    # of the matrix only its difference from no motion: float32 then keeps all digits of small motions
    change = (values - np.eye(2, 3)).astype(np.float32)
    columns, rows = to_positions(first)
    field = np.empty_like(first)
    for axis in (0, 1):
        field[..., axis] = first[..., axis] + change[axis, 0] * columns + change[axis, 1] * rows + change[axis, 2]
    return field


def scale_matrix(matrix: NDArray[Any], fixed: NDArray[Any], moving: NDArray[Any]) -> Matrix:
    """Bring a matrix onto grids that are finer by a factor, whose pixels have their centres in between.

    Args:
        matrix: From pixels of the fixed image into the moving one.
        fixed: How many times as fine the fixed image's grid becomes, along x and y.
        moving: The same of the moving one's.
    """
    # large = (small + 0.5) * factor - 0.5
    linear = matrix[:, :2] * moving[:, None] / fixed[None, :]
    offset = moving * (matrix[:, 2] + 0.5 + matrix[:, :2] @ (0.5 / fixed - 0.5)) - 0.5
    return np.column_stack([linear, offset])


def invert_matrix(matrix: NDArray[Any]) -> Matrix:
    """The 2x3 matrix from the moving image back to the fixed one."""
    return np.asarray(cv2.invertAffineTransform(np.asarray(matrix, dtype=np.float64)), dtype=np.float64)


def move_points(points: NDArray[Any], field: Field) -> NDArray[np.float64]:
    """Where points (x, y) of the fixed image lie in the moving one, between pixels by linear interpolation."""
    places = np.asarray(points, dtype=np.float32).reshape(-1, 1, 2)
    columns, rows = places[..., 0], places[..., 1]
    vectors = cv2.remap(field, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(places + vectors, dtype=np.float64).reshape(-1, 2)


def jacobian_determinant(field: Field) -> NDArray[np.float32]:
    """By how much the area around each pixel grows: 1 where nothing changes, negative where the field folds.

    Differences between neighbours, so the array is a row and a column smaller than the field.
    """
    down = field[1:, :-1] - field[:-1, :-1]
    right = field[:-1, 1:] - field[:-1, :-1]
    determinant = (1 + right[..., 0]) * (1 + down[..., 1]) - right[..., 1] * down[..., 0]
    return np.asarray(determinant, dtype=np.float32)


def folding_share(field: Field) -> float:
    """The share of pixels at which the field folds: a Jacobian determinant of zero or less."""
    determinant = jacobian_determinant(field)
    return float(np.mean(determinant <= 0)) if determinant.size else 0.0


@dataclass(frozen=True)
class DisplacementStatistics:
    """How far a field moves, in pixels of the fixed image or in mm."""

    mean: float
    median: float
    p95: float
    max: float
    mean_dx: float
    mean_dy: float

    def scaled(self, factor: float) -> DisplacementStatistics:
        """The same in another unit."""
        return DisplacementStatistics(*(float(value * factor) for value in vars(self).values()))


def measure_field(field: Field, where: NDArray[Any] | None = None) -> DisplacementStatistics:
    """Measure how far a field moves.

    Args:
        field: To be measured.
        where: A mask of the pixels that count, of the field's size; all if None or empty.
    """
    vectors = field.reshape(-1, 2) if where is None or not np.any(where) else field[np.asarray(where) > 0]
    lengths = np.hypot(vectors[:, 0], vectors[:, 1])
    median, p95 = np.percentile(lengths, [50, 95])
    dx, dy = vectors.mean(axis=0, dtype=np.float64)
    return DisplacementStatistics(
        float(lengths.mean(dtype=np.float64)), float(median), float(p95), float(lengths.max()), float(dx), float(dy)
    )
