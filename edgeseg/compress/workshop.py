"""A run opened for compression: its record, model and data, checked against one another."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import DataError, RunError
from edgeseg.core.modelfile import read_model
from edgeseg.data.dataset import LabelledImage
from edgeseg.model.keras import keras
from edgeseg.train.arrays import GridArrays, to_grid, to_reals
from edgeseg.train.history import read_history
from edgeseg.train.init import load_network
from edgeseg.train.loading import LoadedData, load_same_data
from edgeseg.train.run import MODEL, RECORD, RunRecord, read_run

FEWEST_IMAGES = 8


@dataclass(frozen=True)
class Workshop:
    """A run opened for compression."""

    record: RunRecord
    model: Any
    data: LoadedData
    train: GridArrays
    validation: GridArrays


def open_run(run: Path) -> Workshop:
    """Open a finished run with the data it was trained on; changed data and a foreign model file are refused.

    So are test and validation cases by which no loss could be seen.
    """
    record = read_run(run)
    check_card(run, record)
    read_history(run)  # the report draws it; a damaged one is refused before hours of work
    root = Path(os.path.normpath(run / record.data))
    if not root.is_dir():
        raise DataError(
            f"Expected the data that {run} was trained on at {root}, got nothing there.",
            f'Move the folder back, or correct "data" in {run / RECORD}.',
        )
    data = load_same_data(root, record, run)
    for part in ("test", "val"):
        check_cases(data.part(part), part)
    keras.utils.set_random_seed(record.options.seed)
    train, validation = (to_grid(data.part(part), record.input) for part in ("train", "val"))
    return Workshop(record, load_network(run, record), data, train, validation)


def check_cases(images: Sequence[LabelledImage], part: str) -> None:
    """Refuse cases of which none shows anything: Dice is taken over those that do."""
    if not any(any(image.marked) for image in images):
        raise DataError(
            f"Expected a case of the part {part} with something to find, got {len(images)} with nothing marked.",
            f"Give more cases or move some into the part {part}, and train again.",
        )


def check_card(run: Path, record: RunRecord) -> None:
    """Refuse a run whose float file takes other images than its record says, so that calibration would not match."""
    card = read_model(run / MODEL).card
    ours = (record.input, record.output, record.data_fingerprint)
    if (card.input, card.output, card.provenance.data_fingerprint) != ours:
        raise RunError(
            f"Expected the card in {run / MODEL} to say the same of images, classes and data as {run / RECORD}, "
            "got another: calibration images would not match the model.",
            "Put back the files of one training, or train again.",
        )


def pick_calibration(train: GridArrays, count: int) -> NDArray[np.float32]:
    """Pick calibration images evenly; the brightest is stretched to white, so that the input's range is 0 to 1."""
    if len(train) < min(count, FEWEST_IMAGES):
        raise DataError(
            f"Expected at least {min(count, FEWEST_IMAGES)} training images for calibration, got {len(train)}.",
            "Give more cases.",
        )
    images = to_reals(train.images[np.linspace(0, len(train) - 1, min(count, len(train))).astype(int)])
    brightest = int(images.reshape(len(images), -1).max(axis=1).argmax())
    images[brightest] /= max(float(images[brightest].max()), 1e-6)
    return images
