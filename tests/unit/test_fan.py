"""The ultrasound picture is found inside a vendor's screen, and nothing is found where there is none."""

from __future__ import annotations

import functools

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgeseg.core.spec import Region
from edgeseg.inference.regions import RegionDetector
from edgeseg.phantom import PhantomClip

SCREEN = (600, 800)


def draw_screen(background: int) -> NDArray[np.uint8]:
    """Draw a made-up vendor's screen: a title, a column of settings, a grey wedge, a ruler and buttons."""
    screen = np.full((*SCREEN, 3), background, np.uint8)
    cv2.putText(screen, "Abdomen 12.3 cm MI 0.8", (20, 40), cv2.FONT_HERSHEY_SIMPLEX, 1, (255, 255, 255), 2)
    for row in range(8):
        cv2.putText(screen, "Gain 60 dB", (680, 120 + 40 * row), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (200, 200, 200), 1)
    for tick in range(20):
        cv2.line(screen, (640, 80 + 22 * tick), (648, 80 + 22 * tick), (255, 255, 255), 1)
    screen[100:300, 30:50] = np.linspace(255, 0, 200, dtype=np.uint8)[:, None, None]
    cv2.rectangle(screen, (0, 560), (800, 600), (160, 90, 20), -1)
    return screen


@functools.cache
def render_fan(seed: int) -> NDArray[np.uint8]:
    """Render a phantom at the size at which it is pasted."""
    return np.asarray(cv2.resize(PhantomClip(seed=seed, size=(128, 128)).frame(0).image, (440, 440)), dtype=np.uint8)


def paste_fan(screen: NDArray[np.uint8], seed: int) -> Region:
    """Paste a phantom into a screen; gives the rectangle around what is not black of it."""
    fan = render_fan(seed)
    screen[80:520, 150:590] = fan[:, :, None]
    rows, columns = np.flatnonzero(fan.max(axis=1) > 8), np.flatnonzero(fan.max(axis=0) > 8)
    height, width = int(rows[-1] - rows[0] + 1), int(columns[-1] - columns[0] + 1)
    return Region(150 + int(columns[0]), 80 + int(rows[0]), width, height)


def overlap(one: Region, other: Region) -> float:
    """Give the shared area of two rectangles over that of both together."""
    wide = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    high = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    shared = max(wide, 0) * max(high, 0)
    return shared / (one.width * one.height + other.width * other.height - shared)


@pytest.mark.parametrize("background", [0, 32])
@pytest.mark.parametrize("seed", range(3))
def test_the_picture_is_found_on_the_screen(seed: int, background: int) -> None:
    screen = draw_screen(background)
    truth = paste_fan(screen, seed)
    found = RegionDetector().find(screen)
    assert found is not None
    assert overlap(found, truth) > 0.85


@pytest.mark.parametrize("background", [0, 32])
def test_a_screen_without_a_picture_has_none(background: int) -> None:
    assert RegionDetector().find(draw_screen(background)) is None


def test_the_search_goes_on_until_there_is_a_picture() -> None:
    finder, screen = RegionDetector(), draw_screen(0)
    assert finder.find(screen) is None
    paste_fan(screen, 1)
    assert finder.find(screen) is not None


def test_what_is_found_stays_and_another_size_is_searched_anew() -> None:
    finder, screen = RegionDetector(), draw_screen(0)
    paste_fan(screen, 1)
    found = [finder.find(screen) for _ in range(12)]
    assert finder.find(draw_screen(0)) == found[-1]
    small = np.ascontiguousarray(screen[:, :700])
    again = finder.find(small)
    assert found[-1] is not None
    assert again is not None
    assert overlap(again, found[-1]) > 0.95
    assert finder.find(np.zeros((64, 64), np.uint16)) is None
