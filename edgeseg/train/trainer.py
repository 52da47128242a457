"""Train a U-Net on labelled images and leave a finished run folder."""

from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import edgeseg
from edgeseg.core.card import SplitSpec
from edgeseg.core.files import staged_folder, write_text
from edgeseg.core.progress import Advance, ignore, progress_bar
from edgeseg.core.spec import InputSpec, OutputSpec
from edgeseg.data.dataset import (
    Dataset,
    LabelledImage,
    find_empty_classes,
    fingerprint_dataset,
    open_dataset,
    read_cases,
)
from edgeseg.data.split import Split, split_cases
from edgeseg.model.keras import keras
from edgeseg.model.losses import bce_dice_loss
from edgeseg.model.spec import UNetSpec, find_size
from edgeseg.model.unet import build_unet
from edgeseg.train.arrays import GridArrays, grid_dice, to_grid, to_reals
from edgeseg.train.augment import AugmentSpec
from edgeseg.train.export import export_run
from edgeseg.train.pipeline import build_pipeline
from edgeseg.train.run import FINISHED, HISTORY, TRAINING, WEIGHTS, RunRecord, TrainOptions, write_record

VALIDATION_SHARE, TEST_SHARE = 0.15, 0.2
WARM_UP_SHARE = 0.1
WEIGHT_DECAY = 1e-4
LIBRARIES = ("tensorflow", "tf_keras", "numpy", "opencv-python-headless")


@dataclass(frozen=True)
class EpochResult:
    """One line of the history."""

    epoch: int
    loss: float
    validation_dice: float


@dataclass(frozen=True)
class LoadedData:
    """A data folder in memory, divided."""

    dataset: Dataset
    split: Split
    split_spec: SplitSpec
    images: dict[str, LabelledImage]

    def part(self, name: str) -> list[LabelledImage]:
        """Take the images of a part."""
        return [self.images[case.stem] for case in self.split.part(name)]


def train_run(
    data: Path,
    out: Path,
    options: TrainOptions,
    overwrite: bool = False,
    layout: str | None = None,
    group_pattern: str | None = None,
) -> RunRecord:
    """Train on a data folder; the run folder appears when the training is finished.

    Args:
        data: Labelled images.
        out: The run folder to make.
        options: Model, size, epochs and seed.
        overwrite: Whether a run that stands there may be replaced.
        layout: How the files lie; None finds out.
        group_pattern: What finds the group in each name, where it is not groups.csv.
    """
    loaded = load_data(data, SplitSpec(options.seed, VALIDATION_SHARE, TEST_SHARE, layout, group_pattern))
    record = _begin_record(loaded, os.path.relpath(data, out), options)
    with staged_folder(out, overwrite, keep_partial=True) as folder:
        write_record(folder, record)
        keras.utils.set_random_seed(options.seed)
        model = build_unet(record.spec)
        best = _train_from_scratch(model, loaded, record, folder)
        record = dataclasses.replace(record, best_epoch=best.epoch, validation_dice=best.validation_dice)
        record = export_run(folder, model, record, loaded.part("test"))
        record = dataclasses.replace(record, status=FINISHED)
        write_record(folder, record)
    return record


def load_data(root: Path, split_spec: SplitSpec) -> LoadedData:
    """Read all cases of a folder into memory and divide them."""
    dataset = open_dataset(root, split_spec.layout, split_spec.group_pattern)
    with progress_bar("Reading images", len(dataset.cases)) as advance:
        images = {image.case.stem: image for image in read_cases(dataset.cases, on_case=advance)}
    for defect in find_empty_classes(dataset, (image.marked for image in images.values())):
        raise defect
    empty = {stem: not image.labels.any() for stem, image in images.items()}
    return LoadedData(dataset, split_cases(dataset.cases, empty, split_spec), split_spec, images)


def _begin_record(loaded: LoadedData, path: str, options: TrainOptions) -> RunRecord:
    size, classes = options.size, loaded.dataset.classes
    output = OutputSpec(classes)
    return RunRecord(
        name=f"{loaded.dataset.root.resolve().name}-{options.model}",
        status=TRAINING,
        data=path,
        data_fingerprint=fingerprint_dataset(loaded.dataset),
        split=loaded.split_spec,
        input=InputSpec(size, size),
        output=output,
        spec=UNetSpec(size, size, 1, output.channels, output.activation, find_size(options.model)),
        options=options,
        libraries={name: version(name) for name in LIBRARIES},
        edgeseg=edgeseg.__version__,
    )


def _train_from_scratch(model: Any, loaded: LoadedData, record: RunRecord, folder: Path) -> EpochResult:
    options = record.options
    train, validation = (to_grid(loaded.part(part), record.input) for part in ("train", "val"))
    pipeline = build_pipeline(train, options.batch, options.seed, AugmentSpec())
    model.compile(build_optimizer(options.learning_rate, options.epochs * len(pipeline)), bce_dice_loss)
    keeper = BestKeeper("Training", model, validation, folder / WEIGHTS)
    best = fit_model(model, pipeline, keeper, options.epochs)
    _write_history(folder, keeper.history)
    return best


def fit_model(model: Any, pipeline: Any, keeper: BestKeeper, epochs: int) -> EpochResult:
    """Train a compiled model and leave it with the weights of its best epoch."""
    with progress_bar(keeper.title, epochs) as advance:
        keeper.on_epoch = advance
        model.fit(pipeline, epochs=epochs, verbose=0, callbacks=[keeper.as_callback()])
    model.load_weights(keeper.path)
    return keeper.best


def build_optimizer(learning_rate: float, steps: int) -> Any:
    """Build AdamW with a warm-up and a cosine that ends at zero."""
    warm_up = max(1, int(steps * WARM_UP_SHARE))
    schedule = keras.optimizers.schedules.CosineDecay(
        learning_rate / 20, steps - warm_up, warmup_target=learning_rate, warmup_steps=warm_up
    )
    return keras.optimizers.AdamW(schedule, weight_decay=WEIGHT_DECAY)


class BestKeeper:
    """Judges the model on validation cases after every epoch and keeps the best weights on disk."""

    def __init__(self, title: str, model: Any, validation: GridArrays, path: Path) -> None:
        """Prepare to judge a model.

        Args:
            title: What the progress bar says.
            model: The model in training.
            validation: The cases to judge it on.
            path: Where the best weights are kept.
        """
        self.title, self.path = title, path
        self._model = model
        self._images: NDArray[np.float32] = to_reals(validation.images)
        self._masks = validation.masks
        self.on_epoch: Advance = ignore
        self.history: list[EpochResult] = []
        self.best = EpochResult(0, float("inf"), -1.0)

    def as_callback(self) -> Any:
        """Give the callback for Keras."""
        return keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: self.judge(epoch + 1, logs["loss"]))

    def judge(self, epoch: int, loss: float) -> None:
        """Judge the model as it is now, and keep it when it is the best so far."""
        dice = grid_dice(self._model.predict(self._images, verbose=0), self._masks)
        result = EpochResult(epoch, float(loss), dice)
        self.history.append(result)
        if dice > self.best.validation_dice:
            self.best = result
            self._model.save_weights(self.path)
        self.on_epoch(f"loss {result.loss:.3f}  Dice {dice:.3f}  best {self.best.validation_dice:.3f}")


def _write_history(folder: Path, history: Sequence[EpochResult]) -> None:
    lines = ["epoch,loss,validation_dice"]
    lines += [f"{row.epoch},{row.loss:.5f},{row.validation_dice:.5f}" for row in history]
    write_text(folder / HISTORY, "\n".join(lines) + "\n")


def read_history(folder: Path) -> list[EpochResult]:
    """Read the history of a run."""
    with (folder / HISTORY).open(newline="", encoding="utf-8") as file:
        return [
            EpochResult(int(row["epoch"]), float(row["loss"]), float(row["validation_dice"]))
            for row in csv.DictReader(file)
        ]
