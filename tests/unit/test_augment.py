"""Varied images keep their masks where they belong, and depend on nothing but their own generator."""

from __future__ import annotations

import dataclasses
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgeseg.data.augment import (
    VARIATIONS,
    AugmentSpec,
    Warp,
    augment_case,
    choose_variations,
    draw_warp,
    map_pixels,
    vary_brightness,
)
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


def warp_as_written(warp: Warp, height: int, width: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the map of a warp step by step: rotated, scaled, shifted, and bent by the knots."""
    y, x = np.linspace(-0.5, 0.5, height).reshape(-1, 1), np.linspace(-0.5, 0.5, width).reshape(1, -1)
    sin, cos = math.sin(warp.angle), math.cos(warp.angle)
    bent = [cv2.resize(knots, (width, height), interpolation=cv2.INTER_CUBIC) for knots in warp.knots]
    rows = (cos * y + sin * x) * warp.scale_y + warp.shift_y + 0.5 + bent[0]
    columns = (cos * x - sin * y) * warp.scale_x + warp.shift_x + 0.5 + bent[1]
    return rows * (height - 1), columns * (width - 1)


@pytest.mark.parametrize(("height", "width"), [(96, 64), (33, 50)])
def test_the_map_of_a_warp_is_what_its_parts_make(height: int, width: int) -> None:
    warp = draw_warp(AugmentSpec(), np.random.default_rng(2))
    found = [one.copy() for one in map_pixels(warp, height, width)]
    for one, expected in zip(found, warp_as_written(warp, height, width), strict=True):
        assert np.abs(one - expected).max() < 1e-3


@pytest.mark.parametrize(("channels", "classes"), [(1, 1), (3, 1), (3, 2), (1, 5), (2, 7)])
def test_all_planes_are_moved_alike(channels: int, classes: int) -> None:
    image, masks = make_disc()
    spec = AugmentSpec(gain=0, depth_gain=0, gamma=0, shadow=0, speckle=0, noise=0, blur=0)
    alone, alone_masks = augment_case(image, masks, spec, np.random.default_rng(8))
    many, many_masks = augment_case(
        np.repeat(image, channels, 2), np.repeat(masks, classes, 2), spec, np.random.default_rng(8)
    )
    assert many.shape == (96, 96, channels)
    assert many_masks.shape == (96, 96, classes)
    assert np.abs(many.astype(int) - alone).max() <= 1
    assert (many_masks != alone_masks).mean() < 1e-3


def test_geometry_is_drawn_as_the_strengths_say() -> None:
    spec, random = AugmentSpec(), np.random.default_rng(11)
    warps = [draw_warp(spec, random) for _ in range(4000)]
    zooms = [-math.log(abs(warp.scale_x * warp.scale_y)) / 2 for warp in warps]
    stretches = [math.log(abs(warp.scale_x) / warp.scale_y) for warp in warps]
    drawn = {
        math.radians(spec.rotation_degrees): [warp.angle for warp in warps],
        spec.zoom: zooms,
        spec.stretch: stretches,
        spec.shift: [warp.shift_y for warp in warps],
    }
    for most, values in drawn.items():
        assert_even(np.array(values), most)
    assert np.mean([warp.scale_x < 0 for warp in warps]) == pytest.approx(0.5, abs=0.03)
    assert np.std([warp.knots for warp in warps]) == pytest.approx(spec.elastic, rel=0.02)


def assert_even(values: NDArray[np.float64], most: float) -> None:
    """Expect values that are evenly spread from -most to most."""
    assert np.abs(values).max() <= most + 1e-9
    expected = np.linspace(-most, most, len(values))
    # the largest distance of the sorted values: below that of a Kolmogorov-Smirnov test at 1 in 10,000
    assert np.abs(np.sort(values) - expected).max() < 2 * most * 2.3 / math.sqrt(len(values))


def test_brightness_is_drawn_as_the_strengths_say() -> None:
    flat = np.full((8, 8, 1), 128, np.uint8)
    random = np.random.default_rng(12)
    gains = [vary_brightness(flat, dataclasses.replace(STILL, gain=0.25), random).mean() / 128 for _ in range(2000)]
    assert_even(np.array(gains) - 1, 0.26)
    bright = [vary_brightness(flat, dataclasses.replace(STILL, gamma=0.3), random).mean() / 255 for _ in range(2000)]
    assert_even(np.log(np.log(bright) / math.log(128 / 255)), 0.31)
    shaded = [vary_brightness(flat, dataclasses.replace(STILL, shadow=0.25), random).min() < 120 for _ in range(2000)]
    assert np.mean(shaded) == pytest.approx(0.25, abs=0.05)


def test_grain_is_normal_and_grows_with_the_brightness() -> None:
    spec, random = dataclasses.replace(STILL, speckle=0.1), np.random.default_rng(13)
    for level in (50, 150):
        flat = np.full((128, 128, 1), level, np.uint8)
        spreads = [vary_brightness(flat, spec, random).std() / level for _ in range(200)]
        # evenly drawn up to 0.1
        assert np.mean(spreads) == pytest.approx(0.05, abs=0.008)
        assert np.max(spreads) == pytest.approx(0.1, abs=0.006)
    grain = (
        vary_brightness(np.full((256, 256, 1), 128, np.uint8), dataclasses.replace(STILL, noise=0.2), random) - 128.0
    )
    grain /= grain.std()
    assert abs(grain.mean()) < 0.02
    assert np.mean(np.abs(grain) < 1) == pytest.approx(0.683, abs=0.02)
    assert np.mean(grain**4) == pytest.approx(3, abs=0.3)
    # neighbours know nothing of each other
    assert abs(np.mean(grain[1:] * grain[:-1])) < 0.02


def test_threads_do_not_disturb_each_other() -> None:
    image, masks = make_disc()

    def augment(seed: int) -> tuple[bytes, bytes]:
        one, moved = augment_case(image, masks, AugmentSpec(), np.random.default_rng(seed))
        return one.tobytes(), moved.tobytes()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(augment, range(40))) == [augment(seed) for seed in range(40)]


def test_images_that_were_handed_out_stay_as_they_are() -> None:
    image, masks = make_disc()
    kept = augment_case(image, masks, AugmentSpec(), np.random.default_rng(1))
    copies = [one.copy() for one in kept]
    augment_case(image, masks, AugmentSpec(), np.random.default_rng(2))
    assert all(np.array_equal(one, copy) for one, copy in zip(kept, copies, strict=True))
