"""One file that compress made, with what it costs and what it gained."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from edgeseg.core.card import INTEGER_TARGETS, UNMAPPED, read_verdict
from edgeseg.core.stats import FEWEST_GROUPS, Estimate, Percentiles
from edgeseg.evaluation.score import Evaluation

NOT_JUDGED = "Not judged: "
EVERYTHING = 1.0
"""As --max-drop: all Dice may be lost, so nothing is promised of it."""
SAME_SPEED = 1.10
"""Files within this factor of the fastest count as equally fast; the validation Dice decides between them."""
NAMED_LAYERS = 3
CALIBRATED = (
    "{} has its ranges from calibration alone: training what pruning left for int8 was not better on validation cases."
)


@dataclass(frozen=True)
class LayerError:
    """How far one layer's output is from the float parent's: the rms of the difference by the rms of the output."""

    layer: str
    operator: str
    error: float


@dataclass(frozen=True)
class KeptChannels:
    """How many channels of one convolution were left."""

    layer: str
    before: int
    after: int


@dataclass(frozen=True)
class CaseFigures:
    """The Dice on some of the run's cases, and what is lost of the float parent's."""

    dice: Estimate
    dice_drop: Estimate


@dataclass(frozen=True)
class Variant:
    """A row of the comparison; everything is chosen by the figures on validation cases, those on test cases report."""

    name: str
    file: str
    precision: str
    trained: bool
    """Whether the network was trained further for this file."""
    bytes: int
    gzip_bytes: int
    params: int
    macs: int
    sparsity: float
    operators: dict[str, int]
    dice: Estimate
    """On the test cases, as is the drop."""
    dice_drop: Estimate
    validation_dice: float
    """The mean that `validation` holds, too."""
    validation: CaseFigures
    latency_ms: Percentiles
    lint: dict[str, str]
    layers: tuple[LayerError, ...] = ()
    """In the order they run; empty where the layers cannot be matched with the parent's."""
    channels: tuple[KeptChannels, ...] = ()
    """In the order they run; empty where no channel was removed."""
    kept_float: tuple[str, ...] = ()
    """Layers that the recipe left float inside an int8 file."""
    sparsified: bool = False
    """Whether the recipe set weights to zero."""
    calibrated: bool = False
    """Whether a pruned network was quantised without its recipe's training, which was not better."""
    requested: bool = True
    """Whether it was asked for; plain int8 is made beside recipes that train for int8."""

    @property
    def plain(self) -> bool:
        """Say whether it is the network as it was, in other numbers throughout."""
        return not (self.trained or self.kept_float)

    @property
    def retrained(self) -> bool:
        """Say whether it is the same network after further training, which nothing but better masks can speak for."""
        return self.trained and not (self.channels or self.sparsified)

    def worst_layers(self, count: int) -> tuple[LayerError, ...]:
        """Pick the layers that are farthest from the parent's."""
        return tuple(sorted(self.layers, key=lambda layer: -layer.error)[:count])


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
        return _find_best(drop_training_without_gain(admitted)), True
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
                f"{NOT_JUDGED}the float model itself is useless on {part} cases. {evaluation.notices[0]} "
                "Train it better first: keeping such masks is no gain."
            )
    if validation.dice is not None and validation.dice.ci95 is None and gate.max_drop < EVERYTHING:
        return (
            f"{NOT_JUDGED}fewer than {FEWEST_GROUPS} groups of validation cases show something, too few to say what is "
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


def gained_nothing(variant: Variant, admitted: Sequence[Variant]) -> bool:
    """Say whether further training of the same network is not better on validation cases than without it."""
    plain = [other for other in admitted if other.plain and other.precision == variant.precision]
    return variant.retrained and any(variant.validation_dice <= other.validation_dice for other in plain)


def drop_training_without_gain(admitted: Sequence[Variant]) -> list[Variant]:
    """Leave out further training that gained nothing."""
    return [variant for variant in admitted if not gained_nothing(variant, admitted)]


def list_quick(variants: Sequence[Variant]) -> list[Variant]:
    """List the fastest, and what is as fast."""
    fastest = min(variant.latency_ms.p50 for variant in variants)
    return [variant for variant in variants if variant.latency_ms.p50 <= fastest * SAME_SPEED]


def _find_best(variants: Sequence[Variant]) -> Variant:
    return min(list_quick(variants), key=lambda variant: (-variant.validation_dice, *order_equal(variant)))


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
    if gained_nothing(variant, admitted):
        return (
            f"{variant.name} is left out: its further training is not better on validation cases "
            f"({variant.validation_dice:.4f}) than int8 without it.{_name_stand_in(variant, chosen, gate)}"
        )
    quick = list_quick(drop_training_without_gain(admitted))
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
