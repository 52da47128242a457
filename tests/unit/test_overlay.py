"""What is drawn onto a frame: tinted where the mask is, outlined in full colour, untouched elsewhere."""

from __future__ import annotations

import numpy as np

from edgeseg.core.spec import ClassSpec
from edgeseg.inference.masks import draw_overlay

CLASSES = (ClassSpec("a", (255, 0, 0)), ClassSpec("b", (0, 0, 255)))


def test_each_class_is_tinted_and_outlined_and_the_rest_is_the_frame() -> None:
    frame = np.full((64, 64), 100, np.uint8)
    labels = np.zeros((64, 64), np.uint8)
    labels[10:30, 10:30], labels[40:60, 40:60] = 1, 2
    picture = draw_overlay(frame, labels, CLASSES, opacity=0.5)
    assert picture[20, 20].tolist() == [50, 50, 178]
    assert picture[50, 50].tolist() == [178, 50, 50]
    assert picture[10, 20, 2] > 200 > 30 > picture[10, 20, 0]
    outside = (labels == 0) & (picture == 100).all(axis=2)
    assert np.count_nonzero(outside) > 0.9 * np.count_nonzero(labels == 0)
    assert (frame == 100).all()


def test_a_frame_of_colour_is_not_drawn_on() -> None:
    frame = np.full((32, 32, 3), 9, np.uint8)
    picture = draw_overlay(frame, np.ones((32, 32), np.uint8), CLASSES)
    assert (frame == 9).all()
    assert not (picture == 9).any(axis=2).all()
