"""What the pick must hold, and the sentence where it does not."""

from __future__ import annotations

from dataclasses import dataclass

from edgeseg.compress.advice import explain_gate
from edgeseg.compress.gate import Gate, explain_doubt
from edgeseg.compress.judge import Judgement
from edgeseg.search.results import SearchRow


@dataclass(frozen=True)
class Promise:
    """What the pick must hold: the time of one inference, median, and the Dice it may lose on validation cases."""

    budget_ms: float
    max_drop: float = 0.01

    def __post_init__(self) -> None:
        Gate(self.max_drop, self.budget_ms)

    @property
    def gate(self) -> Gate:
        """Give what decides about its masks; the time was decided when the pick was."""
        return Gate(self.max_drop)


def explain_late(fastest: SearchRow, promise: Promise) -> str:
    """Say that no trial is fast enough, and what to do."""
    return (
        f"No trial stays within {promise.budget_ms:g} ms: the fastest, trial {fastest.number} ({fastest.name}), "
        f"needs {fastest.ms:.2f} ms (median); raise --budget-ms, or train a smaller model or size."
    )


def explain_loss(parent: Judgement, pick: Judgement, promise: Promise) -> str:
    """Say what the pick loses on validation cases where that is too much, or why nothing is known; else empty."""
    if doubt := explain_doubt(parent.validation, parent.test, promise.gate):
        return doubt
    return "" if promise.gate.keeps_accuracy(pick.variant) else explain_gate(pick.variant, promise.gate)
