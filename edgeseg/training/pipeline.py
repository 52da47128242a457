"""The input pipeline: shuffle, augment in parallel, batch and prefetch.

Order and augmentation depend on seed, epoch and number only, not on the thread: a continued training sees the same
images as an uninterrupted one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.data.augment import AugmentSpec, vary_case
from edgeseg.model.keras import tf
from edgeseg.training.loading import GridArrays

_ORDER_STREAM, _IMAGE_STREAM = 1, 2
"""Random streams of one seed: the order of an epoch, and the augmentation of an image."""


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

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return -(-len(self.arrays) // self.batch)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Shuffle the cases for an epoch."""
        return np.random.default_rng((self.seed, _ORDER_STREAM, epoch)).permutation(len(self.arrays))

    def make_case(self, epoch: int, number: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Make one augmented image from 0 to 1, and its masks."""
        arrays = self.arrays
        random = np.random.default_rng((self.seed, _IMAGE_STREAM, epoch, number))
        image, masks = vary_case(arrays.pixels[number], arrays.masks[number], self.augment, arrays.denoise, random)
        masks = add_background(masks) if self.background else masks
        return image.astype(np.float32) / np.float32(255), shrink_masks(masks, self.stride)


def add_background(masks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Add the background in front of masks (height, width, classes); where classes overlap, the last one counts."""
    labels = (masks * np.arange(1, masks.shape[-1] + 1)).max(axis=-1, keepdims=True)
    return np.asarray(labels == np.arange(masks.shape[-1] + 1), dtype=np.uint8)


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
    squares = masks.reshape(*front, height // stride, stride, width // stride, stride, classes)
    return np.asarray(squares.mean(axis=(-4, -2), dtype=np.float32))


def build_pipeline(feed: Feed, epochs: int, first_epoch: int = 0, part: Part = WHOLE) -> Any:
    """Build the tf.data pipeline of all epochs from the first one on, for a part of the replicas."""

    def list_epoch(epoch: Any) -> Any:
        order = tf.numpy_function(lambda number: part.select(feed.order(number), feed.batch), [epoch], tf.int64)
        cases = tf.data.Dataset.from_tensor_slices(order).map(
            lambda number: make_case(epoch, number), num_parallel_calls=tf.data.AUTOTUNE
        )
        # replicas need batches of one size
        return cases.batch(feed.batch // part.total, drop_remainder=part.total > 1)

    def make_case(epoch: Any, number: Any) -> tuple[Any, Any]:
        image, masks = tf.numpy_function(feed.make_case, [epoch, number], (tf.float32, tf.float32))
        # numpy_function loses static shapes, and the training step is traced with them
        return tf.ensure_shape(image, image_shape), tf.ensure_shape(masks, mask_shape)

    height, width, channels = feed.arrays.pixels.shape[1:]
    image_shape = (height, width, channels)
    outputs = feed.arrays.masks.shape[-1] + feed.background
    mask_shape = (height // feed.stride, width // feed.stride, outputs)
    return tf.data.Dataset.range(first_epoch, epochs).flat_map(list_epoch).prefetch(tf.data.AUTOTUNE)
