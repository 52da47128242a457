"""Masks drawn as ellipses: for heads that were labelled as ellipses, and for nothing else."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgeseg.core.spec import ClassSpec, InputSpec, OutputSpec
from edgeseg.data.dataset import LabelledImage, find_shape
from edgeseg.data.reading import Case
from edgeseg.frame.postprocess import draw_ellipses, fit_ellipse, scores_to_labels
from edgeseg.frame.preprocess import place_frame

HEAD = (ClassSpec("head"),)


def draw_head(centre: tuple[int, int] = (60, 50)) -> NDArray[np.uint8]:
    mask = np.zeros((100, 120), np.uint8)
    cv2.ellipse(mask, centre, (40, 28), 20, 0, 360, 1, cv2.FILLED)
    return mask


def draw_wavy_head() -> NDArray[np.uint8]:
    """Draw the head with an outline that swings around it."""
    turn = np.linspace(0, 2 * np.pi, 400)
    swing, tilt = 1 + 0.08 * np.cos(9 * turn), np.deg2rad(20)
    x, y = 40 * swing * np.cos(turn), 28 * swing * np.sin(turn)
    points = np.stack([60 + x * np.cos(tilt) - y * np.sin(tilt), 50 + x * np.sin(tilt) + y * np.cos(tilt)], axis=1)
    mask = np.zeros((100, 120), np.uint8)
    cv2.fillPoly(mask, [np.round(points).astype(np.int32)], (1,))
    return mask


def make_image(mask: NDArray[np.uint8], measured: float | None = 100.0) -> LabelledImage:
    case = Case("head", Path("head"), (), "g", head_circumference_mm=measured)
    return LabelledImage(case, np.zeros_like(mask), (mask,))


def count_differences(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> int:
    return int(np.count_nonzero(first != second))


def test_waves_and_a_second_region_are_gone() -> None:
    head, found = draw_head(), draw_wavy_head()
    found[90:96, 5:12] = 1
    drawn = draw_ellipses(found, 1)
    assert not drawn[90:96, 5:12].any()
    assert count_differences(drawn, head) < count_differences(found, head) / 2


def test_every_class_is_drawn_as_its_own_ellipse() -> None:
    labels = np.zeros((100, 240), np.uint8)
    labels[:, :120], labels[:, 120:] = draw_head(), 2 * draw_head()
    assert count_differences(draw_ellipses(labels, 2), labels) <= 0.01 * np.count_nonzero(labels)


@pytest.mark.parametrize("points", [[], [(3, 3)], [(5, x) for x in range(40)], [(y, y) for y in range(40)]])
def test_what_no_ellipse_fits_stays_as_it_is(points: list[tuple[int, int]]) -> None:
    labels = np.zeros((50, 50), np.uint8)
    for point in points:
        labels[point] = 1
    assert fit_ellipse(labels) is None
    assert np.array_equal(draw_ellipses(labels, 1), labels)


def test_an_ellipse_does_not_run_away_from_a_corner() -> None:
    labels = np.zeros((80, 80), np.uint8)
    labels[10:14, 10:70] = labels[10:70, 10:14] = 1
    assert np.array_equal(draw_ellipses(labels, 1), labels)


@pytest.mark.parametrize(("shape", "whole"), [("free", False), ("ellipse", True)])
def test_the_card_says_what_shape_masks_have(shape: str, whole: bool) -> None:
    scores = 255 * draw_head()[:96, :, np.newaxis]
    scores[40:60, 50:70] = 0
    spec = InputSpec(96, 120)
    labels = scores_to_labels(scores, place_frame(spec, 96, 120), (96, 120), OutputSpec(HEAD, shape=shape))
    assert bool(labels[50, 60]) == whole


def test_only_measured_heads_that_are_labelled_as_ellipses_are_drawn_as_such() -> None:
    head, dented = draw_head(), draw_head()
    dented[20:34, 56:62] = 0
    assert find_shape([make_image(head), make_image(draw_head((50, 40)))]) == "ellipse"
    assert find_shape([make_image(head), make_image(dented)]) == "free"
    assert find_shape([make_image(head), make_image(head, measured=None)]) == "free"
