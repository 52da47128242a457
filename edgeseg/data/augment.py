"""Augmentation of labelled ultrasound images: geometry, gain, TGC, acoustic shadow, speckle, noise and blur.

Every image has its own random generator: its augmentation depends on seed, epoch and number only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.frame.preprocess import Pixels, denoise_pixels

Random = np.random.Generator

# Control points of the elastic deformation along each side.
_ELASTIC_KNOTS = 5


@dataclass(frozen=True)
class AugmentSpec:
    """Strength of each variation; 0 switches it off."""

    flip: bool = True
    rotation_degrees: float = 20.0
    zoom: float = 0.25
    """Largest zoom in or out, as a logarithm: 0.25 is 0.78 to 1.28 times."""
    stretch: float = 0.12
    """Largest change of the aspect ratio, as a logarithm."""
    shift: float = 0.10
    """Largest shift, as a share of the image."""
    elastic: float = 0.02
    """Standard deviation of smooth local shifts, as a share of the image."""
    gain: float = 0.25
    """Largest relative change of brightness."""
    depth_gain: float = 0.25
    """Largest relative change of brightness from top to bottom, as a wrong TGC causes it."""
    gamma: float = 0.30
    """Largest change of the gamma exponent, as a logarithm."""
    shadow: float = 0.25
    """Probability of an acoustic shadow."""
    speckle: float = 0.10
    """Largest standard deviation of multiplicative noise, relative to the brightness."""
    noise: float = 0.03
    """Largest standard deviation of additive noise, as a share of white."""
    blur: float = 0.25
    """Probability of a slight Gaussian blur."""


VARIATIONS = {field.name.removesuffix("_degrees").replace("_", "-"): field.name for field in fields(AugmentSpec)}


def choose_variations(text: str) -> AugmentSpec | None:
    """Parse `--augment`: all, none, names with commas, or names with a minus to leave out; None is none."""
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
    """Augment a case as training does, then filter it: on the device, too, the filter comes last."""
    if spec is not None:
        pixels, masks = augment_case(pixels, masks, spec, random)
    return denoise_pixels(pixels, denoise), masks


def augment_case(image: Pixels, masks: Pixels, spec: AugmentSpec, random: Random) -> tuple[Pixels, Pixels]:
    """Augment an image (height, width, channels), and warp its masks (height, width, classes) with it."""
    rows, columns = draw_warp(image.shape[0], image.shape[1], spec, random)
    warped = _remap(image, rows, columns, cv2.INTER_LINEAR)
    # masks are interpolated at 0 and 255 and thresholded, which moves their outline by less than a pixel
    moved = _remap(masks * np.uint8(255), rows, columns, cv2.INTER_LINEAR)
    return vary_brightness(warped, spec, random), (moved > 127).astype(np.uint8)


def view_twice(pixels: Pixels, spec: AugmentSpec | None, denoise: str, random: Random) -> tuple[Pixels, Pixels]:
    """Augment an unlabelled image: two views of one geometry, the second with its brightness varied strongly."""
    warped = warp_frame(pixels, spec, "none", random)
    varied = vary_brightness(warped, strengthen(spec or AugmentSpec()), random)
    return denoise_pixels(warped, denoise), denoise_pixels(varied, denoise)


def warp_frame(pixels: Pixels, spec: AugmentSpec | None, denoise: str, random: Random) -> Pixels:
    """Augment an unlabelled image by geometry alone."""
    if spec is not None:
        rows, columns = draw_warp(pixels.shape[0], pixels.shape[1], spec, random)
        pixels = _remap(pixels, rows, columns, cv2.INTER_LINEAR)
    return denoise_pixels(pixels, denoise)


def strengthen(spec: AugmentSpec) -> AugmentSpec:
    """Double the variations of brightness; geometry stays."""
    names = ("gain", "depth_gain", "gamma", "shadow", "speckle", "noise", "blur")
    return replace(spec, **{name: 2 * getattr(spec, name) for name in names})


def draw_warp(
    height: int, width: int, spec: AugmentSpec, random: Random
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Draw a random warp: for each pixel of the new image, the row and column in the old one."""
    angle = math.radians(random.uniform(-1, 1) * spec.rotation_degrees)
    zoom, stretch = random.uniform(-1, 1) * spec.zoom, random.uniform(-1, 1) * spec.stretch
    # the warp maps new pixels to old ones, so a zoom in is a scale below 1
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
    """Vary gamma, gain, gain over depth (TGC), acoustic shadow, speckle, noise and blur."""
    height, width = image.shape[:2]
    real = np.asarray(cv2.LUT(image, _draw_curve(spec, random)), dtype=np.float32).reshape(image.shape)
    real *= (_draw_depth_gain(height, spec, random) * _draw_shadow(width, spec, random))[:, :, np.newaxis]
    speckle, noise = random.uniform(0, spec.speckle), random.uniform(0, 255 * spec.noise)
    if speckle > 0 or noise > 0:
        grain = random.standard_normal(image.shape, dtype=np.float32)
        # multiplicative speckle and additive noise from one draw
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
