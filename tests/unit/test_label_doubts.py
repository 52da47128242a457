"""Labels in doubt: what a confident network contradicts comes first, and what it is unsure of does not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgeseg.core.decision import DOUBTFUL, FOUND, NOTHING
from edgeseg.core.files import read_rows
from edgeseg.core.spec import ClassSpec, OutputSpec
from edgeseg.data.dataset import LabelledImage
from edgeseg.data.pictures import GAP, TILE
from edgeseg.data.reading import Case
from edgeseg.evaluation.label_doubts import (
    ELSEWHERE,
    LOOK_FIRST,
    LOOK_FIRST_SHEET,
    MISSED,
    UNLABELLED,
    LabelDoubt,
    LabelReview,
    find_disagreements,
    write_label_doubts,
)
from edgeseg.frame.images import read_image
from edgeseg.inference.confidence import ClassFinding
from edgeseg.inference.segmenter import Segmentation, StageTimes
from tests.discs import draw_case

OUTPUT = OutputSpec((ClassSpec("disc"),))
DISC = (draw_case(1)[1] > 0).astype(np.uint8)
AWAY, NONE = np.roll(DISC, 48, axis=1), np.zeros_like(DISC)


def make_image(truth: np.ndarray, seed: int = 0, stem: str = "a") -> LabelledImage:
    return LabelledImage(Case(stem, Path(stem), (), stem), draw_case(seed)[0], (truth,))


def make_result(labels: np.ndarray, state: str, confidence: float | None, score: int = 0) -> Segmentation:
    scores = np.full((9, 12, 1), score, np.uint8)
    return Segmentation(labels, StageTimes(0, 0, 0), scores, OUTPUT.classes, findings=(_find(state, confidence),))


def _find(state: str, confidence: float | None) -> ClassFinding:
    return ClassFinding("disc", state, confidence)


@pytest.mark.parametrize(
    ("truth", "labels", "state", "confidence", "said"),
    [
        (DISC, DISC, FOUND, 0.9, []),
        (DISC, AWAY, FOUND, 0.9, [(ELSEWHERE, 0.9)]),
        (DISC, AWAY, DOUBTFUL, 0.3, [(ELSEWHERE, 0.3)]),
        (DISC, NONE, NOTHING, None, [(MISSED, 0.75)]),
        (NONE, DISC, FOUND, 0.8, [(UNLABELLED, 0.8)]),
        (NONE, DISC, DOUBTFUL, 0.8, []),
        (NONE, NONE, NOTHING, None, []),
    ],
)
def test_network_and_label_disagree(
    truth: np.ndarray, labels: np.ndarray, state: str, confidence: float | None, said: list[tuple[str, float]]
) -> None:
    found = find_disagreements(make_image(truth), make_result(labels, state, confidence, score=64), OUTPUT)
    assert [(one.reason, one.confidence) for one in found] == said


def test_a_finding_output_says_how_sure_it_is_that_nothing_is_there() -> None:
    finding = ClassFinding("disc", NOTHING, None, 0.1)
    result = Segmentation(NONE, StageTimes(0, 0, 0), np.full((9, 12, 1), 100, np.uint8), findings=(finding,))
    assert find_disagreements(make_image(DISC), result, OUTPUT)[0].confidence == pytest.approx(0.9)


def review(*cases: tuple[str, np.ndarray, np.ndarray, int, float]) -> tuple[LabelDoubt, ...]:
    collected = LabelReview(OUTPUT)
    for stem, truth, labels, seed, confidence in cases:
        collected.add(make_image(truth, seed, stem), make_result(labels, FOUND, confidence))
    return collected.rank()


def test_the_surest_disagreement_comes_first_and_an_unsure_one_is_left_out() -> None:
    ranked = review(
        ("sure", NONE, DISC, 1, 0.9), ("surer", DISC, AWAY, 2, 0.95), ("right", DISC, DISC, 3, 0.9),
        ("unsure", DISC, AWAY, 4, 0.4),
    )  # fmt: skip
    assert [one.case.stem for one in ranked] == ["surer", "sure"]
    assert [one.doubt for one in ranked] == pytest.approx([0.95, 0.9])


def test_of_two_contradictory_labels_the_one_that_the_network_contradicts_comes_first() -> None:
    ranked = review(("first", DISC, DISC, 1, 0.9), ("second", NONE, DISC, 1, 0.6), ("other", DISC, AWAY, 2, 0.7))
    assert [(one.case.stem, one.near_duplicate) for one in ranked] == [
        ("second", "first"),
        ("first", "second"),
        ("other", ""),
    ]
    reasons = [one.to_row(1)[4] for one in ranked]
    assert reasons == [f"{UNLABELLED}; contradicts a near-duplicate", "contradicts a near-duplicate", ELSEWHERE]


class OneMask:
    """Says the same of every frame."""

    card = SimpleNamespace(output=OUTPUT)

    def for_case(self, _: str) -> OneMask:
        return self

    def segment(self, _: np.ndarray) -> Segmentation:
        return make_result(AWAY, FOUND, 0.9)


def test_list_and_sheet_are_written(tmp_path: Path) -> None:
    segmenter: Any = OneMask()
    stems = ["case\u202e_0", "b" * 90, "c"]
    ranked = review(*((stem, DISC, AWAY, seed, 0.9) for seed, stem in enumerate(stems)))
    write_label_doubts(tmp_path, segmenter, ranked, lambda number: make_image(DISC, number, ranked[number].case.stem))
    rows = read_rows(tmp_path / LOOK_FIRST)
    assert [row["rank"] for row in rows] == ["1", "2", "3"]
    assert {row["stem"] for row in rows} == set(stems)
    sheet = read_image(tmp_path / LOOK_FIRST_SHEET)
    assert sheet.shape[1] == 3 * TILE + 2 * GAP


def test_without_doubts_an_empty_list_is_written_and_no_sheet(tmp_path: Path) -> None:
    segmenter: Any = OneMask()
    write_label_doubts(tmp_path, segmenter, LabelReview(OUTPUT).rank(), make_image)  # type: ignore[arg-type]
    assert (tmp_path / LOOK_FIRST).read_text(encoding="utf-8").startswith("rank,stem")
    assert not (tmp_path / LOOK_FIRST_SHEET).exists()
