"""The gate judges the bad end of the interval, and the choice falls on the fastest file that is admitted."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest

from edgeseg.compression.gate import (
    AlarmFigures,
    CaseFigures,
    Gate,
    KeptChannels,
    LayerError,
    Variant,
    choose_variant,
    compare_alarms,
    explain_choice,
    explain_doubt,
    explain_gate,
    list_remarks,
)
from edgeseg.core.card import UNCERTAIN, UNMAPPED
from edgeseg.core.decision import DOUBTFUL, FOUND
from edgeseg.core.stats import Estimate, Percentiles, estimate_mean
from edgeseg.evaluation.metrics import Baseline, explain_useless
from edgeseg.evaluation.operating import Outcome
from edgeseg.evaluation.score import EmptyCases, Evaluation, ScoredCase
from edgeseg.graph.findings import Objection, make_finding, summarise_findings
from edgeseg.machine.boards import find_board, list_boards, load_board
from tests.commands import assert_says


def make_variant(
    name: str,
    ms: float,
    drop: float,
    spread: float = 0.001,
    validation: float = 0.9,
    trained: bool = False,
    lint: dict[str, str] | None = None,
    layers: tuple[LayerError, ...] = (),
    kept_float: tuple[str, ...] = (),
) -> Variant:
    lost = Estimate(drop, drop, (drop - spread, drop + spread))
    return Variant(
        name=name,
        file=f"{name}.tflite",
        precision="int8",
        trained=trained,
        bytes=1000,
        gzip_bytes=900,
        params=10,
        macs=10,
        sparsity=0.0,
        operators={"CONV_2D": 3},
        dice=Estimate(0.9, 0.9, (0.88, 0.92)),
        dice_drop=lost,
        validation_dice=validation,
        validation=CaseFigures(Estimate(validation, validation, (validation, validation)), lost),
        latency_ms=Percentiles(ms, ms, ms, ms * 1.2, ms, 0.0),
        lint=lint or {},
        layers=layers,
        kept_float=kept_float,
    )


def test_fastest_admitted_file_is_chosen() -> None:
    variants = [make_variant("slow", 3.0, 0.0), make_variant("fast", 1.0, 0.002), make_variant("wrong", 0.5, 0.2)]
    chosen, held = choose_variant(variants, Gate(max_drop=0.01))
    assert (chosen.name, held) == ("fast", True)


def test_between_equally_fast_files_validation_decides() -> None:
    variants = [make_variant("a", 1.00, 0.0, validation=0.90), make_variant("b", 1.05, 0.0, validation=0.91)]
    assert choose_variant(variants, Gate())[0].name == "b"


def test_bad_end_of_the_interval_counts() -> None:
    variants = [make_variant("a", 1.0, 0.005, spread=0.02)]
    chosen, held = choose_variant(variants, Gate(max_drop=0.01))
    assert not held
    assert_says(explain_gate(chosen, Gate(max_drop=0.01)), "0.0050", "0.0250", "validation")


def test_budget_is_held_by_the_slow_frames_too() -> None:
    gate = Gate(budget_ms=1.1)
    chosen, held = choose_variant([make_variant("a", 1.0, 0.0)], gate)
    assert not held
    said = explain_gate(chosen, gate)
    assert_says(said, "1.20 ms", "--recipe prune50-int8-qat", "edgeseg search")


@pytest.mark.parametrize(("validation", "expected"), [(0.91, "qat"), (0.90, "ptq"), (0.89, "ptq")])
def test_further_training_is_chosen_only_when_it_is_better_on_validation_cases(
    validation: float, expected: str
) -> None:
    variants = [make_variant("ptq", 3.0, 0.0), make_variant("qat", 1.0, 0.0, validation=validation, trained=True)]
    assert choose_variant(variants, Gate())[0].name == expected


def test_further_training_is_chosen_when_without_it_the_gate_does_not_hold() -> None:
    variants = [make_variant("ptq", 1.0, 0.2, validation=0.9), make_variant("qat", 1.0, 0.0, 0.001, 0.8, trained=True)]
    assert choose_variant(variants, Gate()) == (variants[1], True)


def test_file_that_no_target_takes_is_not_chosen() -> None:
    refused = make_variant("wide", 0.5, 0.0, lint={"edgetpu": "ADD computes with more than 8 bits"})
    taken = make_variant("int8", 1.0, 0.0, lint={"edgetpu": "ok"})
    gate = Gate(targets=("edgetpu",))
    assert choose_variant([refused, taken], gate) == (taken, True)
    assert choose_variant([refused, taken], Gate(targets=("cpu", "edgetpu")))[0] == refused
    chosen, held = choose_variant([refused], gate)
    assert not held
    assert_says(explain_gate(chosen, gate), "wide", "edgetpu: ADD computes with more than 8 bits")
    remarks = list_remarks([refused, taken], taken, gate)
    assert list(remarks) == ["wide"]
    assert_says(remarks["wide"], "wide", "edgetpu: ADD computes with more than 8 bits")


@pytest.mark.parametrize("name", sorted(list_boards()))
def test_every_board_refuses_what_its_best_backend_cannot_run(name: str) -> None:
    recommended = load_board(name).recommended
    gate = Gate(budget_ms=recommended.budget_ms, targets=recommended.backends)
    half = dataclasses.replace(
        make_variant("float16", 1.0, 0.0, lint={"cpu": "ok", "edgetpu": "CONV_2D computes with float numbers"}),
        precision="float16",
    )
    chosen, held = choose_variant([half], gate)
    assert held is not name.startswith("coral")
    said = "float16 is refused (edgetpu: CONV_2D computes with float numbers; only its cpu would run it)"
    assert (said in explain_choice([half], chosen, held, gate)) is name.startswith("coral")


def test_board_with_an_edge_tpu_takes_what_its_rules_take(tmp_path: Path) -> None:
    profile = find_board("generic-aarch64").read_text(encoding="utf-8").replace('["cpu"]', '["edgetpu"]')
    (tmp_path / "coral.toml").write_text(profile, encoding="utf-8")
    gate = Gate(targets=load_board(str(tmp_path / "coral.toml")).recommended.backends)
    refused, doubtful = (
        make_variant(name, 1.0, 0.0, lint={"cpu": "ok", "edgetpu": summarise_findings([make_finding(name, 0, said)])})
        for name, said in {
            "SOFTMAX": Objection(UNMAPPED, "runs over channels", "train with --activation sigmoid"),
            "PAD": Objection(UNCERTAIN, "is documented as mapped", "compile it"),
        }.items()
    )
    assert choose_variant([refused, doubtful], gate) == (doubtful, True)
    chosen, held = choose_variant([refused], gate)
    assert not held
    assert "edgetpu: SOFTMAX runs over channels: train with --activation sigmoid" in explain_gate(chosen, gate)


LAYERS = tuple(LayerError(name, "CONV_2D", error) for name, error in [("a", 0.1), ("b", 0.3), ("c", 0.0), ("d", 0.2)])


def test_layers_with_the_largest_error_are_named() -> None:
    said = explain_gate(make_variant("int8", 1.0, 0.5, layers=LAYERS), Gate())
    assert_says(said, "b (30.0%), d (20.0%), a (10.0%)", 'keep_float = ["b", "d", "a"]', "int8-ptq", "Edge TPU")
    assert all(option in said for option in ("--recipe int16x8", "--teacher"))


def test_further_layers_are_kept_beside_those_that_were_not_enough() -> None:
    mixed = make_variant("mixed", 1.5, 0.5, layers=LAYERS, kept_float=("b",))
    assert 'keep_float = ["b", "d", "a", "c"]' in explain_gate(mixed, Gate())
    assert "keep_float" not in explain_gate(make_variant("int8", 1.0, 0.5), Gate())
    assert "keep_float" not in explain_gate(dataclasses.replace(mixed, kept_float=("a", "b", "c", "d")), Gate())


def test_no_float_is_advised_or_chosen_where_the_target_takes_none() -> None:
    gate = Gate(targets=("edgetpu",))
    int8 = make_variant("int8", 1.0, 0.5, layers=LAYERS, lint={"edgetpu": "ok"})
    mixed = make_variant("mixed", 0.5, 0.0, layers=LAYERS, lint={"edgetpu": "CONV_2D computes with float numbers"})
    assert choose_variant([int8, mixed], gate) == (int8, False)
    assert choose_variant([int8, mixed], Gate(targets=("edgetpu", "cpu"))) == (int8, False)
    assert choose_variant([int8, mixed], Gate(targets=("cpu", "gpu"))) == (mixed, True)
    said = explain_choice([int8, mixed], int8, False, gate)
    assert_says(said, "0.01", "int8")
    assert "keep_float" not in said


def test_layers_to_keep_are_named_where_float_is_accurate_but_too_slow() -> None:
    gate = Gate(budget_ms=2.0)
    half = dataclasses.replace(make_variant("float16", 4.0, 0.0), precision="float16")
    lossy = make_variant("int8-ptq", 1.0, 0.2, layers=LAYERS)
    said = explain_choice([half, lossy], half, False, gate)
    assert_says(said, "2.0 ms", "float16", 'keep_float = ["b", "d", "a"]')


def test_training_has_to_beat_all_int8_and_not_a_file_with_float_layers() -> None:
    mixed = make_variant("mixed", 2.0, 0.0, validation=0.95, kept_float=("b",))
    trained = make_variant("qat", 1.0, 0.0, validation=0.91, trained=True)
    assert choose_variant([make_variant("ptq", 1.0, 0.0), mixed, trained], Gate())[0] == trained


def test_it_is_said_when_no_int8_file_holds_the_gate() -> None:
    half = dataclasses.replace(make_variant("float16", 4.0, 0.0), precision="float16")
    lossy, good = make_variant("int8-ptq", 1.0, 0.2), make_variant("int8-qat", 1.0, 0.0)
    assert_says(explain_choice([half, lossy], half, True, Gate()), "0.01", "int8-ptq", "0.2000")
    assert explain_choice([half, lossy, good], good, True, Gate()) == ""
    assert explain_choice([half], half, True, Gate()) == ""


CHANNELS = (KeptChannels("a", 16, 8),)
PLAIN = dataclasses.replace(make_variant("int8-ptq", 1.0, 0.0), requested=False)


def test_what_was_asked_for_has_to_hold_and_not_what_was_made_beside() -> None:
    pruned = dataclasses.replace(make_variant("prune50", 0.5, 0.03, trained=True, layers=LAYERS), channels=CHANNELS)
    chosen, held = choose_variant([PLAIN, pruned], Gate())
    assert (chosen, held) == (PLAIN, False)
    said = explain_choice([PLAIN, pruned], chosen, held, Gate())
    assert_says(said, "prune50", "0.0300", "0.01", "int8-ptq")
    remarks = list_remarks([PLAIN, pruned], chosen, Gate())
    assert list(remarks) == ["prune50"]
    assert_says(remarks["prune50"], "0.0300", "0.0310", "validation", "0.01")
    asked = dataclasses.replace(PLAIN, requested=True)
    assert choose_variant([asked, pruned], Gate()) == (asked, True)


def test_accurate_file_that_nobody_asked_for_is_not_denied() -> None:
    gate = Gate(budget_ms=1.0)
    pruned = dataclasses.replace(make_variant("prune50", 0.5, 0.03, trained=True), channels=CHANNELS)
    chosen, held = choose_variant([PLAIN, pruned], gate)
    assert (chosen, held) == (pruned, False)
    said = explain_choice([PLAIN, pruned], chosen, held, gate)
    assert_says(said, "0.01", "prune50")


def test_what_was_asked_for_is_chosen_where_it_holds() -> None:
    sparse = dataclasses.replace(make_variant("sparse50", 1.0, 0.0, validation=0.8, trained=True), sparsified=True)
    assert choose_variant([PLAIN, sparse], Gate()) == (sparse, True)
    asked = dataclasses.replace(PLAIN, requested=True)
    assert choose_variant([asked, sparse], Gate()) == (asked, True)
    assert_says(list_remarks([asked, sparse], asked, Gate())["sparse50"], "0.9000", "0.8000", "validation")


@pytest.mark.parametrize(
    ("trained", "facts"),
    [
        (make_variant("qat", 1.0, 0.0, validation=0.8, trained=True), ("0.8000",)),
        (make_variant("qat", 1.0, 0.2, validation=0.95, trained=True), ("0.2000",)),
    ],
)
def test_plain_int8_stands_for_further_training_of_the_same_network(trained: Variant, facts: tuple[str, ...]) -> None:
    assert choose_variant([PLAIN, trained], Gate()) == (PLAIN, True)
    said = list_remarks([PLAIN, trained], PLAIN, Gate())["qat"]
    assert_says(said, "qat", *facts, "int8-ptq")


def test_removed_channels_are_blamed_and_not_the_layers_that_are_left() -> None:
    pruned = dataclasses.replace(make_variant("prune50", 0.5, 0.5, layers=LAYERS), channels=CHANNELS)
    said = explain_gate(pruned, Gate())
    assert_says(said, "[prune]", "recovery_epochs")
    assert "keep_float" not in said
    assert "30.0%" not in said


def test_file_that_comes_nearest_to_the_budget_is_named() -> None:
    half = dataclasses.replace(make_variant("float16", 3.0, -0.001), precision="float16")
    files = [half, make_variant("int8-ptq", 0.9, 0.0), make_variant("wrong", 0.1, 0.5)]
    chosen, held = choose_variant(files, Gate(budget_ms=1.0))
    assert (chosen.name, held) == ("int8-ptq", False)
    assert_says(explain_choice(files, chosen, held, Gate(budget_ms=1.0)), "1.0 ms", "int8-ptq", "1.08 ms")
    assert_says(list_remarks(files, chosen, Gate(budget_ms=1.0))["float16"], "3.60 ms", "p99", "1.0 ms")


def test_pruning_is_not_advised_where_it_was_tried() -> None:
    pruned = dataclasses.replace(make_variant("prune50", 0.9, 0.0), channels=CHANNELS)
    said = explain_choice([PLAIN, pruned], pruned, False, Gate(budget_ms=1.0))
    assert_says(said, "prune50", "1.08 ms", "p99", "edgeseg search")
    assert "--recipe prune50" not in said


def test_it_is_said_where_training_what_pruning_left_gained_nothing() -> None:
    pruned = dataclasses.replace(make_variant("prune50", 0.5, 0.0), channels=CHANNELS, calibrated=True)
    assert_says(list_remarks([PLAIN, pruned], pruned, Gate())["prune50"], "prune50", "calibration")


def test_slower_file_is_held_against_the_fastest() -> None:
    files = [make_variant(name, ms, 0.0, validation=dice) for name, ms, dice in [("a", 1.0, 0.8), ("b", 1.05, 0.9)]]
    slow = make_variant("c", 1.12, 0.0, validation=0.95)
    chosen, _ = choose_variant([*files, slow], Gate())
    assert chosen.name == "b"
    assert_says(list_remarks([*files, slow], chosen, Gate())["c"], "1.12 ms", "1.00 ms", "a ")


@pytest.mark.parametrize(
    "values",
    [
        {"max_drop": -0.1},
        {"max_drop": 2.0},
        {"budget_ms": 0.0},
        {"budget_ms": float("nan")},
        {"max_drop": float("nan")},
    ],
)
def test_impossible_gates_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected --"):
        Gate(values.get("max_drop", 0.01), values.get("budget_ms"))


def judge_on(dice: float, groups: int, baseline: float = 0.1) -> Evaluation:
    """Judge cases by groups whose Dice is the same everywhere."""
    known = estimate_mean([dice] * groups, [str(number) for number in range(groups)])
    doubt = explain_useless(known, Baseline(baseline, 0.0))
    return Evaluation(
        groups, known, known, known, known, known, {}, EmptyCases(0), {}, None, None, None, bool(doubt), (doubt,)
    )


def test_the_gate_looks_at_validation_cases_and_test_cases_only_report() -> None:
    lost = Estimate(0.2, 0.2, (0.19, 0.21))
    good = make_variant("good", 1.0, 0.0)
    unlucky = dataclasses.replace(good, dice_drop=lost)
    assert choose_variant([unlucky], Gate()) == (unlucky, True)
    lucky = dataclasses.replace(good, validation=CaseFigures(good.dice, lost), name="lucky")
    assert choose_variant([lucky], Gate()) == (lucky, False)
    assert choose_variant([lucky, unlucky], Gate()) == (unlucky, True)


@pytest.mark.parametrize(
    ("validation", "test", "reason"),
    [
        (judge_on(0.9, 8), judge_on(0.9, 8), ""),
        (judge_on(0.17, 8), judge_on(0.9, 8), "validation"),
        (judge_on(0.9, 8), judge_on(0.17, 8), "test"),
        (judge_on(0.9, 8), judge_on(0.6, 8, baseline=0.7), "0.70"),
        (judge_on(0.9, 4), judge_on(0.9, 8), "5 groups"),
        (judge_on(0.9, 8), judge_on(0.9, 1), ""),
    ],
)
def test_a_float_model_that_is_useless_or_hardly_known_lets_nothing_be_promised(
    validation: Evaluation, test: Evaluation, reason: str
) -> None:
    doubt = explain_doubt(validation, test, Gate())
    assert reason in doubt
    assert bool(doubt) == bool(reason)


def test_who_asks_for_no_promise_needs_no_interval_but_a_model() -> None:
    assert explain_doubt(judge_on(0.9, 2), judge_on(0.9, 2), Gate(max_drop=1.0)) == ""
    assert "useless" in explain_doubt(judge_on(0.2, 8), judge_on(0.9, 8), Gate(max_drop=1.0))


def test_without_an_interval_the_mean_chooses() -> None:
    few = Estimate(0.005, 0.005, None)
    variants = [
        dataclasses.replace(make_variant(name, ms, 0.0), validation=CaseFigures(few, few))
        for name, ms in (("slow", 3.0), ("fast", 1.0))
    ]
    assert choose_variant(variants, Gate())[0].name == "fast"
    assert_says(explain_gate(variants[0], Gate(max_drop=0.001)), "0.0050", "validation")


@pytest.mark.parametrize("gate", [Gate(), Gate(budget_ms=0.5), Gate(max_drop=0.0)])
def test_the_same_figures_give_the_same_choice_in_any_order(gate: Gate) -> None:
    variants = [
        dataclasses.replace(make_variant(name, 1.0, 0.001), bytes=size)
        for name, size in (("b", 900), ("a", 900), ("c", 1000), ("d", 2000))
    ]
    chosen = {choose_variant(order, gate)[0].name for order in itertools.permutations(variants)}
    assert chosen == {"a"}


def add_alarms(variant: Variant, rise: float) -> Variant:
    estimate = Estimate(rise, rise, None)
    return dataclasses.replace(variant, alarms=AlarmFigures(20, Estimate(0.1 + rise, 0.0, None), estimate))


def test_a_file_that_raises_false_alarms_is_refused() -> None:
    loud, quiet = add_alarms(make_variant("loud", 1.0, 0.0), 0.1), add_alarms(make_variant("quiet", 3.0, 0.0), 0.05)
    chosen, held = choose_variant([loud, quiet], Gate())
    assert (chosen.name, held) == ("quiet", True)
    assert_says(list_remarks([loud, quiet], chosen, Gate())["loud"], "false alarms by 0.10", "20%", "20 validation")
    alone, held = choose_variant([loud], Gate())
    assert not held
    assert_says(explain_choice([loud], alone, held, Gate()), "false alarms within 0.05", "loud", "--sensitivity")


def test_false_alarms_count_only_where_they_are_known_and_a_gate_is_wanted() -> None:
    loud = add_alarms(make_variant("loud", 1.0, 0.0), 0.5)
    assert Gate(max_drop=1.0).admits(loud)
    assert Gate().admits(dataclasses.replace(loud, alarms=None))
    assert Gate().admits(add_alarms(loud, -0.3))


def test_alarms_are_compared_case_by_case() -> None:
    def score(found: bool, number: int) -> ScoredCase:
        state = FOUND if found else DOUBTFUL
        outcome = Outcome("target", f"g{number}", None, state, 0.5)
        return ScoredCase(f"c{number}", f"g{number}", {}, (), True, outcomes=(outcome,))

    parent = [score(number < 2, number) for number in range(10)]
    child = [score(number < 5, number) for number in range(10)]
    figures = compare_alarms(parent, child)
    assert figures is not None
    assert (figures.cases, figures.rate.mean, figures.rise.mean) == (10, 0.5, 0.3)
    assert compare_alarms(parent[:9], child[:9]) is None
