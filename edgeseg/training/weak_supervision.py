"""Which labels a training learns from, how classes weigh, which cases judge, and how boxes do without masks."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import DataError, TrainingError
from edgeseg.core.redact import show_name
from edgeseg.core.spec import AUTO, BOXES, LABEL_KINDS, MASKS, InputSpec
from edgeseg.data.dataset import LabelledImage
from edgeseg.data.weak_labels import box_agreement, weak_to_grid, weaken
from edgeseg.training.options import LabelChoice
from edgeseg.training.run import LabelRecord

_LOG = logging.getLogger(__name__)

# The rarest class weighs at most this many times as much as the most frequent one.
LARGEST_RATIO = 10.0
# The share of full masks is drawn with a random stream of its own, so that the split of a seed stays.
_STREAM = 5


def find_kind(image: LabelledImage) -> str:
    """Name what an image is labelled with."""
    return MASKS if image.weak is None else image.weak.kind


def find_weak_cases(
    images: Sequence[LabelledImage], masks: NDArray[np.uint8], spec: InputSpec
) -> dict[int, NDArray[np.uint8]]:
    """Bring the weak labels among images onto the input grid, by the images' number.

    Args:
        images: The images.
        masks: What is marked in them, on the grid (n, height, width, classes).
        spec: The input grid.
    """
    return {
        number: weak_to_grid(image.weak, masks[number], image.size, spec)
        for number, image in enumerate(images)
        if image.weak is not None
    }


def count_kinds(images: Sequence[LabelledImage]) -> dict[str, int]:
    """Count images by what they are labelled with."""
    counts = Counter(find_kind(image) for image in images)
    return {kind: counts[kind] for kind in LABEL_KINDS if counts[kind]}


def describe_kinds(counts: dict[str, int]) -> str:
    """Describe how many images are labelled with what."""
    return ", ".join(f"{count} with {'full masks' if kind == MASKS else kind}" for kind, count in counts.items())


def choose_labels(images: Sequence[LabelledImage], choice: LabelChoice) -> list[LabelledImage]:
    """Give the training images the labels that were chosen.

    Args:
        images: The training images.
        choice: What was chosen.
    """
    if choice.kind == AUTO:
        return list(images)
    if choice.kind == MASKS:
        full = [image for image in images if image.weak is None]
        if not any(any(image.marked) for image in full):
            raise DataError(
                "Expected full masks on some training images, got none.",
                "Leave out --labels masks: boxes, points and scribbles are learned from as well.",
            )
        return full
    other = [image for image in images if find_kind(image) not in (MASKS, choice.kind)]
    if other:
        raise DataError(
            f"Expected full masks or {choice.kind} for --labels {choice.kind}, got {find_kind(other[0])} for "
            f"{show_name(other[0].case.stem)}{f' and {len(other) - 1} more' if len(other) > 1 else ''}.",
            "Leave --labels out: every image is then learned from as it is labelled.",
        )
    shows = {image.case.group: False for image in images}
    for image in images:
        shows[image.case.group] |= any(image.marked)
    kept = draw_groups(shows, choice)
    return [image if image.case.group in kept else weaken_image(image, choice) for image in images]


def draw_groups(shows: Mapping[str, bool], choice: LabelChoice) -> frozenset[str]:
    """Draw the groups that keep their masks; a smaller share of a seed is part of every larger one.

    Args:
        shows: Of each group, whether anything is marked in it.
        choice: The share, and the seed.
    """
    random = np.random.default_rng((choice.seed, _STREAM))
    kept: set[str] = set()
    for groups in (sorted(name for name, shown in shows.items() if shown is wanted) for wanted in (True, False)):
        order = random.permutation(len(groups))
        kept |= {groups[number] for number in order[: math.ceil(choice.full_share * len(groups))]}
    return frozenset(kept)


def weaken_image(image: LabelledImage, choice: LabelChoice) -> LabelledImage:
    """Make weak labels of an image's masks; weak ones stay."""
    if image.weak is not None:
        return image
    masks, weak = weaken(image.masks, choice.kind, image.case.stem, choice.seed)
    return dataclasses.replace(image, masks=masks, weak=weak)


def pick_judges(images: Sequence[LabelledImage]) -> list[LabelledImage]:
    """Pick the cases of a part that judge: those with full masks, else those with boxes."""
    full = [image for image in images if image.weak is None]
    if len(full) == len(images) or any(any(image.marked) for image in full):
        return full
    return [image for image in images if find_kind(image) in (MASKS, BOXES)]


def are_boxed(images: Sequence[LabelledImage]) -> bool:
    """Say whether boxes are all that cases can be judged by."""
    return any(image.weak is not None for image in images)


def refuse_unjudged(images: Sequence[LabelledImage], part: str) -> None:
    """Refuse a part whose labels judge nothing."""
    if not any(any(image.marked) for image in images):
        raise DataError(
            f"Expected full masks or boxes on some images of the part {part}, got points or scribbles alone.",
            "Draw full outlines on a few images: what is learned must be judged by something.",
        )


def refuse_with_weak(teachers: Sequence[Any], counts: dict[str, int]) -> None:
    """Refuse teachers beside weak labels, whose losses do not go together."""
    if teachers and set(counts) - {MASKS}:
        raise TrainingError(
            f"Expected full masks for a training with a teacher, got {describe_kinds(counts)}.",
            "Train without --teacher, or with --labels masks.",
        )


def log_labels(labels: LabelRecord) -> None:
    """Print how many training images are labelled with what, and what judges them."""
    _LOG.info("Labels of the training images: %s.", describe_kinds(labels.images))
    if labels.judged_by == BOXES:
        _LOG.warning(
            "Too few full masks to judge by: epochs are compared by the IoU of boxes, and there is no Dice, no "
            "operating point and no test.\n  Draw full outlines on some images, at least 20 if you can."
        )


def list_agreement(predicted: NDArray[np.bool_], masks: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Measure the IoU of the boxes around predicted regions with the labels' filled boxes, where there are any.

    Args:
        predicted: Masks (n, height, width, classes).
        masks: The filled boxes, of the same shape.
    """
    values = [
        box_agreement(predicted[n, ..., k].astype(np.uint8), masks[n, ..., k])
        for n, k in zip(*np.nonzero(masks.any(axis=(1, 2))), strict=True)
    ]
    return np.array(values, np.float64)


def weigh_by_rarity(images: Sequence[LabelledImage]) -> tuple[float, ...]:
    """Weigh each class by the inverse square root of its share of the pixels, 1 on average; empty for one class."""
    shares = np.mean([image.shares for image in images], axis=0)
    if len(shares) == 1 or not shares.any():
        return ()
    least = shares.max() / LARGEST_RATIO**2
    weights = np.maximum(shares, least) ** -0.5
    return tuple(round(float(weight), 4) for weight in weights / weights.mean())
