"""How long a training goes on and at which rate.

Both follow from the history alone, so that an interruption changes neither.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgeseg.train.history import EpochResult, best_result

STALL = 8
"""Epochs without a better validation Dice after which the plateau schedule lowers the rate."""
FACTOR, LOWEST = 0.5, 2**-6
STEADY_SHARE = 0.1
STEPS, FEWEST_EPOCHS, MOST_EPOCHS = 14_530, 50, 400
"""What is trained where nobody said; so every folder of images takes about as long."""
WARM_UP_EPOCHS = 3


@dataclass(frozen=True)
class Course:
    """The epochs, the rate and its schedule, and the patience."""

    epochs: int
    learning_rate: float
    schedule: str = "cosine"
    patience: int | None = None

    @property
    def window(self) -> int:
        """Say over how many epochs the validation Dice is averaged that decides which one is best."""
        return max(1, round(self.epochs * STEADY_SHARE))

    def is_over(self, history: Sequence[EpochResult]) -> bool:
        """Say whether patience has run out."""
        return bool(history) and self.patience is not None and count_stalled(history) >= self.patience

    def plateau_rate(self, history: Sequence[EpochResult]) -> float:
        """Find the plateau schedule's rate of the next epoch: a short warm-up, then halved at every stall."""
        warm_up = min(1.0, (len(history) + 1) / WARM_UP_EPOCHS)
        return self.learning_rate * warm_up * max(LOWEST, FACTOR ** count_reductions(history))


def plan_epochs(images: int, batch: int) -> int:
    """Plan how many epochs to train where nobody said: the fewer the images, the more, for about as many steps."""
    return min(MOST_EPOCHS, max(FEWEST_EPOCHS, math.ceil(STEPS / math.ceil(images / batch))))


def count_stalled(history: Sequence[EpochResult]) -> int:
    """Count the epochs since the best one."""
    return history[-1].epoch - best_result(history).epoch


def count_reductions(history: Sequence[EpochResult]) -> int:
    """Count how often the validation Dice stalled; each time the waiting begins anew."""
    best, stalled, reductions = -1.0, 0, 0
    for row in history:
        stalled = 0 if row.validation_dice > best else stalled + 1
        best = max(best, row.validation_dice)
        if stalled == STALL:
            reductions, stalled = reductions + 1, 0
    return reductions
