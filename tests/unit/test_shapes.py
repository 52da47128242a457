from __future__ import annotations

import numpy as np
import pytest

from edgeseg.data.annotations.shapes import Shape, draw_shapes, fill_polygons, trace_labels, trace_mask


def make_square(x: float, y: float, side: float) -> np.ndarray:
    return np.array([[x, y], [x + side, y], [x + side, y + side], [x, y + side]], np.float64)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_traced_mask_is_drawn_as_it_was(seed: int, share: float) -> None:
    random = np.random.default_rng(seed)
    mask = (random.uniform(size=(1 + seed, 23)) < share).astype(np.uint8)
    (drawn,) = draw_shapes(trace_mask(mask, "lesion"), ["lesion"], mask.shape)
    np.testing.assert_array_equal(drawn, mask)


def test_a_region_with_a_hole_is_one_shape() -> None:
    mask = np.zeros((12, 12), np.uint8)
    mask[2:10, 2:10] = 1
    mask[4:6, 4:6] = 0
    (shape,) = trace_mask(mask, "lesion", 0.5)
    assert [len(points) for points in shape.polygons] == [4, 4]
    assert (shape.box, shape.score) == ((2.0, 2.0, 8.0, 8.0), 0.5)


def test_a_square_covers_the_pixels_whose_centre_it_holds() -> None:
    assert fill_polygons([make_square(1, 1, 2)], (5, 5)).sum() == 4
    assert fill_polygons([make_square(1.4, 1.4, 2)], (5, 5)).sum() == 4
    assert fill_polygons([make_square(1.6, 1.6, 0.3)], (5, 5)).sum() == 0


def test_what_lies_outside_is_cut_off() -> None:
    assert fill_polygons([make_square(-1e5, -1e5, 2e5)], (4, 6)).all()
    assert not fill_polygons([make_square(100, 100, 50)], (4, 6)).any()


def test_polygons_that_cross_themselves_are_even_odd() -> None:
    bow_tie = np.array([[0, 0], [8, 8], [8, 0], [0, 8]], np.float64)
    drawn = fill_polygons([bow_tie], (8, 8))
    assert 0 < drawn.sum() < 64
    assert not drawn[0, 4]
    assert drawn[4, 0]


def test_classes_are_kept_apart() -> None:
    labels = np.zeros((8, 8), np.uint8)
    labels[:3], labels[5:] = 1, 2
    shapes = trace_labels(labels, ["vessel", "nerve"], [0.25])
    assert [(shape.class_name, shape.score) for shape in shapes] == [("vessel", 0.25), ("nerve", None)]
    first, second = draw_shapes(shapes, ["vessel", "nerve"], (8, 8))
    np.testing.assert_array_equal(first + 2 * second, labels)


@pytest.mark.parametrize(
    "polygons", [(), (np.zeros((2, 2)),), (np.full((3, 2), np.nan),), (np.full((3, 2), 1e9),), (np.zeros((3, 3)),)]
)
def test_what_is_no_polygon_is_refused(polygons: tuple[np.ndarray, ...]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Shape("lesion", polygons)
