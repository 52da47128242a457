"""Cross-validation: one run per fold, and what they say together; finished folds outlive an interruption."""

from __future__ import annotations

import dataclasses
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeseg.core.card import SplitSpec
from edgeseg.core.errors import RunError, TrainingError
from edgeseg.core.files import partial_path, refuse_existing, refuse_taken, staged_folder, write_json
from edgeseg.core.modelfile import read_model
from edgeseg.core.progress import progress_bar
from edgeseg.core.schema import from_plain, to_plain
from edgeseg.data.dataset import fingerprint_dataset
from edgeseg.data.split import fingerprint_split, refuse_other_split
from edgeseg.evaluation.score import Evaluation, ScoredCase, score_part, summarise_cases, write_cases
from edgeseg.model.losses import find_loss
from edgeseg.training.checkpoint import is_remembered
from edgeseg.training.config import TrainInputs, write_config
from edgeseg.training.loading import load_data, refuse_changed_data
from edgeseg.training.options import TrainOptions
from edgeseg.training.run import FOLDS, MODEL, PLAN, RunRecord, find_partial, read_plan, read_run
from edgeseg.training.trainer import resume_run, train_run

_LOG = logging.getLogger(__name__)
SUMMARY, CASES = "folds.json", "cases.csv"


@dataclass(frozen=True)
class FoldPlan:
    """What makes all folds of a cross-validation the same but for their cases."""

    options: TrainOptions
    folds: int
    split: SplitSpec
    data_fingerprint: str
    split_fingerprint: str = ""
    """What came of the first fold's split; empty in plans from before it was kept."""
    init: str | None = None
    """The run whose encoder every fold starts from, as seen from the cross-validation's folder."""


@dataclass(frozen=True)
class FoldSummary:
    """The test Dice of every fold, and all cases together, each judged by the network that had not seen its group."""

    dice: tuple[float, ...]
    mean: float
    std: float
    evaluation: Evaluation


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
    find_loss(options.loss)
    refuse_taken(out, overwrite, "cross-validation")
    loaded = load_data(data, dataclasses.replace(split, folds=folds), options.input.in_colour)
    start = os.path.relpath(init, out) if init is not None else None
    fingerprints = fingerprint_dataset(loaded.dataset), fingerprint_split(loaded.split)
    plan = FoldPlan(options, folds, split, *fingerprints, init=start)
    with staged_folder(out, overwrite, keep_partial=True) as folder:
        write_json(folder / PLAN, to_plain(plan))
        write_config(folder, out, options, TrainInputs(data, init, folds, split.layout, split.group_pattern))
        return _train_missing(data, folder, plan)


def resume_folds(data: Path, out: Path, overwrite: bool = False) -> FoldSummary:
    """Continue an interrupted cross-validation with the options it was begun with; finished folds stay.

    Args:
        data: The labelled images it was begun on.
        out: The folder it was to make.
        overwrite: Whether what stands there may be replaced.
    """
    find_partial(out, FOLDS)
    refuse_existing(out, overwrite, go_on=True)
    plan = _read_plan(partial_path(out))
    _refuse_changes(data, plan, out)
    with staged_folder(out, overwrite, keep_partial=True, go_on=True) as folder:
        return _train_missing(data, folder, plan)


def _read_plan(folder: Path) -> FoldPlan:
    try:
        return from_plain(FoldPlan, read_plan(folder))
    except ValueError as error:
        raise RunError(
            f"Expected the plan of a cross-validation in {folder / PLAN}, got a damaged one: {error}.",
            "Begin again with --overwrite.",
        ) from error


def _refuse_changes(data: Path, plan: FoldPlan, out: Path) -> None:
    loaded = load_data(data, dataclasses.replace(plan.split, folds=plan.folds), plan.options.input.in_colour)
    refuse_changed_data(data, fingerprint_dataset(loaded.dataset), plan.data_fingerprint, out)
    refuse_other_split(data, loaded.split, plan.split_fingerprint)


def _train_missing(data: Path, folder: Path, plan: FoldPlan) -> FoldSummary:
    dice = []
    for fold in range(plan.folds):
        _LOG.info("fold %d of %d", fold + 1, plan.folds)
        record = _train_fold(data, folder, plan, fold)
        dice.append(_read_dice(record, fold))
    together = _judge_together(data, folder, plan)
    summary = FoldSummary(tuple(dice), round(float(np.mean(dice)), 5), round(float(np.std(dice)), 5), together)
    write_json(folder / SUMMARY, to_plain(summary))
    return summary


def _read_dice(record: RunRecord, fold: int) -> float:
    """Read a finished fold's Dice, which a record that was changed by hand may lack."""
    try:
        return float((record.evaluation or {})["dice"]["mean"])
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"Expected the test Dice in the record of fold {fold + 1}, got none.",
            f"Remove the folder fold-{fold + 1}: it is trained again.",
        ) from error


def _judge_together(data: Path, folder: Path, plan: FoldPlan) -> Evaluation:
    """Judge all cases, each by its fold's network: their interval is as wide as the whole set makes it."""
    models = [read_model(_fold_folder(folder, fold) / MODEL) for fold in range(plan.folds)]
    with progress_bar("Judging all cases", plan.folds) as advance:
        scored: list[ScoredCase] = []
        for number, model in enumerate(models, start=1):
            scored += score_part(model, data, "test", plan.split.layout)
            advance(f"fold {number}")
    classes = models[0].card.output.classes
    write_cases(folder / CASES, scored, classes)
    return summarise_cases(scored, classes)


def _fold_folder(folder: Path, fold: int) -> Path:
    return folder / f"fold-{fold + 1}"


def _train_fold(data: Path, folder: Path, plan: FoldPlan, fold: int) -> RunRecord:
    """Train a fold, go on with it where something of it is kept, or read it where it is finished."""
    run = _fold_folder(folder, fold)
    if run.is_dir():
        return read_run(run)
    if is_remembered(partial_path(run)):
        return resume_run(data, run)
    split = dataclasses.replace(plan.split, folds=plan.folds, fold=fold)
    init = folder / plan.init if plan.init is not None else None
    return train_run(data, run, plan.options, overwrite=True, split=split, init=init)
