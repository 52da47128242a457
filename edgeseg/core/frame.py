"""The one definition of a frame: how it becomes the input tensor, and how the output tensor becomes a mask.

Training, calibration, evaluation and the device all call this file, so they cannot differ.

    frame ─ crop region ─ grey or RGB, 8 bit ─ resize ─ pad ─ denoise ─> pixels ─ table ─> tensor
    tensor ─ table ─> scores (1/256) ─ cut padding ─ resize ─ threshold ─ shape ─> labels at the frame's size
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.denoise import denoise_pixels
from edgeseg.core.ellipse import draw_ellipses
from edgeseg.core.errors import SourceError
from edgeseg.core.spec import InputSpec, OutputSpec, Quantisation, Region

Bytes = NDArray[np.uint8]

SCORE_ONE = 256
_GRID = 4


@dataclass(frozen=True)
class Placement:
    """Where the frame's region lands on the network's grid."""

    region: Region
    x: int
    y: int
    width: int
    height: int


@lru_cache(maxsize=64)
def place_frame(spec: InputSpec, height: int, width: int) -> Placement:
    """Work out which part of a frame of this size is used and where it lands.

    Sizes on the grid are multiples of four, so that a mask drawn at half or quarter resolution lines up.
    """
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
    """Say which part of a frame is used: what is known about this very frame goes before what the card says.

    The card's region belongs to the screen it was trained on; the user and a file's header know the screen of today.
    """
    return spec if region is None else dataclasses.replace(spec, region=region)


def _snap(length: float, limit: int) -> int:
    return min(max(_GRID, round(length / _GRID) * _GRID), limit)


def frame_to_pixels(frame: NDArray[Any], spec: InputSpec) -> Bytes:
    """Turn a grey or BGR frame of 8 or 16 bit into the 8-bit pixels (height, width, channels) the network sees."""
    return denoise_pixels(frame_to_grid(frame, spec), spec.denoise)


def frame_to_grid(frame: NDArray[Any], spec: InputSpec) -> Bytes:
    """Bring a frame onto the network's grid and leave its noise in: training varies it before the filter."""
    check_frame(frame)
    placement = place_frame(spec, frame.shape[0], frame.shape[1])
    r = placement.region
    image = _to_colour(frame[r.y : r.y + r.height, r.x : r.x + r.width], spec.colour)
    image = _resize(to_bytes(image, spec.white), placement.width, placement.height)
    return _pad(image, placement, spec).reshape(spec.height, spec.width, spec.channels)


def mask_to_grid(mask: NDArray[Any], spec: InputSpec) -> Bytes:
    """Bring a true mask (non-zero is the class) onto the network's grid as 0 and 1."""
    placement = place_frame(spec, mask.shape[0], mask.shape[1])
    r = placement.region
    binary = np.where(mask[r.y : r.y + r.height, r.x : r.x + r.width] > 0, np.uint8(255), np.uint8(0))
    small = _pad(_resize(binary, placement.width, placement.height), placement, spec)
    return (small > 127).astype(np.uint8)


def check_frame(frame: NDArray[Any]) -> None:
    """Refuse what is no grey or BGR frame of 8 or 16 bit."""
    shape_fits = frame.ndim == 2 or (frame.ndim == 3 and frame.shape[2] in (1, 3, 4))
    if not shape_fits or frame.dtype not in (np.uint8, np.uint16) or frame.size == 0:
        raise SourceError(
            f"Expected a grey or BGR frame of 8 or 16 bit, got shape {frame.shape} and type {frame.dtype}.",
            "Convert the frames before they are given to edgeseg.",
        )


def _to_colour(frame: NDArray[Any], colour: str) -> NDArray[Any]:
    channels = 1 if frame.ndim == 2 else frame.shape[2]
    if colour == "grey":
        if channels == 1:
            return frame.reshape(frame.shape[:2])
        code = cv2.COLOR_BGR2GRAY if channels == 3 else cv2.COLOR_BGRA2GRAY
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(frame), code))
    if channels == 1:
        raise SourceError(
            "Expected colour frames for this model, got grey ones.",
            "Use a colour source, or a model whose card says grey.",
        )
    code = cv2.COLOR_BGR2RGB if channels == 3 else cv2.COLOR_BGRA2RGB
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(frame), code))


def to_bytes(image: NDArray[Any], white: int) -> Bytes:
    """Bring 16 bits to 8, of which white becomes the highest value; 8 bits stay."""
    if image.dtype == np.uint8:
        return image
    return np.asarray(cv2.convertScaleAbs(image, alpha=255.0 / white), dtype=np.uint8)


def _resize(image: Bytes, width: int, height: int) -> Bytes:
    """Resize without aliasing: halve by area while that fits, then go the rest linearly.

    Ten times faster than INTER_AREA all the way, which would cost more than the network on a camera frame.
    """
    while image.shape[1] >= 2 * width and image.shape[0] >= 2 * height:
        half = (image.shape[1] // 2, image.shape[0] // 2)
        image = np.asarray(cv2.resize(image[: 2 * half[1], : 2 * half[0]], half, interpolation=cv2.INTER_AREA))
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def _pad(image: Bytes, placement: Placement, spec: InputSpec) -> Bytes:
    if (placement.width, placement.height) == (spec.width, spec.height):
        return image
    bottom = spec.height - placement.y - placement.height
    right = spec.width - placement.x - placement.width
    padded = cv2.copyMakeBorder(image, placement.y, bottom, placement.x, right, cv2.BORDER_CONSTANT, value=0)
    return np.asarray(padded, dtype=np.uint8)


@lru_cache(maxsize=16)
def encoding_table(quantisation: Quantisation) -> NDArray[Any]:
    """List the tensor's number for each of the 256 pixel values; a pixel stands for value / 255."""
    real = np.arange(256, dtype=np.float64) / 255.0
    if quantisation.dtype.startswith("float"):
        return np.asarray(real, dtype=quantisation.dtype)
    limits = np.iinfo(quantisation.dtype)
    steps = np.floor(real / quantisation.scale + 0.5) + quantisation.zero_point
    return np.asarray(np.clip(steps, limits.min, limits.max), dtype=quantisation.dtype)


@lru_cache(maxsize=16)
def _is_sign_flip(quantisation: Quantisation) -> bool:
    table = encoding_table(quantisation)
    return table.dtype == np.int8 and bool(np.all(table.view(np.uint8) == np.arange(256) ^ 0x80))


def pixels_to_tensor(pixels: Bytes, quantisation: Quantisation) -> NDArray[Any]:
    """Turn pixels (height, width, channels) into the input tensor (1, height, width, channels).

    Calibration on pixels / 255 gives the scale 1/255 and the zero point -128: then the table is one flipped bit.
    """
    if _is_sign_flip(quantisation):
        return np.bitwise_xor(pixels, 0x80).view(np.int8)[np.newaxis]
    return encoding_table(quantisation)[pixels][np.newaxis]


@lru_cache(maxsize=16)
def _score_table(quantisation: Quantisation) -> Bytes:
    """List the score of each 8-bit output number, in the order of its bits as an unsigned byte."""
    numbers = np.arange(256, dtype=np.uint8).view(quantisation.dtype)
    return _probability_to_score(quantisation.scale * (numbers.astype(np.float64) - quantisation.zero_point))


def _probability_to_score(probability: NDArray[Any]) -> Bytes:
    return np.clip(np.floor(probability * SCORE_ONE + 0.5), 0, 255).astype(np.uint8)


def tensor_to_reals(tensor: NDArray[Any], quantisation: Quantisation) -> NDArray[np.float64]:
    """Turn a tensor's numbers into the real ones they stand for."""
    if tensor.dtype.kind == "f":
        return tensor.astype(np.float64)
    return quantisation.scale * (tensor.astype(np.float64) - quantisation.zero_point)


def tensor_to_scores(tensor: NDArray[Any], quantisation: Quantisation) -> Bytes:
    """Turn the output tensor (1, height, width, channels) into scores in 1/256."""
    output = tensor[0]
    if quantisation.dtype in ("int8", "uint8"):
        return np.asarray(cv2.LUT(output.view(np.uint8), _score_table(quantisation))).reshape(output.shape)
    if quantisation.dtype.startswith("float"):
        return _probability_to_score(output)
    return _probability_to_score(quantisation.scale * (output.astype(np.float64) - quantisation.zero_point))


def scores_to_labels(scores: Bytes, placement: Placement, size: tuple[int, int], spec: OutputSpec) -> Bytes:
    """Draw the mask at the frame's own size: 0 is background, k the k-th class.

    Args:
        scores: The network's scores (height, width, channels); any integer fraction of the input's size.
        placement: Where the frame lies on the input's grid.
        size: Height and width of the input grid that `placement` speaks of.
        spec: Classes, threshold, smallest region and shape.

    Returns:
        Labels of the whole region of the frame that the placement names.
    """
    if spec.smallest_region > 0:
        scores = _drop_small_regions(scores, spec, (size[0] // scores.shape[0]) ** 2)
    region = placement.region
    inner = _cut_padding(scores, placement, size)
    full = cv2.resize(inner, (region.width, region.height), interpolation=cv2.INTER_LINEAR)
    full = np.asarray(full, dtype=np.uint8).reshape(region.height, region.width, -1)
    labels = decide_labels(full, spec, in_place=True)
    return draw_ellipses(labels, len(spec.classes)) if spec.shape == "ellipse" else labels


def _cut_padding(scores: Bytes, placement: Placement, size: tuple[int, int]) -> Bytes:
    factor = size[0] // scores.shape[0]
    y, x = placement.y // factor, placement.x // factor
    return scores[y : y + placement.height // factor, x : x + placement.width // factor]


def decide_labels(scores: Bytes, spec: OutputSpec, in_place: bool = False) -> Bytes:
    """Give every pixel the class that its scores speak for, the first of equals; 0 is the background.

    In place, the scores may be written over: fresh memory for a camera's frame costs more than the threshold itself.
    """
    if spec.activation == "softmax":
        return _number_highest(scores, 0)[0]
    limit = int(spec.threshold * SCORE_ONE + 0.5)
    if scores.shape[2] == 1:
        only = scores[:, :, 0]
        labels = cv2.threshold(only, limit, 1, cv2.THRESH_BINARY, dst=only if in_place else None)[1]
        return np.asarray(labels, dtype=np.uint8)
    labels, highest = _number_highest(scores, 1)
    marked = cv2.threshold(highest, limit, 255, cv2.THRESH_BINARY)[1]
    return np.asarray(cv2.bitwise_and(labels, marked), dtype=np.uint8)


def _number_highest(scores: Bytes, first: int) -> tuple[Bytes, Bytes]:
    """Find the highest score at every pixel and its channel, counted from `first`.

    Sixty times faster than numpy's argmax and max over the last axis, which would cost more than the network.
    """
    highest, *others = (np.asarray(plane, dtype=np.uint8) for plane in cv2.split(scores))
    labels: Bytes = np.full(highest.shape, first, np.uint8)
    for number, plane in enumerate(others, first + 1):
        higher = cv2.threshold(cv2.subtract(plane, highest), 0, number, cv2.THRESH_BINARY)[1]
        labels = np.asarray(cv2.max(labels, higher), dtype=np.uint8)
        highest = np.asarray(cv2.max(highest, plane), dtype=np.uint8)
    return labels, highest


def _drop_small_regions(scores: Bytes, spec: OutputSpec, input_pixels: int) -> Bytes:
    """Drop what is too small; each score stands for so many pixels of the input, since masks are drawn coarser."""
    labels = decide_labels(scores, spec)
    kept = scores.copy()
    first = spec.channels - len(spec.classes)
    for channel in range(len(spec.classes)):
        _, parts, stats, _ = cv2.connectedComponentsWithStats((labels == channel + 1).astype(np.uint8))
        small = stats[:, cv2.CC_STAT_AREA] * input_pixels < spec.smallest_region
        small[0] = False
        kept[:, :, first + channel][small[parts]] = 0
    return kept


def labels_on_frame(labels: Bytes, placement: Placement, height: int, width: int) -> Bytes:
    """Lay a region's labels onto a frame of the given size."""
    region = placement.region
    if (region.height, region.width) == (height, width):
        return labels
    full = np.zeros((height, width), np.uint8)
    full[region.y : region.y + region.height, region.x : region.x + region.width] = labels
    return full
