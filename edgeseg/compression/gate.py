"""The gate: which of the compressed files may be deployed, which one is chosen, and the sentences that say why.

Everything here is decided by the figures on validation cases; those on test cases only report (docs/decisions/0044).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from edgeseg.core.card import INTEGER_TARGETS, UNMAPPED, read_verdict
from edgeseg.core.stats import FEWEST_GROUPS, Estimate, Percentiles
from edgeseg.evaluation.operating import PointFigures
from edgeseg.evaluation.score import Evaluation

NOT_JUDGED = "Not judged: "
# A --max-drop of 1 switches the accuracy gate off.
EVERYTHING = 1.0
# How much the false-alarm rate may rise: one image in twenty. Fewer empty cases than this tell nothing of it.
MAX_FALSE_ALARMS, FEWEST_EMPTY = 0.05, 10
# Files within this factor of the fastest count as equally fast; the validation Dice decides between them.
SAME_SPEED = 1.10
NAMED_LAYERS = 3
CALIBRATED = (
    "{} has its ranges from calibration alone: training what pruning left for int8 was not better on validation cases."
)


@dataclass(frozen=True)
class LayerError:
    """One layer's error against the float parent: rms of the difference by rms of the parent's output."""

    layer: str
    operator: str
    error: float


@dataclass(frozen=True)
class KeptChannels:
    """How many channels of one convolution were kept."""

    layer: str
    before: int
    after: int


@dataclass(frozen=True)
class CaseFigures:
    """The Dice on some of the run's cases, and its drop from the float parent's."""

    dice: Estimate
    dice_drop: Estimate


@dataclass(frozen=True)
class AlarmFigures:
    """The false-alarm rate at the file's own operating point, and its rise over the float parent's."""

    cases: int
    rate: Estimate
    rise: Estimate


@dataclass(frozen=True)
class Variant:
    """One compressed file: its figures, and what its recipe did."""

    name: str
    file: str
    precision: str
    trained: bool
    """Whether the recipe trains: pruning, sparsification or QAT."""
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
    """The mean in `validation`."""
    validation: CaseFigures
    latency_ms: Percentiles
    lint: dict[str, str]
    layers: tuple[LayerError, ...] = ()
    """In execution order; empty where the layers do not match the parent's."""
    channels: tuple[KeptChannels, ...] = ()
    """In execution order; empty without pruning."""
    kept_float: tuple[str, ...] = ()
    """Layers that the recipe keeps in float inside an int8 file."""
    sparsified: bool = False
    """Whether the recipe sets weights to zero."""
    calibrated: bool = False
    """Whether a pruned network was quantised by calibration, because its recipe's QAT was not better."""
    requested: bool = True
    """False for the plain int8 that is added to recipes with QAT."""
    alarms: AlarmFigures | None = None
    """On the validation cases; None where fewer than `FEWEST_EMPTY` of them are without a class."""
    point: PointFigures | None = None
    """At its operating point on the test cases; None without one."""

    @property
    def plain(self) -> bool:
        """Whether it is the unchanged network, quantised throughout without training."""
        return not (self.trained or self.kept_float)

    @property
    def retrained(self) -> bool:
        """Whether it is the same network after further training: only better masks are a reason to choose it."""
        return self.trained and not (self.channels or self.sparsified)

    def worst_layers(self, count: int) -> tuple[LayerError, ...]:
        """List the layers with the largest errors."""
        return tuple(sorted(self.layers, key=lambda layer: -layer.error)[:count])


@dataclass(frozen=True)
class Gate:
    """The limits that the chosen file must keep: Dice drop at the upper end of its interval, latency, and targets.

    Whoever chooses by the test cases cannot report them afterwards, so validation cases decide.
    """

    max_drop: float = 0.01
    budget_ms: float | None = None
    targets: tuple[str, ...] = ()
    """What the board runs files on, the best first; the best must take the file. Empty: this machine's CPU."""
    board: str | None = None
    """The board whose targets these are."""
    max_false_alarms: float = MAX_FALSE_ALARMS
    """How much the false-alarm rate may rise over the float parent's, each at its own operating point."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.max_drop <= 1.0:
            raise ValueError(f"expected --max-drop from 0 to 1, got {self.max_drop}")
        if self.budget_ms is not None and not 0.0 < self.budget_ms < float("inf"):
            raise ValueError(f"expected --budget-ms above 0, got {self.budget_ms}")

    def admits(self, variant: Variant) -> bool:
        """Say whether a variant keeps all limits."""
        return (
            self.keeps_accuracy(variant)
            and self.keeps_silence(variant)
            and self.keeps_budget(variant)
            and self.finds_target(variant)
        )

    def keeps_accuracy(self, variant: Variant) -> bool:
        """Compare the drop on validation cases at the upper end of its interval, or on average where there is none.

        With too few cases for an interval a file is still chosen, but `explain_doubt` leaves the gate unjudged.
        """
        return variant.validation.dice_drop.high <= self.max_drop

    def keeps_silence(self, variant: Variant) -> bool:
        """Compare the rise of the false-alarm rate on validation cases; not where accuracy may be lost at will."""
        off = self.max_drop >= EVERYTHING
        return off or variant.alarms is None or variant.alarms.rise.mean <= self.max_false_alarms

    def keeps_budget(self, variant: Variant) -> bool:
        """Compare the 99th percentile of the latency."""
        return self.budget_ms is None or variant.latency_ms.p99 <= self.budget_ms

    @property
    def target(self) -> str | None:
        """The target that the file must run on: one that only the board's second choice takes would be slow."""
        return self.targets[0] if self.targets else None

    def allows_float(self) -> bool:
        """Say whether the target takes float operators."""
        return self.target not in INTEGER_TARGETS

    def finds_target(self, variant: Variant) -> bool:
        """Say whether the target takes every operator; an uncertain verdict does not exclude a file."""
        return self.target is None or takes_file(self.target, variant)


def takes_file(target: str, variant: Variant) -> bool:
    """Read from the card whether a target takes a file."""
    return target not in variant.lint or read_verdict(variant.lint[target]) != UNMAPPED


def choose_variant(variants: Sequence[Variant], gate: Gate) -> tuple[Variant, bool]:
    """Choose a variant, and say whether the gate held.

    Of the requested variants that pass, those about as fast as the fastest compete by validation Dice. Where none
    passes, one that was not requested is chosen if it passes, else the one that comes nearest.
    """
    requested = list_requested(variants)
    # what was requested comes first: plain int8 must not win only because it is there, too
    if admitted := [variant for variant in requested if gate.admits(variant)]:
        return _find_best(drop_training_without_gain(admitted)), True
    spare = [variant for variant in variants if gate.admits(variant)]
    return _find_best(spare) if spare else find_nearest(requested, gate), False


def explain_doubt(validation: Evaluation, test: Evaluation, gate: Gate) -> str:
    """Explain why the gate cannot be judged with this float parent, whatever the files lose; empty where it can.

    Args:
        validation: The parent's evaluation on the validation cases.
        test: Its evaluation on the test cases.
        gate: The limits.
    """
    for part, evaluation in (("validation", validation), ("test", test)):
        # a drop of 0 from a useless parent is no success (docs/decisions/0043)
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


def list_requested(variants: Sequence[Variant]) -> list[Variant]:
    """List the requested variants, and all others where one was retrained: it is the same network as plain int8."""
    retrained = any(variant.requested and variant.retrained for variant in variants)
    return [variant for variant in variants if variant.requested or retrained]


def find_nearest(variants: Sequence[Variant], gate: Gate) -> Variant:
    """Find what comes nearest to the gate: of those that the target takes, the fastest accurate one, else the best."""
    fitting = [variant for variant in variants if gate.finds_target(variant)] or variants
    accurate = [variant for variant in fitting if gate.keeps_accuracy(variant)]
    accurate = [variant for variant in accurate if gate.keeps_silence(variant)] or accurate
    if accurate:
        return min(accurate, key=lambda variant: (variant.latency_ms.p99, *order_equal(variant)))
    return min(fitting, key=order_drop)


def order_drop(variant: Variant) -> tuple[float | str, ...]:
    """Sort key: the drop on validation cases."""
    return (variant.validation.dice_drop.mean, *order_equal(variant))


def order_equal(variant: Variant) -> tuple[int, str]:
    """Sort key of equally good files: the same figures must always give the same choice."""
    return variant.bytes, variant.name


def gained_nothing(variant: Variant, admitted: Sequence[Variant]) -> bool:
    """Say whether further training of the same network did not improve its validation Dice."""
    plain = [other for other in admitted if other.plain and other.precision == variant.precision]
    return variant.retrained and any(variant.validation_dice <= other.validation_dice for other in plain)


def drop_training_without_gain(admitted: Sequence[Variant]) -> list[Variant]:
    """Drop variants whose further training gained nothing."""
    return [variant for variant in admitted if not gained_nothing(variant, admitted)]


def list_fastest(variants: Sequence[Variant]) -> list[Variant]:
    """List the fastest variant and those that are about as fast."""
    fastest = min(variant.latency_ms.p50 for variant in variants)
    return [variant for variant in variants if variant.latency_ms.p50 <= fastest * SAME_SPEED]


def _find_best(variants: Sequence[Variant]) -> Variant:
    return min(list_fastest(variants), key=lambda variant: (-variant.validation_dice, *order_equal(variant)))


def explain_choice(variants: Sequence[Variant], chosen: Variant, held: bool, gate: Gate) -> str:
    """Explain why the gate did not hold, or no int8 file holds it, and what to try; empty when nothing is wrong."""
    nearest = chosen if held else find_nearest(list_requested(variants), gate)
    said = [] if held else [_explain_failure(variants, nearest, chosen, gate)]
    small = [variant for variant in variants if variant.precision == "int8" and gate.finds_target(variant)]
    if small and not any(gate.keeps_accuracy(variant) for variant in small):
        best = min(small, key=order_drop)
        said += [explain_gate(best, gate, "int8 file")] if held or best is not nearest else []
    return " ".join(said)


def _explain_failure(variants: Sequence[Variant], nearest: Variant, chosen: Variant, gate: Gate) -> str:
    pruned = any(variant.channels for variant in variants)
    kind = "file" if len(list_requested(variants)) == len(variants) else "file that was asked for"
    said = explain_gate(nearest, gate, kind, pruned)
    if not gate.admits(chosen):
        return said
    return f"{said} {chosen.name}, which was made beside, holds the gate and is chosen instead."


def explain_gate(nearest: Variant, gate: Gate, kind: str = "file", pruned: bool = False) -> str:
    """Explain in one sentence which limit the nearest file misses, and what to try.

    Args:
        nearest: The file.
        gate: The limits.
        kind: What kind of file it is the nearest of.
        pruned: Whether one of the recipes prunes already.
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
    if not gate.keeps_silence(nearest):
        return (
            f"No {kind} keeps the rise of false alarms within {gate.max_false_alarms}: the best, {nearest.name}, "
            f"{_say_alarms(nearest)}; {_name_layers(nearest)}try --recipe int16x8, train longer, or take a lower "
            "--sensitivity."
        )
    return (
        f"No accurate {kind} stays within {gate.budget_ms} ms: {nearest.name} {_say_time(nearest)}; "
        f"try {_advise_speed(pruned)}edgeseg search, train a smaller model or size, use more --threads, or raise "
        "--budget-ms."
    )


def list_remarks(variants: Sequence[Variant], chosen: Variant, gate: Gate) -> dict[str, str]:
    """Explain for every requested file why it was not chosen, and whether it differs from its recipe."""
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
        return refused + _name_replacement(variant, chosen, gate)
    admitted = [other for other in list_requested(variants) if gate.admits(other)]
    if gained_nothing(variant, admitted):
        return (
            f"{variant.name} is left out: its further training is not better on validation cases "
            f"({variant.validation_dice:.4f}) than int8 without it.{_name_replacement(variant, chosen, gate)}"
        )
    fast = list_fastest(drop_training_without_gain(admitted))
    if variant not in fast:
        fastest = min(fast, key=lambda other: (other.latency_ms.p50, *order_equal(other)))
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
    if not gate.keeps_silence(variant):
        misses.append(f"{_say_alarms(variant)}, where {gate.max_false_alarms} may be added")
    if not gate.keeps_budget(variant):
        misses.append(f"{_say_time(variant)}, where {gate.budget_ms} ms may be taken")
    return " and ".join(misses)


def _name_replacement(variant: Variant, chosen: Variant, gate: Gate) -> str:
    if not (variant.retrained and chosen.plain and gate.admits(chosen)):
        return ""
    return f" {chosen.name}, the same network without further training, is used instead."


def _say_drop(variant: Variant) -> str:
    drop = variant.validation.dice_drop
    spread = "" if drop.ci95 is None else f" (up to {drop.ci95[1]:.4f})"
    return f"loses {drop.mean:.4f}{spread} on validation cases"


def _say_alarms(variant: Variant) -> str:
    alarms = variant.alarms
    if alarms is None:
        return "has no false-alarm rate"
    return (
        f"raises false alarms by {alarms.rise.mean:.2f} to {alarms.rate.mean:.0%} of the {alarms.cases} validation "
        "cases without the structure"
    )


def _say_time(variant: Variant) -> str:
    return f"needs {variant.latency_ms.p99:.2f} ms (p99)"


def _quote_lint(variant: Variant, gate: Gate) -> str:
    """Quote the target's lint verdict on a file, and name the board's other targets that would take it."""
    others = [target for target in gate.targets[1:] if takes_file(target, variant)]
    slower = f"; only its {' or '.join(others)} would run it" if others else ""
    return f"{gate.target}: {variant.lint[str(gate.target)]}{slower}"


def _advise_speed(pruned: bool) -> str:
    return "" if pruned else "--recipe prune50-int8-qat or "


def _advise_accuracy(variant: Variant, gate: Gate) -> str:
    """Say what else to try; a pruned network's layers are compared with its own float file, which has lost already."""
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
    """Write the line of a recipe that keeps the worst layers in float, too."""
    kept = variant.kept_float
    further = [layer.layer for layer in variant.worst_layers(len(variant.layers)) if layer.layer not in kept]
    if not further:
        return ""
    line = f"keep_float = {json.dumps([*kept, *further[:NAMED_LAYERS]])}"
    return f"put {line} into a copy of the recipe int8-ptq (no full integers then: not for the Edge TPU), "
