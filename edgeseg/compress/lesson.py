"""What a training inside compress learns from: the run's cases, and masks of another network to follow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from edgeseg.compress.workshop import Workshop
from edgeseg.core.errors import RunError
from edgeseg.core.spec import InputSpec
from edgeseg.data.augment import AugmentSpec, choose_variations
from edgeseg.evaluate.classes import Renaming, match_classes
from edgeseg.model.keras import tf
from edgeseg.model.losses import Loss, find_class_loss, weigh_classes
from edgeseg.train.arrays import GridArrays
from edgeseg.train.init import load_network
from edgeseg.train.pipeline import Feed
from edgeseg.train.run import RunRecord, read_run

BATCH = 16

Guide = Callable[[Any], Any]
"""Turns a batch of images into the masks to follow, on the student's own grid."""


@dataclass(frozen=True)
class Lesson:
    """Cases to train on, cases that decide, and the masks to follow beside the true ones."""

    train: GridArrays
    validation: GridArrays
    seed: int
    guide: Guide
    augment: AugmentSpec | None = field(default_factory=AugmentSpec)
    activation: str = "sigmoid"

    def feed(self, shrink: int) -> Feed:
        """Feed the training cases, varied as in the run, with masks as coarse as the network draws them."""
        return Feed(self.train, BATCH, self.seed, shrink, self.augment, self.activation == "softmax")

    def follow(self, pipeline: Any) -> Any:
        """Append the guide's masks to the true ones, as further channels."""

        def append(images: Any, masks: Any) -> tuple[Any, Any]:
            return images, tf.concat([masks, self.guide(images)], axis=-1)

        return pipeline.map(append, num_parallel_calls=1).prefetch(1)


def plan_lesson(shop: Workshop, teacher: Path | None = None, renamed: Renaming | None = None) -> Lesson:
    """Follow the run's own float model, or a teacher where one is given.

    Args:
        shop: The run, opened.
        teacher: The run to follow.
        renamed: Classes of the run that go by another name in the teacher.
    """
    guide = partial(shop.model, training=False) if teacher is None else open_teacher(teacher, shop, renamed)
    record = shop.record
    augment = choose_variations(record.options.augment)
    return Lesson(shop.train, shop.validation, record.options.seed, guide, augment, record.output.activation)


def open_teacher(run: Path, shop: Workshop, renamed: Renaming | None = None) -> Guide:
    """Open another run as teacher: images are brought to its size, and its masks back to the student's size and order.

    Args:
        run: The teacher.
        shop: The student, opened.
        renamed: Classes of the student that go by another name in the teacher.
    """
    record = read_run(run)
    channels = check_teacher(run, record, shop.record, renamed)
    model, drawn = load_network(run, record), shop.model.output_shape[1:3]
    size = (record.input.height, record.input.width)

    def draw(images: Any) -> Any:
        masks = model(tf.image.resize(images, size, antialias=True), training=False)
        return tf.image.resize(tf.gather(masks, channels, axis=-1), drawn)

    return draw


def check_teacher(
    run: Path, teacher: RunRecord, student: RunRecord, renamed: Renaming | None = None
) -> tuple[int, ...]:
    """Refuse a teacher that sees other images, draws other classes, or has learned from the student's test cases.

    Args:
        run: The teacher's folder, for messages.
        teacher: Its record.
        student: The record of the run that is to follow it.
        renamed: Classes of the student that go by another name in the teacher.

    Returns:
        For each channel that the student draws the one of the teacher's that shows the same.
    """
    wanted, found = ([spec.name for spec in record.output.classes] for record in (student, teacher))
    order = match_classes(wanted, found, run, renamed)
    if teacher.output.activation != student.output.activation:
        raise RunError(
            f"Expected a teacher that draws by {student.output.activation}, got {run}, "
            f"which draws by {teacher.output.activation}.",
            f"Train the teacher with --activation {student.output.activation}.",
        )
    if _describe_view(teacher.input) != _describe_view(student.input):
        raise RunError(
            f"Expected a teacher that sees the frame as the run does ({_describe_view(student.input)}), got {run} "
            f"({_describe_view(teacher.input)}).",
            "Train the teacher with the same colour, region and shape of input; its size may differ.",
        )
    if teacher.data_fingerprint == student.data_fingerprint and _is_divided_otherwise(teacher, student):
        raise RunError(
            f"Expected a teacher whose data were divided as the run's, got {run}, which has learned from other cases: "
            "it may know the test cases.",
            f"Train the teacher with --seed {student.split.seed} and the same groups.csv.",
        )
    return (0, *(place + 1 for place in order)) if student.output.draws_background else order


def _is_divided_otherwise(teacher: RunRecord, student: RunRecord) -> bool:
    outcomes = {teacher.split_fingerprint, student.split_fingerprint} - {""}
    return teacher.split != student.split or len(outcomes) > 1


def _describe_view(spec: InputSpec) -> str:
    shape = f"{spec.width / spec.height:.3f} wide by 1 high"
    return f"{spec.colour}, {spec.resize}, white {spec.white}, region {spec.region or 'whole'}, {shape}"


def distillation_loss(share: float, activation: str = "sigmoid") -> Loss:
    """Build the loss that mixes true masks and those to follow."""
    learn, imitate = (find_class_loss(name, activation) for name in ("bce-dice", "bce"))

    def mix(truth: Any, predicted: Any) -> Any:
        masks, wanted = tf.split(truth, 2, axis=-1)
        return (1.0 - share) * learn(masks, predicted) + share * imitate(wanted, predicted)

    return weigh_classes(mix)
