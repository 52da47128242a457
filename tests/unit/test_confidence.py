"""Confidence and state of masks: soft Dice of scores with their decision, finding probabilities, temperatures."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeseg.core.card import Card, card_from_json, card_to_json
from edgeseg.core.decision import (
    COVERAGE,
    DOUBTFUL,
    FOUND,
    NOTHING,
    VALIDATION,
    ClassDecision,
    Decision,
    KnownFrames,
    OperatingPoint,
)
from edgeseg.core.errors import ModelFileError
from edgeseg.core.modelfile import read_model
from edgeseg.core.schema import to_plain
from edgeseg.core.spec import ClassSpec, InputSpec, OutputSpec, Quantisation
from edgeseg.core.stats import Estimate
from edgeseg.frame.features import VERSION, count_features
from edgeseg.frame.postprocess import calibrate, clean_scores, decide_labels, tensor_to_scores
from edgeseg.frame.preprocess import place_frame
from edgeseg.inference.confidence import decide_findings, measure_confidences, read_finding
from edgeseg.inference.masks import draw_overlay
from edgeseg.inference.segmenter import Segmenter
from tests.tinymodels import write_bright_model

ONE = OutputSpec((ClassSpec("lesion"),))
TWO = OutputSpec((ClassSpec("lesion"), ClassSpec("cyst")))
INT8 = Quantisation("int8", 1 / 256, -128)
SURE = Estimate(0.9, 0.9, None)


def at(threshold: float) -> OperatingPoint:
    """An operating point at a threshold."""
    return OperatingPoint(threshold, COVERAGE, 0.8, VALIDATION, 40, 0, SURE, SURE)


def test_confidence_is_the_soft_dice_with_the_own_decision() -> None:
    scores = np.full((16, 16, 1), 16, np.uint8)
    scores[4:8, 4:8] = 200
    real = scores[..., 0] / 256
    inside = real[4:8, 4:8].sum()
    assert measure_confidences(scores, ONE) == pytest.approx((2 * inside / (real.sum() + 16),))


def test_no_mask_has_no_confidence() -> None:
    assert measure_confidences(np.full((16, 16, 2), 128, np.uint8), TWO) == (None, None)


def test_every_class_is_measured_on_its_own_channel() -> None:
    scores = np.zeros((16, 16, 2), np.uint8)
    scores[:4, :, 0], scores[8:, :, 1] = 255, 150
    first, second = measure_confidences(scores, TWO)
    assert first == pytest.approx(2 * 255 / (255 + 256))
    assert second == pytest.approx(2 * 150 / (150 + 256))


def test_softmax_leaves_the_background_out() -> None:
    scores = np.zeros((16, 16, 2), np.uint8)
    scores[..., 0], scores[..., 1] = 200, 56
    scores[:4] = (0, 255)
    (confidence,) = measure_confidences(scores, OutputSpec((ClassSpec("lesion"),), activation="softmax"))
    inside, outside = 64 * 255, 192 * 56
    assert confidence == pytest.approx(2 * inside / (inside + outside + 64 * 256))


def test_padding_and_dropped_regions_do_not_count() -> None:
    spec = OutputSpec((ClassSpec("lesion"),), smallest_region=32)
    placement = place_frame(InputSpec(64, 64), 64, 128)
    scores = np.zeros((16, 16, 1), np.uint8)
    scores[5:10, 3:9] = 255
    clean = measure_confidences(clean_scores(scores, placement, (64, 64), spec), spec)
    scores[:2] = 120  # padding
    scores[11, 14] = 255  # one cell, 16 pixels
    assert measure_confidences(clean_scores(scores, placement, (64, 64), spec), spec) == clean


def test_ellipse_shape_is_measured_on_the_ellipse() -> None:
    ellipse = OutputSpec((ClassSpec("head"),), shape="ellipse")
    scores = np.zeros((64, 64, 1), np.uint8)
    rows, columns = np.ogrid[:64, :64]
    scores[((rows - 32) / 20) ** 2 + ((columns - 32) / 28) ** 2 <= 1] = 255
    scores[28:36, :32] = 0  # a notch that the ellipse closes
    whole, open_mask = measure_confidences(scores, ellipse), measure_confidences(scores, ONE)
    assert whole[0] is not None
    assert open_mask[0] is not None
    assert whole[0] < open_mask[0]


@pytest.mark.parametrize(("threshold", "state"), [(0.5, FOUND), (0.7, FOUND), (0.71, DOUBTFUL)])
def test_the_operating_point_decides(threshold: float, state: str) -> None:
    decision = Decision((ClassDecision("lesion", at(threshold)),))
    (finding,) = decide_findings((0.7,), (), ONE.classes, decision)
    assert (finding.state, finding.confidence, finding.probability) == (state, 0.7, None)


def test_finding_probability_lowers_the_confidence() -> None:
    decision = Decision((ClassDecision("lesion", at(0.5), finding_weight=0.5),))
    (finding,) = decide_findings((0.81,), (0.16, 0.9), ONE.classes, decision)
    assert finding.confidence == pytest.approx(0.36)
    assert finding.state == DOUBTFUL


@pytest.mark.parametrize("decision", [None, Decision(()), Decision((ClassDecision("lesion"),))])
def test_without_an_operating_point_every_mask_is_found(decision: Decision | None) -> None:
    assert [f.state for f in decide_findings((0.01, None), (), TWO.classes, decision)] == [FOUND, NOTHING]


def test_no_mask_is_nothing_whatever_the_finding_says() -> None:
    (finding,) = decide_findings((None,), (0.99,), ONE.classes, None)
    assert (finding.state, finding.confidence, finding.probability) == (NOTHING, None, 0.99)


def test_finding_of_int8_and_float_outputs_agree() -> None:
    numbers = np.array([-128, -20, 0, 60, 127], np.int8).reshape(1, 1, 1, 5)
    real = ((numbers.astype(np.float32) + 128) / 256).astype(np.float32)
    temperatures = (1.0, 0.5, 2.0, 3.0, 1.5)
    assert read_finding(numbers, INT8) == pytest.approx(read_finding(real, Quantisation()))
    assert read_finding(numbers, INT8, temperatures) == pytest.approx(read_finding(real, Quantisation(), temperatures))


@pytest.mark.parametrize("temperature", [0.05, 0.7, 1.0, 2.5, 20.0])
def test_temperature_changes_no_decision_at_one_half(temperature: float) -> None:
    tensor = np.arange(-128, 128).astype(np.int8).reshape(1, 16, 16, 1)
    plain, calibrated = tensor_to_scores(tensor, INT8), tensor_to_scores(tensor, INT8, (temperature,))
    assert np.array_equal(decide_labels(plain, ONE), decide_labels(calibrated, ONE))
    assert np.all(np.diff(calibrated.ravel().astype(int)) >= 0)
    assert calibrated[0, 0, 0] == 0
    if temperature == 1.0:
        assert np.array_equal(plain, calibrated)


def test_every_channel_has_its_temperature_in_every_format() -> None:
    tensor = np.arange(-128, 128).astype(np.int8).reshape(1, 8, 16, 2)
    real = ((tensor.astype(np.float32) + 128) / 256).astype(np.float32)
    scores = tensor_to_scores(tensor, INT8, (2.0, 0.5))
    assert np.array_equal(scores, tensor_to_scores(real, Quantisation(), (2.0, 0.5)))
    wanted = 256 * calibrate(real[0].astype(np.float64), np.array([2.0, 0.5]))
    assert np.abs(scores - wanted).max() <= 1.0


def test_calibration_is_sigmoid_of_the_divided_logit() -> None:
    assert calibrate(np.array([0.8]), 2.0)[0] == pytest.approx(1 / (1 + math.exp(-math.log(4) / 2)))
    assert calibrate(np.array([0.0, 0.5, 1.0]), 3.0).tolist() == [0.0, 0.5, 1.0]


def test_two_softmax_channels_keep_their_order_and_their_sum() -> None:
    lesion = np.arange(1, 256).astype(np.uint8)
    tensor = np.stack([256 - lesion.astype(int), lesion], axis=-1).astype(np.float32).reshape(1, 15, 17, 2) / 256
    scores = tensor_to_scores(tensor, Quantisation(), (1.7, 1.7)).astype(int)
    # the top of 8 bits is 255, and one half has a side
    assert np.abs(scores.sum(axis=-1) - 256).max() <= 2
    spec = OutputSpec((ClassSpec("lesion"),), activation="softmax")
    assert np.array_equal(
        decide_labels(scores.astype(np.uint8), spec), decide_labels(tensor_to_scores(tensor, Quantisation()), spec)
    )


def read_card(tmp_path: Path, **decision: object) -> Card:
    """Read the card of a model file whose decision somebody changed."""
    card = json.loads(card_to_json(read_model(write_bright_model(tmp_path / "bright.tflite")).card))
    plain = to_plain(Decision((ClassDecision("bright0", at(0.5)),)))
    return card_from_json(json.dumps({**card, "decision": {**plain, **decision}}), "bright.tflite")


RULE = {"name": "bright0", "finding_weight": 0.0, "operating_point": None}
POINT = to_plain(at(0.5))
SHARE = POINT["sensitivity"]


def test_a_card_that_no_reader_takes_is_not_written(tmp_path: Path) -> None:
    card = read_model(write_bright_model(tmp_path / "bright.tflite")).card
    rule = ClassDecision("bright0")
    object.__setattr__(rule, "finding_weight", math.nan)
    with pytest.raises(ValueError, match="JSON compliant"):
        card_to_json(replace(card, decision=Decision((rule,))))


def test_a_decision_travels_on_the_card(tmp_path: Path) -> None:
    card = read_card(tmp_path, temperatures=[1.5])
    assert card.decision == Decision((ClassDecision("bright0", at(0.5)),), temperatures=(1.5,))


@pytest.mark.parametrize(
    "decision",
    [
        {"temperatures": [1.0, 1.0]},
        {"temperatures": [0.0]},
        {"temperatures": ["hot"]},
        {"finding_temperatures": [1.0]},
        {"classes": [{**RULE, "name": "another"}]},
        {"classes": [RULE, RULE]},
        {"classes": [{**RULE, "finding_weight": 1.5}]},
        {"classes": [{**RULE, "operating_point": {**POINT, "threshold": 1.2}}]},
        {"classes": [{**RULE, "operating_point": {**POINT, "threshold": -0.1}}]},
        {"classes": [{**RULE, "operating_point": {**POINT, "target": "luck"}}]},
        {"classes": [{**RULE, "operating_point": {**POINT, "cases": -1}}]},
        {"classes": [{**RULE, "operating_point": {**POINT, "empty_cases": 10**17}}]},
        {"classes": [{**RULE, "operating_point": {**POINT, "sensitivity": {**SHARE, "mean": 1e308}}}]},
        {"classes": [{**RULE, "operating_point": {**POINT, "coverage": {**SHARE, "ci95": [0.5, -1.0]}}}]},
        {"classes": [{**RULE, "operating_point": {**POINT, "false_alarm_rate": {**SHARE, "median": 2.0}}}]},
        {"classes": {}},
    ],
)
def test_an_impossible_decision_is_one_sentence(tmp_path: Path, decision: dict[str, object]) -> None:
    with pytest.raises(ModelFileError, match="bright"):
        read_card(tmp_path, **decision)


def test_a_segmenter_decides_by_its_card_and_an_old_file_has_no_operating_point(tmp_path: Path) -> None:
    model = read_model(write_bright_model(tmp_path / "bright.tflite"))
    frame = np.zeros((64, 64), np.uint8)
    frame[16:48, 16:48] = 255
    old = Segmenter(model, "cpu")(frame)
    (finding,) = old.findings
    assert (finding.state, finding.threshold, old.frame_classes, old.out_of_distribution) == (FOUND, None, {}, False)
    assert finding.confidence == measure_confidences(old.scores, model.card.output)[0]
    decision = Decision((ClassDecision("bright0", at(0.999)),))
    strict = Segmenter(replace(model, card=replace(model.card, decision=decision)), "cpu")(frame)
    assert [one.state for one in strict.findings] == [DOUBTFUL]
    assert np.array_equal(strict.labels, old.labels)
    assert np.array_equal(strict.scores, old.scores)
    assert len(old.bands) == 1


def test_nothing_is_found_on_a_frame_that_is_out_of_distribution(tmp_path: Path) -> None:
    model = read_model(write_bright_model(tmp_path / "bright.tflite"))
    frame = np.zeros((64, 64), np.uint8)
    frame[16:48, 16:48] = 255
    features = count_features(model.card.input.channels)
    for mean, state in ((1e6, NOTHING), (0.0, FOUND)):
        known = KnownFrames(features * (mean,), (features * (1.0,),), 1000.0, VERSION)
        decision = Decision((ClassDecision("bright0"),), known=known)
        result = Segmenter(replace(model, card=replace(model.card, decision=decision)), "cpu")(frame)
        assert (result.out_of_distribution, result.findings[0].state) == (state == NOTHING, state)
        drawn = draw_overlay(frame, result.labels, result.classes, findings=result.findings)
        assert np.array_equal(drawn, draw_overlay(frame, 0 * result.labels, result.classes)) == (state == NOTHING)
        assert result.labels.any()
