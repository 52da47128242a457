"""Train a U-Net on labelled images, from a data folder to a finished run folder."""

from __future__ import annotations

import dataclasses
import logging
import os
import resource
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import edgeseg
from edgeseg.convert.package import build_card, make_golden
from edgeseg.convert.tflite import compact_flatbuffer, convert_model
from edgeseg.core.card import Metrics, SplitSpec
from edgeseg.core.decision import Decision, KnownFrames
from edgeseg.core.errors import RunError
from edgeseg.core.files import partial_path, refuse_existing, refuse_taken, staged_folder
from edgeseg.core.modelfile import read_model, write_model
from edgeseg.core.progress import progress_bar
from edgeseg.core.schema import to_plain
from edgeseg.core.spec import BOXES, MASKS, OutputSpec
from edgeseg.core.stats import Estimate
from edgeseg.data.augment import choose_variations
from edgeseg.data.dataset import (
    LabelledImage,
    find_shape,
    find_white,
    fingerprint_dataset,
    fingerprint_labels,
    open_dataset,
)
from edgeseg.data.split import fingerprint_split
from edgeseg.evaluation.decide import Target, decide_model, explain_decision
from edgeseg.evaluation.known_frames import describe_known_frames
from edgeseg.evaluation.overlays import draw_sheet, pick_notable_cases
from edgeseg.evaluation.score import list_thresholds, score_cases, summarise_cases, write_cases
from edgeseg.frame.images import write_image
from edgeseg.inference.segmenter import Segmenter
from edgeseg.model.keras import keras, tf
from edgeseg.model.losses import FINDING_SHARE, find_finding_loss, find_loss, find_weak_loss
from edgeseg.model.spec import LITE0
from edgeseg.model.unet import build_unet
from edgeseg.training.distillation import (
    SHARE,
    RunTeacher,
    append_teacher,
    average_teachers,
    distillation_loss,
    finding_distillation_loss,
)
from edgeseg.training.grids import Growth, find_findings, to_grid, weigh_findings
from edgeseg.training.hardware import computing_in
from edgeseg.training.loading import Feed, LoadedData, load_data, load_same_data
from edgeseg.training.loop import TrainingSchedule, build_optimizer, fit_model
from edgeseg.training.memory import check_memory
from edgeseg.training.modal_data import take_modalities
from edgeseg.training.options import SEGMENT, TrainInputs, TrainOptions, write_config
from edgeseg.training.resume import Checkpoint, has_checkpoint, remove_checkpoint
from edgeseg.training.run import (
    FINISHED,
    MODEL,
    TEST_CASES,
    TEST_ROWS,
    TRAINING,
    WEIGHTS,
    LabelRecord,
    RunRecord,
    read_interrupted,
    write_record,
)
from edgeseg.training.semisupervised import (
    RAMP_SHARE,
    FrameFeed,
    FrameSteps,
    add_frames,
    add_same_frames,
    follow_ema,
    keep_truth,
)
from edgeseg.training.start import (
    check_imagenet,
    load_imagenet,
    name_start,
    refuse_leaking_start,
    start_from,
)
from edgeseg.training.strategy import RunPaths, explained_loss, find_role, open_strategy, worker_folder
from edgeseg.training.teachers import Teachers, find_same_teachers, find_teachers, open_teachers
from edgeseg.training.validation import EpochEvaluator, RunLog, Validator, draw_curve, summarise_timing
from edgeseg.training.weak_supervision import (
    are_boxed,
    count_kinds,
    log_labels,
    refuse_unjudged,
    refuse_with_weak,
    weigh_by_rarity,
)

_LOG = logging.getLogger(__name__)
VALIDATION_SHARE, TEST_SHARE = 0.12, 0.15
LIBRARIES = ("tensorflow", "tf_keras", "numpy", "opencv-python-headless")
# The float32 file is the parent that drops are measured against.
NO_DROP = Estimate(0.0, 0.0, (0.0, 0.0))


def train_run(
    data: Path,
    out: Path,
    options: TrainOptions,
    overwrite: bool = False,
    split: SplitSpec | None = None,
    init: Path | None = None,
    test: bool = True,
    unlabelled: Path | None = None,
    teachers: Sequence[Path] = (),
) -> RunRecord:
    """Train on a data folder; the run folder appears when training has finished.

    Args:
        data: A folder of labelled images.
        out: The run folder to make.
        options: Model, size, epochs and seed.
        overwrite: Whether an existing run may be replaced.
        split: How to split the cases; None is the default split with the options' seed.
        init: A finished run whose encoder weights to start from.
        test: Whether to score the model on the test cases; a search must not use them.
        unlabelled: A folder of frames without masks to train on, too.
        teachers: Finished runs, or folders of cross-validations, to learn from as well; what several say is averaged.
    """
    if options.task != SEGMENT:
        raise RunError(
            f"Expected the task {SEGMENT} for labelled images, got {options.task}.",
            "Registering networks are trained with: edgeseg train --task register CLIPS --out RUN",
        )
    # refuses an unknown loss before anything else is done
    find_loss(options.loss)
    role = find_role(options.strategy)
    if role.chief:
        # before the images are read, which takes minutes for a large data set
        refuse_taken(out, overwrite, "training")
    check_imagenet(options.encoder, init)
    split = split or plain_split(options.seed)
    options = take_modalities(options, open_dataset(data, split.layout, split.group_pattern))
    loaded = load_data(data, split, options.input, labels=options.label_choice)
    if unlabelled is not None:
        loaded = add_frames(loaded, unlabelled, options)
    start = None
    if init is not None:
        start = name_start(init)
        refuse_leaking_start(init, [*loaded.part("val"), *loaded.part("test")])
    record = begin_record(loaded, data, out, options, start)
    counts = count_kinds(loaded.part("train"))
    refuse_with_weak(teachers, counts)
    found = find_teachers(teachers, record, loaded.name_tests())
    record = dataclasses.replace(record, teachers=tuple(one.describe(out) for one in found))
    taught_by = _open_teachers(found, record)
    if test and role.chief:
        loaded.log_warnings()
        loaded.log_leaks(record.near_duplicates)
        loaded.log_finding(record.finding, options.findings)
        if record.labels is not None:
            log_labels(record.labels)
    with staged_folder(out, overwrite, keep_partial=True) if role.chief else worker_folder() as folder:
        write_record(folder, record)
        loaded.write_split(folder)
        if len(teachers) < 2:
            teacher = teachers[0] if teachers else None
            _write_config(folder, out, record, TrainInputs(data, init, unlabelled=unlabelled, teacher=teacher))
        return _train(loaded, record, RunPaths(folder, folder, role), init, test, taught_by)


def _open_teachers(found: Sequence[Teachers], record: RunRecord) -> list[RunTeacher]:
    """Read the networks of all teachers, and say what must be known of them."""
    for notice in (notice for teachers in found for notice in teachers.notices):
        _LOG.warning("%s", notice)
    opened = open_teachers(found, record)
    if record.finding is not None and opened and not any(teacher.knows_findings for teacher in opened):
        _LOG.warning("No teacher has a finding output: findings are learned from the labels alone.")
    return opened


def _write_config(folder: Path, out: Path, record: RunRecord, inputs: TrainInputs) -> None:
    """Write config.toml, but not for a fold or another split that the options of `edgeseg train` cannot name."""
    layout, group_pattern = record.split.layout, record.split.group_pattern
    if record.split == plain_split(record.options.seed, layout, group_pattern):
        write_config(
            folder,
            out,
            record.options,
            dataclasses.replace(inputs, layout=layout, group_pattern=group_pattern),
        )


def resume_run(
    data: Path,
    out: Path,
    overwrite: bool = False,
    init: Path | None = None,
    unlabelled: Path | None = None,
    teacher: Path | None = None,
) -> RunRecord:
    """Continue an interrupted training with the options it began with.

    Args:
        data: The labelled images it began with.
        out: The run folder it was to make.
        overwrite: Whether an existing run may be replaced.
        init: The run that it started from; only needed where no checkpoint holds those weights yet.
        unlabelled: Where the frames without masks are that it began with; None takes them from where they were.
        teacher: Where the teacher is that it began with; None takes it from where it was.
    """
    record = read_interrupted(partial_path(out))
    if has_checkpoint(partial_path(out)):
        init = None
    elif record.init is None:
        check_imagenet(record.spec.encoder)
    elif init is None or name_start(init) != record.init:
        _refuse_lost_start(partial_path(out), record.init)
    role = find_role(record.options.strategy)
    if role.chief:
        refuse_existing(out, overwrite, go_on=True)
    loaded = load_same_data(data, record, out)
    if record.unlabelled is not None or unlabelled is not None:
        loaded = add_same_frames(loaded, record, out, unlabelled)
    taught_by = _open_teachers(find_same_teachers(record, out, loaded.name_tests(), teacher), record)
    with staged_folder(out, overwrite, keep_partial=True, go_on=True) if role.chief else worker_folder() as folder:
        start = init if record.init is not None else None
        return _train(loaded, record, RunPaths(folder, partial_path(out), role), start, teachers=taught_by)


def _refuse_lost_start(partial: Path, init: str | None) -> None:
    if init is not None:
        raise RunError(
            f"Expected weights taken over from {init} in {partial}, got a run that was stopped before it kept them.",
            "Name that run with --resume --init RUN, or begin again with --init and --overwrite.",
        )


def plain_split(seed: int, layout: str | None = None, group_pattern: str | None = None) -> SplitSpec:
    """Build the default split: 12% validation, 15% test, the rest training.

    Args:
        seed: Seed of the split.
        layout: The data folder's layout; None detects it.
        group_pattern: Regular expression that finds the group in each name; None uses groups.csv.
    """
    return SplitSpec(seed, VALIDATION_SHARE, TEST_SHARE, layout, group_pattern)


def begin_record(loaded: LoadedData, data: Path, out: Path, options: TrainOptions, init: str | None) -> RunRecord:
    """Describe a training that begins."""
    train = loaded.part("train")
    output = OutputSpec(loaded.dataset.classes, options.activation, shape=find_shape(train))
    finding = loaded.choose_finding() if options.findings == "auto" else None
    return RunRecord(
        name=f"{loaded.dataset.root.resolve().name}-{options.network}",
        status=TRAINING,
        data=os.path.relpath(data, out),
        data_fingerprint=fingerprint_dataset(loaded.dataset),
        split=loaded.split_spec,
        input=dataclasses.replace(options.input, white=find_white(train)),
        output=output,
        finding=finding,
        spec=options.describe_network(output.channels, finding.count_channels(len(output.classes)) if finding else 0),
        options=options,
        libraries={name: version(name) for name in LIBRARIES},
        edgeseg=edgeseg.__version__,
        split_fingerprint=fingerprint_split(loaded.split),
        class_weights=weigh_by_rarity(train) if options.class_weights == "auto" else (),
        finding_weights=weigh_findings(find_findings(train, finding)) if finding else (),
        label_fingerprint=fingerprint_labels(loaded.dataset.cases) if finding and finding.frame_classes else "",
        init=init,
        near_duplicates=loaded.count_leaks(),
        unlabelled=loaded.frames.describe(out) if loaded.frames is not None else None,
        header_region=loaded.dataset.header_region,
        data_summary=loaded.summarise(),
        labels=describe_labels(loaded),
    )


def describe_labels(loaded: LoadedData) -> LabelRecord | None:
    """Describe weak labels that are learned from or judged by; None where there are none."""
    for part in ("val", "test"):
        refuse_unjudged(loaded.part(part), part)
    counts = count_kinds(loaded.part("train"))
    boxed = any(are_boxed(loaded.part(part)) for part in ("val", "test"))
    return LabelRecord(counts, BOXES if boxed else MASKS) if boxed or set(counts) - {MASKS} else None


def _train(
    loaded: LoadedData,
    record: RunRecord,
    run_paths: RunPaths,
    init: Path | None = None,
    test: bool = True,
    teachers: Sequence[RunTeacher] = (),
) -> RunRecord:
    growth = _plan_growth(loaded, record, teachers)
    strategy = open_strategy(record.options.strategy, record.options.batch)
    # before the first layer is built: initial weights follow from the seed
    keras.utils.set_random_seed(record.options.seed)
    with computing_in(record.options.precision), strategy.scope():
        model = build_unet(record.spec, any_size=growth is not None)
        if init is not None:
            start_from(model, init)
        elif record.init is None and record.spec.encoder == LITE0 and not has_checkpoint(run_paths.source):
            load_imagenet(model)
    # built outside strategy and mixed precision: what is evaluated is what is exported
    ema_model = build_unet(record.spec)
    if record.options.strategy != "multi-worker" and not tf.config.list_physical_devices("GPU"):
        # on a GPU the host's memory is not the limit
        networks = [teacher.model for teacher in teachers]
        check_memory(ema_model, record.options.batch, views=1 if loaded.frames is None else 2, teachers=networks)
    # all workers are there, so the chief of an interrupted training has ended
    run_paths.follow_chief()
    with explained_loss(record.options.strategy):
        evaluator = _fit(model, ema_model, loaded, record, run_paths, teachers, growth)
    best, timing = evaluator.best, summarise_timing(evaluator.history, _read_peak_memory())
    record = dataclasses.replace(
        record, best_epoch=best.epoch, validation_dice=best.validation_dice, timing=timing, status=FINISHED
    )
    if not run_paths.role.chief:
        return record
    validation, tested = loaded.part("val"), loaded.part("test") if test else None
    if record.labels is not None and record.labels.judged_by == BOXES:
        # boxes choose no operating point, and are no masks to test against
        iou = measure_boxes(evaluator.ema_model, tested, record) if tested is not None else None
        labels = dataclasses.replace(record.labels, test_box_iou=iou)
        record, tested = dataclasses.replace(record, labels=labels), None
    known = describe_known_frames([*loaded.part("train"), *validation], record.input) if test else None
    return _finish(evaluator, record, run_paths.folder, validation, tested, known)


def _plan_growth(loaded: LoadedData, record: RunRecord, teachers: Sequence[RunTeacher]) -> Growth | None:
    """Plan progressive resizing; teachers and frames without masks are seen at full size alone."""
    options, images = record.options, len(loaded.part("train"))
    first = options.plan_first_size(images)
    if first == options.size or teachers or loaded.frames is not None:
        return None
    return Growth(first, options.size, options.plan_epochs(images))


def _fit(
    model: Any,
    ema_model: Any,
    loaded: LoadedData,
    record: RunRecord,
    run_paths: RunPaths,
    teachers: Sequence[RunTeacher],
    growth: Growth | None,
) -> EpochEvaluator:
    options, folder = record.options, run_paths.folder
    train, validation = (to_grid(loaded.part(part), record.input, record.finding) for part in ("train", "val"))
    epochs = options.plan_epochs(len(train))
    training_schedule = TrainingSchedule(epochs, options.rate, options.schedule, options.patience)
    output, augment = record.output, choose_variations(options.augment)
    stride = record.spec.output_stride
    feed = Feed(train, options.batch, options.seed, stride, augment, output.draws_background, growth=growth)
    with model.distribute_strategy.scope():
        model.compile(build_optimizer(training_schedule, feed.steps), **choose_losses(record))
    evaluator = EpochEvaluator(
        "Training", model, ema_model, validation, folder / WEIGHTS, options.ema, training_schedule.window
    )
    checkpoint = Checkpoint(folder, run_paths.source, model, evaluator.ema)
    if record.init is not None and not has_checkpoint(run_paths.source):
        # the weights that were taken over must outlive an interruption in the first epoch
        checkpoint.save(0)
    label = partial(append_teacher, average_teachers(teachers)) if teachers else keep_truth
    frame_steps = None
    if loaded.frames is not None:
        frames = FrameFeed(loaded.frames.pixels, feed.batch, feed.seed, augment, record.input.denoise)
        # the model that is evaluated after every epoch holds the same weights then, so that it can teach meanwhile
        frame_teacher = average_teachers(teachers) if teachers else follow_ema(evaluator.ema_model, evaluator.ema)
        # finished runs know from the first step on what an average of untrained weights does not
        ramp_share = 0.0 if teachers else RAMP_SHARE
        frame_steps = FrameSteps(model, frame_teacher, frames, epochs * feed.steps, ramp_share, label)
    fit_model(
        model,
        feed,
        evaluator,
        training_schedule,
        checkpoint=checkpoint,
        on_result=RunLog(folder).write,
        frame_steps=frame_steps,
        take_step=lambda batch: model.train_step(label(*batch))["loss"],
    )
    return evaluator


def choose_losses(record: RunRecord) -> dict[str, Any]:
    """Choose what Keras compiles a run's network with: a loss for the masks, and one for findings beside it."""
    name, activation, weights = record.options.loss, record.output.activation, record.class_weights
    if record.teachers:
        loss = distillation_loss(SHARE, activation, name, weights)
        finding_loss = finding_distillation_loss(SHARE, record.finding_weights)
    else:
        finding_loss = find_finding_loss(record.finding_weights)
        if record.labels is not None and set(record.labels.images) - {MASKS}:
            loss = find_weak_loss(name, activation, len(record.output.classes), weights)
        else:
            loss = find_loss(name, activation, weights)
    if record.finding is None:
        return {"loss": loss}
    return {"loss": [loss, finding_loss], "loss_weights": [1.0, FINDING_SHARE]}


def measure_boxes(model: Any, images: Sequence[LabelledImage], record: RunRecord) -> float:
    """Measure the box agreement of a model's masks with cases that have boxes, on the network's grid."""
    return round(Validator(to_grid(images, record.input), model).dice(model), 5)


def _finish(
    evaluator: EpochEvaluator,
    record: RunRecord,
    folder: Path,
    validation: Sequence[LabelledImage],
    test: Sequence[LabelledImage] | None,
    known: KnownFrames | None,
) -> RunRecord:
    draw_curve(folder, evaluator.history, evaluator.best)
    record = export_run(folder, evaluator.ema_model, record, validation, test, known)
    write_record(folder, record)
    remove_checkpoint(folder)
    return record


def export_run(
    folder: Path,
    model: Any,
    record: RunRecord,
    validation: Sequence[LabelledImage],
    test: Sequence[LabelledImage] | None,
    known: KnownFrames | None = None,
) -> RunRecord:
    """Convert the model to the run's float32 file, choose how it decides, and score it on the test cases.

    Args:
        folder: The run folder.
        model: The Keras model with its best weights.
        record: The run's record.
        validation: The validation cases, on which the operating point is chosen.
        test: The test cases; None leaves the file without operating point, evaluation and golden pairs.
        known: The frames of the training; None leaves frames unjudged.

    Returns:
        The record, with the evaluation where there is one.
    """
    path = folder / MODEL
    flatbuffer = compact_flatbuffer(convert_model(model, "float32"))
    ends = (record.input, record.output)
    card = build_card(flatbuffer, record.name, ends, record.provenance("float32"), record.finding)
    write_model(path, flatbuffer, card)
    if test is None:
        if record.labels is not None and record.labels.test_box_iou is not None:
            write_model(path, flatbuffer, card, make_golden(flatbuffer, card))
        return record
    decision = dataclasses.replace(_decide(path, record, validation), known=known)
    card = dataclasses.replace(card, decision=decision)
    write_model(path, flatbuffer, card)
    # scored through the device's runtime, not through Keras: this is the file that users get
    segmenter = Segmenter(read_model(path))
    with progress_bar("Scoring test cases", len(test)) as advance:
        scored = score_cases(segmenter, test, advance)
    write_image(folder / TEST_CASES, draw_sheet(segmenter, pick_notable_cases(scored), test.__getitem__))
    write_cases(folder / TEST_ROWS, scored, card.output.classes)
    evaluation = summarise_cases(scored, card.output.classes, list_thresholds(card))
    dice = evaluation.dice
    metrics = Metrics(evaluation.cases, dice, dice, NO_DROP) if dice is not None else None
    # written again: metrics and golden pairs come from running the file itself
    write_model(path, flatbuffer, dataclasses.replace(card, metrics=metrics), make_golden(flatbuffer, card))
    return dataclasses.replace(record, evaluation=to_plain(evaluation))


def _decide(path: Path, record: RunRecord, validation: Sequence[LabelledImage]) -> Decision:
    """Choose temperatures and operating points on the validation cases, and say what is uncertain about them."""
    target = Target(record.options.sensitivity, record.options.coverage)
    with progress_bar("Choosing the operating point", 2 * len(validation)) as advance:
        decision = decide_model(read_model(path), validation, target, on_case=advance).decision
    for sentence in explain_decision(decision):
        _LOG.warning("%s", sentence)
    return decision


def _read_peak_memory() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)  # Linux reports KiB
