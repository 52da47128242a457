"""Decide which file is chosen, and whether the promise was held."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from edgeseg.compress.variant import Variant
from edgeseg.core.verdict import INTEGER_TARGETS, UNMAPPED, read_verdict

SAME_SPEED = 1.10
"""Files within this factor of the fastest count as equally fast; the validation Dice decides between them."""
NAMED_LAYERS = 3


@dataclass(frozen=True)
class Gate:
    """The promise: how much Dice may be lost at the interval's bad end, how long a frame may take, and on what."""

    max_drop: float = 0.01
    budget_ms: float | None = None
    targets: tuple[str, ...] = ()
    """What the file is to run on; one of them must take it. Empty: this machine."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.max_drop <= 1.0:
            raise ValueError(f"expected --max-drop from 0 to 1, got {self.max_drop}")
        if self.budget_ms is not None and self.budget_ms <= 0:
            raise ValueError(f"expected --budget-ms above 0, got {self.budget_ms}")

    def admits(self, variant: Variant) -> bool:
        """Say whether a variant keeps the promise."""
        return self.keeps_accuracy(variant) and self.keeps_budget(variant) and self.finds_target(variant)

    def keeps_accuracy(self, variant: Variant) -> bool:
        """Judge the drop at the bad end of its interval."""
        return variant.dice_drop.ci95[1] <= self.max_drop

    def keeps_budget(self, variant: Variant) -> bool:
        """Judge the 99th percentile of the latency."""
        return self.budget_ms is None or variant.latency_ms.p99 <= self.budget_ms

    def allows_float(self) -> bool:
        """Say whether a target takes operators with float numbers."""
        return not self.targets or any(target not in INTEGER_TARGETS for target in self.targets)

    def finds_target(self, variant: Variant) -> bool:
        """Judge whether a target takes every operator; a doubt is no reason against a file."""
        return not self.targets or any(
            target not in variant.lint or read_verdict(variant.lint[target]) != UNMAPPED for target in self.targets
        )


def choose_variant(variants: Sequence[Variant], gate: Gate) -> tuple[Variant, bool]:
    """Choose a variant, and say whether the gate held: the fastest that is admitted, else the most accurate."""
    admitted = _drop_idle_training([variant for variant in variants if gate.admits(variant)])
    if not admitted:
        fitting = [variant for variant in variants if gate.finds_target(variant)] or variants
        return min(fitting, key=lambda variant: variant.dice_drop.mean), False
    fastest = min(variant.latency_ms.p50 for variant in admitted)
    quick = [variant for variant in admitted if variant.latency_ms.p50 <= fastest * SAME_SPEED]
    return max(quick, key=lambda variant: variant.validation_dice), True


def _drop_idle_training(admitted: Sequence[Variant]) -> list[Variant]:
    """Leave out further training of the same network that is not better on validation cases than without it."""
    plain = {
        variant.precision: variant.validation_dice
        for variant in admitted
        if not variant.trained and not variant.kept_float
    }
    return [
        variant
        for variant in admitted
        if not variant.trained or variant.channels or variant.validation_dice > plain.get(variant.precision, -1.0)
    ]


def explain_choice(variants: Sequence[Variant], chosen: Variant, held: bool, gate: Gate) -> str:
    """Say why the gate did not hold, or why no int8 file was chosen, and what to try; empty when nothing is wrong."""
    said = [] if held else [explain_gate(chosen, gate)]
    small = [variant for variant in variants if variant.precision == "int8" and gate.finds_target(variant)]
    if small and not any(gate.keeps_accuracy(variant) for variant in small):
        best = min(small, key=lambda variant: variant.dice_drop.mean)
        said += [explain_gate(best, gate, "int8 file")] if held or best is not chosen else []
    return " ".join(said)


def explain_gate(chosen: Variant, gate: Gate, kind: str = "file") -> str:
    """Say what the best file misses and what to try, in one sentence."""
    if not gate.finds_target(chosen):
        reasons = "; ".join(f"{target}: {chosen.lint[target]}" for target in gate.targets)
        return f"No file runs on this board: {chosen.name} is refused ({reasons}); change that, or take another board."
    if not gate.keeps_accuracy(chosen):
        drop = chosen.dice_drop
        return (
            f"No {kind} keeps the drop within {gate.max_drop}: the best, {chosen.name}, loses {drop.mean:.4f} "
            f"(up to {drop.ci95[1]:.4f}); {_name_layers(chosen)}"
            f"{_advise(chosen, gate)}train longer, take a larger model, or raise --max-drop."
        )
    return (
        f"No accurate file stays within {gate.budget_ms} ms: {chosen.name} needs {chosen.latency_ms.p99:.2f} ms (p99); "
        "try --recipe prune50-int8-qat or edgeseg search, train a smaller model or size, use more --threads, or raise "
        "--budget-ms."
    )


def _name_layers(variant: Variant) -> str:
    worst = variant.worst_layers(NAMED_LAYERS)
    if not worst:
        return ""
    named = ", ".join(f"{layer.layer} ({layer.error:.1%})" for layer in worst)
    return f"farthest from float are its layers {named}; "


def _advise(variant: Variant, gate: Gate) -> str:
    if variant.precision != "int8":
        return ""
    return f"{_advise_float(variant) if gate.allows_float() else ''}try --recipe int16x8 or --teacher, "


def _advise_float(variant: Variant) -> str:
    """Write the line of a recipe that keeps the worst layers in float, beside those that are kept already."""
    kept = variant.kept_float
    further = [layer.layer for layer in variant.worst_layers(len(variant.layers)) if layer.layer not in kept]
    if not further:
        return ""
    line = f"keep_float = {json.dumps([*kept, *further[:NAMED_LAYERS]])}"
    return f"put {line} into a copy of the recipe int8-ptq (no full integers then: not for the Edge TPU), "
