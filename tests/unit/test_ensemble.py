"""Ensembles: several networks answer as one, and what does not belong together is refused in one sentence."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import edgeseg
from edgeseg.backends.base import Probe
from edgeseg.core.decision import DOUBTFUL, FOUND, KnownFrames
from edgeseg.core.errors import BackendError, EdgesegError, ModelFileError
from edgeseg.core.modelfile import find_model, is_ensemble, read_model
from edgeseg.core.schema import to_plain
from edgeseg.core.spec import ClassSpec, InputSpec
from edgeseg.inference.ensemble import EnsembleBackend, EnsembleSegmenter, open_segmenter, read_ensemble
from edgeseg.inference.segmenter import Segmenter
from edgeseg.inference.supervision import SupervisedSegmenter
from tests.commands import Fail, assert_says
from tests.discs import draw_case
from tests.ensembles import change_member, make_decision, make_folds
from tests.tinymodels import SIZE

FRAME = draw_case(1)[0]
GREY = np.full((SIZE, SIZE), 150, np.uint8)


def load(folder: Path) -> EnsembleSegmenter:
    segmenter = open_segmenter(folder, "cpu")
    assert isinstance(segmenter, EnsembleSegmenter)
    return segmenter


def load_member(folder: Path, number: int) -> Segmenter:
    return open_segmenter(folder / f"fold-{number + 1}", "cpu")


def test_equal_networks_say_together_what_each_says(tmp_path: Path) -> None:
    folder = make_folds(tmp_path / "cv")
    together, alone = load(folder).segment(FRAME), load_member(folder, 0).segment(FRAME)
    np.testing.assert_array_equal(together.labels, alone.labels)
    np.testing.assert_array_equal(together.scores, alone.scores)
    assert together.findings == alone.findings
    assert together.labels.any()


def test_calibrated_scores_are_averaged(tmp_path: Path) -> None:
    folder = make_folds(tmp_path / "cv")
    for number, temperature in enumerate((0.5, 1.0, 4.0)):
        change_member(folder, number, decision=make_decision(0.5, temperature))
    alone = [load_member(folder, number).segment(FRAME).scores.astype(float) for number in range(3)]
    together = load(folder).segment(FRAME).scores
    assert len({scores.tobytes() for scores in alone}) == 3
    np.testing.assert_allclose(together, np.mean(alone, axis=0), atol=0.51)


def test_members_that_were_trained_with_another_white_see_their_own(tmp_path: Path) -> None:
    folder = make_folds(tmp_path / "cv")
    for number, white in enumerate((1000, 2000, 2000)):
        change_member(folder, number, input=InputSpec(SIZE, SIZE, white=white))
    frame = (GREY.astype(np.uint16) << 3) - 100
    alone = [load_member(folder, number).segment(frame).scores.astype(float) for number in range(3)]
    assert np.abs(alone[0] - alone[1]).max() > 10
    np.testing.assert_allclose(load(folder).segment(frame).scores, np.mean(alone, axis=0), atol=2)


def test_the_card_is_that_of_all_members(tmp_path: Path) -> None:
    folder = make_folds(tmp_path / "cv")
    for number, threshold in enumerate((0.2, 0.4, 0.9)):
        change_member(folder, number, decision=make_decision(threshold, 2.0), parameters=10, macs=100)
    card = load(folder).card
    assert (card.name, card.parameters, card.macs) == ("cv (3 networks)", 30, 300)
    assert card.decision is not None
    # members are calibrated before they are averaged
    assert card.decision.temperatures == ()
    point = card.decision.classes[0].operating_point
    assert point is not None
    assert (point.threshold, point.cases, point.sensitivity.ci95) == (0.5, 60, None)


def test_a_decision_that_was_chosen_out_of_fold_comes_first(tmp_path: Path) -> None:
    folder = make_folds(tmp_path / "cv", decision=to_plain(make_decision(1.0)))
    known = KnownFrames((0.5,), ((1.0,),), 3.0)
    change_member(folder, 0, decision=dataclasses.replace(make_decision(0.1), known=known))
    decision = load(folder).card.decision
    assert decision is not None
    assert decision.known == known
    assert [finding.state for finding in load(folder).segment(FRAME).findings] == [DOUBTFUL]
    (folder / "folds.json").write_text(json.dumps({"dice": [1, 1, 1], "decision": None}), encoding="utf-8")
    # one member without an operating point: there is none for all
    assert load(folder).card.decision is None
    assert [finding.state for finding in load(folder).segment(FRAME).findings] == [FOUND]


def test_python_and_streams_take_the_folder(tmp_path: Path) -> None:
    folder = make_folds(tmp_path / "cv")
    assert edgeseg.load(folder)(FRAME).labels.any()
    assert isinstance(open_segmenter(folder, supervised=True), EnsembleSegmenter)
    assert isinstance(open_segmenter(folder / "fold-1", "cpu", supervised=True), SupervisedSegmenter)
    with pytest.raises(BackendError, match="gpu"):
        open_segmenter(folder, "gpu", supervised=True)
    (result,) = edgeseg.benchmark(folder, runs=3)
    assert (result.model, result.backend) == ("cv", "cpu")


def test_report_and_warm_up_are_those_of_a_model(tmp_path: Path) -> None:
    segmenter = load(make_folds(tmp_path / "cv"))
    assert segmenter.warm_up() > 0
    report = segmenter.report()
    assert (report.name, report.requested, "3 networks" in report.detail) == ("cpu", "cpu", True)
    segmenter.close()
    assert EnsembleBackend.probe(b"") == Probe(False, *dataclasses.astuple(EnsembleBackend.probe(b""))[1:])


def test_a_case_is_judged_by_the_member_that_has_not_seen_it(tmp_path: Path) -> None:
    folder = make_folds(tmp_path / "cv")
    for number, temperature in enumerate((0.5, 1.0, 4.0)):
        change_member(folder, number, decision=make_decision(0.5, temperature))
    segmenter = load(folder)
    segmenter.judge_out_of_fold({"a": 2, "b": 0})
    for stem, number in (("a", 2), ("b", 0)):
        scores = segmenter.for_case(stem).segment(FRAME).scores
        np.testing.assert_array_equal(scores, load_member(folder, number).segment(FRAME).scores)
    assert segmenter.for_case("of other data") is segmenter
    assert load_member(folder, 0).for_case("any").card.name == "bright"


def other_classes(folder: Path) -> None:
    card = read_model(folder / "fold-2" / "model.tflite").card
    change_member(folder, 1, output=dataclasses.replace(card.output, classes=(ClassSpec("lesion"),)))


def other_input(folder: Path) -> None:
    change_member(folder, 1, input=InputSpec(SIZE, SIZE, resize="stretch"))


def missing_fold(folder: Path) -> None:
    shutil.rmtree(folder / "fold-2")


def damaged_member(folder: Path) -> None:
    (folder / "fold-2" / "model.tflite").write_bytes(b"TFL3" + b"\0" * 99)


def swapped_folds(folder: Path) -> None:
    (folder / "fold-2").rename(folder / "x")
    (folder / "fold-3").rename(folder / "fold-2")
    (folder / "x").rename(folder / "fold-3")


def single_run(folder: Path) -> None:
    change_member(
        folder,
        1,
        split=dataclasses.replace(read_model(folder / "fold-1" / "model.tflite").card.provenance.split, folds=0),
    )


def decide_for(folder: Path, *names: str) -> None:
    decision = {"classes": [{"name": name} for name in names]}
    (folder / "folds.json").write_text(json.dumps({"dice": [1, 1, 1], "decision": decision}), encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (other_classes, ("same classes", "lesion")),
        (other_input, ("same inputs", "stretch")),
        (missing_fold, ("3 folds", "fold-2")),
        (damaged_member, ("fold-2",)),
        (swapped_folds, ("fold 2 of 3", "fold 3 of 3")),
        (single_run, ("fold 2 of 3", "fold 1 of 1")),
        (lambda folder: change_member(folder, 2, data="1" * 64), ("same data", "fold-3")),
        (lambda folder: (folder / "folds.json").write_text("[]", encoding="utf-8"), ("folds.json",)),
        (lambda folder: (folder / "folds.json").write_text('{"dice": []}', encoding="utf-8"), ("folds.json", "got 0")),
        (lambda folder: (folder / "folds.json").write_text('{"dice": 7}', encoding="utf-8"), ("folds.json",)),
        (
            lambda folder: (folder / "folds.json").write_text(
                json.dumps({"dice": [1, 1, 1], "decision": {"classes": [], "temperatures": [1e9]}}), encoding="utf-8"
            ),
            ("folds.json", "temperatures"),
        ),
        (
            lambda folder: (folder / "folds.json").write_text(
                json.dumps({"dice": [1, 1, 1], "decision": {"classes": 3}}), encoding="utf-8"
            ),
            ("folds.json",),
        ),
        (lambda folder: decide_for(folder, "lesion\x1b[31m"), ("folds.json", "got lesion\\x1b[31m")),
        (lambda folder: decide_for(folder, "bright0", "bright0"), ("folds.json", "each once")),
    ],
)
def test_what_does_not_belong_together_is_one_sentence(
    tmp_path: Path, damage: Callable[[Path], object], said: tuple[str, ...]
) -> None:
    folder = make_folds(tmp_path / "cv")
    damage(folder)
    with pytest.raises(EdgesegError) as caught:
        read_ensemble(folder)
    assert_says(caught.value, *said)


def test_commands_for_one_file_name_the_folds(tmp_path: Path, fail: Fail) -> None:
    folder = make_folds(tmp_path / "cv")
    for arguments in (
        ("export", folder, "--to", "onnx", "--out", tmp_path / "x.onnx"),
        ("inspect", folder),
        ("deploy", folder, "--device", "pi4", "--out", tmp_path / "x.tar.gz"),
        ("bench", folder, "--parity"),
    ):
        code, text = fail(*arguments)
        assert code in (1, 2), arguments
        assert_says(text, "fold-1")


def test_an_unfinished_cross_validation_says_how_it_goes_on(tmp_path: Path) -> None:
    folder = make_folds(tmp_path / "cv.partial")
    (folder / "folds.json").rename(folder / "plan.json")
    assert not is_ensemble(folder)
    with pytest.raises(ModelFileError) as caught:
        find_model(folder)
    assert_says(caught.value, "finished cross-validation", "--resume")


def test_only_members_of_one_output_grid_are_averaged(tmp_path: Path) -> None:
    ensemble = read_ensemble(make_folds(tmp_path / "cv"))
    members = [load_member(tmp_path / "cv", number).selection for number in range(3)]
    coarse = dataclasses.replace(members[1].backend.outputs[0], shape=(1, SIZE // 4, SIZE // 4, 1))
    members[1].backend.outputs = (coarse,)
    with pytest.raises(ModelFileError, match="16x16x1"):
        EnsembleBackend(ensemble, members)
