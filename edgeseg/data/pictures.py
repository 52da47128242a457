"""Contact sheets of labelled images and of their augmentation, for a person to look at before a training."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.spec import ClassSpec, InputSpec
from edgeseg.data.augment import AugmentSpec, vary_case
from edgeseg.data.dataset import LabelledImage, find_white, read_case, view_case
from edgeseg.data.reading import Case
from edgeseg.frame.images import to_bgr
from edgeseg.frame.preprocess import Pixels, frame_to_grid, mask_to_grid

# Sizes in pixels.
TILE, GAP = 192, 4
COLUMNS, ROWS = 8, 6
# Pairs on a sheet.
SHOWN_PAIRS = 40
_INK = (235, 235, 235)
OUTLINE_LEVEL = 127
# Rows and variants of a preview.
CASES, VARIANTS = 6, 7
Picture = NDArray[np.uint8]
# A mask, and the RGB colour it is outlined in.
Outline = tuple[Picture, tuple[int, int, int]]


def pick_evenly(cases: Sequence[Case], count: int = COLUMNS * ROWS) -> list[Case]:
    """Pick cases evenly from first to last."""
    return [cases[i] for i in np.linspace(0, len(cases) - 1, min(count, len(cases))).astype(int)]


def draw_sheet(cases: Sequence[Case], classes: Sequence[ClassSpec]) -> Picture:
    """Draw a contact sheet (BGR) of some cases, each with its masks outlined."""
    tiles = [draw_tile(view_case(case), classes) for case in pick_evenly(cases)]
    return lay_tiles(tiles, min(COLUMNS, math.ceil(math.sqrt(len(tiles)) * COLUMNS / ROWS)))


def draw_tile(image: LabelledImage, classes: Sequence[ClassSpec]) -> Picture:
    """Draw one case with its masks outlined into a square tile."""
    outlines = [(mask, spec.colour) for mask, spec in zip(image.masks, classes, strict=True)]
    return pad_square(draw_outlines(image.frame, outlines, TILE), TILE)


def draw_pairs(pairs: Sequence[tuple[Case, Case]], classes: Sequence[ClassSpec]) -> Picture:
    """Draw pairs of cases side by side (BGR), numbered from 1, each with its masks outlined."""
    tiles = []
    for number, pair in enumerate(pairs[:SHOWN_PAIRS], start=1):
        both = lay_tiles([draw_tile(view_case(case), classes) for case in pair], columns=2)
        cv2.putText(both, str(number), (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.45, _INK, 1, cv2.LINE_AA)
        tiles.append(both)
    return lay_tiles(tiles, COLUMNS // 2)


def stack_pictures(pictures: Sequence[Picture]) -> Picture:
    """Put pictures below one another, with a gap between them."""
    width = max(picture.shape[1] for picture in pictures)
    padded = [np.pad(picture, ((0, 2 * GAP), (0, width - picture.shape[1]), (0, 0))) for picture in pictures]
    return np.concatenate(padded)[: -2 * GAP]


def draw_outlines(frame: NDArray[Any], outlines: Iterable[Outline], side: int) -> Picture:
    """Draw a frame with outlines, its longer side scaled to `side`; 16 bits are scaled to the brightest pixel."""
    height, width = frame.shape[:2]
    factor = side / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    picture = cv2.resize(to_bgr(_to_bytes(frame)), size, interpolation=interpolation)
    for mask, colour in outlines:
        full = (mask > 0).astype(np.uint8) * np.uint8(255)
        small = cv2.resize(full, size, interpolation=cv2.INTER_LINEAR) > OUTLINE_LEVEL
        outline_mask(np.asarray(picture), small.astype(np.uint8), colour[::-1])
    return np.asarray(picture, dtype=np.uint8)


def pad_square(picture: Picture, side: int) -> Picture:
    """Put a picture into the middle of a black square."""
    height, width = picture.shape[:2]
    top, left = (side - height) // 2, (side - width) // 2
    return np.pad(picture, ((top, side - height - top), (left, side - width - left), (0, 0)))


def outline_mask(picture: Picture, mask: Picture, colour: tuple[int, ...]) -> None:
    """Draw a thin outline of a mask into a BGR picture."""
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, colour, 1)


def lay_tiles(tiles: Sequence[Picture], columns: int) -> Picture:
    """Arrange tiles of one size in rows, with a gap between them."""
    height, width = tiles[0].shape[:2]
    rows = math.ceil(len(tiles) / columns)
    sheet = np.zeros((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), np.uint8)
    for number, tile in enumerate(tiles):
        top, left = number // columns * (height + GAP), number % columns * (width + GAP)
        sheet[top : top + height, left : left + width] = tile
    return sheet


def _to_bytes(frame: NDArray[Any]) -> Picture:
    if frame.dtype == np.uint8:
        return frame
    return np.asarray(frame * (255.0 / max(int(frame.max()), 1)), dtype=np.uint8)


def draw_preview(
    cases: Sequence[Case], classes: Sequence[ClassSpec], spec: InputSpec, augment: AugmentSpec | None, seed: int
) -> Picture:
    """Draw a sheet (BGR): one row for each case, first as it is, then augmented and denoised as for training.

    Args:
        cases: The cases, of which some are picked evenly.
        classes: The classes, whose masks are outlined.
        spec: The preprocessing.
        augment: The augmentation; None leaves images as they are.
        seed: Of the augmentation.
    """
    images = [read_case(case, spec.channels > 1) for case in pick_evenly(cases, CASES)]
    spec = dataclasses.replace(spec, white=find_white(images))
    tiles = []
    for number, image in enumerate(images):
        tiles += _draw_row(image, classes, spec, augment, (seed, number))
    return lay_tiles(tiles, 1 + VARIANTS)


def _draw_row(
    image: LabelledImage,
    classes: Sequence[ClassSpec],
    spec: InputSpec,
    augment: AugmentSpec | None,
    seed: tuple[int, int],
) -> list[Picture]:
    pixels = frame_to_grid(image.frame, spec)
    masks = np.stack([mask_to_grid(mask, spec) for mask in image.masks], axis=-1)
    randoms = [np.random.default_rng((*seed, variant)) for variant in range(VARIANTS)]
    varied = [vary_case(pixels, masks, augment, spec.denoise, random) for random in randoms]
    return [draw_tile(_as_image(image.case, *pair), classes) for pair in [(pixels, masks), *varied]]


def _as_image(case: Case, pixels: Pixels, masks: Pixels) -> LabelledImage:
    """Wrap pixels on the network's grid as an image; OpenCV draws BGR, and they are RGB."""
    return LabelledImage(case, pixels[:, :, ::-1], tuple(np.moveaxis(masks, -1, 0)))
