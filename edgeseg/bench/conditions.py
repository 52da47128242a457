"""Whether times can be trusted: what the machine did to its clock meanwhile, and whether the times drifted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from edgeseg.core.thermal import Thermal, describe_heat

DRIFT = 0.1
"""By how much the last third of the runs may differ from the first."""
JUDGED_FROM = 30
"""Fewer runs say nothing about drift."""


@dataclass(frozen=True)
class Conditions:
    """What the machine told of its clock and its heat while models were timed."""

    governors: tuple[str, ...]
    thermal: tuple[Thermal, Thermal]
    """Before and after."""

    def describe(self) -> str:
        """Say it in a sentence."""
        return f"CPU governor: {', '.join(self.governors) or 'none to choose'}; {describe_heat(*self.thermal)}."


@dataclass(frozen=True)
class Steadiness:
    """Medians of the first and the last third of the inferences."""

    first_ms: float
    last_ms: float
    ratio: float
    steady: bool

    def describe(self) -> str:
        """Say it in a sentence."""
        return (
            f"{self.first_ms:.3f} ms in the first third of the runs, {self.last_ms:.3f} ms in the last "
            f"({self.ratio:.2f} times)"
        )


def judge_steadiness(milliseconds: Sequence[float]) -> Steadiness | None:
    """Hold the last third of the times against the first; None where there are too few."""
    third = len(milliseconds) // 3
    if len(milliseconds) < JUDGED_FROM:
        return None
    first, last = median(milliseconds[:third]), median(milliseconds[-third:])
    ratio = last / first
    return Steadiness(round(first, 4), round(last, 4), round(ratio, 3), abs(ratio - 1.0) <= DRIFT)
