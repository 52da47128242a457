"""What speaks for a mask: maps, their faithfulness, margins, pictures, and the folder of the command."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import edgeseg
from edgeseg.core.errors import EdgesegError, ModelFileError, SourceError, UnknownNameError
from edgeseg.core.modelfile import read_model
from edgeseg.core.spec import ClassSpec, OutputSpec, Region
from edgeseg.explanation import occlusion
from edgeseg.explanation.faithfulness import Areas, Faithfulness, draw_edges, measure_areas, rank_cells
from edgeseg.explanation.margin import _find_margin, measure_margin
from edgeseg.explanation.occlusion import mask_randomly, occlude
from edgeseg.explanation.options import FINDING
from edgeseg.explanation.targets import CELLS, Probe, choose_targets
from edgeseg.explanation.writing import RECORD
from edgeseg.inference.segmenter import Segmenter
from tests.commands import CommandLine, assert_says
from tests.networks import build_finding_network, describe_finding_network
from tests.tinymodels import SIZE, write_bright_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_bright_model(tmp_path / "model.tflite")


@pytest.fixture
def segmenter(model: Path) -> Segmenter:
    return Segmenter(read_model(model), "cpu")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(monkeypatch, capsys)


@pytest.fixture(autouse=True)
def _few_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(occlusion, "PATCHES", (8, 16))
    monkeypatch.setattr(occlusion, "MASKS", 150)


def draw(size: tuple[int, int] = (64, 64), middle: tuple[int, int] = (40, 24)) -> NDArray[np.uint8]:
    """Draw a bright disc, which the model marks, and a dark one, which it does not."""
    picture = np.random.default_rng(0).normal(90, 6, size).astype(np.uint8)
    cv2.circle(picture, (12, size[0] - 14), 8, 10, -1)
    cv2.circle(picture, middle, 8, 240, -1)
    return picture


@pytest.mark.parametrize("method", [occlude, mask_randomly])
def test_a_map_is_highest_on_what_the_model_marks(segmenter: Segmenter, method: Any) -> None:
    probe = Probe(segmenter, draw())
    targets = choose_targets(probe)
    (found,) = method(probe, targets)
    y, x = np.unravel_index(found.argmax(), found.shape)
    assert found.shape == (CELLS, CELLS)
    assert np.hypot(y - 24, x - 40) < 10
    # the dark disc is an edge, too, and nothing to the model
    assert found[-14, 12] < 0.3 * found.max()


def test_a_true_map_beats_random_and_its_opposite(segmenter: Segmenter) -> None:
    explanation = edgeseg.explain(segmenter, draw(), method="rise")
    (reason,) = explanation.reasons
    assert reason.faithfulness.is_better
    assert reason.faithfulness.areas.gap > 3 * abs(reason.faithfulness.random.gap)
    probe = Probe(segmenter, draw())
    opposite = measure_areas(probe, reason.target, -reason.map)
    assert opposite.gap < reason.faithfulness.areas.gap


def test_the_score_of_the_unchanged_frame_is_the_confidence_of_its_mask(segmenter: Segmenter) -> None:
    probe = Probe(segmenter, draw((50, 80)))
    score = probe.ask(np.ones((1, 1), np.float32), choose_targets(probe))[0]
    assert score == pytest.approx(probe.segmentation.findings[0].confidence, abs=1e-6)


def test_covering_leaves_padding_and_the_rest_alone(segmenter: Segmenter) -> None:
    probe = Probe(segmenter, draw((32, 64)))
    assert probe.shape == (32, 64)
    assert np.array_equal(probe.change(np.ones((1, 1), np.float32)), probe.grid)
    blurred = probe.blurred
    assert not blurred[: probe.placement.y].any()
    # black would be an edge that no frame has
    assert blurred[probe.placement.y : probe.placement.y + 32].min() > 20


def test_a_region_is_explained_alone(segmenter: Segmenter) -> None:
    frame = np.zeros((200, 300), np.uint8)
    frame[100:164, 150:214] = draw()
    explanation = edgeseg.explain(segmenter, frame, region=Region(150, 100, 64, 64))
    assert explanation.region == Region(150, 100, 64, 64)
    assert edgeseg.draw_explanation(explanation, frame).shape[2] == 3


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_constant_frame_is_refused(segmenter: Segmenter, value: int) -> None:
    with pytest.raises(SourceError) as caught:
        edgeseg.explain(segmenter, np.full((64, 64), value, np.uint8))
    assert_says(caught.value, "structure")


def test_where_nothing_is_marked_the_highest_scores_are_explained(segmenter: Segmenter) -> None:
    frame = np.random.default_rng(0).normal(60, 10, (64, 64)).astype(np.uint8)
    (reason,) = edgeseg.explain(segmenter, frame).reasons
    assert not reason.target.found
    assert 0 < reason.target.mask.sum() < 0.05 * reason.target.mask.size
    assert reason.sentence.startswith("Nothing is marked")


def test_every_marked_class_is_explained_or_the_one_that_is_asked_for(tmp_path: Path) -> None:
    model = write_bright_model(tmp_path / "colour.tflite", "rgb")
    frame = np.full((64, 64, 3), 60, np.uint8)
    cv2.circle(frame, (20, 20), 8, (250, 60, 60), -1)
    cv2.circle(frame, (44, 44), 8, (60, 60, 250), -1)
    explanation = edgeseg.explain(model, frame)
    assert [reason.name for reason in explanation.reasons] == ["bright0", "bright2"]
    first, last = (np.unravel_index(reason.map.argmax(), reason.map.shape) for reason in explanation.reasons)
    assert min(first) > 36 > max(last)
    (only,) = edgeseg.explain(model, frame, only="bright1").reasons
    assert (only.name, only.target.found) == ("bright1", False)
    with pytest.raises(UnknownNameError):
        edgeseg.explain(model, frame, only="dark")


def test_what_a_model_cannot_be_asked_is_refused(model: Path) -> None:
    with pytest.raises(ModelFileError) as caught:
        edgeseg.explain(model, draw(), of="finding")
    assert_says(caught.value, "--of mask")
    with pytest.raises(ModelFileError) as caught:
        edgeseg.explain(model, draw(), method="grad-cam")
    assert_says(caught.value, "run")
    with pytest.raises(ValueError, match="method"):
        edgeseg.explain(model, draw(), method="magic")


def test_a_finding_can_be_explained(tmp_path: Path) -> None:
    from edgeseg.core.modelfile import write_model

    write_model(tmp_path / "two.tflite", build_finding_network(), describe_finding_network())
    frame = np.random.default_rng(0).integers(0, 60, (16, 16)).astype(np.uint8)
    frame[:6, :6] = 255
    (reason,) = edgeseg.explain(tmp_path / "two.tflite", frame, of=FINDING).reasons
    assert reason.margin is None
    assert 0 < reason.score < 1


def test_a_margin_counts_the_steps_to_the_threshold(segmenter: Segmenter) -> None:
    probe = Probe(segmenter, draw())
    (target,) = choose_targets(probe)
    margin = measure_margin(probe, target)
    assert np.array_equal(margin.steps >= 0, target.mask)
    assert margin.step == pytest.approx(1 / 256)
    assert margin.area_px == target.mask.sum()
    areas = [(band.least_px, band.most_px) for band in margin.bands]
    assert all(low <= margin.area_px <= high for low, high in areas)
    assert areas == sorted(areas, key=lambda pair: pair[1] - pair[0])


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_a_margin_to_another_class_decides_as_the_labels_do(activation: str) -> None:
    output = OutputSpec((ClassSpec("a"), ClassSpec("b")), activation)
    card: Any = SimpleNamespace(output=output, output_quantisation=SimpleNamespace(dtype="float32"), decision=None)
    codes = np.random.default_rng(0).integers(0, 256, (20, 20, output.channels))
    codes[:5] = 200
    from edgeseg.frame.postprocess import decide_labels

    labels = decide_labels(codes.astype(np.uint8), output)
    for number in range(2):
        assert np.array_equal(_find_margin(codes.astype(np.int32), card, number) >= 0, labels == number + 1)


def test_equal_cells_are_ranked_by_chance_and_all_ranks_are_given() -> None:
    ranks = rank_cells(np.zeros((8, 8), np.float32))
    assert sorted(ranks.ravel()) == list(range(64))
    assert abs(float(ranks[:4].mean()) - float(ranks[4:].mean())) < 20
    assert rank_cells(np.arange(6, dtype=np.float32).reshape(2, 3)).tolist() == [[5, 4, 3], [2, 1, 0]]


def test_the_sentence_says_when_a_map_is_not_better() -> None:
    areas = Areas(0.5, 0.5)
    worse = Faithfulness(areas, areas, areas, areas, False, False, False)
    assert "NOT better" in worse.sentence
    assert "NOT than edges" in replace(worse, better_than_random=True).sentence
    better = replace(worse, better_than_random=True, better_than_edges=True)
    assert better.is_better
    assert "no more than the mask" in better.sentence
    assert "mask" not in replace(better, better_than_mask=True).sentence


def test_edges_are_where_the_brightness_changes(segmenter: Segmenter) -> None:
    frame = np.full((64, 64), 60, np.uint8)
    frame[:, 32:] = 200
    edges = draw_edges(Probe(segmenter, frame))
    assert edges[:, 30:34].mean() > 20 * edges[:, :20].mean()


@pytest.mark.parametrize("size", [(1, 1200), (700, 3), (2000, 1500)])
def test_odd_and_large_frames_are_drawn_at_a_bounded_size(segmenter: Segmenter, size: tuple[int, int]) -> None:
    frame = np.random.default_rng(0).integers(0, 255, size).astype(np.uint8)
    picture = edgeseg.draw_explanation(edgeseg.explain(segmenter, frame), frame)
    assert max(picture.shape) < 2000


def test_a_model_file_is_explained_without_tensorflow(model: Path) -> None:
    program = (
        "import sys, numpy as np, edgeseg\n"
        f"frame = np.random.default_rng(0).integers(0, 255, ({SIZE}, {SIZE})).astype(np.uint8)\n"
        f"edgeseg.explain({str(model)!r}, frame)\n"
        "assert not {'tensorflow', 'matplotlib', 'tf_keras'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def write_images(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), draw(middle=(24 + number, 30)))
    return folder


def run(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> None:
    from edgeseg.cli.app import app

    monkeypatch.setattr("sys.argv", ["edgeseg", "explain", *map(str, words)])
    app([*map(str, ["explain", *words])], standalone_mode=False)


def test_the_command_writes_pictures_sheet_figures_and_maps(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_images(tmp_path / "exams", "anna/x.png", "bert/x.png", "sheet.png")
    run(monkeypatch, model, source, "--out", tmp_path / "why", "--maps")
    text = (tmp_path / "why" / RECORD).read_text(encoding="utf-8")
    record = json.loads(text)
    assert {path.name for path in (tmp_path / "why").iterdir()} == {
        *(".edgeseg", RECORD, "sheet.png", "x.png", "x-2.png", "frame-sheet.png"),
        *("x.maps.npy", "x-2.maps.npy", "frame-sheet.maps.npy"),
    }
    assert "anna" not in text
    assert str(tmp_path) not in text
    assert np.load(tmp_path / "why/x.maps.npy").shape == (1, CELLS, CELLS)
    first = record["frames"][0]["classes"][0]
    assert first["method"] == "rise"
    assert first["faithfulness"]["map"]["gap"] > first["faithfulness"]["random"]["gap"]
    # results are no images of the next run
    run(monkeypatch, model, tmp_path, "--out", tmp_path / "again")
    assert len(json.loads((tmp_path / "again" / RECORD).read_text(encoding="utf-8"))["frames"]) == 3


def test_a_file_that_cannot_be_explained_stops_nothing(tmp_path: Path, model: Path, command: CommandLine) -> None:
    source = write_images(tmp_path / "exams", "good.png")
    cv2.imwrite(str(source / "grey.png"), np.full((64, 64), 90, np.uint8))
    (source / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    code, said = command.fail("explain", model, source, "--out", tmp_path / "why")
    assert code == 1
    assert_says(said, "2 of 3", "grey.png", "broken.png")
    record = json.loads((tmp_path / "why" / RECORD).read_text(encoding="utf-8"))
    assert [frame["name"] for frame in record["frames"]] == ["good"]
    assert record["failed"] == ["broken", "grey"]


def test_a_folder_of_somebody_else_is_never_replaced(tmp_path: Path, model: Path, command: CommandLine) -> None:
    source = write_images(tmp_path / "exams", "a.png")
    (tmp_path / "why").mkdir()
    (tmp_path / "why/thesis.txt").write_text("mine", encoding="utf-8")
    for more in ((), ("--overwrite",)):
        assert command.fail("explain", model, source, "--out", tmp_path / "why", *more)[0] == 1
    assert (tmp_path / "why/thesis.txt").read_text(encoding="utf-8") == "mine"
    assert command.fail("explain", model, source, "--out", source)[0] == 2


def test_wrong_questions_are_refused_before_anything_is_written(
    tmp_path: Path, model: Path, command: CommandLine
) -> None:
    source = write_images(tmp_path / "exams", "a.png")
    for words in (("--only", "dark"), ("--of", "finding"), ("--method", "gradients")):
        code, said = command.fail("explain", model, source, "--out", tmp_path / "why", *words)
        assert code == 1
        assert said.startswith("edgeseg: Expected")
    assert command.fail("explain", model, source, "--out", tmp_path / "why", "--method", "magic")[0] == 2
    assert command.fail("explain", source, source, "--out", tmp_path / "why")[0] == 2
    bare = tmp_path / "bare.tflite"
    bare.write_bytes(read_model(model).flatbuffer)
    assert_says(command.fail("explain", bare, source, "--out", tmp_path / "why")[1], "card")
    assert not (tmp_path / "why").exists()


def test_frames_of_a_clip_are_spread_over_it(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 20.0, (64, 64))
    for number in range(10):
        writer.write(cv2.cvtColor(draw(middle=(20 + number, 30)), cv2.COLOR_GRAY2BGR))
    writer.release()
    run(monkeypatch, model, tmp_path / "clip.avi", "--out", tmp_path / "why", "--frames", "2")
    record = json.loads((tmp_path / "why" / RECORD).read_text(encoding="utf-8"))
    assert [frame["frame"] for frame in record["frames"]] == [2, 7]
    assert (tmp_path / "why/clip-000002.png").is_file()


def test_errors_are_edgesegs(model: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgesegError):
        edgeseg.explain(model, tmp_path / "nothing.png")
    with pytest.raises(EdgesegError):
        edgeseg.explain(model, np.zeros((0, 4), np.uint8))
    with pytest.raises(EdgesegError):
        edgeseg.explain(tmp_path / "none.tflite", draw())
