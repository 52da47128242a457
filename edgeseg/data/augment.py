"""Vary labelled ultrasound images the way probes, hands and gain knobs do.

Every image has a generator of its own, so what it looks like in an epoch depends on nothing but seed, epoch and number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.frame.preprocess import denoise_pixels

Pixels = NDArray[np.uint8]
Random = np.random.Generator

_ELASTIC_KNOTS = 5


@dataclass(frozen=True)
class AugmentSpec:
    """How far images are varied; zero switches a variation off."""

    flip: bool = True
    rotation_degrees: float = 20.0
    zoom: float = 0.25
    """Largest zoom in or out, as a logarithm: 0.25 is 0.78 to 1.28 times."""
    stretch: float = 0.12
    """How much height and width may be zoomed apart."""
    shift: float = 0.10
    elastic: float = 0.02
    """Size of smooth local shifts, as a share of the image."""
    gain: float = 0.25
    depth_gain: float = 0.25
    gamma: float = 0.30
    shadow: float = 0.25
    """Chance of an acoustic shadow."""
    speckle: float = 0.10
    noise: float = 0.03
    blur: float = 0.25
    """Chance of a slight blur."""


VARIATIONS = {field.name.removesuffix("_degrees").replace("_", "-"): field.name for field in fields(AugmentSpec)}


def choose_variations(text: str) -> AugmentSpec | None:
    """Read which variations are wanted: all, none, some names, or all but those with a minus; None is none."""
    if text in ("all", "none"):
        return AugmentSpec() if text == "all" else None
    words = [word.strip() for word in text.split(",")]
    names = [word.removeprefix("-") for word in words]
    without = {word.startswith("-") for word in words}
    if len(without) > 1 or not set(names) <= set(VARIATIONS):
        raise ValueError(
            f"expected augment to be all, none, or names with commas, all or none of them with a minus, of "
            f"{', '.join(VARIATIONS)}; got {text!r}"
        )
    dropped = set(names) if without == {True} else set(VARIATIONS) - set(names)
    off: dict[str, Any] = dict.fromkeys((VARIATIONS[name] for name in dropped), 0)
    return replace(AugmentSpec(), **off)


def vary_case(
    pixels: Pixels, masks: Pixels, spec: AugmentSpec | None, denoise: str, random: Random
) -> tuple[Pixels, Pixels]:
    """Vary a case as training does: first the noise and all else, then the filter, as on the device."""
    if spec is not None:
        pixels, masks = augment_case(pixels, masks, spec, random)
    return denoise_pixels(pixels, denoise), masks


def augment_case(image: Pixels, masks: Pixels, spec: AugmentSpec, random: Random) -> tuple[Pixels, Pixels]:
    """Vary an image (height, width, channels) and move its masks (height, width, classes) along."""
    rows, columns = draw_warp(image.shape[0], image.shape[1], spec, random)
    warped = _remap(image, rows, columns, cv2.INTER_LINEAR)
    moved = _remap(masks * np.uint8(255), rows, columns, cv2.INTER_LINEAR)
    return vary_brightness(warped, spec, random), (moved > 127).astype(np.uint8)


def draw_warp(
    height: int, width: int, spec: AugmentSpec, random: Random
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Draw which place of the old image each place of the new one is taken from."""
    angle = math.radians(random.uniform(-1, 1) * spec.rotation_degrees)
    zoom, stretch = random.uniform(-1, 1) * spec.zoom, random.uniform(-1, 1) * spec.stretch
    scale_y, scale_x = math.exp(-zoom - stretch / 2), math.exp(-zoom + stretch / 2)
    if spec.flip and random.random() < 0.5:
        scale_x = -scale_x
    shift_y, shift_x = random.uniform(-1, 1, 2) * spec.shift
    y, x = _make_grid(height, width)
    cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    old_y = (cos * y + sin * x) * np.float32(scale_y) + np.float32(shift_y + 0.5)
    old_x = (cos * x - sin * y) * np.float32(scale_x) + np.float32(shift_x + 0.5)
    if spec.elastic > 0:
        old_y += _draw_smooth(height, width, spec.elastic, random)
        old_x += _draw_smooth(height, width, spec.elastic, random)
    return old_y * np.float32(height - 1), old_x * np.float32(width - 1)


@lru_cache(maxsize=8)
def _make_grid(height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    y = np.linspace(-0.5, 0.5, height, dtype=np.float32).reshape(-1, 1)
    x = np.linspace(-0.5, 0.5, width, dtype=np.float32).reshape(1, -1)
    return y, x


def _draw_smooth(height: int, width: int, size: float, random: Random) -> NDArray[np.float32]:
    knots = (size * random.normal(size=(_ELASTIC_KNOTS, _ELASTIC_KNOTS))).astype(np.float32)
    return np.asarray(cv2.resize(knots, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.float32)


def _remap(image: Pixels, rows: NDArray[np.float32], columns: NDArray[np.float32], interpolation: int) -> Pixels:
    moved = cv2.remap(image, columns, rows, interpolation, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(moved, dtype=np.uint8).reshape(image.shape)


def vary_brightness(image: Pixels, spec: AugmentSpec, random: Random) -> Pixels:
    """Turn the knobs: gamma, gain, gain over depth, shadow, noise and focus."""
    height, width = image.shape[:2]
    real = np.asarray(cv2.LUT(image, _draw_curve(spec, random)), dtype=np.float32).reshape(image.shape)
    real *= (_draw_depth_gain(height, spec, random) * _draw_shadow(width, spec, random))[:, :, np.newaxis]
    speckle, noise = random.uniform(0, spec.speckle), random.uniform(0, 255 * spec.noise)
    if speckle > 0 or noise > 0:
        grain = random.standard_normal(image.shape, dtype=np.float32)
        real += grain * (np.float32(speckle) * real + np.float32(noise))
    if random.random() < spec.blur:
        blurred = cv2.GaussianBlur(real, (0, 0), random.uniform(0.4, 1.2))
        real = np.asarray(blurred, dtype=np.float32).reshape(image.shape)
    return np.asarray(cv2.convertScaleAbs(np.maximum(real, 0)), dtype=np.uint8).reshape(image.shape)


def _draw_curve(spec: AugmentSpec, random: Random) -> NDArray[np.float32]:
    gamma = math.exp(random.uniform(-1, 1) * spec.gamma)
    gain = 255 * (1 + random.uniform(-1, 1) * spec.gain)
    return (gain * np.linspace(0, 1, 256) ** gamma).astype(np.float32)


def _draw_depth_gain(height: int, spec: AugmentSpec, random: Random) -> NDArray[np.float32]:
    slope = random.uniform(-1, 1) * spec.depth_gain
    return np.asarray(1 + slope * np.linspace(-1, 1, height), dtype=np.float32).reshape(-1, 1)


def _draw_shadow(width: int, spec: AugmentSpec, random: Random) -> NDArray[np.float32]:
    if random.random() >= spec.shadow:
        return np.ones((1, width), np.float32)
    middle, half = random.uniform(0, width), random.uniform(0.02, 0.12) * width
    edge = 1 / (1 + np.exp((np.abs(np.arange(width) - middle) - half) / (0.02 * width)))
    return np.asarray(1 - random.uniform(0.2, 0.7) * edge, dtype=np.float32).reshape(1, -1)
