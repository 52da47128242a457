"""Learned registration from clips to an int8 file on the device, on tiny data."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from edgeseg.cli.app import app
from edgeseg.compression.recipe import Recipe, load_recipe
from edgeseg.compression.registering import compress_registering
from edgeseg.core.errors import DataError, EdgesegError, ModelFileError, RecipeError, RunError, TrainingError
from edgeseg.core.modelfile import read_any, read_model, read_registering
from edgeseg.phantom.scene import PhantomClip
from edgeseg.registration.learned import LearnedRegistration, open_registration
from edgeseg.training import registration
from edgeseg.training.options import TrainInputs, TrainOptions
from edgeseg.training.registration import (
    check_registering,
    read_registering_run,
    read_registration_history,
    resume_registering,
    train_registering,
)
from edgeseg.training.run import read_run

pytestmark = pytest.mark.integration
OPTIONS = TrainOptions(task="register", model="nano", size=64, epochs=1, batch=4)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clips")
    for number in range(2):
        (root / f"clip_{number}").mkdir()
        clip = PhantomClip(3, number, (64, 64), 30.0)
        for frame in range(4):
            cv2.imwrite(str(root / f"clip_{number}" / f"{frame}.png"), clip.frame(frame).image)
    return root


@pytest.fixture(scope="module")
def run(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registration, "STEPS", 2)
        train_registering(clips, out, OPTIONS)
    return out


@pytest.fixture(scope="module")
def small(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("small")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgeseg.compression.registering._QAT_STEPS", 1)
        qat = load_recipe("int8-qat")
        assert qat.qat is not None
        short = dataclasses.replace(qat, qat=dataclasses.replace(qat.qat, epochs=1))
        compress_registering(run, out, [short])
    return out


def test_a_run_says_what_it_is_and_how_far_it_is_off(run: Path) -> None:
    record = read_registering_run(run)
    assert record.clips == 2
    assert record.error_px is not None
    assert record.before_px is not None
    assert record.similarity is not None
    assert {path.name for path in run.iterdir()} >= {"config.toml", "curve.png", "history.csv", "model.tflite"}
    assert (run / "model.tflite").read_bytes().find(str(run.parent).encode()) < 0


def test_an_interrupted_training_goes_on_where_it_was(clips: Path, tmp_path: Path) -> None:
    options = dataclasses.replace(OPTIONS, epochs=2)
    judge = registration.RegistrationJudge.evaluate

    def stop(self: registration.RegistrationJudge, epoch: int, *more: float) -> None:
        if epoch == 2:
            raise KeyboardInterrupt
        judge(self, epoch, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registration, "STEPS", 2)
        patch.setattr(registration.RegistrationJudge, "evaluate", stop)
        with pytest.raises(KeyboardInterrupt):
            train_registering(clips, tmp_path / "halves", options)
        patch.undo()
        patch.setattr(registration, "STEPS", 2)
        with pytest.raises(DataError, match="clips"):
            resume_registering(clips / "clip_0", tmp_path / "halves")
        begun = read_registration_history(tmp_path / "halves.partial")
        # without --task: the partial folder says what it is
        arguments = ["train", str(clips), "--out", str(tmp_path / "halves"), "--resume"]
        result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    history = read_registration_history(tmp_path / "halves")
    assert [row[0] for row in history] == [1, 2]
    assert history[:1] == begun
    assert not (tmp_path / "halves" / "checkpoint").exists()
    assert "data:image/jpeg" in (tmp_path / "halves" / "report.html").read_text(encoding="utf-8")


def test_what_expects_masks_refuses_the_run_and_its_file(run: Path) -> None:
    with pytest.raises(ModelFileError) as of_file:
        read_model(run / "model.tflite")
    with pytest.raises(RunError) as of_run:
        read_run(run)
    assert all("edgeseg register" in error.value.hint for error in (of_file, of_run))
    for arguments in (["evaluate", str(run), str(run)], ["predict", str(run), str(run), "--out", str(run / "x")]):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code != 0
        assert isinstance(result.exception, (EdgesegError, SystemExit))


def test_compression_makes_sealed_int8_files_with_golden_pairs(small: Path) -> None:
    for name in ("float32", "int8-ptq", "int8-qat"):
        file = read_registering(small / f"{name}.tflite")
        assert file.sealed
        assert len(file.golden) == 2
        assert file.card.metrics is not None
        assert file.card.output_quantisation.dtype == ("float32" if name == "float32" else "int8")
    assert open_registration(small).card.provenance.recipe.startswith("int8")


def test_a_backend_runs_the_golden_pairs_and_a_changed_file_is_refused(small: Path, tmp_path: Path) -> None:
    loaded = LearnedRegistration(read_registering(small / "int8-ptq.tflite"), "cpu")
    assert loaded.selection.parity is not None
    assert loaded.selection.parity.held
    data = bytearray((small / "int8-ptq.tflite").read_bytes())
    data[-400] ^= 0xFF
    (tmp_path / "changed.tflite").write_bytes(data)
    with pytest.raises(ModelFileError):
        read_any(tmp_path / "changed.tflite")


def test_fields_have_the_fixed_frames_size_and_an_untrained_network_moves_little(small: Path) -> None:
    fixed = PhantomClip(9, 0, (80, 120), 30.0).frame(0).image
    loaded = open_registration(small, "cpu")
    field = loaded(fixed, fixed[:60, :90])
    assert field.shape == (80, 120, 2)
    assert field.dtype == np.float32
    assert np.isfinite(field).all()
    # both frames are letterboxed by themselves: the same place of the grid is another pixel of the smaller frame
    assert np.abs(loaded(fixed, fixed)).max() < loaded.card.reach_px * 120 / 64


def test_bench_and_inspect_take_a_registering_file(small: Path, tmp_path: Path) -> None:
    file = str(small / "int8-ptq.tflite")
    shown = CliRunner().invoke(app, ["inspect", file])
    assert shown.exit_code == 0, shown.output
    assert "registers" in shown.output
    timed = CliRunner().invoke(app, ["bench", file, "--runs", "10", "--json", str(tmp_path / "b.json")])
    assert timed.exit_code == 0, timed.output
    assert CliRunner().invoke(app, ["bench", file, "--parity"]).exit_code == 0


def test_options_and_recipes_that_concern_masks_are_refused(run: Path, clips: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="loss"):
        check_registering(dataclasses.replace(OPTIONS, loss="dice"), TrainInputs(clips))
    with pytest.raises(TrainingError, match="folds"):
        check_registering(OPTIONS, TrainInputs(clips, folds=3))
    with pytest.raises(TrainingError, match="first-size"):
        check_registering(dataclasses.replace(OPTIONS, first_size=32), TrainInputs(clips))
    with pytest.raises(TrainingError, match="stem"):
        train_registering(clips, tmp_path / "x", dataclasses.replace(OPTIONS, stem="full"))
    with pytest.raises(TrainingError, match="2 clips"):
        train_registering(clips / "clip_0", tmp_path / "x", OPTIONS)
    with pytest.raises(RecipeError):
        compress_registering(run, tmp_path, [load_recipe("prune50-int8-qat")])


def test_changed_clips_are_refused_in_compression(run: Path, clips: Path, tmp_path: Path) -> None:
    extra = clips / "clip_1" / "9.png"
    cv2.imwrite(str(extra), np.full((64, 64), 90, np.uint8))
    try:
        with pytest.raises(DataError, match="changed"):
            compress_registering(run, tmp_path, [Recipe("int8-ptq", "", "int8")])
    finally:
        extra.unlink()
