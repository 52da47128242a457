"""Lines of masks: a prediction is solid, truth is dashed, and both can be seen where they coincide."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest

from edgeseg.core.limits import CLASSES
from edgeseg.core.palette import PALETTE
from edgeseg.data.pictures import TILE, Mark, draw_marks
from edgeseg.frame.outlines import draw_prediction, draw_truth, scale_contours, trace_contours

AMBER = (255, 176, 0)


def make_disc(side: int = 200, radius: int = 60) -> np.ndarray:
    mask = np.zeros((side, side), np.uint8)
    cv2.circle(mask, (side // 2, side // 2), radius, 1, cv2.FILLED)
    return mask


def is_amber(picture: np.ndarray) -> np.ndarray:
    return np.asarray(np.abs(picture.astype(int) - AMBER[::-1]).sum(axis=2) < 90)


def count_runs(picture: np.ndarray, radius: int = 60) -> int:
    """Count how often the colour begins on the way around the disc."""
    angles = np.linspace(0, 2 * np.pi, 2000, endpoint=False)
    middle = picture.shape[0] // 2
    x, y = (np.rint(middle + radius * f(angles)).astype(int) for f in (np.cos, np.sin))
    seen = is_amber(cv2.dilate(picture, np.ones((3, 3), np.uint8)))[y, x]
    return int(np.count_nonzero(seen & ~np.roll(seen, 1)))


def test_a_prediction_is_one_line_and_truth_is_many() -> None:
    contours = trace_contours(make_disc())
    solid, dashed = np.full((2, 200, 200, 3), 90, np.uint8)
    draw_prediction(solid, contours, AMBER)
    draw_truth(dashed, contours, AMBER)
    assert (count_runs(solid), count_runs(dashed) > 15) == (0, True)


def test_truth_is_seen_on_a_prediction_with_the_same_line() -> None:
    contours = trace_contours(make_disc())
    solid, dashed, both = np.full((3, 200, 200, 3), 90, np.uint8)
    draw_prediction(solid, contours, AMBER)
    draw_truth(dashed, contours, AMBER)
    draw_prediction(both, contours, AMBER)
    draw_truth(both, contours, AMBER)
    assert np.count_nonzero((both.max(axis=2) < 45) & (solid.max(axis=2) >= 90)) > 100
    assert np.count_nonzero(is_amber(both) & ~is_amber(dashed)) > 20


def test_only_a_prediction_is_filled() -> None:
    frame, mask = np.full((400, 400), 90, np.uint8), make_disc(400, 100)
    truth, prediction = (draw_marks(frame, [Mark(mask, AMBER, predicted)], 400) for predicted in (False, True))
    assert truth[200, 200].tolist() == [90, 90, 90]
    assert prediction[200, 200, 2] > 100 > 80 > prediction[200, 200, 0]


def test_lines_of_narrow_and_wide_pictures_are_equally_thick() -> None:
    drawn = []
    for height in (200, 360):
        mask = np.zeros((height, 360), np.uint8)
        mask[:, 120:240] = 1
        row = draw_marks(np.zeros_like(mask), [Mark(mask, (255, 255, 255), True)], 480)[100]
        drawn.append(int(np.count_nonzero(row.max(axis=1) > 128)))
    assert drawn[0] == drawn[1]


def test_holes_are_outlined() -> None:
    ring = make_disc(200, 60) - make_disc(200, 30)
    assert len(trace_contours(ring)) == 2


@pytest.mark.parametrize("shape", [(20, 4000), (4000, 20), (1, 1), (3000, 3000)])
@pytest.mark.parametrize("predicted", [False, True])
def test_one_marked_pixel_of_any_frame_is_seen(shape: tuple[int, int], predicted: bool) -> None:
    mask = np.zeros(shape, np.uint8)
    mask[shape[0] // 2, shape[1] // 2] = 1
    tile = draw_marks(np.zeros(shape, np.uint16), [Mark(mask, (255, 255, 255), predicted)], TILE, square=True)
    assert tile.shape == (TILE, TILE, 3)
    assert tile.max() > 50


def test_contours_move_with_the_picture() -> None:
    (moved,) = scale_contours([np.array([[0, 0], [9, 9]])], 2.0, 10, 20)
    assert moved.tolist() == [[10.5, 20.5], [28.5, 38.5]]


# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
DEUTERANOPIA = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
PROTANOPIA = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]


@pytest.mark.parametrize("sight", [np.eye(3), np.array(DEUTERANOPIA), np.array(PROTANOPIA)])
def test_the_first_eight_classes_can_be_told_apart_by_anybody(sight: np.ndarray) -> None:
    share = np.array(PALETTE[:8]) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4) @ sight.T
    seen = np.clip(linear, 0, 1) ** (1 / 2.4) * 1.055 - 0.055
    lab = cv2.cvtColor(np.clip(seen, 0, 1).astype(np.float32)[np.newaxis], cv2.COLOR_RGB2LAB)[0]
    assert min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(lab, 2)) > 20


def test_no_two_classes_share_a_colour() -> None:
    assert len(set(PALETTE)) == len(PALETTE) == CLASSES
