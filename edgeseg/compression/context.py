"""A run opened for compression: record, model and data, calibration images, and the teacher to distil from.

Fine-tuning distils as a training does (training/distillation.py). The default teacher is the run's own float model.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import DataError, RunError
from edgeseg.core.modelfile import read_model
from edgeseg.core.spec import BOXES
from edgeseg.data.augment import AugmentSpec, choose_variations
from edgeseg.data.dataset import LabelledImage
from edgeseg.evaluation.classes import Renaming
from edgeseg.model.keras import keras, tf
from edgeseg.model.losses import FINDING_SHARE, find_finding_loss, find_loss
from edgeseg.model.unet import find_mask_shape, split_outputs
from edgeseg.training.distillation import (
    Teacher,
    append_teacher,
    average_teachers,
    distillation_loss,
    finding_distillation_loss,
    open_teacher,
)
from edgeseg.training.grids import GridArrays, to_grid, to_reals
from edgeseg.training.loading import Feed, LoadedData, load_same_data
from edgeseg.training.run import MODEL, RECORD, RunRecord, read_run
from edgeseg.training.start import load_network
from edgeseg.training.validation import MASK_THRESHOLD, read_history

# Fewer calibration images do not give the ranges of activations.
FEWEST_IMAGES = 8
# Images of a fine-tuning step.
BATCH = 16


@dataclass(frozen=True)
class CompressContext:
    """A run opened for compression."""

    record: RunRecord
    model: Any
    data: LoadedData
    train: GridArrays
    validation: GridArrays


def open_run(run: Path) -> CompressContext:
    """Open a finished run with its data; changed data, another run's model file and empty test cases are refused."""
    record = read_run(run)
    check_card(run, record)
    refuse_without_data(run, record)
    read_history(run)  # the report draws it: refuse a damaged one before hours of work
    root = Path(os.path.normpath(run / record.data))
    if not root.is_dir():
        raise DataError(
            f"Expected the data that {run} was trained on at {root}, got nothing there.",
            f'Move the folder back, or correct "data" in {run / RECORD}.',
        )
    if record.labels is not None and record.labels.judged_by == BOXES:
        raise RunError(
            f"Expected a run that was judged by full masks in {run}, got one that boxes judged: what a smaller file "
            "loses could not be told.",
            "Draw full outlines on some images, and train again.",
        )
    data = load_same_data(root, record, run)
    for part in ("test", "val"):
        check_cases(data.part(part), part)
    # fine-tuning draws from this seed: the same run and recipe give the same file
    keras.utils.set_random_seed(record.options.seed)
    train, validation = (to_grid(data.part(part), record.input, record.finding) for part in ("train", "val"))
    network = load_network(run, record)
    return CompressContext(record, network, data, replace_weak(train, network), validation)


def replace_weak(train: GridArrays, network: Any) -> GridArrays:
    """Replace filled boxes and marks by what a run's own network draws: fine-tuning takes masks for the truth.

    Args:
        train: The training cases.
        network: The run's network.
    """
    if not train.weak:
        return train
    numbers, masks = sorted(train.weak), train.masks[:].copy()
    classes, height = masks.shape[-1], masks.shape[1]
    for start in range(0, len(numbers), BATCH):
        chosen = numbers[start : start + BATCH]
        images = dataclasses.replace(train, pixels=train.pixels[chosen]).images
        drawn = split_outputs(network.predict(to_reals(images), verbose=0))[0][..., -classes:]
        stride = height // drawn.shape[1]
        masks[chosen] = np.repeat(np.repeat(drawn > MASK_THRESHOLD, stride, axis=1), stride, axis=2)
    return dataclasses.replace(train, masks=masks, weak={})


def refuse_without_data(run: Path, record: RunRecord) -> None:
    """Refuse the run of a federation's server: the images are at the sites."""
    if record.federation is not None and not record.federation.at_site:
        raise RunError(
            f"Expected a run with images to calibrate with, got {run}, a federation's, whose images stay at the sites.",
            "Compress the run that a site has from edgeseg federate join.",
        )


def check_cases(images: Sequence[LabelledImage], part: str) -> None:
    """Refuse cases whose masks are all empty: the Dice is averaged over the others."""
    if not any(any(image.marked) for image in images):
        raise DataError(
            f"Expected a case of the part {part} with something to find, got {len(images)} with nothing marked.",
            f"Give more cases or move some into the part {part}, and train again.",
        )


def check_card(run: Path, record: RunRecord) -> None:
    """Refuse a run whose float file and record disagree on input, output or data: calibration would not match."""
    card = read_model(run / MODEL).card
    ours = (record.input, record.output, record.finding, record.data_fingerprint)
    if (card.input, card.output, card.finding, card.provenance.data_fingerprint) != ours:
        raise RunError(
            f"Expected the card in {run / MODEL} to say the same of images, classes and data as {run / RECORD}, "
            "got another: calibration images would not match the model.",
            "Put back the files of one training, or train again.",
        )


def pick_calibration(train: GridArrays, count: int) -> NDArray[np.float32]:
    """Pick calibration images evenly; the brightest is scaled to white, so that the input's range is 0 to 1."""
    if len(train) < min(count, FEWEST_IMAGES):
        raise DataError(
            f"Expected at least {min(count, FEWEST_IMAGES)} training images for calibration, got {len(train)}.",
            "Give more cases.",
        )
    images = to_reals(train.images[np.linspace(0, len(train) - 1, min(count, len(train))).astype(int)])
    brightest = int(images.reshape(len(images), -1).max(axis=1).argmax())
    # on the device frames do reach white, and a narrower range would clip them
    images[brightest] /= max(float(images[brightest].max()), 1e-6)
    return images


@dataclass(frozen=True)
class DistillationData:
    """What fine-tuning trains on: training and validation cases and the teacher."""

    train: GridArrays
    validation: GridArrays
    seed: int
    teacher: Teacher
    augment: AugmentSpec | None = field(default_factory=AugmentSpec)
    activation: str = "sigmoid"
    finding_weights: tuple[tuple[float, float], ...] = ()
    """Weights of presence and absence in the loss of every finding."""

    def feed(self, model: Any) -> Feed:
        """Build the feed of the training cases, augmented as in the run, for a network of this output size."""
        stride = model.input_shape[1] // find_mask_shape(model)[0]
        return Feed(self.train, BATCH, self.seed, stride, self.augment, self.activation == "softmax")

    def add_teacher(self, pipeline: Any) -> Any:
        """Append the teacher's masks to the true ones, as further channels, and likewise its findings."""
        return pipeline.map(partial(append_teacher, self.teacher), num_parallel_calls=1).prefetch(1)

    def compile(self, model: Any, optimizer: Any, share: float) -> None:
        """Compile a model with the loss that mixes truth and teacher.

        Args:
            model: The network.
            optimizer: Its optimizer.
            share: The teacher's share of the loss.
        """
        loss = distillation_loss(share, self.activation)
        if len(model.outputs) == 1:
            model.compile(optimizer, loss)
            return
        losses = [loss, finding_distillation_loss(share, self.finding_weights)]
        model.compile(optimizer, losses, loss_weights=[1.0, FINDING_SHARE])

    def measure_loss(self, truth: Sequence[Any], given: Sequence[Any]) -> Any:
        """Sum up the loss of a batch as it is without a teacher.

        Args:
            truth: The true masks, and findings where the network has them.
            given: What the network gives.
        """
        losses = find_loss("bce-dice", self.activation), find_finding_loss(self.finding_weights)
        parts = zip(losses, (1.0, FINDING_SHARE), truth, given, strict=False)
        return tf.add_n([weight * tf.reduce_sum(loss(true, output)) for loss, weight, true, output in parts])


def plan_distillation(
    context: CompressContext,
    teachers: Sequence[Path] = (),
    renamed: Renaming | None = None,
    divided_alike: bool = True,
) -> DistillationData:
    """Distil from the run's own float model, or from other runs where some are given.

    Args:
        context: The run, opened.
        teachers: The runs to distil from; what several say is averaged.
        renamed: Classes of the run that have another name in the teachers.
        divided_alike: Whether a teacher of the same data must have been divided as the run.
    """
    record = context.record
    others = [open_teacher(run, record, renamed, divided_alike) for run in teachers]
    return DistillationData(
        train=context.train,
        validation=context.validation,
        seed=record.options.seed,
        teacher=average_teachers(others) if others else partial(context.model, training=False),
        augment=choose_variations(record.options.augment),
        activation=record.output.activation,
        finding_weights=record.finding_weights,
    )
