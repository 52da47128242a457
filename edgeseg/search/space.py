"""What a search varies: how much of the network is left, and in which numbers its file computes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from optuna.trial import Trial

from edgeseg.compress.recipe import PruneStep, Recipe, load_recipe

PRECISIONS = ("float16", "dynamic-int8", "int8-ptq", "int8-qat")
"""Recipes that leave the network's channels alone; each is tried as it is, and behind pruning."""
LEAST, STEP, WHOLE = 20, 10, 100
"""Percent of the multiplications that are left."""
PRUNE_STEPS, PRUNE_EPOCHS, RECOVERY_EPOCHS = 2, 2, 8
"""Short, since a search compares; the pick's recipe can be made again with more."""
LEARNING_RATE, DISTILLATION = 5e-4, 0.5
PARAMETERS = frozenset({"left", "precision"})


@dataclass(frozen=True)
class Choice:
    """What one trial tries."""

    left: int
    """Percent of the multiplications that pruning leaves; 100 prunes nothing."""
    precision: str

    @property
    def recipe(self) -> Recipe:
        """Give the recipe that makes the trial's file."""
        recipe = load_recipe(self.precision)
        if self.left == WHOLE:
            return recipe
        return dataclasses.replace(
            recipe,
            name=self.name,
            summary=f"{self.left}% of the multiplications left, recovered shortly, then {self.precision}.",
            prune=_plan_pruning(self.left / WHOLE),
        )

    @property
    def name(self) -> str:
        """Name the recipe: what is left, then the number format."""
        return self.precision if self.left == WHOLE else f"keep{self.left}-{self.precision}"


FIRST = tuple(Choice(WHOLE, precision) for precision in PRECISIONS)
"""Nothing pruned: what every other trial has to beat."""


def propose_choice(trial: Trial) -> Choice:
    """Let Optuna choose what a trial makes."""
    left = trial.suggest_int("left", LEAST, WHOLE, step=STEP)
    return Choice(left, trial.suggest_categorical("precision", PRECISIONS))


def _plan_pruning(share: float) -> PruneStep:
    return PruneStep(
        macs=share,
        steps=PRUNE_STEPS,
        epochs=PRUNE_EPOCHS,
        recovery_epochs=RECOVERY_EPOCHS,
        learning_rate=LEARNING_RATE,
        distillation=DISTILLATION,
    )
