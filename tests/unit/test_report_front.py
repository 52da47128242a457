"""The picture of a compression joins what no file beats."""

from __future__ import annotations

import dataclasses

from edgeseg.core.spec import ClassSpec
from edgeseg.core.stats import Estimate
from edgeseg.evaluation.operating import ConfidenceFigures, Outcome, measure_confidence
from edgeseg.evaluation.score import Evaluation, ScoredCase, summarise_cases
from edgeseg.report.plots import draw_front, draw_risk, find_front
from tests.unit.test_gate import make_variant

FILES = [
    dataclasses.replace(make_variant(name, ms, 0.0), dice=Estimate(dice, dice, (dice - 0.02, dice + 0.02)))
    for name, ms, dice in [("best", 3.0, 0.9), ("beaten", 2.0, 0.7), ("quick", 1.0, 0.8)]
]


def test_files_that_no_other_beats_are_joined() -> None:
    assert [variant.name for variant in find_front(FILES)] == ["quick", "best"]
    assert 'id="front"' in draw_front(FILES, "quick")


def evaluate(confidence: float) -> Evaluation:
    """Evaluate cases that show a lesion, which is marked with some confidence, or not at all."""
    state = "found" if confidence else "nothing"
    outcome = Outcome("lesion", "g", 0.8, state, confidence)
    scored = [ScoredCase(str(number), "g", {}, (), empty=False, outcomes=(outcome,)) for number in range(4)]
    return dataclasses.replace(summarise_cases([], [ClassSpec("lesion")]), confidence=measure(scored))


def measure(scored: list[ScoredCase]) -> ConfidenceFigures | None:
    return measure_confidence([one for case in scored for one in case.outcomes])


def test_a_file_that_marks_nothing_has_no_risk_curve_and_the_other_one_is_drawn() -> None:
    assert draw_risk({"float32": evaluate(0.0), "int8": evaluate(0.0)}) == ""
    for tested in (
        {"float32": evaluate(0.9), "int8": evaluate(0.0)},
        {"float32": evaluate(0.0), "int8": evaluate(0.9)},
    ):
        assert "<svg" in draw_risk(tested)
