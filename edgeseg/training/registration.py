"""Train a registering network without labels, from a folder of clips to a finished run folder.

The folder has run.json (with `"task": "register"`), config.toml, weights.h5, model.tflite, history.csv and curve.png,
as that of a segmenting run. Crops are learned from, and whole frames validated with: the layers fit any size.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

import edgeseg
from edgeseg.convert.registering import build_registration_card, make_registration_golden
from edgeseg.convert.tflite import compact_flatbuffer, convert_model
from edgeseg.core.errors import DataError, RunError, TrainingError
from edgeseg.core.files import partial_path, refuse_existing, refuse_taken, staged_folder, write_json, write_rows
from edgeseg.core.modelfile import RUN_FILE, write_model
from edgeseg.core.progress import progress_bar
from edgeseg.core.registration_card import TASK, RegistrationMetrics, RegistrationProvenance
from edgeseg.core.schema import from_plain, read_json_table, to_plain
from edgeseg.core.spec import InputSpec
from edgeseg.core.stats import Estimate, estimate_mean
from edgeseg.data.groups import read_table
from edgeseg.frame.images import ACCENT, INK
from edgeseg.model.keras import keras, read_weights, tf, write_weights
from edgeseg.model.registration import REACH_SHARE, describe_registering, registration_loss, to_displacements
from edgeseg.model.spec import UNetSpec
from edgeseg.model.unet import HEAD, build_unet
from edgeseg.registration.coding import outputs_to_field
from edgeseg.registration.displacement import warp_image
from edgeseg.training.ema import WeightEma
from edgeseg.training.frame_pairs import (
    Clips,
    PairFeed,
    ValidationPairs,
    draw_validation,
    gather_clips,
    split_clips,
)
from edgeseg.training.loop import TrainingSchedule, build_optimizer, diverged
from edgeseg.training.memory import check_memory
from edgeseg.training.options import TrainInputs, TrainOptions, write_config
from edgeseg.training.resume import Checkpoint, remove_checkpoint
from edgeseg.training.run import FINISHED, HISTORY, RECORD, TRAINING, WEIGHTS, FrameRecord
from edgeseg.training.unlabelled import read_frames
from edgeseg.training.validation import CURVE

LIBRARIES = ("tensorflow", "tf_keras", "numpy", "opencv-python-headless")
# Steps of an epoch, and epochs where none are given.
STEPS, EPOCHS = 100, 100
# The average of the weights reaches back over about so many steps: a training is short.
_EMA = 0.99
# The side of the crops as a share of the network's input, and the smallest one.
_CROP_SHARE, _SMALLEST_CROP = 0.5, 64
# The first field is nearly none.
_HEAD_SCALE = 0.02
COLUMNS = ("epoch", "loss", "error_px", "learning_rate", "seconds")
# Options of a training that concern masks, and those of its inputs.
_OF_MASKS = (
    *("loss", "activation", "findings", "sensitivity", "coverage", "class_weights", "colour", "denoise"),
    "first_size",
)


@dataclass(frozen=True)
class RegistrationRecord:
    """The content of the run.json of a registering network."""

    name: str
    status: str
    frames: FrameRecord
    clips: int
    input: InputSpec
    spec: UNetSpec
    reach_px: float
    options: TrainOptions
    libraries: dict[str, str]
    edgeseg: str
    error_px: Estimate | None = None
    """Mean distance from the true place on deformed frames of clips that were kept apart."""
    before_px: Estimate | None = None
    """The same where nothing is moved."""
    similarity: Estimate | None = None
    """By how much the correlation of neighbours in these clips rises."""
    best_epoch: int = 0
    seconds: float = 0.0
    task: str = TASK
    schema: int = 1

    def provenance(self, recipe: str) -> RegistrationProvenance:
        """Describe where a file of this run comes from; the clips' folder is private and left out."""
        return RegistrationProvenance(
            data_fingerprint=self.frames.fingerprint,
            clips=self.clips,
            frames=self.frames.frames,
            seed=self.options.seed,
            recipe=recipe,
            model=self.options.model,
            edgeseg=self.edgeseg,
            libraries=self.libraries,
        )


@dataclass(frozen=True)
class Errors:
    """What a network does on the pairs that validate."""

    error_px: Estimate
    before_px: Estimate
    median_px: float


def is_registering(folder: Path) -> bool:
    """Say whether a folder is the run of a registering network."""
    path = folder / RECORD
    if not path.is_file():
        return False
    try:
        return read_json_table(path).get("task") == TASK
    except ValueError:
        return False


def read_registering_run(folder: Path) -> RegistrationRecord:
    """Read the finished run of a registering network."""
    record = _read_record(folder)
    missing = [name for name in (WEIGHTS, RUN_FILE) if not (folder / name).is_file()]
    if record.status != FINISHED or missing:
        raise RunError(f"Expected a finished run in {folder}, got one that is not whole.", "Train again.")
    return record


def _read_record(folder: Path) -> RegistrationRecord:
    path = folder / RECORD
    try:
        return from_plain(RegistrationRecord, read_json_table(path))
    except ValueError as error:
        raise RunError(
            f"Expected a complete {path}, got a damaged one: {error}.", "Train again, with --overwrite."
        ) from error


def check_registering(options: TrainOptions, inputs: TrainInputs) -> None:
    """Refuse options that concern masks: they would be ignored.

    Raises:
        TrainingError: One of them is given.
    """
    usual = TrainOptions()
    given = [name for name in _OF_MASKS if getattr(options, name) != getattr(usual, name)]
    given += [
        name
        for name in ("init", "folds", "layout", "group_pattern", "unlabelled", "teacher")
        if getattr(inputs, name) is not None
    ]
    if given:
        raise TrainingError(
            f"Expected options that --task register knows, got --{given[0].replace('_', '-')}, which concerns masks.",
            "Leave it out: clips have no masks, and are divided by clip.",
        )


def train_registering(clips: Path, out: Path, options: TrainOptions, overwrite: bool = False) -> RegistrationRecord:
    """Train a registering network on clips; the folder appears when it has finished, and can be resumed until then.

    Args:
        clips: A folder of videos, DICOM clips, and subfolders of images.
        out: The run folder to make.
        options: Model, size, epochs, batch, learning rate and seed; the others concern masks.
        overwrite: Whether an existing run may be replaced.
    """
    inputs = TrainInputs(clips)
    check_registering(options, inputs)
    refuse_taken(out, overwrite, "training")
    spec = describe_registering(options.describe_network(outputs=1))
    found = read_frames(clips, options.input)
    gathered = gather_clips(found)
    record = RegistrationRecord(
        name=f"{clips.resolve().name}-{options.model}-register",
        status=TRAINING,
        frames=found.describe(out),
        clips=len(np.unique(gathered.clip)),
        input=options.input,
        spec=spec,
        reach_px=REACH_SHARE * options.size,
        options=options,
        libraries={name: version(name) for name in LIBRARIES},
        edgeseg=edgeseg.__version__,
    )
    parts = split_clips(gathered, options.seed)
    with staged_folder(out, overwrite, keep_partial=True) as folder:
        write_json(folder / RECORD, to_plain(record))
        write_config(folder, out, options, inputs)
        return _train(record, parts, folder, folder)


def resume_registering(clips: Path, out: Path, overwrite: bool = False) -> RegistrationRecord:
    """Continue an interrupted training with the options it began with.

    Args:
        clips: Where its clips are now.
        out: The run folder it was to make.
        overwrite: Whether an existing run may be replaced.

    Raises:
        RunError: There is none to continue.
        DataError: The clips are others.
    """
    partial_folder = partial_path(out)
    if not is_registering(partial_folder):
        raise RunError(
            f"Expected an interrupted training of a registering network at {partial_folder}, got none.",
            "Train without --resume, or continue a training on masks without --task register.",
        )
    record = _read_record(partial_folder)
    refuse_existing(out, overwrite, go_on=True)
    found = read_frames(clips, record.input)
    if found.fingerprint != record.frames.fingerprint:
        raise DataError(
            f"Expected the clips that {out} was begun with, got other ones in {clips}.",
            "Restore the folder, or begin again with --overwrite.",
        )
    parts = split_clips(gather_clips(found), record.options.seed)
    with staged_folder(out, overwrite, keep_partial=True, go_on=True) as folder:
        return _train(record, parts, folder, partial_folder)


def _train(record: RegistrationRecord, parts: tuple[Clips, Clips], folder: Path, source: Path) -> RegistrationRecord:
    options, spec = record.options, record.spec
    keras.utils.set_random_seed(options.seed)
    side = find_crop(spec)
    model, whole = build_unet(dataclasses.replace(spec, height=side, width=side)), build_unet(spec)
    check_memory(model, options.batch)
    head = model.get_layer(HEAD)
    head.set_weights([_HEAD_SCALE * weights for weights in head.get_weights()])
    pairs = draw_validation(parts[1], options.seed, spec.output_stride)
    feed = PairFeed(parts[0], options.batch, options.seed, side, spec.output_stride)
    schedule = TrainingSchedule(options.epochs or EPOCHS, options.rate)
    judge = RegistrationJudge(pairs, whole, record.reach_px, folder)
    fit_registering(model, feed, judge, schedule, "Training", places=(folder, source))
    record = dataclasses.replace(
        record,
        status=FINISHED,
        error_px=judge.best.error_px,
        before_px=judge.best.before_px,
        similarity=measure_similarity(whole, pairs, record.reach_px),
        best_epoch=judge.best_epoch,
        seconds=round(sum(row[-1] for row in judge.history), 1),
    )
    flatbuffer = compact_flatbuffer(convert_model(whole, "float32"))
    metrics = describe_errors(judge.best, pairs)
    card = build_registration_card(flatbuffer, record.name, record.input, record.reach_px, record.provenance("float32"))
    card = dataclasses.replace(card, metrics=metrics)
    write_model(folder / RUN_FILE, flatbuffer, card, make_registration_golden(flatbuffer, card))
    draw_registration_curve(folder, judge)
    write_json(folder / RECORD, to_plain(record))
    remove_checkpoint(folder)
    return record


def find_crop(spec: UNetSpec) -> int:
    """Find the side of the crops that are learned from: a size that the network's stages divide."""
    step = spec.output_stride * 2 ** (len(spec.widths) - 1)
    wanted = min(spec.height, max(_SMALLEST_CROP, _CROP_SHARE * spec.height))
    return int(max(step, wanted // step * step))


def describe_errors(errors: Errors, pairs: ValidationPairs) -> RegistrationMetrics:
    """Describe errors for a card."""
    return RegistrationMetrics(len(set(pairs.clip)), len(pairs.inputs), errors.error_px, errors.before_px)


class RegistrationJudge:
    """Measures a network on the pairs that validate after every epoch, and keeps the best weights."""

    def __init__(self, pairs: ValidationPairs, model: Any, reach: float, folder: Path) -> None:
        """Prepare.

        Args:
            pairs: What it is measured on.
            model: Of the whole input; its weights are those of the best epoch in the end.
            reach: The displacement that an output of 1 stands for.
            folder: For weights and history.
        """
        self.pairs, self.model, self.history = pairs, model, list[tuple[Any, ...]]()
        self.reach, self._folder = reach, folder
        self.best_epoch, self._best = 0, list[Errors]()

    @property
    def best(self) -> Errors:
        """The errors of the best epoch."""
        return self._best[0]

    def evaluate(self, epoch: int, loss: float = float("nan"), rate: float = 0.0, seconds: float = 0.0) -> None:
        """Measure the model as it is, and keep its weights where they are the best so far."""
        errors = self._measure()
        self.history.append((epoch, round(loss, 5), errors.error_px.mean, float(f"{rate:.4g}"), round(seconds, 2)))
        if not self._best or errors.error_px.mean < self.best.error_px.mean:
            self.best_epoch, self._best = epoch, [errors]
            write_weights(self._folder / WEIGHTS, self.model)
        write_rows(self._folder / HISTORY, COLUMNS, self.history)

    def resume(self, epoch: int) -> None:
        """Read the history of an interrupted training up to the epoch of its checkpoint, and measure the best again."""
        if not epoch:
            return
        self.history = [row for row in read_registration_history(self._folder) if row[0] <= epoch]
        self.best_epoch = min(self.history, key=lambda row: row[2])[0]
        self.restore_best()
        self._best = [self._measure()]

    def _measure(self) -> Errors:
        inputs = self.pairs.inputs.astype(np.float32) / np.float32(255)
        return measure_errors(self.model.predict(inputs, batch_size=8, verbose=0), self.pairs, self.reach)

    def restore_best(self) -> None:
        """Give the model the best epoch's weights."""
        read_weights(self._folder / WEIGHTS, self.model)


def read_registration_history(folder: Path) -> list[tuple[Any, ...]]:
    """Read the history of a training: a row of COLUMNS for each epoch."""
    path = folder / HISTORY
    try:
        rows = read_table(path, COLUMNS)
        return [(int(row["epoch"]), *(float(row[name]) for name in COLUMNS[1:])) for row in rows]
    except (ValueError, DataError) as error:
        raise RunError(
            f"Expected a line for each epoch in {path}, got a damaged file: {error}.", "Begin again with --overwrite."
        ) from error


def fit_registering(
    model: Any,
    feed: PairFeed,
    judge: RegistrationJudge,
    schedule: TrainingSchedule,
    title: str,
    steps: int | None = None,
    places: tuple[Path, Path] | None = None,
) -> None:
    """Train, and leave the judge's model with the averaged weights of the best epoch.

    Args:
        model: Of the crops' size.
        feed: The pairs.
        judge: Measures every epoch.
        schedule: How long, and at which rate.
        title: Of the progress bar.
        steps: Of an epoch; STEPS where not given.
        places: The folder whose checkpoints are written after every epoch, and that whose last one is restored.
    """
    steps = steps or STEPS
    optimizer = build_optimizer(schedule, steps)
    model.compile(optimizer)
    ema = WeightEma(model, _EMA)
    checkpoint = None if places is None else Checkpoint(*places, model, ema)
    first = 0 if checkpoint is None else checkpoint.restore()
    judge.resume(first)
    reach = judge.reach
    shape = model.input_shape[1:]
    grid = model.output_shape[1:3]

    @tf.function  # type: ignore[untyped-decorator]
    def take_step(images: Any, truth: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = registration_loss(images, truth, model(images, training=True), reach)
        optimizer.minimize(loss, model.trainable_variables, tape=tape)
        ema.update()
        return loss

    batches = tf.data.Dataset.from_generator(
        lambda: (feed.make_batch(number) for number in range(first * steps, schedule.epochs * steps)),
        output_signature=(tf.TensorSpec((feed.batch, *shape)), tf.TensorSpec((feed.batch, *grid, 3))),
    ).prefetch(2)
    source = iter(batches)
    with progress_bar(title, (schedule.epochs - first) * steps) as advance:
        for epoch in range(first + 1, schedule.epochs + 1):
            start, losses = perf_counter(), []
            for number in range(1, steps + 1):
                losses.append(float(take_step(*next(source))))
                if not np.isfinite(losses[-1]):
                    raise diverged(f"loss {losses[-1]}", number, epoch)
                advance(f"epoch {epoch} of {schedule.epochs}")
            ema.copy_to(judge.model)
            rate = float(optimizer.learning_rate.numpy())
            judge.evaluate(epoch, float(np.mean(losses)), rate, perf_counter() - start)
            if checkpoint is not None:
                checkpoint.save(epoch)
    judge.restore_best()


def measure_errors(outputs: NDArray[Any], pairs: ValidationPairs, reach: float) -> Errors:
    """Measure the distance from the true place, for every pair and then over pairs, with intervals over clips."""
    fields = np.asarray(to_displacements(outputs.astype(np.float32), float(reach)))
    known = pairs.truths[..., 2] > 0.9
    far = np.hypot(*np.moveaxis(fields - pairs.truths[..., :2], -1, 0))
    before = np.hypot(*np.moveaxis(pairs.truths[..., :2], -1, 0))
    seen = [number for number in range(len(known)) if known[number].any()]
    if not seen:
        raise DataError("Expected frames that show something, got dark ones only.", "Give other clips.")
    clips = [pairs.clip[number] for number in seen]
    means = [[float(np.mean(values[n][known[n]])) for n in seen] for values in (far, before)]
    return Errors(
        estimate_mean(means[0], clips), estimate_mean(means[1], clips), round(float(np.median(far[known])), 3)
    )


def measure_similarity(model: Any, pairs: ValidationPairs, reach: float) -> Estimate | None:
    """Measure by how much the correlation of neighbours in clips rises; None where there are none."""
    if not len(pairs.pairs):
        return None
    outputs = model.predict(pairs.pairs.astype(np.float32) / np.float32(255), batch_size=8, verbose=0)
    rises = []
    for pixels, output in zip(pairs.pairs, outputs, strict=True):
        fixed, moving = pixels[..., 0], np.ascontiguousarray(pixels[..., 1])
        moved = warp_image(moving, outputs_to_field(output, reach, fixed.shape), outside=None)
        rises.append(_correlate(fixed, moved) - _correlate(fixed, moving))
    return estimate_mean(rises, pairs.pair_clip)


def _correlate(one: NDArray[Any], other: NDArray[Any]) -> float:
    first, second = one.astype(np.float64) - one.mean(), other.astype(np.float64) - other.mean()
    return float(np.sum(first * second) / max(1e-9, np.sqrt(np.sum(first**2) * np.sum(second**2))))


def draw_registration_curve(folder: Path, judge: RegistrationJudge) -> None:
    """Write the history's picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    rows: Sequence[tuple[Any, ...]] = judge.history
    axes.plot([row[0] for row in rows], [row[2] for row in rows], color=ACCENT, label="clips kept apart")
    axes.axhline(judge.best.before_px.mean, color=INK, linestyle="--", label="without registration")
    axes.set(xlabel="epoch", ylabel="distance from the true place (px)", ylim=(0, None))
    axes.legend()
    figure.savefig(folder / CURVE, dpi=120)


def reopen_pairs(run: Path, record: RegistrationRecord) -> tuple[Clips, ValidationPairs]:
    """Read the clips of a run again: those that it learned from, and the pairs that validated it.

    Raises:
        DataError: They are gone or were changed.
    """
    root = Path(os.path.normpath(run / record.frames.folder))
    found = read_frames(root, record.input)
    if found.fingerprint != record.frames.fingerprint:
        raise DataError(
            f"Expected the clips that {run} was trained on in {root}, got a changed folder.", "Restore the folder."
        )
    learned, kept = split_clips(gather_clips(found), record.options.seed)
    return learned, draw_validation(kept, record.options.seed, record.spec.output_stride)
