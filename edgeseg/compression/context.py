"""A run opened for compression: record, model and data, calibration images, and the teacher to distil from.

Distillation trains on the truth and on a teacher's probabilities together, of masks and of findings (Hinton, Vinyals
and Dean 2015, "Distilling the Knowledge in a Neural Network"). The default teacher is the run's own float model.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import DataError, RunError
from edgeseg.core.modelfile import read_model
from edgeseg.core.spec import InputSpec
from edgeseg.data.augment import AugmentSpec, choose_variations
from edgeseg.data.dataset import LabelledImage
from edgeseg.evaluation.classes import Renaming, match_classes
from edgeseg.model.keras import keras, tf
from edgeseg.model.losses import Loss, find_class_loss, find_finding_loss, find_loss, weigh_classes
from edgeseg.model.unet import find_mask_shape, split_outputs
from edgeseg.training.loading import UNKNOWN, Feed, GridArrays, LoadedData, load_same_data, to_grid, to_reals
from edgeseg.training.run import MODEL, RECORD, RunRecord, read_run
from edgeseg.training.trainer import FINDING_SHARE, load_network
from edgeseg.training.validation import read_history

# Fewer calibration images do not give the ranges of activations.
FEWEST_IMAGES = 8
# Images of a fine-tuning step.
BATCH = 16
# Turns a batch of images into the teacher's masks on the student's output grid, or into masks and findings.
Teacher = Callable[[Any], Any]


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
    read_history(run)  # the report draws it: refuse a damaged one before hours of work
    root = Path(os.path.normpath(run / record.data))
    if not root.is_dir():
        raise DataError(
            f"Expected the data that {run} was trained on at {root}, got nothing there.",
            f'Move the folder back, or correct "data" in {run / RECORD}.',
        )
    data = load_same_data(root, record, run)
    for part in ("test", "val"):
        check_cases(data.part(part), part)
    # fine-tuning draws from this seed: the same run and recipe give the same file
    keras.utils.set_random_seed(record.options.seed)
    train, validation = (to_grid(data.part(part), record.input, record.finding) for part in ("train", "val"))
    return CompressContext(record, load_network(run, record), data, train, validation)


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

        def append(images: Any, truth: Any) -> tuple[Any, Any]:
            (masks, findings), (drawn, found) = split_outputs(truth), split_outputs(self.teacher(images))
            masks = tf.concat([masks, drawn], axis=-1)
            if findings is None:
                return images, masks
            # a teacher without findings knows none
            found = tf.fill(tf.shape(findings), UNKNOWN) if found is None else found
            return images, (masks, tf.concat([findings, found], axis=-1))

        return pipeline.map(append, num_parallel_calls=1).prefetch(1)

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
    others = [open_teacher(run, context, renamed, divided_alike) for run in teachers]
    return DistillationData(
        train=context.train,
        validation=context.validation,
        seed=record.options.seed,
        teacher=average_teachers(others) if others else partial(context.model, training=False),
        augment=choose_variations(record.options.augment),
        activation=record.output.activation,
        finding_weights=record.finding_weights,
    )


def average_teachers(teachers: Sequence[Teacher]) -> Teacher:
    """Average the masks and findings of several teachers; a finding that one does not know is left out."""
    if len(teachers) == 1:
        return teachers[0]

    def predict(images: Any) -> Any:
        masks, findings = zip(*(split_outputs(teach(images)) for teach in teachers), strict=True)
        drawn = tf.add_n(masks) / len(masks)
        return drawn if any(found is None for found in findings) else (drawn, tf.add_n(findings) / len(findings))

    return predict


def open_teacher(
    run: Path, context: CompressContext, renamed: Renaming | None = None, divided_alike: bool = True
) -> Teacher:
    """Open another run as teacher: images are resized to its input, and its masks to the student's size and order.

    Its findings are put in the student's order as well; what it does not know is left unknown.

    Args:
        run: The teacher.
        context: The student, opened.
        renamed: Classes of the student that have another name in the teacher.
        divided_alike: Whether a teacher of the same data must have been divided as the student.
    """
    record = read_run(run)
    channels = check_teacher(run, record, context.record, renamed, divided_alike)
    model, output_size = load_network(run, record), find_mask_shape(context.model)[:2]
    input_size = (record.input.height, record.input.width)
    order = order_findings(record, context.record, channels)

    def predict(images: Any) -> Any:
        # antialias: the teacher's input may be smaller
        masks, findings = split_outputs(model(tf.image.resize(images, input_size, antialias=True), training=False))
        masks = tf.image.resize(tf.gather(masks, channels, axis=-1), output_size)
        if findings is None or not order:
            return masks
        unknown = tf.fill(tf.shape(findings[..., :1]), UNKNOWN)
        return masks, tf.gather(tf.concat([findings, unknown], axis=-1), order, axis=-1)

    return predict


def order_findings(teacher: RunRecord, student: RunRecord, channels: Sequence[int]) -> tuple[int, ...]:
    """Find for each finding of the student the teacher's channel; one behind its last where it has none.

    Args:
        teacher: The teacher's record.
        student: The student's.
        channels: The teacher's mask channel of each of the student's.

    Returns:
        Nothing where one of the two has no findings.
    """
    if teacher.finding is None or student.finding is None:
        return ()
    background = int(student.output.draws_background)
    classes, known = len(teacher.output.classes), teacher.finding.frame_classes
    unknown = teacher.finding.count_channels(classes)
    frames = (classes + known.index(name) if name in known else unknown for name in student.finding.frame_classes)
    return (*(channel - background for channel in channels[background:]), *frames)


def check_teacher(
    run: Path,
    teacher: RunRecord,
    student: RunRecord,
    renamed: Renaming | None = None,
    divided_alike: bool = True,
) -> tuple[int, ...]:
    """Refuse a teacher with other inputs or classes, or one that was trained on the student's test cases.

    Args:
        run: The teacher's folder, for messages.
        teacher: Its record.
        student: The record of the run that is distilled into.
        renamed: Classes of the student that have another name in the teacher.
        divided_alike: Whether a teacher of the same data must have been divided as the student.

    Returns:
        For each output channel of the student the teacher's channel of the same class.
    """
    wanted, found = ([spec.name for spec in record.output.classes] for record in (student, teacher))
    order = match_classes(wanted, found, run, renamed)
    if teacher.output.activation != student.output.activation:
        raise RunError(
            f"Expected a teacher with {student.output.activation} masks, "
            f"got {run} with {teacher.output.activation} masks.",
            f"Train the teacher with --activation {student.output.activation}.",
        )
    if _describe_view(teacher.input) != _describe_view(student.input):
        raise RunError(
            f"Expected a teacher that sees the frame as the run does ({_describe_view(student.input)}), got {run} "
            f"({_describe_view(teacher.input)}).",
            "Train the teacher with the same colour, region and shape of input; its size may differ.",
        )
    # masks of a teacher that was trained on the student's test cases would leak them into the student
    same_data = teacher.data_fingerprint == student.data_fingerprint
    if divided_alike and same_data and _is_split_differently(teacher, student):
        raise RunError(
            f"Expected a teacher whose data were divided as the run's, got {run}, which has learned from other cases: "
            "it may know the test cases.",
            f"Train the teacher with --seed {student.split.seed} and the same groups.csv.",
        )
    # channel 0 is the background
    return (0, *(place + 1 for place in order)) if student.output.draws_background else order


def _is_split_differently(teacher: RunRecord, student: RunRecord) -> bool:
    outcomes = {teacher.split_fingerprint, student.split_fingerprint} - {""}
    return teacher.split != student.split or len(outcomes) > 1


def _describe_view(spec: InputSpec) -> str:
    shape = f"{spec.width / spec.height:.3f} wide by 1 high"
    return f"{spec.colour}, {spec.resize}, white {spec.white}, region {spec.region or 'whole'}, {shape}"


def distillation_loss(share: float, activation: str = "sigmoid") -> Loss:
    """Build the loss that mixes true masks and the teacher's.

    Args:
        share: The teacher's share of the loss.
        activation: The activation of the masks.
    """
    task_loss, distil_loss = (find_class_loss(name, activation) for name in ("bce-dice", "bce"))

    def mix(truth: Any, predicted: Any) -> Any:
        masks, teacher_masks = tf.split(truth, 2, axis=-1)
        return (1.0 - share) * task_loss(masks, predicted) + share * distil_loss(teacher_masks, predicted)

    return weigh_classes(mix)


def finding_distillation_loss(share: float, weights: Sequence[tuple[float, float]] = ()) -> Loss:
    """Build the loss that mixes true findings and the teacher's; what is unknown to one of the two has no part in it.

    Args:
        share: The teacher's share of the loss.
        weights: Of presence and absence of every finding in the loss against the truth.
    """
    task_loss, distil_loss = find_finding_loss(weights), find_finding_loss()

    def mix(truth: Any, predicted: Any) -> Any:
        findings, found = tf.split(truth, 2, axis=-1)
        return (1.0 - share) * task_loss(findings, predicted) + share * distil_loss(found, predicted)

    return mix
