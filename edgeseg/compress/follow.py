"""Further training of a network that knows its task already: it follows a guide's masks beside the true ones."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from edgeseg.compress.lesson import BATCH, Lesson, distillation_loss
from edgeseg.compress.recipe import PruneStep, QatStep
from edgeseg.train.course import Course
from edgeseg.train.fit import build_optimizer, fit_model
from edgeseg.train.history import EpochCost
from edgeseg.train.judge import Judge
from edgeseg.train.memory import check_further_training


def train_follower(
    title: str, pair: tuple[Any, Any], lesson: Lesson, step: QatStep | PruneStep, epochs: int, may_stay: bool = True
) -> None:
    """Train a model further, and leave its twin with the best weights.

    Args:
        title: What the progress bar says.
        pair: The model, which is changed, and its twin, a model of the same layers.
        lesson: What it learns from.
        step: How fast, and how much of the loss follows the lesson's guide.
        epochs: How long.
        may_stay: Whether the best weights may be those it came with.
    """
    model, twin = pair
    check_further_training(model, BATCH, isinstance(step, QatStep))
    feed = lesson.feed(model.input_shape[1] // model.output_shape[1])
    course = Course(epochs, step.learning_rate)
    model.compile(build_optimizer(course, feed.steps), distillation_loss(step.distillation, lesson.activation))
    with tempfile.TemporaryDirectory() as folder:
        judge = Judge(title, model, twin, lesson.validation, Path(folder) / "best.h5")
        if may_stay:
            judge.judge(0, EpochCost(loss=float("nan")))
        fit_model(model, feed, judge, course, lesson.follow)
