"""k-fold cross-validation: one run per fold and a summary; finished folds survive an interruption."""

from __future__ import annotations

import dataclasses
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeseg.core.card import SplitSpec
from edgeseg.core.decision import OUT_OF_FOLD, Decision
from edgeseg.core.errors import DataError, RunError, TrainingError
from edgeseg.core.files import partial_path, refuse_existing, refuse_taken, staged_folder, write_json
from edgeseg.core.modelfile import read_model
from edgeseg.core.progress import progress_bar
from edgeseg.core.schema import from_plain, to_plain
from edgeseg.data.dataset import fingerprint_dataset, fingerprint_labels, open_dataset, read_case, read_cases
from edgeseg.data.split import fingerprint_split, refuse_other_split
from edgeseg.evaluation.decide import Target, choose_decision
from edgeseg.evaluation.label_doubts import review_labels, write_label_doubts
from edgeseg.evaluation.out_of_fold import pick_judged, share_thresholds
from edgeseg.evaluation.score import Evaluation, ScoredCase, score_part, summarise_cases, write_cases
from edgeseg.inference.ensemble import EnsembleSegmenter, make_ensemble
from edgeseg.model.losses import find_loss
from edgeseg.training.loading import LoadedData, load_data, refuse_changed_data, refuse_other_labels
from edgeseg.training.modal_data import take_modalities
from edgeseg.training.options import TrainInputs, TrainOptions, write_config
from edgeseg.training.resume import FOLDS, PLAN, begin_plan, find_partial, has_checkpoint, read_plan
from edgeseg.training.run import MODEL, RunRecord, read_run
from edgeseg.training.semisupervised import add_frames
from edgeseg.training.start import check_imagenet, refuse_leaking_start
from edgeseg.training.teachers import find_teachers, fingerprint_teacher, refuse_other_teacher
from edgeseg.training.trainer import begin_record, resume_run, train_run
from edgeseg.training.weak_supervision import are_boxed

_LOG = logging.getLogger(__name__)
SUMMARY, CASES = "folds.json", "cases.csv"


@dataclass(frozen=True)
class FoldPlan:
    """The plan of a cross-validation: all folds differ in their cases only."""

    options: TrainOptions
    folds: int
    split: SplitSpec
    data_fingerprint: str
    split_fingerprint: str = ""
    """Hash of the first fold's split; empty in plans of older versions."""
    init: str | None = None
    """The run whose encoder every fold starts from, relative to the cross-validation's folder."""
    unlabelled: str | None = None
    """The folder of frames without masks that every fold trains on, too, relative in the same way."""
    label_fingerprint: str = ""
    """Hash of the frames' labels; empty where none are learned."""
    teacher: str | None = None
    """The run, or the cross-validation, that every fold learns from, relative in the same way."""
    teacher_fingerprint: str = ""


@dataclass(frozen=True)
class FoldSummary:
    """Each fold's test Dice, and the evaluation of all cases, each scored by the network without its group."""

    dice: tuple[float, ...]
    mean: float
    std: float
    evaluation: Evaluation
    """Each case is decided at the operating point of its own fold."""
    decision: Decision | None = None
    """Chosen out of fold, on all cases; without temperatures, which are each network's own."""
    labels_in_doubt: int = 0
    """Cases in look-first.csv: labels that the network without them contradicts, or a near-duplicate's label."""


def train_folds(
    data: Path,
    out: Path,
    options: TrainOptions,
    folds: int,
    split: SplitSpec,
    overwrite: bool = False,
    init: Path | None = None,
    unlabelled: Path | None = None,
    teacher: Path | None = None,
) -> FoldSummary:
    """Train one run per fold; the folder appears when all have finished.

    Args:
        data: A folder of labelled images.
        out: The folder to make, with a run folder for each fold and a summary.
        options: Model, size, epochs and seed, the same for all.
        folds: How many folds.
        split: Seed, layout and group pattern of the split.
        overwrite: Whether an existing result may be replaced.
        init: A finished run whose encoder every fold starts from.
        unlabelled: A folder of frames without masks that every fold trains on, too.
        teacher: A finished run, or the folder of a cross-validation, of which every fold follows those networks that
            were not trained on its test cases.
    """
    if options.strategy == "multi-worker":
        raise TrainingError(
            "Expected one training for several workers, got a cross-validation.",
            "Cross-validate with --strategy one or mirrored.",
        )
    # refuses an unknown loss before anything else is done
    find_loss(options.loss)
    refuse_taken(out, overwrite, "cross-validation")
    check_imagenet(options.encoder, init)
    options = take_modalities(options, open_dataset(data, split.layout, split.group_pattern))
    loaded = load_data(data, dataclasses.replace(split, folds=folds), options.input, labels=options.label_choice)
    _refuse_boxed(loaded, folds)
    start = os.path.relpath(init, out) if init is not None else None
    fingerprints = fingerprint_dataset(loaded.dataset), fingerprint_split(loaded.split)
    if init is not None:
        # every case tests once, so that the training cases of the first fold count as well
        refuse_leaking_start(init, loaded.part("all"))
    frames = None
    if unlabelled is not None:
        add_frames(loaded, unlabelled, options, held_out=("all",))
        frames = os.path.relpath(unlabelled, out)
    labels = fingerprint_labels(loaded.dataset.cases) if options.findings == "auto" else ""
    plan = FoldPlan(options, folds, split, *fingerprints, init=start, unlabelled=frames, label_fingerprint=labels)
    if teacher is not None:
        _refuse_teacher(begin_record(loaded, data, out, options, None), loaded, teacher)
        learned = fingerprint_teacher(teacher)
        plan = dataclasses.replace(plan, teacher=os.path.relpath(teacher, out), teacher_fingerprint=learned)
    with staged_folder(out, overwrite, keep_partial=True) as folder:
        begin_plan(folder, to_plain(plan))
        inputs = TrainInputs(data, init, folds, split.layout, split.group_pattern, unlabelled, teacher)
        write_config(folder, out, options, inputs)
        return _train_missing(data, folder, plan)


def _refuse_boxed(loaded: LoadedData, folds: int) -> None:
    """Refuse data whose full masks do not judge every fold, before any is trained."""
    if all(image.weak is None for image in loaded.images.values()):
        return
    for fold in range(folds):
        divided = loaded.divide(dataclasses.replace(loaded.split_spec, fold=fold))
        if are_boxed([*divided.part("val"), *divided.part("test")]):
            raise DataError(
                f"Expected groups with full masks in each of {folds} folds, got boxes alone in some.",
                "Train without --folds, or draw full outlines in more groups.",
            )


def _refuse_teacher(student: RunRecord, loaded: LoadedData, teacher: Path) -> None:
    """Refuse a teacher that does not fit one of the folds, before any is trained."""
    for fold in range(student.split.folds):
        fold_split = dataclasses.replace(student.split, fold=fold)
        divided = loaded.divide(fold_split)
        record = dataclasses.replace(student, split=fold_split, split_fingerprint=fingerprint_split(divided.split))
        find_teachers([teacher], record, divided.name_tests())


def resume_folds(data: Path, out: Path, overwrite: bool = False) -> FoldSummary:
    """Continue an interrupted cross-validation with the options it began with; finished folds stay.

    Args:
        data: The labelled images it began with.
        out: The folder it was to make.
        overwrite: Whether an existing result may be replaced.
    """
    find_partial(out, FOLDS)
    refuse_existing(out, overwrite, go_on=True)
    plan = _read_plan(partial_path(out))
    _refuse_changes(data, plan, out)
    if plan.teacher is not None:
        refuse_other_teacher(out, partial_path(out) / plan.teacher, plan.teacher_fingerprint)
    with staged_folder(out, overwrite, keep_partial=True, go_on=True) as folder:
        return _train_missing(data, folder, plan)


def _read_plan(folder: Path) -> FoldPlan:
    try:
        table = read_plan(folder)
        # folds of older versions, of which some may be finished, had no finding output
        table.get("options", {}).setdefault("findings", "none")
        return from_plain(FoldPlan, table)
    except ValueError as error:
        raise RunError(
            f"Expected the plan of a cross-validation in {folder / PLAN}, got a damaged one: {error}.",
            "Begin again with --overwrite.",
        ) from error


def _refuse_changes(data: Path, plan: FoldPlan, out: Path) -> None:
    loaded = load_data(data, dataclasses.replace(plan.split, folds=plan.folds), plan.options.input)
    refuse_changed_data(data, fingerprint_dataset(loaded.dataset), plan.data_fingerprint, out)
    refuse_other_split(data, loaded.split, plan.split_fingerprint)
    refuse_other_labels(data, loaded.dataset, plan.label_fingerprint, out)


def _train_missing(data: Path, folder: Path, plan: FoldPlan) -> FoldSummary:
    dice = []
    for fold in range(plan.folds):
        _LOG.info("fold %d of %d", fold + 1, plan.folds)
        record = _train_fold(data, folder, plan, fold)
        dice.append(_read_dice(record, fold))
    together, decision = _score_together(data, folder, plan)
    doubts = _list_label_doubts(data, folder, plan)
    mean, std = round(float(np.mean(dice)), 5), round(float(np.std(dice)), 5)
    summary = FoldSummary(tuple(dice), mean, std, together, decision, doubts)
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


def _score_together(data: Path, folder: Path, plan: FoldPlan) -> tuple[Evaluation, Decision]:
    """Score every case with the network of the fold that tested it, for one confidence interval over the whole set.

    Returns:
        The evaluation, each case decided by its own fold, and the decision that all cases together would choose.
    """
    models = [read_model(_fold_folder(folder, fold) / MODEL) for fold in range(plan.folds)]
    with progress_bar("Scoring all cases", plan.folds) as advance:
        scored: list[ScoredCase] = []
        for number, model in enumerate(models, start=1):
            scored += score_part(model, data, "test", plan.split.layout)
            advance(f"fold {number}")
    classes = models[0].card.output.classes
    write_cases(folder / CASES, scored, classes)
    target = Target(plan.options.sensitivity, plan.options.coverage)
    return summarise_cases(scored, classes, share_thresholds(models)), choose_decision(
        scored, classes, target, OUT_OF_FOLD
    )


def _list_label_doubts(data: Path, folder: Path, plan: FoldPlan) -> int:
    """Write the cases whose labels should be looked at first; gives their number."""
    models = [read_model(_fold_folder(folder, fold) / MODEL) for fold in range(plan.folds)]
    segmenter = EnsembleSegmenter(make_ensemble(folder, models))
    picked = pick_judged(segmenter, data, None, plan.split.layout, plan.split.group_pattern)
    spec = segmenter.card.input
    with progress_bar("Looking for doubtful labels", len(picked.cases)) as advance:
        doubts = review_labels(segmenter, read_cases(picked.cases, spec), advance)
    write_label_doubts(folder, segmenter, doubts, lambda number: read_case(doubts[number].case, spec))
    return len(doubts)


def _fold_folder(folder: Path, fold: int) -> Path:
    return folder / f"fold-{fold + 1}"


def _train_fold(data: Path, folder: Path, plan: FoldPlan, fold: int) -> RunRecord:
    """Train a fold, continue it from its checkpoint, or read it where it is finished."""
    run = _fold_folder(folder, fold)
    if run.is_dir():
        return read_run(run)
    if has_checkpoint(partial_path(run)):
        return resume_run(data, run)
    split = dataclasses.replace(plan.split, folds=plan.folds, fold=fold)
    init = folder / plan.init if plan.init is not None else None
    frames = folder / plan.unlabelled if plan.unlabelled is not None else None
    teachers = [folder / plan.teacher] if plan.teacher is not None else []
    # overwrite: a partial fold without a checkpoint has nothing to continue
    return train_run(
        data, run, plan.options, overwrite=True, split=split, init=init, unlabelled=frames, teachers=teachers
    )
