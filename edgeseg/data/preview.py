"""What training does to images, at a glance: some cases as they are, and as several epochs would see them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from edgeseg.core.frame import frame_to_grid, mask_to_grid
from edgeseg.core.spec import ClassSpec, InputSpec
from edgeseg.data.augment import AugmentSpec, Pixels, vary_case
from edgeseg.data.case import Case
from edgeseg.data.dataset import LabelledImage, read_case
from edgeseg.data.sheet import Picture, draw_tile, lay_tiles, pick_evenly
from edgeseg.data.white import find_white

CASES, VARIANTS = 6, 7


def draw_preview(
    cases: Sequence[Case], classes: Sequence[ClassSpec], spec: InputSpec, augment: AugmentSpec | None, seed: int
) -> Picture:
    """Draw a sheet (BGR): one line for each case, first as it is, then varied and denoised as for training.

    Args:
        cases: The cases, of which some are picked evenly.
        classes: Whose masks are outlined.
        spec: What a frame is turned into.
        augment: How images are varied; None leaves them as they are.
        seed: Another seed gives other variants.
    """
    images = [read_case(case, spec.channels > 1) for case in pick_evenly(cases, CASES)]
    spec = dataclasses.replace(spec, white=find_white(images))
    tiles = []
    for number, image in enumerate(images):
        tiles += _draw_line(image, classes, spec, augment, (seed, number))
    return lay_tiles(tiles, 1 + VARIANTS)


def _draw_line(
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
    """Take what lies on the grid for an image; OpenCV draws blue first."""
    return LabelledImage(case, pixels[:, :, ::-1], tuple(np.moveaxis(masks, -1, 0)))
