"""Cases on the network's input grid, in memory or on disk, and what a finding output should say of them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.spec import FindingSpec, InputSpec
from edgeseg.data.dataset import Case, LabelledImage
from edgeseg.data.stored import StoredImage, StoredRows, StoredSet, open_stored
from edgeseg.frame.preprocess import Pixels, denoise_pixels, frame_to_grid, mask_to_grid
from edgeseg.training.options import SIZE_STEP
from edgeseg.training.weak_supervision import LARGEST_RATIO, find_weak_cases

# Stands for a label that nobody gave.
UNKNOWN = -1.0
# Shares of the epochs after which the images grow to the middle size, and to the last one.
GROWTH_SHARES = (0.4, 0.7)
# An array in memory, or one on disk whose rows are read when they are asked for: one, a slice, or an array of numbers.
Grid = NDArray[np.uint8] | StoredRows


@dataclass(frozen=True)
class GridArrays:
    """Cases on the network's input grid: pixels (n, height, width, channels), masks (n, height, width, classes)."""

    pixels: Grid
    """Not yet denoised: augmentation adds noise first, and the device denoises noisy frames, too."""
    masks: Grid
    """0 and 1."""
    denoise: str = "none"
    frame_labels: NDArray[np.float32] | None = None
    """For a finding output: 1 and 0 for each of its frame classes (n, frame classes), below 0 where no label is known.
    None without such an output."""
    weak: Mapping[int, NDArray[np.uint8]] = field(default_factory=dict)
    """By the number of each case with weak labels, the masks that are learned, and behind them what is unknown."""
    presence: NDArray[np.bool_] | None = None
    """Which classes each case shows on the grid, where that is known already."""

    @property
    def images(self) -> Grid:
        """The pixels as the network sees them."""
        if self.denoise == "none":
            return self.pixels
        if isinstance(self.pixels, StoredRows):
            return self.pixels.then(lambda pixels: denoise_pixels(pixels, self.denoise))
        return np.stack([denoise_pixels(pixels, self.denoise) for pixels in self.pixels])

    @property
    def findings(self) -> NDArray[np.float32] | None:
        """What a finding output should say of every case (n, channels); None without such an output."""
        if self.frame_labels is None:
            return None
        presence = self.masks[:].any(axis=(1, 2)) if self.presence is None else self.presence
        return np.concatenate([presence, self.frame_labels], axis=1, dtype=np.float32)

    def __len__(self) -> int:
        return int(self.pixels.shape[0])


@dataclass(frozen=True)
class Growth:
    """Progressive resizing: the first epochs see small images, which cost less, and the last ones whole ones."""

    first: int
    """Height and width of the images of the first epoch."""
    last: int
    epochs: int

    def find_side(self, epoch: int) -> int:
        """Find the height and width of an epoch's images; epochs count from 0."""
        middle = round((self.first + self.last) / 2 / SIZE_STEP) * SIZE_STEP
        ends = [int(share * self.epochs) for share in GROWTH_SHARES]
        return (self.first, middle, self.last)[bisect_right(ends, epoch)]


def shrink_case(pixels: Pixels, masks: Pixels, side: int) -> tuple[Pixels, Pixels]:
    """Make an image and its masks of 0 and 1 smaller; what covers half of a pixel is marked in it."""
    if pixels.shape[:2] == (side, side):
        return pixels, masks
    return _shrink_planes(pixels, side), np.asarray(_shrink_planes(masks * np.uint8(255), side) > 127, dtype=np.uint8)


def _shrink_planes(planes: Pixels, side: int) -> Pixels:
    moved = [
        cv2.resize(planes[..., number], (side, side), interpolation=cv2.INTER_AREA)
        for number in range(planes.shape[-1])
    ]
    return np.stack(moved, axis=-1, dtype=np.uint8)


def to_grid(images: Sequence[LabelledImage], spec: InputSpec, finding: FindingSpec | None = None) -> GridArrays:
    """Resize cases to the network's input grid; those of a set on disk stay there.

    Args:
        images: The cases.
        spec: The input grid.
        finding: The network's finding output, whose truth is then part of the arrays.
    """
    labels = None if finding is None else encode_labels([image.case for image in images], finding.frame_classes)
    stored = [image for image in images if isinstance(image, StoredImage)]
    if stored and len(stored) == len(images):
        return _open_grid(stored, spec, labels)
    masks = np.stack([np.stack([mask_to_grid(mask, spec) for mask in image.masks], axis=-1) for image in images])
    return GridArrays(
        np.stack([frame_to_grid(image.frame, spec) for image in images]),
        masks,
        spec.denoise,
        labels,
        find_weak_cases(images, masks, spec),
    )


def _open_grid(images: Sequence[StoredImage], spec: InputSpec, labels: NDArray[np.float32] | None) -> GridArrays:
    stored = provide_grid(images[0].stored, spec)
    numbers = np.array([image.number for image in images], np.int64)
    pixels, masks = stored.open_pixels(numbers), stored.open_masks(numbers)
    return GridArrays(pixels, masks, spec.denoise, labels, presence=stored.facts["shown"][numbers])


def provide_grid(stored: StoredSet, spec: InputSpec) -> StoredSet:
    """Open the same images on another grid, or for another white; decode them first where that was not done yet."""
    key = stored.key.on_grid(spec, stored.deep)
    return stored if key == stored.key else open_stored(stored.grids, key, stored.cases)


def encode_labels(cases: Sequence[Case], frame_classes: Sequence[str]) -> NDArray[np.float32]:
    """Encode labels as 1 for a case's frame class and 0 for the others; cases without a known label get UNKNOWN."""
    rows = [
        [float(case.label == name) for name in frame_classes]
        if case.label in frame_classes
        else [UNKNOWN] * len(frame_classes)
        for case in cases
    ]
    return np.array(rows, np.float32).reshape(len(cases), len(frame_classes))


def find_findings(images: Sequence[LabelledImage], finding: FindingSpec) -> NDArray[np.float32]:
    """Find what a finding output should say of cases (n, channels); below 0 where it is unknown."""
    presence = [[count > 0 for count in image.marked] for image in images]
    labels = encode_labels([image.case for image in images], finding.frame_classes)
    return np.concatenate([presence, labels], axis=1, dtype=np.float32)


def count_lacking(images: Sequence[LabelledImage]) -> tuple[int, ...]:
    """Count for each class the cases that do not show it."""
    return tuple(int(count) for count in np.sum([[not count for count in image.marked] for image in images], axis=0))


def weigh_findings(findings: NDArray[np.float32]) -> tuple[tuple[float, float], ...]:
    """Weigh presence and absence of every finding so that they count alike, within limits, and 1 on average.

    Args:
        findings: The truth of the training cases (n, channels); below 0 where it is unknown.
    """
    return tuple(_weigh_channel(channel[channel >= 0.0]) for channel in findings.T)


def _weigh_channel(truth: NDArray[np.float32]) -> tuple[float, float]:
    share = float(truth.mean()) if truth.size else 0.5
    ratio = min(max((1.0 - share) / max(share, 1e-9), 1.0 / LARGEST_RATIO), LARGEST_RATIO)
    absent = 1.0 / (share * ratio + 1.0 - share)
    return round(ratio * absent, 4), round(absent, 4)


def to_reals(images: Grid) -> NDArray[np.float32]:
    """Convert pixels to the values of the float input tensor, 0 to 1."""
    return images[:].astype(np.float32) / np.float32(255.0)
