"""Further training of a network that knows its task already: it follows a guide's masks beside the true ones."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from edgeseg.compress.lesson import Lesson, distillation_loss
from edgeseg.compress.recipe import PruneStep, QatStep
from edgeseg.train.fit import build_optimizer, fit_model
from edgeseg.train.judge import Judge


def train_follower(title: str, model: Any, lesson: Lesson, step: QatStep | PruneStep, epochs: int) -> None:
    """Train a model further and leave it with its best weights, which may be those it came with.

    Args:
        title: What the progress bar says.
        model: The model; it is changed.
        lesson: What it learns from.
        step: How fast, and how much of the loss follows the lesson's guide.
        epochs: How long.
    """
    feed = lesson.feed(model)
    loss = distillation_loss(step.distillation, lesson.activation)
    model.compile(build_optimizer(step.learning_rate, epochs * feed.steps), loss)
    with tempfile.TemporaryDirectory() as folder:
        judge = Judge(title, model, lesson.validation, Path(folder) / "best.h5")
        judge.judge(0, float("nan"))
        fit_model(model, feed, judge, epochs, lesson.follow)
