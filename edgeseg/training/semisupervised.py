"""Unlabelled frames beside the labelled ones: a teacher draws them, and the network is to draw the same.

The teacher sees a frame warped only, the network sees the same warp with its brightness varied strongly. Without
finished runs as teachers it is the EMA of the weights, which every training has: the mean teacher, after Tarvainen and
Valpola 2017, "Mean teachers are better role models" (docs/decisions/0058).
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import DataError, RunError, TrainingError
from edgeseg.core.spec import InputSpec
from edgeseg.data.augment import AugmentSpec, view_twice
from edgeseg.data.dataset import find_white
from edgeseg.model.keras import keras, tf
from edgeseg.model.losses import FINDING_SHARE, find_finding_loss
from edgeseg.model.unet import split_outputs
from edgeseg.training.distillation import Teacher
from edgeseg.training.ema import WeightEma
from edgeseg.training.loading import LoadedData
from edgeseg.training.options import TrainOptions
from edgeseg.training.run import RunRecord
from edgeseg.training.unlabelled import read_frames, refuse_leaks

# The parts that no frame may show.
HELD_OUT = ("val", "test")
# Share of the steps over which the weight of the unlabelled frames rises to 1, as in Laine and Aila 2017, "Temporal
# Ensembling": an untrained teacher knows nothing.
RAMP_SHARE = 0.3
_RAMP_STEEPNESS = 5.0
# Pixels that are added to the areas, as in the Dice loss of labelled images.
_SMOOTH = 1.0
# Random streams of one seed, beside those of the labelled images: order and views.
_ORDER_STREAM, _VIEW_STREAM = 3, 4


@dataclass(frozen=True)
class FrameFeed:
    """Unlabelled frames, and how they are batched and varied."""

    pixels: NDArray[np.uint8]
    batch: int
    seed: int
    augment: AugmentSpec | None
    denoise: str = "none"

    def make_views(self, place: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Make the teacher's and the network's view of a frame, from 0 to 1.

        Args:
            place: Of the frame among those of all steps; every frame comes once before any comes twice.
        """
        turn, position = divmod(int(place), len(self.pixels))
        number = _shuffle(self.seed, turn, len(self.pixels))[position]
        random = np.random.default_rng((self.seed, _VIEW_STREAM, place))
        weak, strong = view_twice(self.pixels[number], self.augment, self.denoise, random)
        return weak.astype(np.float32) / np.float32(255), strong.astype(np.float32) / np.float32(255)

    def make_batch(self, places: NDArray[np.int64]) -> tuple[NDArray[np.float32], ...]:
        """Make both views of the frames of a batch."""
        views = [self.make_views(int(place)) for place in places]
        return tuple(np.stack(frames) for frames in zip(*views, strict=True))

    def build_pipeline(self, steps: int, first_step: int = 0) -> Any:
        """Build the tf.data pipeline of all steps from the first one on."""

        def make_batch(places: Any) -> tuple[Any, Any]:
            views = tf.numpy_function(self.make_batch, [places], (tf.float32, tf.float32))
            # numpy_function loses static shapes, and the training step is traced with them
            return tuple(tf.ensure_shape(view, (self.batch, *self.pixels.shape[1:])) for view in views)

        places = tf.data.Dataset.range(first_step * self.batch, steps * self.batch)
        batches = places.batch(self.batch, drop_remainder=True)
        return batches.map(make_batch, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


# the turns of the current batch and of those that are prefetched
@lru_cache(maxsize=16)
def _shuffle(seed: int, turn: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, _ORDER_STREAM, turn)).permutation(count)


def follow_ema(teacher: Any, ema: WeightEma) -> Teacher:
    """Build the mean teacher, which teaches masks alone.

    Args:
        teacher: A model of the layers of the one in training, whose weights become the EMA.
        ema: The moving average of the weights in training.
    """

    def teach(images: Any) -> Any:
        ema.assign_to(teacher)
        return split_outputs(teacher(images, training=False))[0]

    return teach


def keep_truth(images: Any, truth: Any) -> tuple[Any, Any]:
    """Leave a batch of labelled images as it is."""
    return images, truth


class FrameSteps:
    """Takes the training steps of a compiled model on labelled images and unlabelled frames together."""

    def __init__(
        self,
        model: Any,
        teacher: Teacher,
        feed: FrameFeed,
        steps: int,
        ramp_share: float = RAMP_SHARE,
        label: Callable[[Any, Any], tuple[Any, Any]] = keep_truth,
    ) -> None:
        """Prepare the steps.

        Args:
            model: The compiled model in training.
            teacher: Draws the frames.
            feed: The unlabelled frames.
            steps: Of the whole training.
            ramp_share: Share of the steps over which the weight of the frames rises.
            label: Makes of the images and their truth what the model was compiled to learn.
        """
        self._model, self._teacher, self._feed, self._steps = model, teacher, feed, steps
        self._ramp_share, self._label = ramp_share, label
        self._statistics = [
            weight
            for layer in model.layers
            if isinstance(layer, keras.layers.BatchNormalization)
            for weight in layer.non_trainable_weights
        ]

    def add_frames(self, pipeline: Any, first_step: int) -> Any:
        """Pair the batches of labelled images with batches of frames."""
        return tf.data.Dataset.zip((pipeline, self._feed.build_pipeline(self._steps, first_step)))

    def take_step(self, batch: Any) -> Any:
        """Take a step; returns the mean loss of the epoch's labelled images so far."""
        labelled, (weak, strong) = batch
        model = self._model
        taught = self._teacher(weak)
        images, truth = self._label(*labelled)
        before = [weight.read_value() for weight in self._statistics]
        with tf.GradientTape() as tape:
            given = model(strong, training=True)
            # frames may come from elsewhere: the statistics that are exported are those of labelled images
            for weight, value in zip(self._statistics, before, strict=True):
                weight.assign(value)
            predicted = model(images, training=True)
            loss = model.compute_loss(images, truth, predicted)
            total = loss + self._weigh() * compare_outputs(taught, given)
        model.optimizer.minimize(total, model.trainable_variables, tape=tape)
        return model.compute_metrics(images, truth, predicted, None)["loss"]

    def _weigh(self) -> Any:
        if not self._ramp_share:
            return 1.0
        progress = tf.cast(self._model.optimizer.iterations, tf.float32) / (self._ramp_share * self._steps)
        return tf.exp(-_RAMP_STEEPNESS * (1.0 - tf.minimum(progress, 1.0)) ** 2)


def compare_outputs(taught: Any, given: Any) -> Any:
    """Compare what a network gives with what its teacher gives: masks, and findings where both have them."""
    (masks, findings), (drawn, found) = split_outputs(taught), split_outputs(given)
    difference = compare_with_teacher(masks, drawn)
    if findings is None or found is None:
        return difference
    return difference + FINDING_SHARE * tf.reduce_mean(find_finding_loss()(findings, found))


def compare_with_teacher(masks: Any, drawn: Any) -> Any:
    """Squared difference of two views' masks relative to their areas, so that small structures count like large ones.

    It is least where both agree, whatever the teacher believes: masks that it is unsure of are neither cut off nor
    rounded. Where both draw nothing, it vanishes.

    Args:
        masks: The teacher's probabilities (n, height, width, classes).
        drawn: The network's.
    """
    difference = tf.reduce_sum(tf.square(masks - drawn), axis=(1, 2))
    area = tf.reduce_sum(tf.square(masks) + tf.square(drawn), axis=(1, 2))
    return tf.reduce_mean(difference / (area + _SMOOTH))


def add_frames(
    loaded: LoadedData, folder: Path, options: TrainOptions, held_out: Sequence[str] = HELD_OUT
) -> LoadedData:
    """Read unlabelled frames to train on beside labelled cases, and refuse those that look like held-out cases.

    Args:
        loaded: The labelled cases.
        folder: The frames.
        options: Of the training.
        held_out: The parts of these cases.
    """
    if options.strategy != "one":
        raise TrainingError(
            f"Expected one device for a training with unlabelled frames, got --strategy {options.strategy}.",
            "Train with --strategy one, or without --unlabelled.",
        )
    white = find_white(loaded.part("train"))
    return _read_beside(loaded, folder, dataclasses.replace(options.input, white=white), held_out)


def add_same_frames(loaded: LoadedData, record: RunRecord, out: Path, folder: Path | None) -> LoadedData:
    """Read the unlabelled frames of an interrupted training again, and refuse where they have changed.

    Args:
        loaded: The labelled cases.
        record: Of the training.
        out: The run folder it was to make.
        folder: Where the frames are now; None takes them from where they were.
    """
    if record.unlabelled is None:
        raise RunError(
            f"Expected no unlabelled frames for {out}, which was begun without, got {folder}.",
            "Leave out --unlabelled, or begin again with --overwrite.",
        )
    place = folder or Path(os.path.normpath(out / record.unlabelled.folder))
    together = _read_beside(loaded, place, record.input, HELD_OUT)
    if together.frames is None or together.frames.fingerprint != record.unlabelled.fingerprint:
        raise DataError(
            f"Expected the unlabelled frames that {out} was begun with, got a changed folder {place}.",
            "Restore the folder, or begin again with --overwrite.",
        )
    return together


def _read_beside(loaded: LoadedData, folder: Path, spec: InputSpec, held_out: Sequence[str]) -> LoadedData:
    if any(case.modalities for case in loaded.dataset.cases):
        raise TrainingError(
            f"Expected ordinary images beside unlabelled frames, got modalities as channels in {loaded.dataset.root}.",
            "Train without --unlabelled.",
        )
    frames = read_frames(folder, spec)
    refuse_leaks(frames, [image for part in held_out for image in loaded.part(part)])
    return dataclasses.replace(loaded, frames=frames)
