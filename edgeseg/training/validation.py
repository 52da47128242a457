"""Evaluate a Keras model on the validation cases after every epoch, and keep best weights and history.

This is quick and on the network's own grid; model files are scored by `evaluation.score`, through the device's runtime.
"""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import RunError
from edgeseg.core.files import write_rows
from edgeseg.core.limits import TABLE_BYTES, read_regular
from edgeseg.core.stats import rank_auc
from edgeseg.data.stored import BLOCK, StoredRows
from edgeseg.frame.images import ACCENT, INK
from edgeseg.model.keras import read_weights, tf, write_weights
from edgeseg.model.unet import find_mask_shape, split_outputs
from edgeseg.training.ema import WeightEma
from edgeseg.training.grids import GridArrays, to_reals
from edgeseg.training.loading import shrink_masks
from edgeseg.training.options import EMA
from edgeseg.training.run import HISTORY, Timing
from edgeseg.training.weak_supervision import list_agreement

CURVE = "curve.png"
FOLDER = "logs"
SHOWN = ("loss", "validation_dice", "learning_rate", "waiting_share", "finding_auc", "frame_class_auc")
MASK_THRESHOLD = 0.5


@dataclass(frozen=True)
class EpochCost:
    """Loss, last learning rate and time of an epoch's training steps."""

    loss: float
    learning_rate: float = 0.0
    seconds: float = 0.0
    waiting_seconds: float = 0.0


@dataclass(frozen=True)
class EpochResult:
    """One line of history.csv."""

    epoch: int
    loss: float
    validation_dice: float
    learning_rate: float = 0.0
    seconds: float = 0.0
    waiting_share: float = 0.0
    """Share of the epoch's seconds in which the steps waited for their batches."""
    finding_auc: float | None = None
    """AUC of the presence of classes, averaged over those that some validation cases show and some lack."""
    frame_class_auc: float | None = None
    """AUC of each frame class against the others, averaged."""


_FIGURES = dataclasses.fields(EpochResult)[1:]
COLUMNS = ("epoch", *(field.name for field in _FIGURES))


@dataclass(frozen=True)
class Judgement:
    """What a model reaches on the validation cases; None where it has no such output, or they cannot judge it."""

    dice: float
    finding_auc: float | None = None
    frame_class_auc: float | None = None


def make_result(epoch: int, cost: EpochCost, judged: Judgement, validation_seconds: float) -> EpochResult:
    """Round an epoch's figures as the file does, so that a continued training decides as an uninterrupted one."""
    seconds = cost.seconds + validation_seconds
    share = cost.waiting_seconds / seconds if seconds else 0.0
    # four significant digits: the cosine schedule ends close to zero
    rate = float(f"{cost.learning_rate:.4g}")
    return EpochResult(
        epoch,
        round(cost.loss, 5),
        round(judged.dice, 5),
        rate,
        round(seconds, 3),
        round(share, 4),
        *(None if auc is None else round(auc, 5) for auc in (judged.finding_auc, judged.frame_class_auc)),
    )


def write_history(folder: Path, history: Sequence[EpochResult]) -> None:
    """Write the history of a run."""
    write_rows(folder / HISTORY, COLUMNS, [dataclasses.astuple(row) for row in history])


def read_history(folder: Path) -> list[EpochResult]:
    """Read the history of a run; columns that older versions did not write are 0, or None for findings."""
    path = folder / HISTORY
    try:
        text = read_regular(path, TABLE_BYTES).decode("utf-8")
        history = [
            EpochResult(int(row["epoch"]), **{field.name: _read_figure(row, field) for field in _FIGURES})
            for row in csv.DictReader(io.StringIO(text, newline=""))
        ]
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise RunError(
            f"Expected a line for each epoch in {path}, got a damaged file: {type(error).__name__} at {error}.",
            "Train again, with --overwrite.",
        ) from error
    if not history:
        raise RunError(f"Expected a line for each epoch in {path}, got none.", "Train again, with --overwrite.")
    return history


def _read_figure(row: Mapping[str, str | None], field: dataclasses.Field[Any]) -> Any:
    text = row.get(field.name)
    return float(text) if text else (None if field.default is None else 0.0)


def best_result(history: Sequence[EpochResult], window: int = 1) -> EpochResult:
    """Find the epoch with the best validation Dice; the first of equal ones.

    Args:
        history: The epochs so far.
        window: Over how many epochs, up to the one in question, the Dice is averaged: a single peak may be chance.
    """

    def steady_dice(number: int) -> float:
        rows = history[max(0, number - window + 1) : number + 1]
        return sum(row.validation_dice for row in rows) / len(rows)

    return history[max(range(len(history)), key=steady_dice)]


def summarise_timing(history: Sequence[EpochResult], peak_memory_mb: float) -> Timing:
    """Sum up the time of a training and its share of waiting."""
    seconds = sum(row.seconds for row in history)
    waited = sum(row.seconds * row.waiting_share for row in history)
    share = round(waited / seconds, 4) if seconds else 0.0
    return Timing(round(seconds, 1), round(seconds / len(history), 3), share, peak_memory_mb)


def paint_history(figure: Any, history: Sequence[EpochResult], best: EpochResult) -> None:
    """Draw validation Dice above training loss into a figure, and mark the chosen epoch in both."""
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    epochs = [row.epoch for row in history]
    upper.plot(epochs, [row.validation_dice for row in history], color=ACCENT, label="Dice")
    for name, style, label in (("finding_auc", ":", "finding AUC"), ("frame_class_auc", "--", "frame class AUC")):
        known = [(row.epoch, getattr(row, name)) for row in history if getattr(row, name) is not None]
        if known:
            upper.plot(*zip(*known, strict=True), style, color=INK, linewidth=1, label=label)
            upper.legend(loc="lower right", fontsize="small", frameon=False)
    upper.plot(best.epoch, best.validation_dice, "o", color=ACCENT)
    upper.set(ylim=(0, 1), ylabel="validation Dice")
    upper.set_title(f"chosen: epoch {best.epoch}, Dice {best.validation_dice:.3f}", loc="left", fontsize="medium")
    lower.plot(epochs, [row.loss for row in history], color=INK, marker="o" if len(history) == 1 else "")
    lower.set(xlabel="epoch", ylabel="training loss")
    for axes in (upper, lower):
        axes.axvline(best.epoch, color=ACCENT, linestyle=(0, (4, 3)), linewidth=1)
    lower.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)


def draw_curve(folder: Path, history: Sequence[EpochResult], best: EpochResult) -> None:
    """Write the history's picture into the run folder."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), layout="constrained")
    paint_history(figure, history, best)
    figure.savefig(folder / CURVE, dpi=120)


class RunLog:
    """Writes a run's logs for TensorBoard; a continued training adds a file."""

    def __init__(self, folder: Path) -> None:
        """Open the log in a run folder."""
        self._folder = folder / FOLDER
        self._writer = tf.summary.create_file_writer(str(self._folder))

    def write(self, result: EpochResult) -> None:
        """Write one epoch."""
        try:
            with self._writer.as_default():
                for name in SHOWN:
                    value = getattr(result, name)
                    if value is not None:
                        tf.summary.write(name, tf.constant(value), step=result.epoch, metadata=_scalar())
                self._writer.flush()
        except tf.errors.OpError as error:
            raise OSError(None, error.message, str(self._folder)) from error


def _scalar() -> Any:
    """Build the metadata of a curve; tf.summary.scalar would need TensorBoard itself to be installed."""
    data = tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars")
    return tf.compat.v1.SummaryMetadata(plugin_data=data)


class Validator:
    """Measures the Dice of Keras models on cases that lie on the network's grid, and the AUC of their findings."""

    def __init__(self, cases: GridArrays, model: Any) -> None:
        """Prepare the cases once for all epochs.

        Args:
            cases: The cases.
            model: A model of the output size of those that will be evaluated.
        """
        self._cases, self._stride = cases, cases.masks.shape[1] // find_mask_shape(model)[0]
        self._findings = cases.findings
        # boxes are no masks: where they are all that there is, boxes around what is predicted are compared with them
        self._boxed = bool(cases.weak)
        # in memory they are made ready once, and seen in one block; those on disk are read again in every epoch
        self._ready = None if isinstance(cases.pixels, StoredRows) else [self._prepare(slice(None))]

    def _prepare(self, block: slice) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        # on the network's output grid, where a pixel counts as marked if more than half of it is
        masks = shrink_masks(self._cases.masks[block], self._stride) > MASK_THRESHOLD
        return to_reals(self._cases.images[block]), masks.astype(np.uint8)

    def _list_blocks(self) -> Iterable[tuple[NDArray[np.float32], NDArray[np.uint8]]]:
        if self._ready is not None:
            return self._ready
        return (self._prepare(slice(start, start + BLOCK)) for start in range(0, len(self._cases), BLOCK))

    def dice(self, model: Any) -> float:
        """Average the Dice over the masks that are not empty; of boxes, the IoU of boxes."""
        return self.judge(model).dice

    def judge(self, model: Any) -> Judgement:
        """Measure the Dice as `dice` does, and the AUC of the findings where the model has them."""
        measure = self._measure_boxes if self._boxed else list_grid_dice
        dice, found = [], []
        for images, masks in self._list_blocks():
            predicted, findings = split_outputs(model.predict(images, verbose=0))
            dice.append(measure(predicted, masks))
            found += [] if findings is None else [findings.reshape(len(findings), -1)]
        judgement = Judgement(_average_all(dice))
        if not found or self._findings is None:
            return judgement
        classes = self._cases.masks.shape[-1]
        aucs = channel_aucs(np.concatenate(found), self._findings)
        return Judgement(judgement.dice, _average_known(aucs[:classes]), _average_known(aucs[classes:]))

    @staticmethod
    def _measure_boxes(predicted: NDArray[np.float32], masks: NDArray[np.uint8]) -> NDArray[np.float64]:
        return list_agreement(_find_masks(predicted, masks.shape[-1], MASK_THRESHOLD), masks)


def _average_all(measured: Sequence[NDArray[np.float64]]) -> float:
    """Average what was measured of all blocks; 0 where there is nothing."""
    values = np.concatenate(measured) if measured else np.zeros(0)
    return float(np.mean(values)) if values.size else 0.0


def channel_aucs(findings: NDArray[np.float32], truth: NDArray[np.float32]) -> list[float | None]:
    """Compute the AUC of every channel over the cases whose truth is known; None where they are all alike.

    Args:
        findings: Predicted probabilities (n, channels).
        truth: 0 and 1 of the same shape; below 0 where it is unknown.
    """
    known = truth >= 0.0
    return [rank_auc(findings[cases, channel], truth[cases, channel] > 0.0) for channel, cases in enumerate(known.T)]


def _average_known(aucs: Sequence[float | None]) -> float | None:
    known = [auc for auc in aucs if auc is not None]
    return float(np.mean(known)) if known else None


def grid_dice(predicted: NDArray[np.float32], masks: NDArray[np.uint8], threshold: float = MASK_THRESHOLD) -> float:
    """Average the Dice of predicted probabilities over the masks that are not empty; 0 where all are."""
    return _average_all([list_grid_dice(predicted, masks, threshold)])


def list_grid_dice(
    predicted: NDArray[np.float32], masks: NDArray[np.uint8], threshold: float = MASK_THRESHOLD
) -> NDArray[np.float64]:
    """Measure the Dice of predicted probabilities with every mask that is not empty."""
    found = _find_masks(predicted, masks.shape[-1], threshold)
    hit = np.asarray(np.sum(found & (masks > 0), axis=(1, 2)), dtype=np.float64)
    total = np.asarray(found.sum(axis=(1, 2)) + masks.sum(axis=(1, 2), dtype=np.int64), dtype=np.float64)
    filled = masks.any(axis=(1, 2))
    return np.asarray(2 * hit[filled] / total[filled], np.float64)


def _find_masks(predicted: NDArray[np.float32], classes: int, threshold: float) -> NDArray[np.bool_]:
    """Decide as the device does: by threshold, or by the largest where the background has a channel of its own."""
    if predicted.shape[-1] == classes:
        return predicted > threshold
    return np.asarray(predicted.argmax(axis=-1)[..., np.newaxis] == np.arange(1, classes + 1))


class EpochEvaluator:
    """Evaluates the EMA of the weights after every epoch, writes the history and keeps the best weights on disk."""

    def __init__(
        self,
        title: str,
        model: Any,
        ema_model: Any,
        validation: GridArrays,
        path: Path,
        ema_decay: float = EMA,
        window: int = 1,
    ) -> None:
        """Prepare to evaluate a model in training.

        Args:
            title: The progress bar's title.
            model: The model in training.
            ema_model: A model of the same layers for the averaged weights; it is evaluated and will be exported.
            validation: The cases to evaluate on.
            path: The file of the best weights.
            ema_decay: Decay of the weights' exponential moving average; 0 evaluates the weights as they are.
            window: Over how many epochs the Dice is averaged that decides which epoch is best.
        """
        self.title, self.path, self.ema_model, self._window = title, path, ema_model, window
        with model.distribute_strategy.scope():
            self.ema = WeightEma(model, ema_decay)
        self._validator = Validator(validation, ema_model)
        self.history: list[EpochResult] = []

    @property
    def best(self) -> EpochResult:
        """The best epoch so far."""
        return best_result(self.history, self._window)

    @property
    def note(self) -> str:
        """The last epoch's figures for a progress bar; empty before the first one."""
        if not self.history:
            return ""
        last = self.history[-1]
        loss = f"loss {last.loss:.3f}  " if last.epoch else ""
        finding = "" if last.finding_auc is None else f"  finding AUC {last.finding_auc:.3f}"
        return f"{loss}Dice {last.validation_dice:.3f}  best {self.best.validation_dice:.3f}{finding}"

    def evaluate(self, epoch: int, cost: EpochCost) -> EpochResult:
        """Evaluate the EMA as it is now, and keep its weights where they are the best so far."""
        start = perf_counter()
        self.ema.copy_to(self.ema_model)
        judged = self._validator.judge(self.ema_model)
        result = make_result(epoch, cost, judged, perf_counter() - start)
        self.history.append(result)
        # weights before history: a kill between the two leaves no history of weights that are lost
        if self.best is result:
            write_weights(self.path, self.ema_model)
        write_history(self.path.parent, self.history)
        return result

    def resume(self, epoch: int) -> None:
        """Read the history of an interrupted training up to the epoch of its checkpoint."""
        self.history = [row for row in read_history(self.path.parent) if row.epoch <= epoch]

    def restore_best(self) -> EpochResult:
        """Load the best weights into the EMA model."""
        read_weights(self.path, self.ema_model)
        return self.best
