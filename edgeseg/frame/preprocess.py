"""Preprocessing: from a frame to the input tensor, by letterbox or stretch, an optional filter, and quantisation.

Training, calibration, evaluation and the device all call this file, so they cannot differ.

    frame ─ crop region ─ grey or RGB, 8 bit ─ resize ─ pad ─ denoise ─> pixels ─ quantise ─> tensor
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import SourceError
from edgeseg.core.spec import InputSpec, Quantisation, Region

# 8-bit images, scores and label maps.
Pixels = NDArray[np.uint8]
# Side of the speckle filter's window in pixels, and the squared mean over the variance of speckle (its equivalent
# number of looks): what deviates by less than a sixth of the local mean is speckle.
SPECKLE_WINDOW = 5
_SPECKLE_LOOKS = 36
# Sizes and offsets on the grid are multiples of this, so that a mask at output stride 2 or 4 lines up.
_GRID = 4
_BYTE = np.dtype(np.uint8)


class KeptMemory:
    """Arrays that stay from frame to frame, by what they hold; fresh ones cost a stream a tenth of the work."""

    def __init__(self) -> None:
        self._arrays: dict[str, tuple[object, NDArray[Any]]] = {}

    def get(
        self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any] = _BYTE, layout: object = None
    ) -> NDArray[Any]:
        """Give the array of a name; where shape, type or layout change, a new one of zeros takes its place."""
        wanted = (shape, dtype, layout)
        kept = self._arrays.get(name)
        if kept is None or kept[0] != wanted:
            kept = self._arrays[name] = wanted, np.zeros(shape, dtype)
        return kept[1]


def frame_to_pixels(frame: NDArray[Any], spec: InputSpec, memory: KeptMemory | None = None) -> Pixels:
    """Preprocess a grey or BGR frame of 8 or 16 bit into the network's 8-bit pixels (height, width, channels).

    Args:
        frame: The frame.
        spec: The network's input.
        memory: Whose arrays are used: the pixels are valid until the next frame. Without it they are the caller's.
    """
    return denoise_pixels(frame_to_grid(frame, spec, memory), spec.denoise)


def frame_to_grid(frame: NDArray[Any], spec: InputSpec, memory: KeptMemory | None = None) -> Pixels:
    """Crop, convert and letterbox a frame without the filter, which training applies after the augmentation."""
    check_frame(frame, spec)
    memory = KeptMemory() if memory is None else memory
    if spec.is_stack:
        # one by one: OpenCV rounds two channels otherwise than one
        alone = dataclasses.replace(spec, modalities=(), signed=())
        planes = np.moveaxis(frame, 2, 0)
        return np.concatenate([frame_to_grid(np.ascontiguousarray(plane), alone) for plane in planes], axis=2)
    placement = place_frame(spec, frame.shape[0], frame.shape[1])
    r = placement.region
    image = frame[r.y : r.y + r.height, r.x : r.x + r.width]
    image = _to_colour(image, spec.colour, memory)
    # the padding around the frame is not written again
    grid = memory.get("grid", (spec.height, spec.width, *image.shape[2:]), layout=placement)
    inside = grid[placement.y : placement.y + placement.height, placement.x : placement.x + placement.width]
    _resize(to_bytes(image, spec.white), inside, memory)
    return grid.reshape(spec.height, spec.width, spec.channels)


def mask_to_grid(mask: NDArray[Any], spec: InputSpec) -> Pixels:
    """Letterbox a ground-truth mask (non-zero is the class) like its frame; 0 and 1."""
    placement = place_frame(spec, mask.shape[0], mask.shape[1])
    r = placement.region
    binary = np.where(mask[r.y : r.y + r.height, r.x : r.x + r.width] > 0, np.uint8(255), np.uint8(0))
    grid: Pixels = np.zeros((spec.height, spec.width), np.uint8)
    _resize(binary, grid[placement.y : placement.y + placement.height, placement.x : placement.x + placement.width])
    return (grid > 127).astype(np.uint8)


@dataclass(frozen=True)
class Placement:
    """Where the frame's region lies on the network's input grid; the rest is padding (letterbox)."""

    region: Region
    x: int
    y: int
    width: int
    height: int


@lru_cache(maxsize=64)
def place_frame(spec: InputSpec, height: int, width: int) -> Placement:
    """Compute the letterbox for a frame of this size: which region is used, and where it lies on the grid."""
    region = spec.region or Region(0, 0, width, height)
    if region.x + region.width > width or region.y + region.height > height:
        raise SourceError(
            f"Expected a region inside the frame of {width}x{height}, got x={region.x} y={region.y} "
            f"{region.width}x{region.height}.",
            "Give a region that fits this source.",
        )
    if spec.resize == "stretch":
        return Placement(region, 0, 0, spec.width, spec.height)
    scale = min(spec.width / region.width, spec.height / region.height)
    inner_width = _snap(region.width * scale, spec.width)
    inner_height = _snap(region.height * scale, spec.height)
    return Placement(
        region,
        (spec.width - inner_width) // (2 * _GRID) * _GRID,
        (spec.height - inner_height) // (2 * _GRID) * _GRID,
        inner_width,
        inner_height,
    )


@lru_cache(maxsize=64)
def use_region(spec: InputSpec, region: Region | None) -> InputSpec:
    """Replace the card's region by one that is known for this source, from the user or a DICOM header.

    The card's region belongs to the screen that the model was trained on.
    """
    return spec if region is None else dataclasses.replace(spec, region=region)


def _snap(length: float, limit: int) -> int:
    return min(max(_GRID, round(length / _GRID) * _GRID), limit)


def check_frame(frame: NDArray[Any], spec: InputSpec | None = None) -> None:
    """Refuse an array that is no grey or BGR frame of 8 or 16 bit, nor the stack of modalities that a model takes."""
    if spec is not None and spec.is_stack:
        _check_stack(frame, spec)
        return
    shape_fits = frame.ndim == 2 or (frame.ndim == 3 and frame.shape[2] in (1, 3, 4))
    if not shape_fits or frame.dtype not in (np.uint8, np.uint16) or frame.size == 0:
        raise SourceError(
            f"Expected a grey or BGR frame of 8 or 16 bit, got shape {frame.shape} and type {frame.dtype}.",
            "Convert the frames before they are given to edgeseg.",
        )


def _check_stack(frame: NDArray[Any], spec: InputSpec) -> None:
    fits = frame.ndim == 3 and frame.shape[2] == spec.channels
    if not fits or frame.dtype not in (np.uint8, np.uint16) or frame.size == 0:
        got = "one picture" if frame.ndim == 2 or frame.shape[2:] == (3,) else f"shape {frame.shape}"
        raise SourceError(
            f"Expected {spec.channels} pictures of 8 or 16 bit, {', '.join(spec.modalities)}, got {got} of "
            f"{frame.dtype}.",
            "Give one picture for each modality, in this order or by name.",
        )


def _to_colour(frame: NDArray[Any], colour: str, memory: KeptMemory) -> NDArray[Any]:
    channels = 1 if frame.ndim == 2 else frame.shape[2]
    if colour == "grey":
        if channels == 1:
            return frame.reshape(frame.shape[:2])
        code = cv2.COLOR_BGR2GRAY if channels == 3 else cv2.COLOR_BGRA2GRAY
        return np.asarray(cv2.cvtColor(frame, code, dst=memory.get("grey", frame.shape[:2], frame.dtype)))
    if channels == 1:
        raise SourceError(
            "Expected colour frames for this model, got grey ones.",
            "Use a colour source, or a model whose card says grey.",
        )
    code = cv2.COLOR_BGR2RGB if channels == 3 else cv2.COLOR_BGRA2RGB
    return np.asarray(cv2.cvtColor(frame, code, dst=memory.get("colour", (*frame.shape[:2], 3), frame.dtype)))


def to_bytes(image: NDArray[Any], white: int) -> Pixels:
    """Scale 16 bits to 8, so that `white` becomes 255; 8 bits stay."""
    if image.dtype == np.uint8:
        return image
    return np.asarray(cv2.convertScaleAbs(image, alpha=255.0 / white), dtype=np.uint8)


def _resize(image: Pixels, inside: Pixels, memory: KeptMemory | None = None) -> None:
    """Resize into a part of the grid without aliasing: halve by INTER_AREA while possible, then by INTER_LINEAR."""
    # From 640x480 to 256x192, INTER_AREA alone takes ten times as long as INTER_LINEAR, which alone aliases.
    height, width = inside.shape[:2]
    memory = KeptMemory() if memory is None else memory
    halvings = 0
    while image.shape[1] >= 2 * width and image.shape[0] >= 2 * height:
        halvings += 1
        half = (image.shape[1] // 2, image.shape[0] // 2)
        small = memory.get(f"half {halvings}", (half[1], half[0], *image.shape[2:]))
        cv2.resize(image[: 2 * half[1], : 2 * half[0]], half, dst=small, interpolation=cv2.INTER_AREA)
        image = small
    if image.shape[:2] == (height, width):
        inside[:] = image
    else:
        cv2.resize(image, (width, height), dst=inside, interpolation=cv2.INTER_LINEAR)


def denoise_pixels(pixels: Pixels, kind: str) -> Pixels:
    """Filter pixels (height, width, channels) by a filter that a card can name: none, median or speckle."""
    if kind == "none":
        return pixels
    smooth = _median(pixels) if kind == "median" else _lee_filter(pixels)
    return np.asarray(smooth, dtype=np.uint8).reshape(pixels.shape)


def _median(pixels: Pixels) -> Pixels:
    # cv2.medianBlur refuses two channels
    planes = [cv2.medianBlur(np.ascontiguousarray(plane), 3) for plane in np.moveaxis(pixels, 2, 0)]
    return np.stack([np.asarray(plane, np.uint8) for plane in planes], axis=-1)


def _lee_filter(pixels: Pixels) -> Pixels:
    """Reduce speckle: pull every pixel to its window's mean, the less the more the window varies."""
    # Lee, "Digital image enhancement and noise filtering by use of local statistics", IEEE PAMI 2(2), 1980, for
    # multiplicative noise. The sums are integers and every later step is one operation on each pixel, so that all
    # machines round alike: training and device must filter to the same bytes.
    count, window = SPECKLE_WINDOW * SPECKLE_WINDOW, (SPECKLE_WINDOW, SPECKLE_WINDOW)
    total = np.asarray(cv2.boxFilter(pixels, cv2.CV_32S, window, normalize=False), dtype=np.int32)
    squares = np.asarray(cv2.sqrBoxFilter(pixels, cv2.CV_32S, window, normalize=False), dtype=np.int32)
    energy = total * total
    spread = count * squares - energy  # count^2 times the variance, as energy is count^2 times the squared mean
    excess = np.maximum(spread - energy // _SPECKLE_LOOKS, 0).astype(np.float32)
    kept = excess / np.maximum(spread, 1).astype(np.float32)
    mean = total.astype(np.float32) / np.float32(count)
    smooth = mean + kept * (pixels.reshape(total.shape).astype(np.float32) - mean)
    return np.asarray(np.rint(smooth), dtype=np.uint8)


@lru_cache(maxsize=16)
def quantisation_table(quantisation: Quantisation) -> NDArray[Any]:
    """Build the lookup table that quantises each of the 256 pixel values; the real value is pixel / 255."""
    real = np.arange(256, dtype=np.float64) / 255.0
    if quantisation.dtype.startswith("float"):
        return np.asarray(real, dtype=quantisation.dtype)
    limits = np.iinfo(quantisation.dtype)
    # halves round up, as in TFLite's own quantisation; np.rint would round them to even
    steps = np.floor(real / quantisation.scale + 0.5) + quantisation.zero_point
    return np.asarray(np.clip(steps, limits.min, limits.max), dtype=quantisation.dtype)


@lru_cache(maxsize=16)
def _is_sign_flip(quantisation: Quantisation) -> bool:
    table = quantisation_table(quantisation)
    return table.dtype == np.int8 and bool(np.all(table.view(np.uint8) == np.arange(256) ^ 0x80))


def pixels_to_tensor(pixels: Pixels, quantisation: Quantisation, memory: KeptMemory | None = None) -> NDArray[Any]:
    """Quantise pixels (height, width, channels) into the input tensor (1, height, width, channels).

    With `memory` the tensor is valid until the next frame.
    """
    # Calibration on pixels / 255 gives scale 1/255 and zero point -128: then the table only flips the sign bit.
    if _is_sign_flip(quantisation):
        flipped = None if memory is None else memory.get("tensor", pixels.shape)
        return np.bitwise_xor(pixels, 0x80, out=flipped).view(np.int8)[np.newaxis]
    return quantisation_table(quantisation)[pixels][np.newaxis]
