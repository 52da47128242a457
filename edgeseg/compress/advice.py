"""Say in sentences why the gate did not hold, what to try, and why a file that was asked for was not chosen."""

from __future__ import annotations

import json
from collections.abc import Sequence

from edgeseg.compress.gate import (
    Gate,
    drop_idle_training,
    find_nearest,
    is_idle,
    list_asked,
    list_quick,
    order_drop,
    order_equal,
    takes_file,
)
from edgeseg.compress.variant import Variant

NAMED_LAYERS = 3
CALIBRATED = (
    "{} has its ranges from calibration alone: training what pruning left for int8 was not better on validation cases."
)


def explain_choice(variants: Sequence[Variant], chosen: Variant, held: bool, gate: Gate) -> str:
    """Say why the gate did not hold, or why no int8 file was chosen, and what to try; empty when nothing is wrong."""
    nearest = chosen if held else find_nearest(list_asked(variants), gate)
    said = [] if held else [_explain_failure(variants, nearest, chosen, gate)]
    small = [variant for variant in variants if variant.precision == "int8" and gate.finds_target(variant)]
    if small and not any(gate.keeps_accuracy(variant) for variant in small):
        best = min(small, key=order_drop)
        said += [explain_gate(best, gate, "int8 file")] if held or best is not nearest else []
    return " ".join(said)


def _explain_failure(variants: Sequence[Variant], nearest: Variant, chosen: Variant, gate: Gate) -> str:
    pruned = any(variant.channels for variant in variants)
    kind = "file" if len(list_asked(variants)) == len(variants) else "file that was asked for"
    said = explain_gate(nearest, gate, kind, pruned)
    if not gate.admits(chosen):
        return said
    return f"{said} {chosen.name}, which was made beside, holds the gate and is chosen instead."


def explain_gate(nearest: Variant, gate: Gate, kind: str = "file", pruned: bool = False) -> str:
    """Say what the file that comes nearest misses and what to try, in one sentence.

    Args:
        nearest: The file.
        gate: What it misses.
        kind: What it is the best of.
        pruned: Whether pruning was tried already.
    """
    if not gate.finds_target(nearest):
        return (
            f"No {kind} runs on this board's {gate.target}: {nearest.name} is refused ({_quote_lint(nearest, gate)}); "
            "change that, or take another board."
        )
    if not gate.keeps_accuracy(nearest):
        return (
            f"No {kind} keeps the drop within {gate.max_drop}: the best, {nearest.name}, {_say_drop(nearest)}; "
            f"{_advise_accuracy(nearest, gate)}train longer, take a larger model, or raise --max-drop."
        )
    return (
        f"No accurate {kind} stays within {gate.budget_ms} ms: {nearest.name} {_say_time(nearest)}; "
        f"try {_advise_speed(pruned)}edgeseg search, train a smaller model or size, use more --threads, or raise "
        "--budget-ms."
    )


def list_remarks(variants: Sequence[Variant], chosen: Variant, gate: Gate) -> dict[str, str]:
    """Say of every file that was asked for and not chosen why it was not, and of any whose training gained nothing."""
    said = {
        variant.name: [
            *([CALIBRATED.format(variant.name)] if variant.calibrated else []),
            *([_explain_other(variant, variants, chosen, gate)] if variant.name != chosen.name else []),
        ]
        for variant in variants
        if variant.requested
    }
    return {name: " ".join(sentences) for name, sentences in said.items() if sentences}


def _explain_other(variant: Variant, variants: Sequence[Variant], chosen: Variant, gate: Gate) -> str:
    if not gate.admits(variant):
        refused = f"{variant.name} is not admitted: it {_list_misses(variant, gate)}."
        return refused + _name_stand_in(variant, chosen, gate)
    admitted = [other for other in list_asked(variants) if gate.admits(other)]
    if is_idle(variant, admitted):
        return (
            f"{variant.name} is left out: its further training is not better on validation cases "
            f"({variant.validation_dice:.4f}) than int8 without it.{_name_stand_in(variant, chosen, gate)}"
        )
    quick = list_quick(drop_idle_training(admitted))
    if variant not in quick:
        fastest = min(quick, key=lambda other: (other.latency_ms.p50, *order_equal(other)))
        times = [f"{one.latency_ms.p50:.2f} ms" for one in (variant, fastest)]
        return f"{variant.name} holds the gate, but takes {times[0]} where {fastest.name} takes {times[1]}."
    return (
        f"{variant.name} holds the gate and is about as fast as {chosen.name}, whose masks are no worse on validation "
        f"cases ({chosen.validation_dice:.4f} to {variant.validation_dice:.4f})."
    )


def _list_misses(variant: Variant, gate: Gate) -> str:
    misses = [] if gate.finds_target(variant) else [f"is refused ({_quote_lint(variant, gate)})"]
    if not gate.keeps_accuracy(variant):
        misses.append(f"{_say_drop(variant)}, where {gate.max_drop} may be lost")
    if not gate.keeps_budget(variant):
        misses.append(f"{_say_time(variant)}, where {gate.budget_ms} ms may be taken")
    return " and ".join(misses)


def _name_stand_in(variant: Variant, chosen: Variant, gate: Gate) -> str:
    if not (variant.retrained and chosen.plain and gate.admits(chosen)):
        return ""
    return f" {chosen.name}, the same network without further training, stands for it."


def _say_drop(variant: Variant) -> str:
    drop = variant.validation.dice_drop
    spread = "" if drop.ci95 is None else f" (up to {drop.ci95[1]:.4f})"
    return f"loses {drop.mean:.4f}{spread} on validation cases"


def _say_time(variant: Variant) -> str:
    return f"needs {variant.latency_ms.p99:.2f} ms (p99)"


def _quote_lint(variant: Variant, gate: Gate) -> str:
    """Say what the target has against a file, and which of the board's others would take it."""
    others = [target for target in gate.targets[1:] if takes_file(target, variant)]
    slower = f"; only its {' or '.join(others)} would run it" if others else ""
    return f"{gate.target}: {variant.lint[str(gate.target)]}{slower}"


def _advise_speed(pruned: bool) -> str:
    return "" if pruned else "--recipe prune50-int8-qat or "


def _advise_accuracy(variant: Variant, gate: Gate) -> str:
    """Say what else to try; a pruned network's layers are held against its own in float, which has lost already."""
    if variant.channels:
        return "give its recipe a larger share in [prune] or more recovery_epochs, try --teacher, "
    further = ""
    if variant.precision == "int8":
        further = f"{_advise_float(variant) if gate.allows_float() else ''}try --recipe int16x8 or --teacher, "
    return _name_layers(variant) + further


def _name_layers(variant: Variant) -> str:
    worst = variant.worst_layers(NAMED_LAYERS)
    if not worst:
        return ""
    named = ", ".join(f"{layer.layer} ({layer.error:.1%})" for layer in worst)
    return f"farthest from float are its layers {named}; "


def _advise_float(variant: Variant) -> str:
    """Write the line of a recipe that keeps the worst layers in float, beside those that are kept already."""
    kept = variant.kept_float
    further = [layer.layer for layer in variant.worst_layers(len(variant.layers)) if layer.layer not in kept]
    if not further:
        return ""
    line = f"keep_float = {json.dumps([*kept, *further[:NAMED_LAYERS]])}"
    return f"put {line} into a copy of the recipe int8-ptq (no full integers then: not for the Edge TPU), "
