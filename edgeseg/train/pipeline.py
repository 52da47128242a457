"""Feed the training step: shuffled, augmented in parallel and fetched ahead."""

from __future__ import annotations

from typing import Any

from edgeseg.model.keras import tf
from edgeseg.train.arrays import GridArrays
from edgeseg.train.augment import AugmentSpec, augment_batch


def build_pipeline(arrays: GridArrays, batch: int, seed: int, augment: AugmentSpec | None) -> Any:
    """Build the tf.data pipeline of a set of arrays; it keeps them in memory as bytes."""
    data = tf.data.Dataset.from_tensor_slices((arrays.images, arrays.masks))
    data = data.shuffle(len(arrays), seed=seed).batch(batch)

    def prepare(images: Any, masks: Any) -> tuple[Any, Any]:
        reals, truth = tf.cast(images, tf.float32) / 255.0, tf.cast(masks, tf.float32)
        return (reals, truth) if augment is None else augment_batch(reals, truth, augment)

    return data.map(prepare, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
