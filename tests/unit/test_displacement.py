"""Displacement fields: what they move where, on which grid, and whether they fold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeseg.core.errors import DataError
from edgeseg.registration.displacement import (
    Field,
    check_field,
    compose,
    compose_with_matrix,
    find_inside,
    folding_share,
    invert_matrix,
    jacobian_determinant,
    matrix_to_field,
    measure_field,
    move_points,
    no_motion,
    read_field,
    resize_field,
    warp_image,
    warp_labels,
    write_field,
)

TURN = np.array([[0.98, -0.17, 9.0], [0.17, 0.98, -6.0]])


def shift(size: tuple[int, int], dx: float, dy: float) -> Field:
    return no_motion(size) + np.array([dx, dy], np.float32)


def test_moved_takes_each_pixel_from_where_the_field_points() -> None:
    moving = np.arange(80, dtype=np.uint8).reshape(8, 10)
    moved = warp_image(moving, shift((8, 10), 2, 1))
    np.testing.assert_array_equal(moved[:7, :8], moving[1:, 2:])
    assert not moved[7].any()
    repeated = warp_image(moving, shift((8, 10), 2, 1), outside=None)
    assert repeated[7, 9] == moving[7, 9]


def test_half_a_pixel_is_a_mean_in_images_and_never_in_labels() -> None:
    row = np.array([[0, 100, 200, 0]], np.uint8)
    assert warp_image(row, shift((1, 4), 0.5, 0))[0, :2].tolist() == [50, 150]
    labels = np.array([[0, 3, 3, 1]], np.uint8)
    assert set(np.unique(warp_labels(labels, shift((1, 4), 0.4, 0)))) <= {0, 1, 3}


def test_moved_image_has_the_size_of_the_fixed_one() -> None:
    moving = np.full((30, 20, 3), 7, np.uint8)
    assert warp_image(moving, no_motion((12, 16))).shape == (12, 16, 3)
    assert find_inside(no_motion((12, 40)), (30, 20)).sum() == 12 * 20


def test_vectors_grow_with_the_grid() -> None:
    large = resize_field(shift((16, 32), 4, 2), (32, 96))
    assert large.shape == (32, 96, 2)
    np.testing.assert_allclose(large, shift((32, 96), 12, 4), rtol=1e-6)


def test_matrix_maps_fixed_pixels_into_the_moving_image() -> None:
    field = matrix_to_field(TURN, (40, 50))
    np.testing.assert_allclose(field[7, 11], TURN @ [11, 7, 1] - [11, 7], atol=1e-4)
    np.testing.assert_allclose(move_points(np.array([[11.5, 7.25]]), field)[0], TURN @ [11.5, 7.25, 1], atol=0.02)


def test_composing_with_the_inverse_moves_nothing() -> None:
    size = (60, 60)
    there, back = matrix_to_field(TURN, size), matrix_to_field(invert_matrix(TURN), size)
    np.testing.assert_allclose(compose(there, back)[20:40, 20:40], 0, atol=1e-2)
    np.testing.assert_allclose(compose_with_matrix(there, invert_matrix(TURN)), 0, atol=1e-3)


def test_folding_is_where_the_jacobian_is_negative() -> None:
    assert folding_share(matrix_to_field(TURN, (20, 20))) == 0
    np.testing.assert_allclose(jacobian_determinant(matrix_to_field(TURN, (20, 20))), np.linalg.det(TURN[:, :2]), 1e-4)
    mirrored = no_motion((20, 20))
    mirrored[..., 0] = -2 * np.arange(20)
    assert folding_share(mirrored) == 1


def test_statistics_count_where_asked() -> None:
    field = shift((10, 10), 3, 4)
    field[5:] = 0
    assert measure_field(field).mean == pytest.approx(2.5)
    where = np.zeros((10, 10), np.uint8)
    where[:5] = 1
    assert measure_field(field, where).median == pytest.approx(5)
    assert measure_field(field).scaled(0.1).max == pytest.approx(0.5)


def test_field_survives_its_file(tmp_path: Path) -> None:
    field = matrix_to_field(TURN, (9, 7))
    write_field(tmp_path / "d.npy", field)
    np.testing.assert_array_equal(read_field(tmp_path / "d.npy"), field)
    assert np.load(tmp_path / "d.npy").dtype == np.float32


@pytest.mark.parametrize(
    "values",
    [np.zeros((4, 5)), np.zeros((4, 5, 3)), np.zeros((0, 5, 2)), np.full((4, 5, 2), np.nan), np.array(["a"])],
)
def test_what_is_no_field_is_refused(values: np.ndarray[Any, Any], tmp_path: Path) -> None:
    with pytest.raises(DataError):
        check_field(values)
    np.save(tmp_path / "d.npy", values)
    with pytest.raises(DataError):
        read_field(tmp_path / "d.npy")


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"PK\x03\x04rest", b"text"])
def test_damaged_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "d.npy").write_bytes(content)
    with pytest.raises(DataError):
        read_field(tmp_path / "d.npy")
