"""The training loop: Keras runs the steps, the judge picks the epoch, the checkpoint remembers where it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgeseg.core.progress import progress_bar
from edgeseg.model.keras import keras
from edgeseg.train.checkpoint import Checkpoint
from edgeseg.train.judge import EpochResult, Judge
from edgeseg.train.pipeline import Feed, build_pipeline

WARM_UP_SHARE = 0.1
WEIGHT_DECAY = 0.02


def build_optimizer(learning_rate: float, steps: int) -> Any:
    """Build AdamW with a warm-up and a cosine that ends at zero."""
    warm_up = max(1, int(steps * WARM_UP_SHARE))
    schedule = keras.optimizers.schedules.CosineDecay(
        learning_rate / 20, steps - warm_up, warmup_target=learning_rate, warmup_steps=warm_up
    )
    return keras.optimizers.AdamW(schedule, weight_decay=WEIGHT_DECAY)


def _as_it_is(pipeline: Any) -> Any:
    return pipeline


def fit_model(
    model: Any,
    feed: Feed,
    judge: Judge,
    epochs: int,
    follow: Callable[[Any], Any] = _as_it_is,
    checkpoint: Checkpoint | None = None,
) -> EpochResult:
    """Train a compiled model and leave it with the averaged weights of its best epoch.

    Args:
        model: The model.
        feed: What it is trained on.
        judge: Decides which epoch is best.
        epochs: How many.
        follow: Changes the pipeline, for a model that follows another one.
        checkpoint: Where an interrupted training is continued from.
    """
    first = checkpoint.restore() if checkpoint is not None else 0
    if first:
        judge.resume(first)
    pipeline = follow(build_pipeline(feed, epochs, first))
    with progress_bar(judge.title, epochs - first) as advance:
        judge.on_epoch = advance
        callbacks = [judge.as_callback(), *([checkpoint.as_callback()] if checkpoint is not None else [])]
        model.fit(
            pipeline,
            initial_epoch=first,
            epochs=epochs,
            steps_per_epoch=feed.steps,
            verbose=0,
            callbacks=callbacks,
        )
    model.load_weights(judge.path)
    return judge.best
