"""The training loop: the steps run, the judge picks the epoch, the checkpoint remembers where it was."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from edgeseg.core.progress import progress_bar
from edgeseg.model.keras import keras
from edgeseg.train.checkpoint import Checkpoint
from edgeseg.train.course import Course
from edgeseg.train.history import EpochResult
from edgeseg.train.judge import Judge
from edgeseg.train.pipeline import Feed, build_pipeline
from edgeseg.train.steps import Steps
from edgeseg.train.strategy import distribute_batches

WARM_UP_SHARE = 0.1
WEIGHT_DECAY = 0.02


def build_optimizer(course: Course, steps_per_epoch: int) -> Any:
    """Build AdamW with a warm-up and a cosine that ends at zero, or with a rate that is set for every epoch."""
    steps = course.epochs * steps_per_epoch
    warm_up = max(1, int(steps * WARM_UP_SHARE))
    cosine = keras.optimizers.schedules.CosineDecay(
        course.learning_rate / 20, steps - warm_up, warmup_target=course.learning_rate, warmup_steps=warm_up
    )
    rate = cosine if course.schedule == "cosine" else course.learning_rate
    return keras.optimizers.AdamW(rate, weight_decay=WEIGHT_DECAY)


def _as_it_is(pipeline: Any) -> Any:
    return pipeline


def _ignore(result: EpochResult) -> None:
    """Take an epoch's result that nobody asked for."""


def fit_model(
    model: Any,
    feed: Feed,
    judge: Judge,
    course: Course,
    follow: Callable[[Any], Any] = _as_it_is,
    checkpoint: Checkpoint | None = None,
    on_result: Callable[[EpochResult], None] = _ignore,
) -> EpochResult:
    """Train a compiled model and leave the judge's twin with the averaged weights of its best epoch.

    Args:
        model: The model.
        feed: What it is trained on.
        judge: Decides which epoch is best.
        course: How long, and at which rate.
        follow: Changes the pipeline, for a model that follows another one.
        checkpoint: Where an interrupted training is continued from.
        on_result: Told the result of every epoch.
    """
    first = checkpoint.restore() if checkpoint is not None else 0
    if first:
        judge.resume(first)
    batches = distribute_batches(model, lambda part: follow(build_pipeline(feed, course.epochs, first, part)))
    steps = Steps(model, judge.average, batches, feed.steps)
    with progress_bar(judge.title, (course.epochs - first) * feed.steps) as advance:
        for epoch in range(first + 1, course.epochs + 1):
            if course.is_over(judge.history):
                break
            if course.schedule == "plateau":
                model.optimizer.learning_rate = course.plateau_rate(judge.history)
            note = f"epoch {epoch} of {course.epochs}  {judge.note}"
            on_result(judge.judge(epoch, steps.run_epoch(epoch, partial(advance, note))))
            if checkpoint is not None:
                checkpoint.save(epoch)
    return judge.take_best()
