"""Decide which file is chosen, and whether the promise was held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeseg.compress.variant import Variant
from edgeseg.core.stats import FEWEST_GROUPS
from edgeseg.core.verdict import INTEGER_TARGETS, UNMAPPED, read_verdict
from edgeseg.evaluate.score import Evaluation

EVERYTHING = 1.0
"""As --max-drop: all Dice may be lost, so nothing is promised of it."""
SAME_SPEED = 1.10
"""Files within this factor of the fastest count as equally fast; the validation Dice decides between them."""


@dataclass(frozen=True)
class Gate:
    """The promise: how much Dice may be lost at the interval's bad end, how long a frame may take, and on what.

    Everything is decided by validation cases: whoever chooses by the test cases cannot report them afterwards.
    """

    max_drop: float = 0.01
    budget_ms: float | None = None
    targets: tuple[str, ...] = ()
    """What the board runs files on, the best first, which must take the file; empty: this machine's CPU."""
    board: str | None = None
    """The board whose targets these are."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.max_drop <= 1.0:
            raise ValueError(f"expected --max-drop from 0 to 1, got {self.max_drop}")
        if self.budget_ms is not None and not 0.0 < self.budget_ms < float("inf"):
            raise ValueError(f"expected --budget-ms above 0, got {self.budget_ms}")

    def admits(self, variant: Variant) -> bool:
        """Say whether a variant keeps the promise."""
        return self.keeps_accuracy(variant) and self.keeps_budget(variant) and self.finds_target(variant)

    def keeps_accuracy(self, variant: Variant) -> bool:
        """Judge the drop on validation cases at the bad end of its interval, or on average where there is none.

        Too few cases for an interval still let a file be chosen; `explain_doubt` then lets no promise be held.
        """
        return variant.validation.dice_drop.high <= self.max_drop

    def keeps_budget(self, variant: Variant) -> bool:
        """Judge the 99th percentile of the latency."""
        return self.budget_ms is None or variant.latency_ms.p99 <= self.budget_ms

    @property
    def target(self) -> str | None:
        """Name what the file is meant to run on: a file that only the board's second choice takes is slow there."""
        return self.targets[0] if self.targets else None

    def allows_float(self) -> bool:
        """Say whether the target takes operators with float numbers."""
        return self.target not in INTEGER_TARGETS

    def finds_target(self, variant: Variant) -> bool:
        """Judge whether the target takes every operator; a doubt is no reason against a file."""
        return self.target is None or takes_file(self.target, variant)


def takes_file(target: str, variant: Variant) -> bool:
    """Read from the card whether a target takes a file."""
    return target not in variant.lint or read_verdict(variant.lint[target]) != UNMAPPED


def choose_variant(variants: Sequence[Variant], gate: Gate) -> tuple[Variant, bool]:
    """Choose a variant, and say whether the gate held: the fastest of those asked for that are admitted.

    Where none of them is, what was made beside them is chosen if it is admitted, else the one that comes nearest.
    """
    asked = list_asked(variants)
    if admitted := [variant for variant in asked if gate.admits(variant)]:
        return _find_best(drop_idle_training(admitted)), True
    spare = [variant for variant in variants if gate.admits(variant)]
    return _find_best(spare) if spare else find_nearest(asked, gate), False


def explain_doubt(validation: Evaluation, test: Evaluation, gate: Gate) -> str:
    """Say why nothing can be promised against a float parent, whatever the files lose; empty where something can.

    Args:
        validation: The parent's masks on the validation cases.
        test: Its masks on the test cases.
        gate: What is to be promised.
    """
    for part, evaluation in (("validation", validation), ("test", test)):
        if evaluation.useless:
            return (
                f"Not judged: the float model itself is useless on {part} cases. {evaluation.notices[0]} "
                "Train it better first: keeping such masks is no gain."
            )
    if validation.dice is not None and validation.dice.ci95 is None and gate.max_drop < EVERYTHING:
        return (
            f"Not judged: fewer than {FEWEST_GROUPS} groups of validation cases show something, too few to say what is "
            "lost. Give more cases, or promise nothing with --max-drop 1."
        )
    return ""


def list_asked(variants: Sequence[Variant]) -> list[Variant]:
    """List what was asked for, and plain int8 where it stands for further training of the same network."""
    stands = any(variant.requested and variant.retrained for variant in variants)
    return [variant for variant in variants if variant.requested or stands]


def find_nearest(variants: Sequence[Variant], gate: Gate) -> Variant:
    """Find what comes nearest to the gate: of those that the target takes the fastest accurate one, else the best."""
    fitting = [variant for variant in variants if gate.finds_target(variant)] or variants
    accurate = [variant for variant in fitting if gate.keeps_accuracy(variant)]
    if accurate:
        return min(accurate, key=lambda variant: (variant.latency_ms.p99, *order_equal(variant)))
    return min(fitting, key=order_drop)


def order_drop(variant: Variant) -> tuple[float | str, ...]:
    """Order files by what they lose on validation cases."""
    return (variant.validation.dice_drop.mean, *order_equal(variant))


def order_equal(variant: Variant) -> tuple[int, str]:
    """Order files that are equally good, so that the same figures always give the same choice."""
    return variant.bytes, variant.name


def is_idle(variant: Variant, admitted: Sequence[Variant]) -> bool:
    """Say whether further training of the same network is not better on validation cases than without it."""
    plain = [other for other in admitted if other.plain and other.precision == variant.precision]
    return variant.retrained and any(variant.validation_dice <= other.validation_dice for other in plain)


def drop_idle_training(admitted: Sequence[Variant]) -> list[Variant]:
    """Leave out further training that gained nothing."""
    return [variant for variant in admitted if not is_idle(variant, admitted)]


def list_quick(variants: Sequence[Variant]) -> list[Variant]:
    """List the fastest, and what is as fast."""
    fastest = min(variant.latency_ms.p50 for variant in variants)
    return [variant for variant in variants if variant.latency_ms.p50 <= fastest * SAME_SPEED]


def _find_best(variants: Sequence[Variant]) -> Variant:
    return min(list_quick(variants), key=lambda variant: (-variant.validation_dice, *order_equal(variant)))
