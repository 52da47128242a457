"""Distillation: a network learns from the truth and from what other networks, its teachers, draw of the same images.

Both masks and findings are followed as probabilities (Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a
Neural Network"). A training takes finished runs as teachers, compression the network that it makes smaller as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgeseg.core.errors import RunError
from edgeseg.core.spec import InputSpec
from edgeseg.evaluation.classes import Renaming, match_classes
from edgeseg.model.keras import tf
from edgeseg.model.losses import Loss, find_class_loss, find_finding_loss, weigh_classes
from edgeseg.model.unet import split_outputs
from edgeseg.training.grids import UNKNOWN
from edgeseg.training.run import RunRecord, read_run
from edgeseg.training.start import load_network

# Turns a batch of images into the teacher's masks on the student's output grid, or into masks and findings.
Teacher = Callable[[Any], Any]
# The teachers' share of the loss of a training; the rest is the truth's. The recipes of compression say their own.
SHARE = 0.5


class RunTeacher:
    """A finished run as teacher: masks come in the student's size and order, findings in its order."""

    def __init__(self, model: Any, run: RunRecord, student: RunRecord, channels: Sequence[int]) -> None:
        """Take the run's network.

        Args:
            model: The network.
            run: The run's record.
            student: The record of what learns from it.
            channels: The teacher's mask channel of each of the student's.
        """
        self.model = model
        self._input = run.input.height, run.input.width
        self._output = tuple(side // student.spec.output_stride for side in (student.spec.height, student.spec.width))
        # white is that of the training images, which differs between the folds of 16-bit data
        self._gain = student.input.white / run.input.white
        self._channels, self._order = channels, order_findings(run, student, channels)

    @property
    def knows_findings(self) -> bool:
        """Say whether it teaches findings, too."""
        return bool(self._order)

    def __call__(self, images: Any) -> Any:
        """Draw masks, and find what the frames show; what it does not know is UNKNOWN."""
        if self._gain != 1.0:
            images = tf.minimum(images * self._gain, 1.0)
        # antialias: the teacher's input may be smaller
        masks, findings = split_outputs(
            self.model(tf.image.resize(images, self._input, antialias=True), training=False)
        )
        masks = tf.image.resize(tf.gather(masks, self._channels, axis=-1), self._output)
        if findings is None or not self._order:
            return masks
        unknown = tf.fill(tf.shape(findings[..., :1]), UNKNOWN)
        return masks, tf.gather(tf.concat([findings, unknown], axis=-1), self._order, axis=-1)


def open_teacher(
    run: Path, student: RunRecord, renamed: Renaming | None = None, divided_alike: bool = True
) -> RunTeacher:
    """Open a finished run as teacher.

    Args:
        run: The teacher.
        student: The student's record.
        renamed: Classes of the student that have another name in the teacher.
        divided_alike: Whether a teacher of the same data must have been divided as the student.
    """
    record = read_run(run)
    channels = check_teacher(run, record, student, renamed, divided_alike)
    return RunTeacher(load_network(run, record), record, student, channels)


def average_teachers(teachers: Sequence[Teacher]) -> Teacher:
    """Average the masks of several teachers, and each finding over those that know it."""
    if len(teachers) == 1:
        return teachers[0]

    def predict(images: Any) -> Any:
        masks, findings = zip(*(split_outputs(teach(images)) for teach in teachers), strict=True)
        drawn = tf.add_n(masks) / len(masks)
        told = [found for found in findings if found is not None]
        return (drawn, _average_known(tf.stack(told))) if told else drawn

    return predict


def _average_known(findings: Any) -> Any:
    """Average findings over the first axis; what is unknown to all stays so."""
    known = tf.cast(findings >= 0.0, findings.dtype)
    count = tf.reduce_sum(known, axis=0)
    mean = tf.reduce_sum(findings * known, axis=0) / tf.maximum(count, 1.0)
    return tf.where(count > 0.0, mean, UNKNOWN)


def append_teacher(teacher: Teacher, images: Any, truth: Any) -> tuple[Any, Any]:
    """Append a teacher's masks to the true ones of a batch, as further channels, and likewise its findings."""
    (masks, findings), (drawn, found) = split_outputs(truth), split_outputs(teacher(images))
    masks = tf.concat([masks, drawn], axis=-1)
    if findings is None:
        return images, masks
    # a teacher without findings knows none
    found = tf.fill(tf.shape(findings), UNKNOWN) if found is None else found
    return images, (masks, tf.concat([findings, found], axis=-1))


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
    return f"{spec.colour}, {spec.resize}, region {spec.region or 'whole'}, {shape}"


def distillation_loss(
    share: float, activation: str = "sigmoid", name: str = "bce-dice", weights: Sequence[float] = ()
) -> Loss:
    """Build the loss that mixes true masks and the teacher's.

    Args:
        share: The teacher's share of the loss.
        activation: The activation of the masks.
        name: The loss against the truth.
        weights: The weight of each class; empty for equal weights.
    """
    task_loss, distil_loss = (find_class_loss(one, activation) for one in (name, "bce"))

    def mix(truth: Any, predicted: Any) -> Any:
        masks, teacher_masks = tf.split(truth, 2, axis=-1)
        return (1.0 - share) * task_loss(masks, predicted) + share * distil_loss(teacher_masks, predicted)

    return weigh_classes(mix, weights)


def finding_distillation_loss(share: float, weights: Sequence[tuple[float, float]] = ()) -> Loss:
    """Build the loss that mixes true findings and the teacher's.

    What the teacher does not know is learned from the truth alone; what the truth does not know has its share only.

    Args:
        share: The teacher's share of the loss.
        weights: Of presence and absence of every finding in the loss against the truth.
    """
    task_loss, distil_loss = find_finding_loss(weights), find_finding_loss()

    def mix(truth: Any, predicted: Any) -> Any:
        findings, found = tf.split(truth, 2, axis=-1)
        untaught = tf.where(found < 0.0, findings, UNKNOWN)
        learned = (1.0 - share) * task_loss(findings, predicted) + share * task_loss(untaught, predicted)
        return learned + share * distil_loss(found, predicted)

    return mix
