"""Operating points: which threshold and finding weight validation cases choose, and what they give on other cases."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest

from edgeseg.core.card import card_from_json, card_to_json
from edgeseg.core.decision import COVERAGE, DOUBTFUL, FOUND, NOTHING, OUT_OF_FOLD, SENSITIVITY, Decision
from edgeseg.core.modelfile import ModelFile
from edgeseg.core.spec import ClassSpec
from edgeseg.data.dataset import Case, LabelledImage
from edgeseg.evaluation.decide import (
    FEWEST_CASES,
    Target,
    change_decision,
    choose_decision,
    choose_threshold,
    choose_weight,
    decide_case,
    decide_model,
    decide_outcome,
    explain_decision,
)
from edgeseg.evaluation.operating import (
    Outcome,
    measure_confidence,
    measure_finding,
    measure_frame_classes,
    measure_point,
)
from edgeseg.evaluation.score import ScoredCase, list_thresholds, score_cases, score_labels, summarise_cases
from edgeseg.inference.segmenter import Segmenter
from tests.commands import assert_says
from tests.networks import SIDE, build_finding_network, build_network, describe_finding_network, describe_network

LESION = (ClassSpec("lesion"),)
NUMBERS = itertools.count()


def make_outcome(dice: float | None, confidence: float, probability: float | None = None) -> Outcome:
    """A lesion's outcome in a group of its own; confidence 0 is no mask."""
    state = FOUND if confidence > 0 else NOTHING
    return Outcome("lesion", f"g{next(NUMBERS)}", dice, state, confidence, confidence, probability)


def make_case(outcome: Outcome) -> ScoredCase:
    return ScoredCase(outcome.group, outcome.group, {}, (), empty=not outcome.present, outcomes=(outcome,))


def list_lesions(count: int = 10) -> list[Outcome]:
    """Lesions of confidence 0.1, 0.2 and so on, all drawn well."""
    return [make_outcome(0.8, (number + 1) / count) for number in range(count)]


@pytest.mark.parametrize(("wanted", "kept"), [(0.9, 9), (0.8, 8), (0.85, 9), (1.0, 10), (0.05, 1)])
def test_the_threshold_keeps_the_wanted_share_and_no_more(wanted: float, kept: int) -> None:
    lesions = list_lesions()
    threshold = choose_threshold(lesions, SENSITIVITY, wanted)
    assert sum(one.confidence >= threshold for one in lesions) == kept


def test_a_mask_beside_the_truth_covers_and_is_not_found() -> None:
    lesions = [make_outcome(0.0, 0.9), *(make_outcome(0.8, 0.5) for _ in range(9)), make_outcome(0.0, 0.0)]
    figures = measure_point(lesions, {"lesion": 0.0})
    assert figures is not None
    assert figures.coverage is not None
    assert figures.coverage.mean == pytest.approx(10 / 11, abs=1e-4)
    assert figures.sensitivity is not None
    assert figures.sensitivity.mean == pytest.approx(9 / 11, abs=1e-4)
    assert choose_threshold(lesions, COVERAGE, 0.09) > 0.5 >= choose_threshold(lesions, SENSITIVITY, 0.09)


def test_the_threshold_lies_below_the_last_mask_that_is_needed_and_above_the_next() -> None:
    normal = make_outcome(None, 0.17)
    threshold = choose_threshold([*list_lesions(), normal], SENSITIVITY, 0.9)
    assert normal.confidence < threshold < 0.2


def test_an_unreachable_sensitivity_takes_every_mask_and_says_so() -> None:
    missed = [make_outcome(0.0, 0.0) for _ in range(10)]
    decision = choose_decision(list(map(make_case, [*list_lesions(), *missed, make_outcome(None, 0.9)])), LESION)
    point = decision.classes[0].operating_point
    assert point is not None
    assert (point.threshold, point.sensitivity.mean) == (0.0, 0.5)
    assert_says(explain_decision(decision)[0], "out of reach", "lesion", "90%", "50%")


def test_the_target_follows_what_the_cases_can_tell() -> None:
    assert Target().pick(has_absent=True) == (SENSITIVITY, 0.9)
    assert Target().pick(has_absent=False) == (COVERAGE, 0.95)
    assert Target(sensitivity=0.8).pick(has_absent=False) == (SENSITIVITY, 0.8)
    assert Target(coverage=0.7).pick(has_absent=True) == (COVERAGE, 0.7)
    assert Target(0.8, 0.7).pick(has_absent=False) == (COVERAGE, 0.7)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, float("nan"), float("inf")])
def test_a_share_outside_zero_to_one_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="sensitivity above 0 and at most 1"):
        Target(sensitivity=share)


def test_too_few_cases_choose_nothing_and_few_are_said() -> None:
    few = [make_case(one) for one in list_lesions(FEWEST_CASES - 1)]
    decision = choose_decision(few, LESION)
    assert decision.classes[0].operating_point is None
    assert_says(explain_decision(decision)[0], "No operating point", str(FEWEST_CASES))
    enough = choose_decision([make_case(one) for one in list_lesions(FEWEST_CASES)], LESION)
    assert_says(explain_decision(enough)[0], "uncertain", str(FEWEST_CASES))
    assert explain_decision(choose_decision([make_case(one) for one in list_lesions(200)], LESION)) == []


def test_no_cases_at_all_choose_nothing() -> None:
    assert choose_decision([], LESION).classes[0].operating_point is None
    assert measure_point([], {"lesion": 0.5}) is None
    assert measure_confidence([]) is None


def test_the_finding_counts_only_where_it_tells_cases_apart() -> None:
    rng = np.random.default_rng(3)
    telling = [make_outcome(0.8, rng.uniform(0.3, 1), rng.uniform(0.6, 1)) for _ in range(60)]
    telling += [make_outcome(None, rng.uniform(0.3, 1), rng.uniform(0, 0.4)) for _ in range(30)]
    assert choose_weight(telling) > 0.0
    blind = [dataclasses.replace(one, probability=0.5) for one in telling]
    assert choose_weight(blind) == 0.0
    assert choose_weight([dataclasses.replace(one, probability=None) for one in telling]) == 0.0
    assert choose_weight([one for one in telling if one.present]) == 0.0


def test_the_finding_does_not_replace_what_the_mask_says_of_itself() -> None:
    rng = np.random.default_rng(5)
    # the mask's confidence is its Dice, the finding knows only whether something is there
    dice = rng.uniform(0.3, 1, 80)
    shown = [make_outcome(float(value), float(value), float(rng.uniform(0.6, 1))) for value in dice]
    normals = [make_outcome(None, float(rng.uniform(0.2, 0.9)), float(rng.uniform(0, 0.3))) for _ in range(30)]
    assert 0.0 < choose_weight([*shown, *normals]) < 1.0


def test_the_chosen_weight_is_in_the_operating_point() -> None:
    sure = [make_outcome(0.8, 0.5 + 0.001 * number, 0.9) for number in range(40)]
    normals = [make_outcome(None, 0.6 + 0.001 * number, 0.01) for number in range(20)]
    scored = [make_case(one) for one in [*sure, *normals]]
    decision = choose_decision(scored, LESION, Target(sensitivity=0.9), OUT_OF_FOLD)
    rule = decision.classes[0]
    assert rule.finding_weight > 0.0
    assert rule.operating_point is not None
    assert rule.operating_point.chosen_on == OUT_OF_FOLD
    assert rule.operating_point.false_alarm_rate is not None
    assert rule.operating_point.false_alarm_rate.mean == 0.0
    decided = [decide_case(case, decision).outcomes[0] for case in scored]
    assert sum(one.found for one in decided) == 36
    assert {one.state for one in decided} == {FOUND, DOUBTFUL}


def test_several_classes_have_figures_of_their_own() -> None:
    outcomes = [dataclasses.replace(one, name=name) for name in ("a", "b") for one in list_lesions()]
    outcomes = [decide_outcome(one, 0.55) if one.name == "a" else one for one in outcomes]
    figures = measure_point(outcomes, {"a": 0.55, "b": 0.0})
    assert figures is not None
    assert figures.threshold is None
    shares = {name: one.coverage.mean for name, one in figures.per_class.items() if one.coverage is not None}
    assert shares == {"a": 0.5, "b": 1.0}
    assert figures.coverage is not None
    assert figures.coverage.mean == 0.75
    assert measure_point(outcomes, {}) is None


def test_the_curve_shows_the_surest_first() -> None:
    figures = measure_confidence([make_outcome(0.5 + number / 40, (number + 1) / 20) for number in range(20)])
    assert figures is not None
    assert dict(figures.risk_coverage)[0.05] == pytest.approx(0.975)
    assert dict(figures.risk_coverage)[1.0] == pytest.approx(np.mean([0.5 + n / 40 for n in range(20)]))
    assert figures.rank_correlation is not None
    assert figures.rank_correlation.mean == pytest.approx(1.0)
    assert len(figures.risk_coverage) == len(figures.risk_coverage_ci95)
    assert figures.auc is None


def test_the_curve_ends_where_nothing_is_marked() -> None:
    half = [*list_lesions(10), *(make_outcome(0.0, 0.0) for _ in range(10))]
    figures = measure_confidence(half)
    assert figures is not None
    assert max(coverage for coverage, _ in figures.risk_coverage) == 0.5


def test_equal_confidences_promise_nothing() -> None:
    figures = measure_confidence([make_outcome(dice, 0.5) for dice in (0.1, 0.9, 0.5, 0.3)])
    assert figures is not None
    assert figures.rank_correlation is None
    assert figures.risk_coverage[4][1] == pytest.approx(0.1)


def test_the_finding_output_is_judged_by_presence_and_frame_class() -> None:
    outcomes = [make_outcome(0.8, 0.9, 0.7), make_outcome(None, 0.9, 0.2), make_outcome(None, 0.9, 0.7)]
    figures = measure_finding(outcomes, [])
    assert figures is not None
    assert figures.auc is not None
    assert figures.auc.mean == 0.75
    assert measure_finding([make_outcome(0.8, 0.9)], []) is None
    told = [("benign", {"benign": 0.6, "malignant": 0.5}, "a"), ("malignant", {"benign": 0.6, "malignant": 0.5}, "b")]
    frames = measure_frame_classes([*told, ("", {"benign": 0.6, "malignant": 0.5}, "c"), ("normal", {}, "d")])
    assert frames is not None
    assert frames.accuracy.mean == 0.5
    assert frames.confusion == {"benign": {"benign": 1, "malignant": 0}, "malignant": {"benign": 1, "malignant": 0}}
    assert measure_frame_classes([("", {"benign": 0.6}, "c")]) is None


def test_dice_over_all_cases_counts_silence() -> None:
    shown = dataclasses.replace(make_outcome(0.8, 0.9), state=FOUND)
    assert _all_dice([shown, make_outcome(None, 0.0)]) == pytest.approx((0.8 + 1.0) / 2)
    assert _all_dice([shown, make_outcome(None, 0.7)]) == pytest.approx(0.4)
    doubtful = dataclasses.replace(make_outcome(None, 0.7), state=DOUBTFUL)
    assert _all_dice([dataclasses.replace(shown, state=DOUBTFUL), doubtful]) == pytest.approx(0.5)


def _all_dice(outcomes: list[Outcome]) -> float:
    """Evaluate masks of 16 of 20 pixels (Dice 0.8) with these outcomes."""
    scored = []
    for outcome in outcomes:
        truth, labels = np.zeros((10, 10), np.uint8), np.zeros((10, 10), np.uint8)
        truth[0, :] = outcome.present
        labels[:2, 2:] = outcome.state != NOTHING
        if outcome.present:
            labels[:] = 0
            labels[0, :8], labels[1, :2] = 1, 1
        case = Case(outcome.group, Path("x.png"), (), outcome.group)
        plain = score_labels(labels, LabelledImage(case, truth, (truth,)), LESION)
        scored.append(dataclasses.replace(plain, outcomes=(outcome,)))
    estimate = summarise_cases(scored, LESION).dice_all
    assert estimate is not None
    return estimate.mean


def make_images(count: int = 40) -> list[LabelledImage]:
    """Squares that grow brighter; a fifth of the images has a bright spot and no truth."""
    images = []
    for number in range(count):
        frame, truth = np.full((SIDE, SIDE), 20, np.uint8), np.zeros((SIDE, SIDE), np.uint8)
        frame[4:12, 4:12] = 140 + 100 * number // count
        if number % 5:
            truth[4:12, 4:12] = 1
        images.append(LabelledImage(Case(f"case{number}", Path("x.png"), (), f"g{number}"), frame, (truth,)))
    return images


def test_a_model_is_decided_on_its_own_calibrated_scores() -> None:
    model = ModelFile(Path("tiny.tflite"), build_network(), describe_network({}), ())
    decided = decide_model(model, make_images(), Target(sensitivity=0.75))
    point = decided.decision.classes[0].operating_point
    assert point is not None
    assert 0.75 <= point.sensitivity.mean < 0.8
    assert (point.cases, point.empty_cases) == (32, 8)
    assert len(decided.decision.temperatures) == 1
    judged = change_decision(model, decided.decision)
    assert card_from_json(card_to_json(judged.card).replace('"sha256": ""', f'"sha256": "{"0" * 64}"'), "x").decision
    scored = score_cases(Segmenter(judged, "cpu"), make_images())
    # the device decides the same cases as the choice did
    assert [case.outcomes[0].state for case in scored] == [case.outcomes[0].state for case in decided.scored]
    evaluation = summarise_cases(scored, judged.card.output.classes, list_thresholds(judged.card))
    assert evaluation.operating_point is not None
    assert evaluation.operating_point.threshold == point.threshold
    assert evaluation.operating_point.sensitivity == point.sensitivity
    assert evaluation.calibration is not None
    assert evaluation.calibration.ece_pixels is not None


def test_a_file_without_operating_point_has_none_to_judge_by() -> None:
    model = ModelFile(Path("tiny.tflite"), build_network(), describe_network({}), ())
    scored = score_cases(Segmenter(model, "cpu"), make_images())
    evaluation = summarise_cases(scored, model.card.output.classes, list_thresholds(model.card))
    assert evaluation.operating_point is None
    assert evaluation.finding is None
    assert evaluation.confidence is not None
    assert all(case.outcomes[0].state in {FOUND, NOTHING} for case in scored)


def test_both_outputs_are_calibrated_and_judged() -> None:
    model = ModelFile(Path("tiny.tflite"), build_finding_network(), describe_finding_network(), ())
    images = [
        dataclasses.replace(image, case=dataclasses.replace(image.case, label="benign" if number % 2 else "malignant"))
        for number, image in enumerate(make_images())
    ]
    decision = decide_model(model, images).decision
    assert len(decision.finding_temperatures) == 3
    scored = score_cases(Segmenter(change_decision(model, decision), "cpu"), images)
    finding = summarise_cases(scored, model.card.output.classes, list_thresholds(model.card)).finding
    assert finding is not None
    assert finding.auc is not None
    assert finding.frame_classes is not None
    assert sum(sum(row.values()) for row in finding.frame_classes.confusion.values()) == len(images)


def test_the_decision_survives_a_decision_that_is_there() -> None:
    model = ModelFile(Path("tiny.tflite"), build_network(), describe_network({}), ())
    first = decide_model(model, make_images()).decision
    again = decide_model(
        change_decision(model, dataclasses.replace(first, temperatures=(4.0,))), make_images()
    ).decision
    assert isinstance(again, Decision)
    assert again == first
