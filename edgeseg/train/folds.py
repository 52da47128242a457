"""Cross-validation: one run per fold, and what they say together."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeseg.core.card import SplitSpec
from edgeseg.core.errors import TrainingError
from edgeseg.core.files import staged_folder, write_json
from edgeseg.core.schema import to_plain
from edgeseg.train.run import TrainOptions
from edgeseg.train.trainer import train_run

SUMMARY = "folds.json"


@dataclass(frozen=True)
class FoldSummary:
    """The test Dice of every fold; each case was tested once, by a network that had not seen its group."""

    dice: tuple[float, ...]
    mean: float
    std: float


def train_folds(
    data: Path,
    out: Path,
    options: TrainOptions,
    folds: int,
    split: SplitSpec,
    overwrite: bool = False,
    init: Path | None = None,
) -> FoldSummary:
    """Train one run per fold; the folder appears when all are finished.

    Args:
        data: Labelled images.
        out: The folder to make, with a run folder for each fold and a summary.
        options: Model, size, epochs and seed, the same for all.
        folds: How many.
        split: Seed, layout and group pattern to divide by.
        overwrite: Whether what stands there may be replaced.
        init: A finished run whose encoder every fold starts from.
    """
    if options.strategy == "multi-worker":
        raise TrainingError(
            "Expected one training for several workers, got a cross-validation.",
            "Cross-validate with --strategy one or mirrored.",
        )
    dice = []
    with staged_folder(out, overwrite) as folder:
        for fold in range(folds):
            print(f"fold {fold + 1} of {folds}", flush=True)
            spec = dataclasses.replace(split, folds=folds, fold=fold)
            record = train_run(data, folder / f"fold-{fold + 1}", options, split=spec, init=init)
            dice.append(float((record.evaluation or {})["dice"]["mean"]))
        summary = FoldSummary(tuple(dice), round(float(np.mean(dice)), 5), round(float(np.std(dice)), 5))
        write_json(folder / SUMMARY, to_plain(summary))
    return summary
