"""What the pick must hold, and the sentence where it does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeseg.compress.advice import explain_gate
from edgeseg.compress.gate import Gate
from edgeseg.compress.variant import Variant
from edgeseg.search.results import SearchRow


@dataclass(frozen=True)
class Promise:
    """What the pick must hold: the time of one inference, median, and the Dice it may lose on the test cases."""

    budget_ms: float
    max_drop: float = 0.01

    def __post_init__(self) -> None:
        Gate(self.max_drop, self.budget_ms)

    @property
    def gate(self) -> Gate:
        """Give what the test cases decide; the time was decided when the pick was."""
        return Gate(self.max_drop)


def explain_late(fastest: SearchRow, promise: Promise) -> str:
    """Say that no trial is fast enough, and what to do."""
    return (
        f"No trial stays within {promise.budget_ms:g} ms: the fastest, trial {fastest.number} ({fastest.name}), "
        f"needs {fastest.ms:.2f} ms (median); raise --budget-ms, or train a smaller model or size."
    )


def explain_loss(judged: Sequence[Variant], promise: Promise) -> str:
    """Say what the pick loses on the test cases where that is too much; empty where it is not."""
    pick = judged[-1]
    return "" if promise.gate.keeps_accuracy(pick) else explain_gate(pick, promise.gate)
