"""Read a data folder into memory, checked and divided."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.card import SplitSpec
from edgeseg.core.errors import DataError
from edgeseg.core.files import write_rows
from edgeseg.core.progress import progress_bar
from edgeseg.core.spec import ClassSpec, InputSpec
from edgeseg.data.check import CROPPED, describe_leak, find_warnings, measure_marks
from edgeseg.data.dataset import (
    Dataset,
    LabelledImage,
    find_empty_classes,
    find_full_classes,
    fingerprint_dataset,
    list_absent,
    open_dataset,
    read_cases,
)
from edgeseg.data.duplicates import find_duplicates, make_thumbnail
from edgeseg.data.split import Split, list_splits, refuse_other_split
from edgeseg.evaluation.classes import arrange_dataset
from edgeseg.frame.preprocess import denoise_pixels, frame_to_grid, mask_to_grid
from edgeseg.training.memory import check_images
from edgeseg.training.run import FINISHED, SPLIT, RunRecord

_LOG = logging.getLogger(__name__)
LARGEST_RATIO = 10.0
"""The rarest class counts at most this many times as much as the most frequent one."""


@dataclass(frozen=True)
class LoadedData:
    """A data folder in memory, divided."""

    dataset: Dataset
    split: Split
    split_spec: SplitSpec
    images: dict[str, LabelledImage]

    def part(self, name: str) -> list[LabelledImage]:
        """Take the images of a part."""
        return [self.images[case.stem] for case in self.split.part(name)]

    def count_leaks(self) -> int:
        """Count the pairs of near-duplicates that training and test may share."""
        cases = self.dataset.cases
        thumbnails = np.stack([make_thumbnail(self.images[case.stem].frame) for case in cases])
        return sum(pair.leaks for pair in find_duplicates(cases, thumbnails))

    def tell_warnings(self) -> None:
        """Say what `data check` says of data that can be used and yet look wrong, and which part of them is used."""
        for warning in find_warnings(self.dataset, [measure_marks(image) for image in self.images.values()]):
            _LOG.warning("%s\n  %s", warning.message, warning.hint)
        if self.dataset.header_region:
            _LOG.warning("%s", CROPPED)

    def tell_leaks(self, pairs: int) -> None:
        """Say what `data check` says of near-duplicates; the training goes on, since only a person can judge them."""
        if pairs:
            sentence = describe_leak(pairs, any(case.part for case in self.dataset.cases))
            hint = "The training goes on, but its test figures may flatter. Look at: edgeseg data check DATA --sheet F"
            _LOG.warning("%s\n  %s", sentence, hint)

    def write_split(self, folder: Path) -> None:
        """Write down which case is in which part."""
        write_rows(folder / SPLIT, ("stem", "group", "part"), self.split.to_rows())


def load_data(
    root: Path, split_spec: SplitSpec, colour: bool = False, classes: Sequence[ClassSpec] | None = None
) -> LoadedData:
    """Read all cases of a folder into memory, in grey or in colour, and divide them.

    Args:
        root: The data folder.
        split_spec: How the cases are divided.
        colour: Whether frames must be in colour.
        classes: Those of a model that the data are for; None takes the data's own.
    """
    dataset = open_dataset(root, split_spec.layout, split_spec.group_pattern)
    if classes is not None:
        dataset = arrange_dataset(dataset, classes)
    check_images(dataset.cases, colour)
    with progress_bar("Reading images", len(dataset.cases)) as advance:
        images = {image.case.stem: image for image in read_cases(dataset.cases, colour, advance)}
    marked = {stem: image.marked for stem, image in images.items()}
    covered = [(image.marked, image.masks[0].size) for image in images.values()]
    for defect in (*find_empty_classes(dataset, marked.values()), *find_full_classes(dataset, covered)):
        raise defect
    splits = list_splits(dataset.cases, {stem: not any(counts) for stem, counts in marked.items()}, split_spec)
    for split in splits:
        _refuse_unseen(dataset, [marked[case.stem] for case in split.train])
    return LoadedData(dataset, splits[split_spec.fold], split_spec, images)


def _refuse_unseen(dataset: Dataset, marked: Sequence[Sequence[int]]) -> None:
    """Refuse a training part that lacks a class: nobody could learn it."""
    for name in list_absent(dataset.classes, marked):
        raise DataError(
            f"Expected something marked for the class {name} among the training cases of {dataset.root}, "
            "got it in the others only.",
            "Give more cases that show it, or divide them in another way with --seed.",
        )


def load_same_data(root: Path, record: RunRecord, run: Path) -> LoadedData:
    """Read the data of a run once more, and refuse them when they or their groups have changed.

    Args:
        root: Where the data are.
        record: The run's record.
        run: The run folder, for the message.
    """
    found = fingerprint_dataset(open_dataset(root, record.split.layout, record.split.group_pattern))
    refuse_changed_data(root, found, record.data_fingerprint, run)
    data = load_data(root, record.split, record.input.in_colour, record.output.classes)
    refuse_other_split(root, data.split, record.split_fingerprint)
    _refuse_other_region(data, record, run)
    return data


def _refuse_other_region(data: LoadedData, record: RunRecord, run: Path) -> None:
    """Refuse to go on with crops where a training has begun on whole frames; a finished one is taken, with a word."""
    if data.dataset.header_region == record.header_region:
        return
    if record.status != FINISHED:
        raise DataError(
            f"Expected images as {run} was begun on, got images that are now cropped to their header's region.",
            "Begin again with --overwrite: a stream of such files shows the network that region alone.",
        )
    _LOG.warning(
        "%s was trained on whole frames; its images are now cropped to the region that their headers name, as a stream "
        "of such files is.\n  Train again: the network was not made for what it is shown.",
        run,
    )


def refuse_changed_data(root: Path, found: str, begun: str, run: Path) -> None:
    """Refuse data whose fingerprint is not the one that a training was begun on."""
    if found != begun:
        raise DataError(
            f"Expected the data that {run} was trained on, got a changed folder {root}.",
            "Restore the folder, or train again on the changed one.",
        )


@dataclass(frozen=True)
class GridArrays:
    """Pixels (n, height, width, channels) and masks (n, height, width, classes), masks as 0 and 1."""

    pixels: NDArray[np.uint8]
    """Not yet denoised: what varies them comes first, as noise comes first on the device."""
    masks: NDArray[np.uint8]
    denoise: str = "none"

    @property
    def images(self) -> NDArray[np.uint8]:
        """Give the pixels as the network sees them."""
        if self.denoise == "none":
            return self.pixels
        return np.stack([denoise_pixels(pixels, self.denoise) for pixels in self.pixels])

    def __len__(self) -> int:
        return int(self.pixels.shape[0])


def to_grid(images: Sequence[LabelledImage], spec: InputSpec) -> GridArrays:
    """Bring cases onto the grid."""
    return GridArrays(
        np.stack([frame_to_grid(image.frame, spec) for image in images]),
        np.stack([np.stack([mask_to_grid(mask, spec) for mask in image.masks], axis=-1) for image in images]),
        spec.denoise,
    )


def to_reals(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Give pixels the values that the float input tensor has."""
    return images.astype(np.float32) / np.float32(255.0)


def grid_dice(predicted: NDArray[np.float32], masks: NDArray[np.uint8], threshold: float = 0.5) -> float:
    """Average Dice on the grid over the masks that are not empty; quick enough for every epoch."""
    found = _find_masks(predicted, masks.shape[-1], threshold)
    hit = np.asarray(np.sum(found & (masks > 0), axis=(1, 2)), dtype=np.float64)
    total = np.asarray(found.sum(axis=(1, 2)) + masks.sum(axis=(1, 2), dtype=np.int64), dtype=np.float64)
    filled = masks.any(axis=(1, 2))
    return float(np.mean(2 * hit[filled] / total[filled])) if filled.any() else 0.0


def _find_masks(predicted: NDArray[np.float32], classes: int, threshold: float) -> NDArray[np.bool_]:
    """Decide as the device does: by the threshold, or by the best where the background has a channel, too."""
    if predicted.shape[-1] == classes:
        return predicted > threshold
    return np.asarray(predicted.argmax(axis=-1)[..., np.newaxis] == np.arange(1, classes + 1))


def weigh_by_rarity(images: Sequence[LabelledImage]) -> tuple[float, ...]:
    """Weigh each class by the inverse square root of its share of the pixels, 1 on average; one class has no weight."""
    shares = np.mean([[np.mean(mask > 0) for mask in image.masks] for image in images], axis=0)
    if len(shares) == 1 or not shares.any():
        return ()
    least = shares.max() / LARGEST_RATIO**2
    weights = np.maximum(shares, least) ** -0.5
    return tuple(round(float(weight), 4) for weight in weights / weights.mean())
