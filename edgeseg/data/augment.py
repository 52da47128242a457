"""Augmentation of labelled ultrasound images: geometry, gain, TGC, acoustic shadow, speckle, noise and blur.

Every image has its own random generator: its augmentation depends on seed, epoch and number only. Image and masks are
warped together, by one map; brightness is varied in arrays that each thread keeps (docs/decisions/0077).
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.frame.preprocess import Pixels, denoise_pixels

Random = np.random.Generator

# Control points of the elastic deformation along each side.
_ELASTIC_KNOTS = 5
# Planes that OpenCV warps together: it has fast code for one and four, and none for two.
_TOGETHER = 4
# Rows of a map that are computed at once: products so small are left to one thread by OpenBLAS.
_BLOCK_ROWS = 32


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
    # masks are interpolated at 0 and 255 and thresholded, which moves their outline by less than a pixel
    warped, moved = _remap(draw_warp(spec, random), image, masks * np.uint8(255))
    cut = cv2.threshold(_flatten(moved), 127, 1, cv2.THRESH_BINARY)[1]
    return vary_brightness(warped, spec, random), np.asarray(cut, dtype=np.uint8).reshape(masks.shape)


def view_twice(pixels: Pixels, spec: AugmentSpec | None, denoise: str, random: Random) -> tuple[Pixels, Pixels]:
    """Augment an unlabelled image: two views of one geometry, the second with its brightness varied strongly."""
    warped = warp_frame(pixels, spec, "none", random)
    varied = vary_brightness(warped, strengthen(spec or AugmentSpec()), random)
    return denoise_pixels(warped, denoise), denoise_pixels(varied, denoise)


def warp_frame(pixels: Pixels, spec: AugmentSpec | None, denoise: str, random: Random) -> Pixels:
    """Augment an unlabelled image by geometry alone."""
    if spec is not None:
        (pixels,) = _remap(draw_warp(spec, random), pixels)
    return denoise_pixels(pixels, denoise)


def strengthen(spec: AugmentSpec) -> AugmentSpec:
    """Double the variations of brightness; geometry stays."""
    names = ("gain", "depth_gain", "gamma", "shadow", "speckle", "noise", "blur")
    return replace(spec, **{name: 2 * getattr(spec, name) for name in names})


@dataclass(frozen=True)
class Warp:
    """A drawn geometry: where each pixel of the new image lies in the old one; lengths are shares of the image."""

    angle: float
    scale_y: float
    """Below 1 it zooms in."""
    scale_x: float
    """Below 0 it flips."""
    shift_y: float
    shift_x: float
    knots: NDArray[np.float32]
    """Local shifts (2, knots, knots) of rows and columns."""


def draw_warp(spec: AugmentSpec, random: Random) -> Warp:
    """Draw a random geometry."""
    angle = math.radians(random.uniform(-1, 1) * spec.rotation_degrees)
    zoom, stretch = random.uniform(-1, 1) * spec.zoom, random.uniform(-1, 1) * spec.stretch
    # the warp maps new pixels to old ones, so a zoom in is a scale below 1
    scale_y, scale_x = math.exp(-zoom - stretch / 2), math.exp(-zoom + stretch / 2)
    if spec.flip and random.random() < 0.5:
        scale_x = -scale_x
    shift_y, shift_x = random.uniform(-1, 1, 2) * spec.shift
    knots = np.zeros((2, _ELASTIC_KNOTS, _ELASTIC_KNOTS), np.float32)
    if spec.elastic > 0:
        knots += spec.elastic * random.normal(size=knots.shape)
    return Warp(angle, scale_y, scale_x, float(shift_y), float(shift_x), knots)


# By thread, name and kind. Not a threading.local: threads that Python has not started lose theirs after every call.
_ARRAYS: dict[tuple[int, str, type], NDArray[Any]] = {}
# As many as 50 threads use; then those of threads that have ended go, too.
_MOST_ARRAYS = 300


def _take_array(name: str, shape: tuple[int, ...], kind: type = np.float32) -> NDArray[Any]:
    """Give this thread's array of a name, with whatever it held.

    New arrays for every image would cost more than what is computed in them. A name has one array for each thread,
    which is replaced when another size is asked for.
    """
    key = threading.get_ident(), name, kind
    found = _ARRAYS.get(key)
    if found is None or found.shape != shape:
        if len(_ARRAYS) >= _MOST_ARRAYS:
            # whoever is at work in one of them still holds it
            _ARRAYS.clear()
        found = _ARRAYS[key] = np.empty(shape, kind)
    return found


def map_pixels(warp: Warp, height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Compute the old row and column of each new pixel; the next call in this thread overwrites them.

    Rotation, scale, shift and the cubic interpolation of the knots are sums of a function of the row times a function
    of the column: each map is a product of a thin matrix, a small one of coefficients, and a thin one.
    """
    sin, cos = math.sin(warp.angle), math.cos(warp.angle)
    rows = height - 1, warp.shift_y, cos * warp.scale_y, sin * warp.scale_y
    columns = width - 1, warp.shift_x, -sin * warp.scale_x, cos * warp.scale_x
    by_row, by_column = _list_functions(height), _list_functions(width)
    # blocks of equal size, whatever the height
    block = math.gcd(height, _BLOCK_ROWS)
    maps = []
    for name, (length, shift, of_y, of_x), knots in zip(("rows", "columns"), (rows, columns), warp.knots, strict=True):
        coefficients = np.zeros((2 + _ELASTIC_KNOTS, 2 + _ELASTIC_KNOTS), np.float32)
        coefficients[:2, :2] = (shift + 0.5, of_x), (of_y, 0)
        coefficients[2:, 2:] = knots
        coefficients *= length
        target = _take_array(name, (height, width))
        blocks = by_row.reshape(height // block, block, -1), target.reshape(height // block, block, width)
        np.matmul(blocks[0], coefficients @ by_column.T, out=blocks[1])
        maps.append(target)
    return maps[0], maps[1]


@lru_cache(maxsize=8)
def _list_functions(length: int) -> NDArray[np.float32]:
    """List functions of a pixel's place along a side (length, 2 + knots): 1, the place, the share of each knot."""
    place = np.linspace(-0.5, 0.5, length, dtype=np.float32)
    identity = np.eye(_ELASTIC_KNOTS, dtype=np.float32)
    shares = cv2.resize(identity, (_ELASTIC_KNOTS, length), interpolation=cv2.INTER_CUBIC)
    return np.concatenate([np.stack([np.ones_like(place), place], axis=1), shares], axis=1, dtype=np.float32)


def _remap(warp: Warp, *images: Pixels) -> list[Pixels]:
    """Warp images (height, width, channels) of one size by one map, in as few passes as OpenCV is fast at."""
    height, width = images[0].shape[:2]
    rows, columns = map_pixels(warp, height, width)
    results = [np.empty(image.shape, np.uint8) for image in images]
    total = sum(image.shape[2] for image in images)
    for start in range(0, total, _TOGETHER):
        count = min(_TOGETHER, total - start)
        # two or three planes are filled up with what was there
        shape = height, width, 1 if count == 1 else _TOGETHER
        packed, moved = (_take_array(name, shape, np.uint8) for name in ("packed", "moved"))
        pairs = [(start + channel, channel) for channel in range(count)]
        # cv2.merge and split write past the caches, from where the next step reads
        cv2.mixChannels(images, [packed], [number for pair in pairs for number in pair])
        cv2.remap(packed, columns, rows, cv2.INTER_LINEAR, moved, cv2.BORDER_CONSTANT, 0)
        cv2.mixChannels([moved], results, [number for pair in pairs for number in reversed(pair)])
    return results


def _flatten(image: Pixels) -> Pixels:
    """View an image (height, width, channels) as one plane, for what treats all channels alike."""
    return image.reshape(len(image), -1)


def vary_brightness(image: Pixels, spec: AugmentSpec, random: Random) -> Pixels:
    """Vary gamma, gain, gain over depth (TGC), acoustic shadow, speckle, noise and blur."""
    height, width, channels = image.shape
    real, change = (_take_array(name, (height, width * channels)) for name in ("real", "change"))
    cv2.LUT(_flatten(image), _draw_curve(spec, random), dst=real)
    real *= _draw_depth_gain(height, spec, random)
    shadow = _draw_shadow(width, spec, random)
    if shadow is not None:
        real *= np.repeat(shadow, channels, axis=1)
    speckle, noise = random.uniform(0, spec.speckle), random.uniform(0, 255 * spec.noise)
    if speckle > 0 or noise > 0:
        # multiplicative speckle and additive noise from one draw
        np.multiply(real, np.float32(speckle), out=change)
        change += np.float32(noise)
        change *= _draw_grain(height, width * channels, random)
        real += change
    if random.random() < spec.blur:
        shape = height, width, channels
        cv2.GaussianBlur(real.reshape(shape), (0, 0), random.uniform(0.4, 1.2), dst=change.reshape(shape))
        real = change
    np.maximum(real, 0, out=real)
    return np.asarray(cv2.convertScaleAbs(real), dtype=np.uint8).reshape(image.shape)


def _draw_grain(height: int, width: int, random: Random) -> NDArray[np.float32]:
    """Draw from a normal distribution of 256 steps: a table of one random byte, ten times as fast as the real one."""
    steps = np.frombuffer(random.bytes(height * width), np.uint8).reshape(height, width)
    grain: NDArray[np.float32] = _take_array("grain", (height, width))
    cv2.LUT(steps, _list_quantiles(), dst=grain)
    return grain


@lru_cache(maxsize=1)
def _list_quantiles() -> NDArray[np.float32]:
    """List 256 equally likely values of the normal distribution, scaled to a standard deviation of 1."""
    normal = NormalDist()
    values = np.array([normal.inv_cdf((step + 0.5) / 256) for step in range(256)])
    return np.asarray(values / values.std(), dtype=np.float32)


def _draw_curve(spec: AugmentSpec, random: Random) -> NDArray[np.float32]:
    gamma = math.exp(random.uniform(-1, 1) * spec.gamma)
    gain = 255 * (1 + random.uniform(-1, 1) * spec.gain)
    return (gain * np.linspace(0, 1, 256) ** gamma).astype(np.float32)


def _draw_depth_gain(height: int, spec: AugmentSpec, random: Random) -> NDArray[np.float32]:
    slope = random.uniform(-1, 1) * spec.depth_gain
    return np.asarray(1 + slope * np.linspace(-1, 1, height), dtype=np.float32).reshape(-1, 1)


def _draw_shadow(width: int, spec: AugmentSpec, random: Random) -> NDArray[np.float32] | None:
    if random.random() >= spec.shadow:
        return None
    middle, half = random.uniform(0, width), random.uniform(0.02, 0.12) * width
    edge = 1 / (1 + np.exp((np.abs(np.arange(width) - middle) - half) / (0.02 * width)))
    return np.asarray(1 - random.uniform(0.2, 0.7) * edge, dtype=np.float32).reshape(1, -1)
