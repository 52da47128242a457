"""Load a data folder: read it into memory, check and split it, and bring cases onto the network's input grid."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.card import SplitSpec
from edgeseg.core.errors import DataError
from edgeseg.core.files import write_rows
from edgeseg.core.spec import ClassSpec, FindingSpec, InputSpec
from edgeseg.data.augment import AugmentSpec, vary_case
from edgeseg.data.check import CROPPED, describe_leak, find_warnings, measure_marks
from edgeseg.data.dataset import (
    Dataset,
    LabelledImage,
    find_empty_classes,
    find_full_classes,
    fingerprint_dataset,
    fingerprint_labels,
    list_absent,
    open_dataset,
)
from edgeseg.data.defects import DataWarning
from edgeseg.data.duplicates import make_thumbnail, search_duplicates
from edgeseg.data.frame_labels import count_labels, list_labels
from edgeseg.data.reading import GIVEN_PARTS
from edgeseg.data.split import Split, list_splits, refuse_other_split
from edgeseg.data.stored import StoredSet
from edgeseg.data.weak_labels import shrink_known
from edgeseg.evaluation.classes import arrange_dataset
from edgeseg.model.keras import tf
from edgeseg.training.grids import UNKNOWN, GridArrays, Growth, count_lacking, shrink_case
from edgeseg.training.options import OWN_LABELS, LabelChoice
from edgeseg.training.originals import OriginalsPlan, read_images
from edgeseg.training.run import FINISHED, SIZES, SPLIT, DataSummary, PartSummary, RunRecord
from edgeseg.training.unlabelled import FrameSet
from edgeseg.training.weak_supervision import choose_labels, pick_judges

# Training cases that must lack a class before a finding output is trained: fewer say nothing of other cases.
FEWEST_LACKING = 5
# Random streams of one seed: the order of an epoch, and the augmentation of an image.
_ORDER_STREAM, _IMAGE_STREAM = 1, 2


_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedData:
    """A data folder, in memory or, where it is too large for that, on the network's grid on disk; with its split."""

    dataset: Dataset
    split: Split
    split_spec: SplitSpec
    images: Mapping[str, LabelledImage]
    frames: FrameSet | None = None
    """Unlabelled frames to train on as well."""
    labels: LabelChoice = OWN_LABELS
    """What of the training images' labels is learned from."""
    known_fingerprint: str = ""
    """The hash of all images and masks, where it was computed already."""

    def part(self, name: str) -> list[LabelledImage]:
        """List the images of the part train, val or test, with the labels that are learned from or judged by."""
        if name == "train":
            return list(self._trained_on)
        images = [self.images[case.stem] for case in self.split.part(name)]
        return images if name == "all" else pick_judges(images)

    @cached_property
    def _trained_on(self) -> list[LabelledImage]:
        return choose_labels([self.images[case.stem] for case in self.split.train], self.labels)

    def name_tests(self) -> frozenset[str]:
        """Name the test cases."""
        return frozenset(case.stem for case in self.split.test)

    def divide(self, split_spec: SplitSpec) -> LoadedData:
        """Divide the same cases otherwise, such as into another fold."""
        empty = {stem: not any(image.marked) for stem, image in self.images.items()}
        splits = list_splits(self.dataset.cases, empty, split_spec)
        return dataclasses.replace(self, split=splits[split_spec.fold], split_spec=split_spec)

    def choose_finding(self) -> FindingSpec | None:
        """Choose the finding output: None where every training case shows every class, and there are no labels.

        Its frame classes are the labels in all data, so that every fold has the same ones.
        """
        labels = list_labels(self.dataset.cases)
        learned = labels or max(count_lacking(self.part("train"))) >= FEWEST_LACKING
        return FindingSpec(labels) if learned else None

    def log_finding(self, finding: FindingSpec | None, wanted: str) -> None:
        """Print whether the network learns what the whole frame shows, and why not."""
        names = [spec.name for spec in self.dataset.classes]
        lacking = dict(zip(names, count_lacking(self.part("train")), strict=True))
        if finding is not None:
            shown = "; ".join(f"{name} (missing in {count})" for name, count in lacking.items())
            labels = count_labels([image.case for image in self.part("train")])
            classes = ", ".join(f"{name} ({labels.get(name, 0)})" for name in finding.frame_classes)
            _LOG.info(
                "Finding output for %d training images: presence of %s%s.",
                len(self.part("train")),
                shown,
                f"; frame classes {classes}" if classes else "",
            )
        elif wanted == "auto":
            _LOG.info(
                "No finding output: %s, and no labels.csv labels frames.",
                f"only {max(lacking.values())} training images lack a class (at least {FEWEST_LACKING} are needed)"
                if any(lacking.values())
                else "every training image shows every class",
            )

    @cached_property
    def fingerprint(self) -> str:
        """The hash of all images and masks."""
        return self.known_fingerprint or fingerprint_dataset(self.dataset)

    def count_leaks(self) -> int:
        """Count pairs of near-duplicates in different groups: one may be in training and the other in test."""
        cases = self.dataset.cases
        if isinstance(self.images, StoredSet):
            return search_duplicates(cases, self.images.thumbnails, most=1).across
        thumbnails = np.stack([make_thumbnail(self.images[case.stem].frame) for case in cases])
        return search_duplicates(cases, thumbnails, most=1).across

    @cached_property
    def warnings(self) -> tuple[DataWarning, ...]:
        """The warnings that `data check` gives of usable data."""
        return find_warnings(self.dataset, [measure_marks(image) for image in self.images.values()])

    def log_warnings(self) -> None:
        """Print the warnings."""
        for warning in self.warnings:
            _LOG.warning("%s\n  %s", warning.message, warning.hint)
        if self.dataset.header_region:
            _LOG.warning("%s", CROPPED)

    def summarise(self) -> DataSummary:
        """Describe the data for the run's record."""
        cases = self.dataset.cases
        sizes = Counter("{1}x{0}".format(*self.images[case.stem].size) for case in cases).most_common()
        return DataSummary(
            layout=self.dataset.layout,
            images=len(cases),
            groups=len({case.group for case in cases}),
            sizes=dict(sizes[:SIZES]),
            other_sizes=sum(count for _, count in sizes[SIZES:]),
            labels=count_labels(cases),
            with_pixel_size=sum(case.pixel_size_mm is not None for case in cases),
            parts=tuple(self._summarise_part(name) for name in GIVEN_PARTS),
            # without the folder, which may name a person
            notices=tuple(notice.replace(f"{self.dataset.root}/", "") for notice in self._list_notices()),
        )

    def _list_notices(self) -> list[str]:
        return [*(warning.message for warning in self.warnings), *([CROPPED] if self.dataset.header_region else [])]

    def _summarise_part(self, name: str) -> PartSummary:
        images = self.part(name)
        names = [spec.name for spec in self.dataset.classes]
        lacking = dict(zip(names, count_lacking(images), strict=True)) if images else {}
        return PartSummary(name, len(images), len({image.case.group for image in images}), lacking)

    def log_leaks(self, pairs: int) -> None:
        """Warn of near-duplicates; training continues, since only a person can tell whether they are a problem."""
        if pairs:
            sentence = describe_leak(pairs, any(case.part for case in self.dataset.cases))
            hint = "The training goes on, but its test figures may flatter. Look at: edgeseg data check DATA --sheet F"
            _LOG.warning("%s\n  %s", sentence, hint)

    def write_split(self, folder: Path) -> None:
        """Write split.csv: the part of each case."""
        write_rows(folder / SPLIT, ("stem", "group", "part"), self.split.to_rows())


def load_data(
    root: Path,
    split_spec: SplitSpec,
    colour: bool | InputSpec = False,
    classes: Sequence[ClassSpec] | None = None,
    labels: LabelChoice = OWN_LABELS,
    fingerprint: str = "",
) -> LoadedData:
    """Read all cases of a folder, into memory or the cache, and split them.

    Args:
        root: The data folder.
        split_spec: How to split the cases.
        colour: Whether to read frames in colour, or the network's input that they are read for.
        classes: The classes of a model to arrange the masks by; None takes the data's own.
        labels: What of the training images' labels is learned from.
        fingerprint: The hash of all images and masks, where it was computed already.
    """
    dataset = open_dataset(root, split_spec.layout, split_spec.group_pattern)
    if classes is not None:
        dataset = arrange_dataset(dataset, classes)
    images = read_images(OriginalsPlan(dataset, colour, labels, split_spec.layout or "", fingerprint))
    marked = {stem: image.marked for stem, image in images.items()}
    covered = [(image.marked, math.prod(image.size)) for image in images.values()]
    for defect in (*find_empty_classes(dataset, marked.values()), *find_full_classes(dataset, covered)):
        raise defect
    splits = list_splits(dataset.cases, {stem: not any(counts) for stem, counts in marked.items()}, split_spec)
    for split in splits:
        _refuse_unseen(dataset, [marked[case.stem] for case in split.train])
    known = images.key.fingerprint if isinstance(images, StoredSet) else fingerprint
    return LoadedData(dataset, splits[split_spec.fold], split_spec, images, labels=labels, known_fingerprint=known)


def _refuse_unseen(dataset: Dataset, marked: Sequence[Sequence[int]]) -> None:
    """Refuse a training part that lacks a class: it could not be learned."""
    for name in list_absent(dataset.classes, marked):
        raise DataError(
            f"Expected something marked for the class {name} among the training cases of {dataset.root}, "
            "got it in the others only.",
            "Give more cases that show it, or divide them in another way with --seed.",
        )


def load_same_data(root: Path, record: RunRecord, run: Path) -> LoadedData:
    """Read a run's data again, and refuse them where the images or the split have changed.

    Args:
        root: Where the data are.
        record: The run's record.
        run: The run folder, for the message.
    """
    found = fingerprint_dataset(open_dataset(root, record.split.layout, record.split.group_pattern))
    refuse_changed_data(root, found, record.data_fingerprint, run)
    data = load_data(root, record.split, record.input, record.output.classes, record.options.label_choice, found)
    refuse_other_split(root, data.split, record.split_fingerprint)
    _refuse_other_region(data, record, run)
    refuse_other_labels(root, data.dataset, record.label_fingerprint, run)
    return data


def refuse_other_labels(root: Path, dataset: Dataset, begun: str, run: Path) -> None:
    """Refuse frames with other labels than those that a training began with; labels that it did not learn may change.

    They have a fingerprint of their own: labels that are added to a folder change no run that learned none.
    """
    if begun and fingerprint_labels(dataset.cases) != begun:
        raise DataError(
            f"Expected the frames' labels that {run} was trained on, got other ones in {root}.",
            "Restore labels.csv (or the column class of groups.csv), or train again.",
        )


def _refuse_other_region(data: LoadedData, record: RunRecord, run: Path) -> None:
    """Refuse to continue a training of whole frames with crops; for a finished run, only warn."""
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
    """Refuse data whose fingerprint differs from the one that a training began with."""
    if found != begun:
        raise DataError(
            f"Expected the data that {run} was trained on, got a changed folder {root}.",
            "Restore the folder, or train again on the changed one.",
        )


@dataclass(frozen=True)
class Feed:
    """Training cases, and how they are batched and augmented."""

    arrays: GridArrays
    batch: int
    seed: int
    stride: int
    """The network's output stride, by which the masks are made smaller."""
    augment: AugmentSpec | None
    background: bool = False
    """Whether the background becomes the first mask, for softmax."""
    growth: Growth | None = field(default=None, kw_only=True)
    """Progressive resizing; None shows whole images in all epochs."""

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return -(-len(self.arrays) // self.batch)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of what `make_case` returns of whole images."""
        height, width, channels = self.arrays.pixels.shape[1:]
        classes = self.arrays.masks.shape[-1]
        more = classes if self.arrays.weak else 0
        masks = (height // self.stride, width // self.stride, classes + self.background + more)
        shapes = (height, width, channels), masks
        labels = self.arrays.frame_labels
        return shapes if labels is None else (*shapes, (1, 1, classes + labels.shape[1]))

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Shuffle the cases for an epoch."""
        return np.random.default_rng((self.seed, _ORDER_STREAM, epoch)).permutation(len(self.arrays))

    def make_case(self, epoch: int, number: int) -> tuple[NDArray[np.float32], ...]:
        """Make one augmented image from 0 to 1, its masks, and its findings (1, 1, channels) where they are learned."""
        arrays = self.arrays
        random = np.random.default_rng((self.seed, _IMAGE_STREAM, epoch, number))
        pixels, masks = arrays.pixels[number], arrays.masks[number]
        marked = arrays.weak.get(number, masks)
        if self.growth is not None:
            # before the augmentation, whose cost grows with the area, too
            pixels, marked = shrink_case(pixels, marked, self.growth.find_side(epoch))
        image, varied = vary_case(pixels, marked, self.augment, arrays.denoise, random)
        varied, unknown = np.split(varied, [masks.shape[-1]], axis=-1)
        shown = add_background(varied) if self.background else varied
        if arrays.weak:
            truth = shrink_known(shown, unknown if number in arrays.weak else np.zeros_like(varied), self.stride)
        else:
            truth = shrink_masks(shown, self.stride)
        case = np.divide(image, np.float32(255), dtype=np.float32), truth
        if arrays.frame_labels is None:
            return case
        return *case, find_truth(masks, varied, arrays.frame_labels[number])

    def make_batch(self, epoch: int, numbers: NDArray[np.int64]) -> tuple[NDArray[np.float32], ...]:
        """Make the cases of a batch, which depend on nothing but epoch and number."""
        first = self.make_case(epoch, int(numbers[0]))
        batch = tuple(np.empty((len(numbers), *made.shape), np.float32) for made in first)
        for place, number in enumerate(numbers):
            # one case at a time, so that the next one finds its memory in the cache
            case = self.make_case(epoch, int(number)) if place else first
            for arrays, made in zip(batch, case, strict=True):
                arrays[place] = made
        return batch


def find_truth(
    masks: NDArray[np.uint8], varied: NDArray[np.uint8], frame_labels: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Find what a finding output should say of an augmented case, of which a structure may have left the picture.

    Args:
        masks: The masks (height, width, classes) before the augmentation.
        varied: The masks after it.
        frame_labels: The case's frame classes; unknown once all that was marked has left the picture.
    """
    left = masks.any() and not varied.any()
    labels = np.full_like(frame_labels, UNKNOWN) if left else frame_labels
    return np.concatenate([varied.any(axis=(0, 1)), labels], dtype=np.float32)[np.newaxis, np.newaxis]


def add_background(masks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Add the background in front of masks (height, width, classes); where classes overlap, the last one counts."""
    classes = masks.shape[-1]
    labels = np.zeros(masks.shape[:-1], np.uint8)
    for number in range(classes):
        np.maximum(labels, masks[..., number] * np.uint8(number + 1), out=labels)
    return np.asarray(labels[..., np.newaxis] == np.arange(classes + 1, dtype=np.uint8), dtype=np.uint8)


@dataclass(frozen=True)
class Part:
    """A worker's replicas among all that share each batch: `count` from `first` on, of `total`."""

    first: int = 0
    count: int = 1
    total: int = 1

    def select(self, order: NDArray[np.int64], batch: int) -> NDArray[np.int64]:
        """Select this part of an epoch's order; with several replicas the last batch is filled up from the start."""
        if self.total == 1:
            return order
        steps = -(-len(order) // batch)
        # np.resize repeats the order from its start
        shares = np.resize(order, (steps, self.total, batch // self.total))
        return np.ascontiguousarray(shares[:, self.first : self.first + self.count]).ravel()


WHOLE = Part()


def shrink_masks(masks: NDArray[np.uint8], stride: int) -> NDArray[np.float32]:
    """Average masks (..., height, width, classes) over squares, so that outlines get values between 0 and 1."""
    *front, height, width, classes = masks.shape
    size, area = (width // stride, height // stride), stride * stride
    # the mean of masks of 0 and `area` is a whole number: bytes hold it exactly
    counts = [
        cv2.resize(mask * np.uint8(area), size, interpolation=cv2.INTER_AREA)
        for mask in masks.reshape(-1, height, width, classes)
    ]
    return np.divide(counts, area, dtype=np.float32).reshape(*front, size[1], size[0], classes)


def build_pipeline(feed: Feed, epochs: int, first_epoch: int = 0, part: Part = WHOLE) -> Any:
    """Build the tf.data pipeline of all epochs from the first one on, for a part of the replicas.

    A batch is (images, masks); with a finding output it is (images, (masks, findings)), as Keras takes two outputs.
    Several batches are made at the same time and ahead, beyond the end of an epoch, too: the next one's are ready when
    the validation is done.
    """
    # replicas need batches of one size
    size, even = feed.batch // part.total, part.total > 1

    def list_batches(epoch: Any) -> Any:
        order = tf.numpy_function(lambda number: part.select(feed.order(number), feed.batch), [epoch], tf.int64)
        return tf.data.Dataset.from_tensor_slices(order).batch(size, even).map(lambda numbers: (epoch, numbers))

    def make_batch(epoch: Any, numbers: Any) -> tuple[Any, Any]:
        made = tf.numpy_function(feed.make_batch, [epoch, numbers], (tf.float32,) * len(shapes))
        # numpy_function loses static shapes, and the training step is traced with them
        image, *truth = (tf.ensure_shape(tensor, shape) for tensor, shape in zip(made, shapes, strict=True))
        return image, tuple(truth) if len(truth) > 1 else truth[0]

    shapes: list[tuple[int | None, ...]] = [(size if even else None, *shape) for shape in feed.shapes]
    if feed.growth is not None:
        shapes[:2] = [(count, None, None, channels) for count, *_, channels in shapes[:2]]
    batches = tf.data.Dataset.range(first_epoch, epochs).flat_map(list_batches)
    return batches.map(make_batch, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
