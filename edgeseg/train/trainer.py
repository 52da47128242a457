"""Train a U-Net on labelled images and leave a finished run folder."""

from __future__ import annotations

import dataclasses
import os
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import edgeseg
from edgeseg.core.card import SplitSpec
from edgeseg.core.errors import RunError
from edgeseg.core.files import partial_path, refuse_existing, refuse_taken, staged_folder
from edgeseg.core.spec import OutputSpec
from edgeseg.data.augment import choose_variations
from edgeseg.data.dataset import LabelledImage, fingerprint_dataset
from edgeseg.data.shape import find_shape
from edgeseg.data.split import fingerprint_split
from edgeseg.data.white import find_white
from edgeseg.model.keras import keras, tf
from edgeseg.model.losses import find_loss
from edgeseg.model.unet import build_unet
from edgeseg.train.arrays import to_grid
from edgeseg.train.checkpoint import Checkpoint, forget_checkpoint, is_remembered
from edgeseg.train.course import Course, plan_epochs
from edgeseg.train.curve import draw_curve
from edgeseg.train.export import export_run
from edgeseg.train.fit import build_optimizer, fit_model
from edgeseg.train.history import summarise_timing
from edgeseg.train.init import start_from
from edgeseg.train.judge import Judge
from edgeseg.train.loading import LoadedData, load_data, load_same_data
from edgeseg.train.logs import RunLog
from edgeseg.train.memory import check_memory
from edgeseg.train.pipeline import Feed
from edgeseg.train.precision import computing_in
from edgeseg.train.run import (
    FINISHED,
    TRAINING,
    WEIGHTS,
    RunRecord,
    TrainOptions,
    read_interrupted,
    read_run,
    write_record,
)
from edgeseg.train.strategy import Seat, find_seat, open_strategy, worker_folder
from edgeseg.train.weights import weigh_by_rarity

VALIDATION_SHARE, TEST_SHARE = 0.12, 0.15
LIBRARIES = ("tensorflow", "tf_keras", "numpy", "opencv-python-headless")


@dataclass(frozen=True)
class Site:
    """Where this worker writes, where a training is continued from, and which worker it is."""

    folder: Path
    source: Path
    seat: Seat


def plain_split(seed: int, layout: str | None = None, group_pattern: str | None = None) -> SplitSpec:
    """Say how cases are divided when nothing else is asked for.

    Args:
        seed: Another seed divides them in another way.
        layout: How the files lie; None finds out.
        group_pattern: What finds the group in each name, where it is not groups.csv.
    """
    return SplitSpec(seed, VALIDATION_SHARE, TEST_SHARE, layout, group_pattern)


def train_run(
    data: Path,
    out: Path,
    options: TrainOptions,
    overwrite: bool = False,
    split: SplitSpec | None = None,
    init: Path | None = None,
    test: bool = True,
) -> RunRecord:
    """Train on a data folder; the run folder appears when the training is finished.

    Args:
        data: Labelled images.
        out: The run folder to make.
        options: Model, size, epochs and seed.
        overwrite: Whether a run that stands there may be replaced.
        split: How the cases are divided; None divides them once, with the options' seed.
        init: A finished run whose encoder the new one starts from.
        test: Whether the finished model is judged on the test cases; a search must not look at them.
    """
    find_loss(options.loss)
    seat = find_seat(options.strategy)
    if seat.chief:
        refuse_taken(out, overwrite, "training")
    loaded = load_data(data, split or plain_split(options.seed), options.input.in_colour)
    start = read_run(init).name if init is not None else None
    record = _begin_record(loaded, os.path.relpath(data, out), options, start)
    if test and seat.chief:
        loaded.tell_warnings()
        loaded.tell_leaks(record.near_duplicates)
    with staged_folder(out, overwrite, keep_partial=True) if seat.chief else worker_folder() as folder:
        write_record(folder, record)
        loaded.write_split(folder)
        return _train(loaded, record, Site(folder, folder, seat), init, test)


def resume_run(data: Path, out: Path, overwrite: bool = False, init: Path | None = None) -> RunRecord:
    """Continue an interrupted training with the options it was begun with.

    Args:
        data: The labelled images it was begun on.
        out: The run folder it was to make.
        overwrite: Whether a run that stands there may be replaced.
        init: The run that it started from; needed only where it was stopped before it kept those weights.
    """
    record = read_interrupted(partial_path(out))
    if is_remembered(partial_path(out)):
        init = None
    elif init is None or record.init is None or read_run(init).name != record.init:
        _refuse_lost_start(partial_path(out), record.init)
    seat = find_seat(record.options.strategy)
    if seat.chief:
        refuse_existing(out, overwrite, go_on=True)
    loaded = load_same_data(data, record, out)
    with staged_folder(out, overwrite, keep_partial=True, go_on=True) if seat.chief else worker_folder() as folder:
        return _train(loaded, record, Site(folder, partial_path(out), seat), init if record.init is not None else None)


def _refuse_lost_start(partial: Path, init: str | None) -> None:
    if init is not None:
        raise RunError(
            f"Expected weights taken over from {init} in {partial}, got a run that was stopped before it kept them.",
            "Name that run with --resume --init RUN, or begin again with --init and --overwrite.",
        )


def _begin_record(loaded: LoadedData, path: str, options: TrainOptions, init: str | None) -> RunRecord:
    output = OutputSpec(loaded.dataset.classes, options.activation, shape=find_shape(loaded.part("train")))
    return RunRecord(
        name=f"{loaded.dataset.root.resolve().name}-{options.model}",
        status=TRAINING,
        data=path,
        data_fingerprint=fingerprint_dataset(loaded.dataset),
        split=loaded.split_spec,
        input=dataclasses.replace(options.input, white=find_white(loaded.part("train"))),
        output=output,
        spec=options.describe_network(output.channels),
        options=options,
        libraries={name: version(name) for name in LIBRARIES},
        edgeseg=edgeseg.__version__,
        split_fingerprint=fingerprint_split(loaded.split),
        class_weights=weigh_by_rarity(loaded.part("train")) if options.class_weights == "auto" else (),
        init=init,
        near_duplicates=loaded.count_leaks(),
        header_region=loaded.dataset.header_region,
    )


def _train(loaded: LoadedData, record: RunRecord, site: Site, init: Path | None = None, test: bool = True) -> RunRecord:
    strategy = open_strategy(record.options.strategy, record.options.batch)
    keras.utils.set_random_seed(record.options.seed)
    with computing_in(record.options.precision), strategy.scope():
        model = build_unet(record.spec)
        if init is not None:
            start_from(model, init)
    if record.options.strategy != "multi-worker" and not tf.config.list_physical_devices("GPU"):
        check_memory(model, record.options.batch)
    judge = _fit(model, loaded, record, site)
    best, timing = judge.best, summarise_timing(judge.history, _read_peak_memory())
    record = dataclasses.replace(
        record, best_epoch=best.epoch, validation_dice=best.validation_dice, timing=timing, status=FINISHED
    )
    return _finish(judge, record, site.folder, loaded.part("test") if test else None) if site.seat.chief else record


def _finish(judge: Judge, record: RunRecord, folder: Path, test: Sequence[LabelledImage] | None) -> RunRecord:
    draw_curve(folder, judge.history, judge.best)
    record = export_run(folder, judge.twin, record, test)
    write_record(folder, record)
    forget_checkpoint(folder)
    return record


def _fit(model: Any, loaded: LoadedData, record: RunRecord, site: Site) -> Judge:
    options, folder = record.options, site.folder
    train, validation = (to_grid(loaded.part(part), record.input) for part in ("train", "val"))
    epochs = options.epochs or plan_epochs(len(train), options.batch)
    course = Course(epochs, options.learning_rate, options.schedule, options.patience)
    output, augment = record.output, choose_variations(options.augment)
    feed = Feed(train, options.batch, options.seed, record.spec.shrink, augment, output.draws_background)
    loss = find_loss(options.loss, output.activation, record.class_weights)
    with model.distribute_strategy.scope():
        model.compile(build_optimizer(course, feed.steps), loss)
    judge = Judge(
        "Training", model, build_unet(record.spec), validation, folder / WEIGHTS, options.average, course.window
    )
    checkpoint = Checkpoint(folder, site.source, model, judge.average)
    if record.init is not None and not is_remembered(site.source):
        checkpoint.save(0)
    fit_model(model, feed, judge, course, checkpoint=checkpoint, on_result=RunLog(folder).write)
    return judge


def _read_peak_memory() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
