"""A training that follows finished networks: who may teach it, what it learns from them, and what is refused."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeseg
from edgeseg.core.errors import DataError, EdgesegError, RunError
from edgeseg.core.files import partial_path
from edgeseg.core.spec import FindingSpec
from edgeseg.frame.images import write_image
from edgeseg.model.keras import keras, tf
from edgeseg.model.spec import UNetSpec
from edgeseg.model.unet import build_unet
from edgeseg.training.distillation import (
    RunTeacher,
    append_teacher,
    distillation_loss,
    finding_distillation_loss,
)
from edgeseg.training.folds import resume_folds, train_folds
from edgeseg.training.options import CONFIG, TrainOptions, read_config
from edgeseg.training.resume import Checkpoint
from edgeseg.training.run import read_run
from edgeseg.training.semisupervised import compare_outputs
from edgeseg.training.trainer import plain_split, resume_run, train_run
from edgeseg.training.validation import read_history
from tests.commands import Fail, assert_says
from tests.discs import make_disc_data

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("shallow_sizes")]

OPTIONS = TrainOptions("nano", 32, epochs=2, dropout=0.0, seed=3)


def stop_after_an_epoch(patched: pytest.MonkeyPatch) -> None:
    save = Checkpoint.save

    def save_and_stop(self: Checkpoint, epochs: int) -> None:
        save(self, epochs)
        raise KeyboardInterrupt

    patched.setattr(Checkpoint, "save", save_and_stop)


def write_frames(folder: Path) -> Path:
    """Write frames whose thumbnails resemble no case and no other frame."""
    folder.mkdir()
    for number in range(12):
        image = np.random.default_rng(number).integers(0, 255, (9, 12)).astype(np.uint8)
        write_image(folder / f"{number:02d}.png", image.repeat(8, axis=0).repeat(8, axis=1))
    return folder


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_masks_move_to_the_teachers_where_the_truth_says_nothing_else(activation: str) -> None:
    masks = np.random.default_rng(0).random((2, 16, 16, 2)).astype(np.float32)
    masks /= masks.sum(axis=-1, keepdims=True)
    wrong = np.roll(masks, 3, axis=1)
    truth = np.zeros_like(masks)
    both = np.concatenate([truth, masks], axis=-1)
    loss = distillation_loss(0.5, activation, "bce", (1.5, 0.5))
    plain = distillation_loss(0.0, activation, "bce", (1.5, 0.5))
    assert float(loss(both, masks)[0]) < float(loss(both, wrong)[0])
    np.testing.assert_allclose(plain(both, masks), plain(np.concatenate([truth, wrong], axis=-1), masks))


def test_what_no_teacher_knows_is_learned_as_without_one() -> None:
    found = tf.constant(np.full((1, 1, 1, 2), 0.3, np.float32))
    truth = np.array([[[[1.0, -1.0, 0.5, -1.0]]]], np.float32)
    told = np.array([[[[1.0, 0.0, -1.0, -1.0]]]], np.float32)
    weights = ((2.0, 0.5), (1.0, 1.0))
    losses = [float(finding_distillation_loss(share, weights)(told, found)[0]) for share in (0.0, 0.5, 1.0)]
    np.testing.assert_allclose(losses, losses[0], rtol=1e-6)
    assert float(finding_distillation_loss(1.0)(truth, tf.constant(truth[..., 2:]))[0]) < losses[0]


def test_frames_are_compared_by_findings_only_where_both_have_them() -> None:
    masks, findings = tf.fill((1, 4, 4, 1), 0.5), tf.constant([[[[0.9, -1.0]]]])
    assert float(compare_outputs((masks, findings), masks)) == 0.0
    assert float(compare_outputs(masks, (masks, findings))) == 0.0
    near, far = (float(compare_outputs((masks, findings), (masks, tf.fill((1, 1, 1, 2), p)))) for p in (0.9, 0.1))
    assert 0.0 < near < far


def test_a_brighter_white_of_the_teachers_images_is_made_up_for(trained_run: Path) -> None:
    student = read_run(trained_run)
    model = build_unet(student.spec)
    brighter = dataclasses.replace(student, input=dataclasses.replace(student.input, white=student.input.white // 2))
    images = tf.random.stateless_uniform((1, 64, 64, 1), (1, 2)) * 0.4
    given, wanted = (
        RunTeacher(model, record, student, (0,))(seen)[0]
        for record, seen in ((brighter, images), (student, 2 * images))
    )
    np.testing.assert_allclose(given, wanted, atol=1e-3)


def test_a_taught_training_is_written_down_and_continued(
    trained_run: Path, trained_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, out = tmp_path / "teacher", tmp_path / "run"
    shutil.copytree(trained_run, teacher)
    whole = train_run(trained_data, tmp_path / "whole", OPTIONS, teachers=[teacher])
    assert [(one.folder, one.networks, one.name) for one in whole.teachers] == [
        ("../teacher", 1, read_run(trained_run).name)
    ]
    assert read_config(tmp_path / "whole" / CONFIG)["teacher"].resolve() == teacher
    assert read_run(tmp_path / "whole") == whole
    with monkeypatch.context() as patched:
        stop_after_an_epoch(patched)
        with pytest.raises(KeyboardInterrupt):
            train_run(trained_data, out, OPTIONS, teachers=[teacher])
    moved = teacher.rename(tmp_path / "moved")
    with pytest.raises(RunError, match="run folder"):
        resume_run(trained_data, out)
    with pytest.raises(RunError, match="got another one"):
        resume_run(trained_data, out, teacher=tmp_path / "whole")
    resume_run(trained_data, out, teacher=moved)
    one, two = ((run / "weights.h5").read_bytes() for run in (tmp_path / "whole", out))
    assert one == two
    taught = read_history(out)[0].loss
    with monkeypatch.context() as patched:
        stop_after_an_epoch(patched)
        with pytest.raises(KeyboardInterrupt):
            train_run(trained_data, tmp_path / "untaught", OPTIONS)
    assert read_history(partial_path(tmp_path / "untaught"))[0].loss != pytest.approx(taught)
    with pytest.raises(RunError, match="no teacher"):
        resume_run(trained_data, tmp_path / "untaught", teacher=moved)


def test_a_finished_run_teaches_frames_in_place_of_the_average(
    trained_run: Path, trained_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []
    teach = RunTeacher.__call__

    def note(self: RunTeacher, images: Any) -> Any:
        seen.append(tuple(images.shape[1:]))
        return teach(self, images)

    monkeypatch.setattr(RunTeacher, "__call__", note)
    record = train_run(
        trained_data, tmp_path / "run", OPTIONS, unlabelled=write_frames(tmp_path / "frames"), teachers=[trained_run]
    )
    assert record.unlabelled is not None
    # for every trace once for the frames and once for the labelled images
    assert set(seen) == {(32, 32, 1)}
    assert len(seen) % 2 == 0


def test_every_fold_follows_the_networks_that_have_not_seen_its_test_cases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail: Fail
) -> None:
    data, options = make_disc_data(tmp_path / "discs", 18), dataclasses.replace(OPTIONS, epochs=1)
    cv, out = tmp_path / "cv", tmp_path / "taught"
    train_folds(data, cv, options, 3, plain_split(3))
    # another seed divides otherwise
    code, said = fail("train", data, "--out", out, "--teacher", cv, "--folds", 3, "--size", 32, "--seed", 4)
    assert (code, partial_path(out).exists()) == (1, False)
    assert_says(said, "not trained on", "--folds")
    code, said = fail("train", data, "--out", out, "--teacher", cv / "fold-1", "--folds", 3, "--size", 32, "--seed", 3)
    assert (code, partial_path(out).exists()) == (1, False)
    assert_says(said, "fold-1", "test cases")
    with monkeypatch.context() as patched:
        stop_after_an_epoch(patched)
        with pytest.raises(KeyboardInterrupt):
            train_folds(data, out, options, 3, plain_split(3), teacher=cv)
    hidden = cv.rename(tmp_path / "hidden")
    with pytest.raises(EdgesegError):
        resume_folds(data, out)
    hidden.rename(cv)
    resume_folds(data, out)
    for number in (1, 2, 3):
        (record,) = read_run(out / f"fold-{number}").teachers
        # the fold that tests these cases, and the one that validates on them
        assert record.networks == 2
        assert (out / f"fold-{number}" / record.folder).resolve() == cv
    assert read_config(out / CONFIG)["teacher"].resolve() == cv


def test_teachers_that_do_not_fit_are_refused_before_anything_is_written(
    trained_run: Path, trained_data: Path, tmp_path: Path, fail: Fail
) -> None:
    def refuse(*words: object) -> str:
        code, said = fail("train", trained_data, "--out", tmp_path / "run", "--size", 32, *words)
        assert code in (1, 2)
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith("run")] == []
        return said

    assert_says(refuse("--teacher", tmp_path / "nothing", "--seed", 3), "nothing")
    assert_says(refuse("--teacher", trained_run), "test cases", "--seed 0")
    assert_says(refuse("--teacher", trained_run, "--seed", 3, "--colour", "rgb"), "sees the frame")
    assert_says(refuse("--teacher", trained_run, "--seed", 3, "--activation", "softmax"), "softmax")
    assert_says(refuse("--teacher", trained_run, "--seed", 3, "--strategy", "mirrored"), "one device")
    shutil.copytree(trained_run, tmp_path / "half.partial")
    assert_says(refuse("--teacher", tmp_path / "half", "--seed", 3), "interrupted")
    shutil.copytree(trained_run, tmp_path / "damaged")
    (tmp_path / "damaged/weights.h5").write_bytes(b"nothing")
    assert_says(refuse("--teacher", tmp_path / "damaged", "--seed", 3), "weights")
    code, said = fail("train", trained_data, "--out", trained_run, "--teacher", trained_run, "--overwrite")
    assert (code, "another place" in said) == (2, True)


def test_classes_are_matched_by_name(trained_run: Path, tmp_path: Path) -> None:
    data = make_disc_data(tmp_path / "other", 20)
    (data / "masks").rename(data / "masks_nerve")
    (data / "masks_vessel").mkdir()
    for path in (data / "masks_nerve").iterdir():
        shutil.copy(path, data / "masks_vessel" / path.name)
    with pytest.raises(DataError, match="classes"):
        train_run(data, tmp_path / "run", OPTIONS, teachers=[trained_run])
    assert not partial_path(tmp_path / "run").exists()


def test_a_teacher_of_other_data_with_the_same_names_is_told(
    trained_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = make_disc_data(tmp_path / "other", 21)
    with caplog.at_level(logging.WARNING):
        result = edgeseg.train(
            data, tmp_path / "run", teacher=trained_run, options=dataclasses.replace(OPTIONS, epochs=1)
        )
    assert result.record.teachers[0].networks == 1
    assert "flatter" in caplog.text


def test_a_network_learns_what_its_teacher_finds() -> None:
    """The truth says nothing of the frames' classes here, so that only the teacher can."""
    spec = UNetSpec(32, 32, 1, 1, "sigmoid", (8, 8), dropout=0.0, findings=2)
    keras.utils.set_random_seed(5)
    model, images = build_unet(spec), tf.random.stateless_uniform((4, 32, 32, 1), (3, 4))
    masks, findings = tf.zeros((4, *model.output_shape[0][1:])), tf.constant([[[[0.0, -1.0]]]] * 4)

    def teach(_: Any) -> Any:
        return masks, tf.constant([[[[0.0, 0.9]]]] * 4)

    model.compile(keras.optimizers.Adam(0.02), [distillation_loss(0.5), finding_distillation_loss(0.5)])
    for _ in range(40):
        model.train_step(append_teacher(teach, images, (masks, findings)))
    assert float(tf.reduce_mean(model(images, training=True)[1][..., 1])) == pytest.approx(0.9, abs=0.15)


def test_findings_come_from_the_teacher_in_the_students_order(
    trained_run: Path,
) -> None:
    record = read_run(trained_run)
    spec = dataclasses.replace(record.spec, findings=1)
    taught = dataclasses.replace(record, finding=FindingSpec(), spec=spec, finding_weights=())
    other = dataclasses.replace(taught, finding=FindingSpec(("a", "b")), spec=dataclasses.replace(spec, findings=3))
    images = tf.zeros((1, 64, 64, 1))
    given = RunTeacher(build_unet(taught.spec), taught, other, (0,))(images)
    assert given[1].shape == (1, 1, 1, 3)
    assert float(given[1][0, 0, 0, 1]) == -1.0
    silent = dataclasses.replace(record, finding=None, finding_weights=(), spec=dataclasses.replace(spec, findings=0))
    model = build_unet(silent.spec)
    assert not RunTeacher(model, silent, other, (0,)).knows_findings
    assert RunTeacher(model, silent, other, (0,))(images).shape == (1, 16, 16, 1)
