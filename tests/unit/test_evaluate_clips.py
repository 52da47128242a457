"""Clips beside labelled images: played in order, measured as a stream shows them; and the tables of an evaluation."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from edgeseg.cli.evaluation_tables import print_beside, print_clips, print_evaluation
from edgeseg.core.decision import COVERAGE, VALIDATION, ClassDecision, Decision, OperatingPoint
from edgeseg.core.modelfile import ModelFile
from edgeseg.core.schema import to_plain
from edgeseg.core.spec import ClassSpec, OutputSpec
from edgeseg.core.stats import Estimate
from edgeseg.data.dataset import Case, LabelledImage
from edgeseg.evaluation.calibration import align_scores
from edgeseg.evaluation.clips import evaluate_clips, list_clips
from edgeseg.evaluation.decide import change_decision
from edgeseg.evaluation.score import list_thresholds, score_cases, score_segmentation, summarise_cases
from edgeseg.frame.images import write_image
from edgeseg.inference.segmenter import Segmenter
from tests.commands import assert_says
from tests.networks import SIDE, build_finding_network, build_network, describe_finding_network, describe_network

POINT = OperatingPoint(0.8, COVERAGE, 0.9, VALIDATION, 40, 0, Estimate(0.9, 0.9, None), Estimate(0.9, 0.9, None))
DECISION = Decision((ClassDecision("target", POINT),))


def draw_frame(brightness: int) -> np.ndarray:
    frame = np.zeros((SIDE, SIDE), np.uint8)
    frame[4:12, 4:12] = brightness
    return frame


def write_clip(root: Path, name: str, brightness: list[int]) -> None:
    folder = root / "clips" / name / "images"
    folder.mkdir(parents=True)
    for number, value in enumerate(brightness):
        write_image(folder / f"frame_{number:04d}.png", draw_frame(value))


def open_tiny(decision: Decision | None = DECISION) -> Segmenter:
    model = ModelFile(Path("tiny.tflite"), build_network(), describe_network({}), ())
    return Segmenter(change_decision(model, decision), "cpu")


def test_a_flickering_clip_is_steadier_as_a_stream_shows_it(tmp_path: Path) -> None:
    write_clip(tmp_path, "b", [240, 150] * 15)
    write_clip(tmp_path, "a", [240] * 30)
    figures = evaluate_clips(open_tiny(), list_clips(tmp_path))
    assert figures is not None
    assert (figures.clips, figures.frames, figures.out_of_distribution) == (2, 60, 0)
    target = figures.per_class["target"]
    assert target.flicker_frame_by_frame is not None
    assert target.flicker_per_minute is not None
    # 29 changes within 29 frames of one clip, none in the other
    assert target.flicker_frame_by_frame.mean == pytest.approx(29 / (29 / 30 / 60) / 2)
    assert target.flicker_per_minute.mean < target.flicker_frame_by_frame.mean / 10
    assert target.area_jitter is not None
    assert target.area_jitter.mean == 0.0


def test_folders_without_frames_are_no_clips(tmp_path: Path) -> None:
    assert list_clips(tmp_path) == []
    assert list_clips(tmp_path / "nowhere") == []
    (tmp_path / "clips" / "empty" / "images").mkdir(parents=True)
    (tmp_path / "clips" / "clip.mp4").write_bytes(b"")
    assert list_clips(tmp_path) == []
    assert evaluate_clips(open_tiny(), []) is None


def test_a_clip_of_one_frame_has_no_flicker(tmp_path: Path) -> None:
    write_clip(tmp_path, "a", [240])
    figures = evaluate_clips(open_tiny(None), list_clips(tmp_path))
    assert figures is not None
    assert figures.per_class["target"].flicker_per_minute is None
    assert figures.per_class["target"].found_share is None


def make_images(count: int = 12) -> list[LabelledImage]:
    images = []
    for number in range(count):
        frame = draw_frame(140 + 8 * number)
        truth = (frame > 0).astype(np.uint8) * np.uint8(number % 3 > 0)
        case = Case(f"c{number}", Path("x.png"), (), f"g{number}", label="benign" if number % 2 else "malignant")
        images.append(LabelledImage(case, frame, (truth,)))
    return images


def test_the_tables_say_all_of_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = ModelFile(Path("tiny.tflite"), build_finding_network(), describe_finding_network(), ())
    segmenter = Segmenter(change_decision(model, DECISION), "cpu")
    scored = score_cases(segmenter, make_images())
    thresholds = list_thresholds(segmenter.card)
    table = to_plain(summarise_cases(scored, segmenter.card.output.classes, thresholds))
    others = to_plain(summarise_cases(scored[3:], segmenter.card.output.classes, thresholds))
    print_evaluation("Test", table)
    print_beside(table, others, 3)
    write_clip(tmp_path, "a", [240] * 3)
    print_clips(to_plain(evaluate_clips(segmenter, list_clips(tmp_path))))
    said = capsys.readouterr().out
    assert_says(
        said, "from 0.800", "sensitivity", "false alarms", "AUC", "ECE", "told benign", "without them", "1 clips"
    )


def test_tables_fit_into_a_hundred_columns_and_say_what_helps_against_false_alarms(
    capsys: pytest.CaptureFixture[str],
) -> None:
    segmenter = open_tiny()
    scored = score_cases(segmenter, make_images())
    table = to_plain(summarise_cases(scored, segmenter.card.output.classes, list_thresholds(segmenter.card)))
    for key in ("sensitivity", "coverage", "false_alarm_rate"):
        table["operating_point"][key] = {"mean": 1.0, "ci95": [0.85, 1.0]}
    print_evaluation("Test", table)
    said = capsys.readouterr().out
    assert "100% (85 to 100)" in said
    assert "--sensitivity 0.8" in said
    assert [line for line in said.splitlines() if len(line.rstrip()) > 100] == []
    table["operating_point"]["false_alarm_rate"] = {"mean": 0.1, "ci95": None}
    print_evaluation("Test", table)
    assert "--sensitivity 0.8" not in capsys.readouterr().out


def test_a_file_without_operating_point_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    segmenter = open_tiny(None)
    scored = score_cases(segmenter, make_images())
    thresholds = list_thresholds(segmenter.card)
    print_evaluation("Test", to_plain(summarise_cases(scored, segmenter.card.output.classes, thresholds)))
    assert_says(capsys.readouterr().out, "No operating point", "every mask counts as found")


def test_images_without_the_structure_alone_tell_as_much(capsys: pytest.CaptureFixture[str]) -> None:
    segmenter = open_tiny(None)
    scored = [case for case in score_cases(segmenter, make_images()) if case.empty]
    print_evaluation("Test", to_plain(summarise_cases(scored, segmenter.card.output.classes)))
    assert_says(capsys.readouterr().out, "No operating point", "Dice over all cases", "ECE")


def test_frames_out_of_distribution_show_nothing() -> None:
    segmenter = open_tiny()
    results = [(segmenter.segment(image.frame), image) for image in make_images()]
    scored = [score_segmentation(dataclasses.replace(seen, distance=1.5), one, segmenter.card) for seen, one in results]
    evaluation = summarise_cases(scored, segmenter.card.output.classes, list_thresholds(segmenter.card))
    assert evaluation.out_of_distribution is not None
    assert evaluation.out_of_distribution.mean == 1.0
    assert evaluation.operating_point is not None
    assert evaluation.operating_point.coverage is not None
    assert evaluation.operating_point.coverage.mean == 0.0
    # the Dice of the drawn masks is as it was
    assert evaluation.dice is not None
    assert evaluation.dice.mean > 0.9


def test_the_background_of_softmax_is_what_no_class_marks() -> None:
    card = describe_network({})
    output = OutputSpec((ClassSpec("a"), ClassSpec("b")), "softmax")
    first, second = np.zeros((SIDE, SIDE), np.uint8), np.zeros((SIDE, SIDE), np.uint8)
    first[:4], second[4:8] = 1, 1
    image = LabelledImage(Case("x", Path("x.png"), (), "x"), np.zeros((SIDE, SIDE), np.uint8), (first, second))
    _, truth = align_scores(np.zeros((SIDE, SIDE, 3), np.uint8), image, dataclasses.replace(card, output=output))
    assert np.array_equal(truth.sum(axis=-1), np.ones((SIDE, SIDE)))
    assert truth[:, :, 0].sum() == SIDE * SIDE / 2
