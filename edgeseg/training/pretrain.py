"""Pretraining without masks: the network fills in hidden patches of frames, and its encoder is kept.

The decoder is that of the U-Net and is thrown away: `edgeseg train --init` takes the encoder's layers alone. Hidden
patches are as large as a cell of the deepest stage, so that they cannot be filled from nearby pixels alone. After He et
al. 2022, "Masked autoencoders are scalable vision learners" (docs/decisions/0058).

OUT/pretrain.json        all that is needed to repeat it, and its results
OUT/weights.h5           the best weights
OUT/history.csv          one line per epoch
OUT/curve.png            the history as a picture
OUT/reconstructions.png  frames that were kept apart: whole, with hidden patches, and filled in
OUT/thumbnails.bin       32x32 pixels of every frame, by which a later training finds its test cases among them
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

import edgeseg
from edgeseg.core.errors import DataError, RunError, TrainingError
from edgeseg.core.files import partial_path, refuse_existing, refuse_taken, staged_folder, write_rows
from edgeseg.core.progress import progress_bar
from edgeseg.data.augment import choose_variations, warp_frame
from edgeseg.data.groups import read_table
from edgeseg.data.pictures import TILE, lay_tiles, scale_frame
from edgeseg.frame.images import ACCENT, INK, write_image
from edgeseg.model.keras import keras, read_weights, tf, write_weights
from edgeseg.model.spec import UNetSpec
from edgeseg.model.unet import build_unet
from edgeseg.training.ema import WeightEma
from edgeseg.training.grids import GridArrays
from edgeseg.training.loading import Feed, build_pipeline
from edgeseg.training.loop import Steps, TrainingSchedule, build_optimizer
from edgeseg.training.memory import check_memory
from edgeseg.training.options import TrainOptions
from edgeseg.training.resume import Checkpoint, remove_checkpoint
from edgeseg.training.run import FINISHED, HISTORY, TRAINING, WEIGHTS
from edgeseg.training.start import PretrainRecord, read_interrupted_pretraining, write_pretrained, write_thumbnails
from edgeseg.training.strategy import distribute_batches
from edgeseg.training.unlabelled import FrameSet, read_frames
from edgeseg.training.validation import CURVE

PICTURE = "reconstructions.png"
# Share of the patches that are hidden.
HIDDEN_SHARE = 0.6
# Share of the files that are kept apart to measure the error, and the most frames of them.
APART_SHARE, MOST_APART = 0.1, 64
# Fewer frames teach nothing that holds for others.
FEWEST_FRAMES = 10
# Frames in the picture.
SHOWN = 6
# Random streams of one seed, beside those of a training.
_PATCH_STREAM, _APART_STREAM = 5, 6
COLUMNS = ("epoch", "loss", "error", "learning_rate", "seconds")


@dataclass(frozen=True)
class PatchFeed(Feed):
    """Frames with hidden patches, and what the network is to fill in: no masks are read."""

    channels: int = 1
    patch: int = 32
    """Side of a patch in pixels."""

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of what `make_case` returns."""
        height, width, channels = self.arrays.pixels.shape[1:]
        return (height, width, channels), (height // self.stride, width // self.stride, channels + 1)

    def make_case(self, epoch: int, number: int) -> tuple[NDArray[np.float32], ...]:
        """Make a frame with hidden patches, and its pixels on the output grid with the share of each that is hidden."""
        random = np.random.default_rng((self.seed, _PATCH_STREAM, epoch, number))
        pixels = warp_frame(self.arrays.pixels[number], self.augment, self.arrays.denoise, random)
        whole = pixels.astype(np.float32) / np.float32(255)
        hidden = draw_patches(whole.shape[0], whole.shape[1], self.patch, random)
        # the mean brightness: black is what a frame shows without contact
        shown = np.where(hidden, whole.mean(axis=(0, 1), keepdims=True), whole)
        truth = shrink(np.concatenate([whole, hidden], axis=-1, dtype=np.float32), self.stride)
        return np.asarray(shown, dtype=np.float32), truth


def draw_patches(height: int, width: int, side: int, random: np.random.Generator) -> NDArray[np.bool_]:
    """Draw which pixels are hidden (height, width, 1): a share of all patches of a grid."""
    rows, columns = math.ceil(height / side), math.ceil(width / side)
    hidden = np.zeros(rows * columns, dtype=np.bool_)
    hidden[random.permutation(len(hidden))[: max(1, round(HIDDEN_SHARE * len(hidden)))]] = True
    grid = hidden.reshape(rows, columns).repeat(side, axis=0).repeat(side, axis=1)
    return grid[:height, :width, np.newaxis]


def shrink(values: NDArray[np.float32], stride: int) -> NDArray[np.float32]:
    """Average values (height, width, channels) over squares."""
    height, width, channels = values.shape
    squares = values.reshape(height // stride, stride, width // stride, stride, channels)
    return np.asarray(squares.mean(axis=(1, 3)), dtype=np.float32)


def fill_loss(truth: Any, filled: Any) -> Any:
    """Mean squared error of the hidden pixels, for each image.

    Args:
        truth: The pixels, and behind them the share of each that is hidden.
        filled: What the network draws.
    """
    hidden = truth[..., -1:]
    squares = tf.reduce_mean(tf.square(truth[..., :-1] - filled), axis=-1, keepdims=True)
    return tf.reduce_sum(hidden * squares, axis=(1, 2, 3)) / tf.reduce_sum(hidden, axis=(1, 2, 3))


def plan_pretraining(options: TrainOptions) -> UNetSpec:
    """Describe the network: the same encoder, and a decoder that draws pixels instead of masks."""
    spec = options.describe_network(options.input.channels)
    return dataclasses.replace(spec, activation="sigmoid", dropout=0.0)


def find_patch(spec: UNetSpec) -> int:
    """Find the side of a cell of the deepest stage in pixels, but at most a quarter of the frame."""
    deepest = spec.output_stride * 2 ** (len(spec.widths) - 1)
    return int(max(spec.output_stride, min(deepest, spec.height // 4)))


def pretrain_run(frames: Path, out: Path, options: TrainOptions, overwrite: bool = False) -> PretrainRecord:
    """Pretrain an encoder on frames without masks; the folder appears when it has finished.

    Args:
        frames: A folder of images, clips and DICOM files.
        out: The folder to make.
        options: Model, size, epochs and seed; what concerns masks is not used.
        overwrite: Whether an existing result may be replaced.
    """
    refuse_taken(out, overwrite, "pretraining")
    found = read_enough(frames, options)
    record = PretrainRecord(
        name=f"{frames.resolve().name}-{options.model}-pretrained",
        status=TRAINING,
        frames=found.describe(out),
        input=options.input,
        spec=plan_pretraining(options),
        options=options,
        edgeseg=edgeseg.__version__,
    )
    with staged_folder(out, overwrite, keep_partial=True) as folder:
        write_pretrained(folder, record)
        return _pretrain(found, record, folder, folder)


def resume_pretraining(out: Path, frames: Path | None = None, overwrite: bool = False) -> PretrainRecord:
    """Continue an interrupted pretraining with the options it began with.

    Args:
        out: The folder it was to make.
        frames: Where its frames are now; None takes them from where they were.
        overwrite: Whether an existing result may be replaced.
    """
    partial_folder = partial_path(out)
    record = read_interrupted_pretraining(partial_folder)
    refuse_existing(out, overwrite, go_on=True)
    place = frames or Path(os.path.normpath(out / record.frames.folder))
    found = read_enough(place, record.options)
    if found.fingerprint != record.frames.fingerprint:
        raise DataError(
            f"Expected the frames that {out} was begun with, got a changed folder {place}.",
            "Restore the folder, or begin again with --overwrite.",
        )
    with staged_folder(out, overwrite, keep_partial=True, go_on=True) as folder:
        return _pretrain(found, record, folder, partial_folder)


def read_enough(folder: Path, options: TrainOptions) -> FrameSet:
    """Read frames, and refuse too few of them."""
    found = read_frames(folder, options.input)
    if len(found) < FEWEST_FRAMES:
        raise TrainingError(
            f"Expected at least {FEWEST_FRAMES} frames in {folder} to learn from, got {len(found)}.",
            "Give more images or longer clips.",
        )
    return found


def keep_apart(files: Sequence[str], seed: int) -> NDArray[np.bool_]:
    """Choose the frames that only measure the error: those of some files, or every tenth frame of a single file."""
    names = sorted(set(files))
    if len(names) == 1:
        return np.asarray(np.arange(len(files)) % round(1 / APART_SHARE) == 0)
    order = np.random.default_rng((seed, _APART_STREAM)).permutation(len(names))
    apart = {names[number] for number in order[: max(1, round(APART_SHARE * len(names)))]}
    return np.array([name in apart for name in files])


def _pretrain(found: FrameSet, record: PretrainRecord, folder: Path, source: Path) -> PretrainRecord:
    options, spec = record.options, record.spec
    write_thumbnails(folder, found.thumbnails)
    keras.utils.set_random_seed(options.seed)
    model, ema_model = build_unet(spec), build_unet(spec)
    if not tf.config.list_physical_devices("GPU"):
        check_memory(model, options.batch)
    apart = keep_apart(found.files, options.seed)
    learned, kept = (_build_feed(found.pixels[chosen], record) for chosen in (~apart, apart))
    epochs = options.plan_epochs(len(learned.arrays))
    schedule = TrainingSchedule(epochs, options.rate)
    model.compile(build_optimizer(schedule, learned.steps), fill_loss)
    judge = FillJudge(folder, ema_model, WeightEma(model, options.ema), kept)
    seconds = _fit(model, learned, judge, schedule, Checkpoint(folder, source, model, judge.ema))
    read_weights(folder / WEIGHTS, ema_model)
    write_image(folder / PICTURE, draw_reconstructions(ema_model, kept))
    draw_curve(folder, judge.history)
    best = judge.best
    record = dataclasses.replace(
        record,
        status=FINISHED,
        best_epoch=best.epoch,
        error=best.error,
        grey_error=round(judge.grey_error, 6),
        seconds=round(seconds, 1),
    )
    write_pretrained(folder, record)
    remove_checkpoint(folder)
    return record


def _build_feed(pixels: NDArray[np.uint8], record: PretrainRecord) -> PatchFeed:
    options, spec = record.options, record.spec
    arrays = GridArrays(pixels, np.zeros((len(pixels), 0, 0, 0), np.uint8), record.input.denoise)
    augment = choose_variations(options.augment)
    return PatchFeed(
        arrays, options.batch, options.seed, spec.output_stride, augment, False, spec.channels, find_patch(spec)
    )


def _fit(model: Any, feed: Feed, judge: FillJudge, schedule: TrainingSchedule, checkpoint: Checkpoint) -> float:
    first = checkpoint.restore()
    judge.resume(first)
    batches = distribute_batches(model, lambda part: build_pipeline(feed, schedule.epochs, first, part))
    steps = Steps(model, judge.ema, batches, feed.steps)
    with progress_bar("Pretraining", (schedule.epochs - first) * feed.steps) as advance:
        for epoch in range(first + 1, schedule.epochs + 1):
            cost = steps.run_epoch(epoch, partial(advance, f"epoch {epoch} of {schedule.epochs}  {judge.note}"))
            judge.evaluate(epoch, cost.loss, cost.learning_rate, cost.seconds)
            checkpoint.save(epoch)
    return sum(row.seconds for row in judge.history)


@dataclass(frozen=True)
class FillResult:
    """One line of history.csv."""

    epoch: int
    loss: float
    error: float
    """Mean squared error of hidden pixels, from 0 to 1, of frames that were kept apart."""
    learning_rate: float
    seconds: float


class FillJudge:
    """Measures the error on frames that were kept apart after every epoch, and keeps the best weights on disk."""

    def __init__(self, folder: Path, ema_model: Any, ema: WeightEma, kept: PatchFeed) -> None:
        """Prepare the frames, whose hidden patches are the same in every epoch.

        Args:
            folder: The result folder.
            ema_model: A model of the same layers for the averaged weights.
            ema: The moving average.
            kept: The frames that were kept apart.
        """
        self.ema, self.history = ema, list[FillResult]()
        self._folder, self._model = folder, ema_model
        fixed = dataclasses.replace(kept, augment=None)
        numbers = np.linspace(0, len(fixed.arrays) - 1, min(len(fixed.arrays), MOST_APART)).astype(int)
        cases = [fixed.make_case(0, int(number)) for number in numbers]
        self._shown, self._truth = (np.stack([case[place] for case in cases]) for place in (0, 1))

    @property
    def best(self) -> FillResult:
        """The epoch with the least error; the first of equal ones."""
        return min(self.history, key=lambda row: row.error)

    @property
    def note(self) -> str:
        """The last epoch's figures for a progress bar; empty before the first one."""
        return f"error {self.history[-1].error:.4f}  best {self.best.error:.4f}" if self.history else ""

    @property
    def grey_error(self) -> float:
        """The error of leaving every hidden patch at the frame's mean brightness."""
        pixels = self._truth[..., :-1]
        return self._measure(np.broadcast_to(pixels.mean(axis=(1, 2), keepdims=True), pixels.shape))

    def evaluate(self, epoch: int, loss: float, learning_rate: float, seconds: float) -> None:
        """Measure the averaged weights as they are now, and keep them where they are the best so far."""
        start = perf_counter()
        self.ema.copy_to(self._model)
        error = round(self._measure(self._model.predict(self._shown, verbose=0)), 6)
        took = seconds + perf_counter() - start
        self.history.append(FillResult(epoch, round(loss, 6), error, float(f"{learning_rate:.4g}"), round(took, 3)))
        # weights before history: a kill between the two leaves no history of weights that are lost
        if self.best is self.history[-1]:
            write_weights(self._folder / WEIGHTS, self._model)
        write_rows(self._folder / HISTORY, COLUMNS, [dataclasses.astuple(row) for row in self.history])

    def resume(self, epoch: int) -> None:
        """Read the history of an interrupted pretraining up to the epoch of its checkpoint."""
        self.history = [row for row in read_history(self._folder) if row.epoch <= epoch] if epoch else []

    def _measure(self, filled: NDArray[Any]) -> float:
        return float(np.mean(fill_loss(self._truth, np.asarray(filled, dtype=np.float32))))


def read_history(folder: Path) -> list[FillResult]:
    """Read the history of a pretraining."""
    path = folder / HISTORY
    try:
        rows = read_table(path, COLUMNS)
        return [FillResult(int(row["epoch"]), *(float(row[name]) for name in COLUMNS[1:])) for row in rows]
    except (ValueError, DataError) as error:
        raise RunError(
            f"Expected a line for each epoch in {path}, got a damaged file: {error}.", "Begin again."
        ) from error


def draw_curve(folder: Path, history: Sequence[FillResult]) -> None:
    """Write the history's picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    epochs = [row.epoch for row in history]
    axes.plot(epochs, [row.loss for row in history], color=INK, label="training")
    axes.plot(epochs, [row.error for row in history], color=ACCENT, label="frames kept apart")
    axes.set(xlabel="epoch", ylabel="squared error of hidden pixels", ylim=(0, None))
    axes.legend()
    figure.savefig(folder / CURVE, dpi=120)


def draw_reconstructions(model: Any, kept: PatchFeed) -> NDArray[np.uint8]:
    """Draw some frames (BGR): whole, with their hidden patches, and filled in by the network."""
    fixed = dataclasses.replace(kept, augment=None)
    numbers = np.linspace(0, len(fixed.arrays) - 1, min(len(fixed.arrays), SHOWN)).astype(int)
    tiles = []
    for number in numbers:
        shown, truth = fixed.make_case(0, int(number))
        whole = fixed.arrays.images[number].astype(np.float32) / np.float32(255)
        size = (whole.shape[1], whole.shape[0])
        drawn = np.asarray(model.predict(shown[np.newaxis], verbose=0)[0], dtype=np.float32)
        large = np.asarray(cv2.resize(drawn, size, interpolation=cv2.INTER_LINEAR)).reshape(whole.shape)
        hidden = np.asarray(cv2.resize(truth[..., -1], size, interpolation=cv2.INTER_NEAREST))[..., np.newaxis]
        tiles += [_draw_tile(picture) for picture in (whole, shown, np.where(hidden > 0.5, large, shown))]
    return lay_tiles(tiles, 3)


def _draw_tile(real: NDArray[Any]) -> NDArray[np.uint8]:
    # OpenCV draws BGR, and pixels of the grid are RGB
    pixels = np.asarray(np.rint(255 * real), dtype=np.uint8)[:, :, ::-1]
    return scale_frame(np.ascontiguousarray(pixels), TILE)
