"""Varied images keep their masks where they belong, and depend on nothing but their own generator."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from edgeseg.data.augment import VARIATIONS, AugmentSpec, augment_case, choose_variations, vary_brightness
from tests.discs import draw_case

STILL = AugmentSpec(
    flip=False, rotation_degrees=0, zoom=0, stretch=0, shift=0, elastic=0, gain=0, depth_gain=0, gamma=0, shadow=0,
    speckle=0, noise=0, blur=0,
)  # fmt: skip


def make_disc() -> tuple[
    np.ndarray[tuple[int, ...], np.dtype[np.uint8]], np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
]:
    frame, mask = draw_case(1, (96, 96))
    return frame[:, :, np.newaxis], (mask[:, :, np.newaxis] > 0).astype(np.uint8)


def test_everything_switched_off_changes_nothing() -> None:
    image, masks = make_disc()
    same, same_masks = augment_case(image, masks, STILL, np.random.default_rng(0))
    assert np.abs(same.astype(int) - image).max() <= 1
    assert np.array_equal(same_masks, masks)


def test_same_generator_gives_the_same_image() -> None:
    image, masks = make_disc()
    first, second = (augment_case(image, masks, AugmentSpec(), np.random.default_rng(5))[0] for _ in range(2))
    other = augment_case(image, masks, AugmentSpec(), np.random.default_rng(6))[0]
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("seed", range(12))
def test_mask_stays_on_the_disc(seed: int) -> None:
    image, masks = make_disc()
    moved, moved_masks = augment_case(
        image, masks, dataclasses.replace(AugmentSpec(), shadow=0.0), np.random.default_rng(seed)
    )
    inside, outside = moved[moved_masks > 0], moved[(moved_masks == 0) & (moved > 0)]
    assert moved_masks.any()
    assert np.median(inside) > 1.5 * np.median(outside)


@pytest.mark.parametrize(
    "spec",
    [
        dataclasses.replace(STILL, flip=True),
        dataclasses.replace(STILL, rotation_degrees=30.0),
        dataclasses.replace(STILL, zoom=0.3),
        dataclasses.replace(STILL, stretch=0.3),
        dataclasses.replace(STILL, shift=0.2),
        dataclasses.replace(STILL, elastic=0.05),
    ],
)
def test_each_movement_moves_the_mask(spec: AugmentSpec) -> None:
    image, masks = make_disc()
    image[:, :40], masks[:, :40] = 0, 0
    moved = [augment_case(image, masks, spec, np.random.default_rng(seed))[1] for seed in range(4)]
    assert any(not np.array_equal(one, masks) for one in moved)


@pytest.mark.parametrize(
    "spec",
    [
        dataclasses.replace(STILL, gain=0.5),
        dataclasses.replace(STILL, depth_gain=0.5),
        dataclasses.replace(STILL, gamma=0.5),
        dataclasses.replace(STILL, shadow=1.0),
        dataclasses.replace(STILL, speckle=0.3),
        dataclasses.replace(STILL, noise=0.1),
        dataclasses.replace(STILL, blur=1.0),
    ],
)
def test_each_knob_changes_the_image(spec: AugmentSpec) -> None:
    image, _ = make_disc()
    varied = vary_brightness(image, spec, np.random.default_rng(1))
    assert varied.dtype == np.uint8
    assert np.abs(varied.astype(int) - image).mean() > 0.5


def test_shadow_darkens_columns() -> None:
    image = np.full((64, 64, 1), 200, np.uint8)
    shaded = vary_brightness(image, dataclasses.replace(STILL, shadow=1.0), np.random.default_rng(3))
    assert shaded.min() < 170
    assert np.array_equal(shaded[0], shaded[-1])


def test_variations_are_chosen_by_name() -> None:
    assert choose_variations("all") == AugmentSpec()
    assert choose_variations("none") is None
    assert choose_variations("-shadow, -elastic") == dataclasses.replace(AugmentSpec(), shadow=0, elastic=0)
    two = choose_variations("rotation,depth-gain")
    assert two == dataclasses.replace(STILL, rotation_degrees=20.0, depth_gain=0.25)


@pytest.mark.parametrize("name", VARIATIONS)
def test_every_variation_can_be_switched(name: str) -> None:
    only, without = choose_variations(name), choose_variations(f"-{name}")
    off: dict[str, Any] = {VARIATIONS[name]: 0}
    assert only is not None
    assert getattr(only, VARIATIONS[name]) == getattr(AugmentSpec(), VARIATIONS[name])
    assert dataclasses.replace(only, **off) == STILL
    assert without == dataclasses.replace(AugmentSpec(), **off)


@pytest.mark.parametrize("text", ["shadows", "flip,-blur", "", "all,-flip", "--flip"])
def test_other_words_are_refused_with_the_list(text: str) -> None:
    with pytest.raises(ValueError, match=r"flip, rotation, zoom, .*, blur"):
        choose_variations(text)
