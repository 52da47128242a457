"""Frames without masks in a training: the mean teacher, the pretraining, and what would leak test cases."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeseg.core.errors import DataError, RunError, TrainingError
from edgeseg.core.files import partial_path
from edgeseg.data.augment import AugmentSpec
from edgeseg.frame.images import write_image
from edgeseg.model.keras import keras, tf
from edgeseg.model.losses import find_loss
from edgeseg.model.spec import ENCODER, UNetSpec
from edgeseg.model.unet import build_unet
from edgeseg.training.ema import WeightEma
from edgeseg.training.folds import train_folds
from edgeseg.training.grids import GridArrays
from edgeseg.training.loading import load_data
from edgeseg.training.options import CONFIG, TrainOptions, read_config
from edgeseg.training.pretrain import PatchFeed, draw_patches, fill_loss, keep_apart, pretrain_run, resume_pretraining
from edgeseg.training.resume import Checkpoint
from edgeseg.training.run import read_run
from edgeseg.training.semisupervised import FrameFeed, FrameSteps, compare_with_teacher, follow_ema
from edgeseg.training.start import THUMBNAILS, load_start, start_from
from edgeseg.training.trainer import plain_split, resume_run, train_run
from tests.commands import Fail, assert_says
from tests.discs import make_disc_data

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("shallow_sizes")]

OPTIONS = TrainOptions("nano", 32, epochs=2, dropout=0.0, findings="none")


def write_frames(folder: Path, count: int = 12) -> Path:
    """Write frames whose thumbnails resemble no case and no other frame."""
    folder.mkdir()
    for number in range(count):
        image = np.random.default_rng(number).integers(0, 255, (9, 12)).astype(np.uint8)
        write_image(folder / f"{number:02d}.png", image.repeat(8, axis=0).repeat(8, axis=1))
    return folder


def test_two_views_that_agree_cost_nothing_and_small_structures_count_like_large_ones() -> None:
    masks = np.zeros((2, 32, 32, 1), np.float32)
    masks[0, :16] = 1.0
    masks[1, :4, :4] = 1.0
    assert float(compare_with_teacher(masks * 0.4, masks * 0.4)) == 0.0
    large, small = (float(compare_with_teacher(masks[n : n + 1], 0 * masks[n : n + 1])) for n in (0, 1))
    assert large == pytest.approx(1.0, abs=0.01)
    assert small == pytest.approx(large, abs=0.1)


def test_every_frame_comes_once_before_any_comes_twice_and_resuming_sees_the_same() -> None:
    pixels = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 16, 16, 1), np.uint8)
    feed = FrameFeed(pixels, batch=5, seed=3, augment=None)
    batches = [(weak.numpy(), strong.numpy()) for weak, strong in feed.build_pipeline(4)]
    seen = [[round(float(255 * view[0, 0, 0])) for view in weak] for weak, _ in batches]
    assert sorted(seen[0] + seen[1]) == list(range(10))
    assert sorted(seen[2] + seen[3]) == list(range(10))
    later = [(weak.numpy(), strong.numpy()) for weak, strong in feed.build_pipeline(4, first_step=2)]
    for one, other in zip(batches[2:], later, strict=True):
        assert all(np.array_equal(view, same) for view, same in zip(one, other, strict=True))


def test_a_step_leaves_the_statistics_of_labelled_images_and_moves_the_network_to_its_teacher() -> None:
    spec = UNetSpec(32, 32, 1, 1, "sigmoid", (8, 8), dropout=0.0)
    random = np.random.default_rng(0)
    images = tf.constant(random.random((4, 32, 32, 1)), tf.float32)
    truth = tf.constant(random.random((4, 32, 32, 1)) > 0.5, tf.float32)
    frames = tf.constant(5 + 3 * random.random((4, 32, 32, 1)), tf.float32)

    def take_step(views: tuple[tf.Tensor, tf.Tensor] | None) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
        keras.utils.set_random_seed(1)
        model = build_unet(spec)
        model.compile(keras.optimizers.SGD(0.1), find_loss("bce"))
        if views is None:
            model.train_step((images, truth))
        else:
            ema = WeightEma(model, 0.9)
            feed = FrameFeed(np.zeros((1, 32, 32, 1), np.uint8), 4, 0, AugmentSpec())
            steps = FrameSteps(model, follow_ema(build_unet(spec), ema), feed, steps=1)
            steps.take_step(((images, truth), views))
        norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
        statistics = [weight.numpy() for layer in norms for weight in layer.non_trainable_weights]
        return statistics, [weight.numpy() for weight in model.trainable_weights]

    alone, together = take_step(None), take_step((frames, frames * 0.7))
    assert all(np.allclose(one, other, atol=1e-6) for one, other in zip(alone[0], together[0], strict=True))
    assert not all(np.allclose(one, other, atol=1e-6) for one, other in zip(alone[1], together[1], strict=True))


def test_training_with_frames_is_written_down_and_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, frames, out = make_disc_data(tmp_path / "discs", 20), write_frames(tmp_path / "frames"), tmp_path / "run"
    whole = train_run(data, tmp_path / "whole", OPTIONS, unlabelled=frames)
    assert whole.unlabelled is not None
    assert (whole.unlabelled.frames, whole.unlabelled.folder) == (12, "../frames")
    assert read_config(tmp_path / "whole" / CONFIG)["unlabelled"].resolve() == frames
    assert "frames" not in (tmp_path / "whole/model.tflite").read_bytes().decode("latin-1")

    save = Checkpoint.save

    def save_and_stop(self: Checkpoint, epochs: int) -> None:
        save(self, epochs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, "save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            train_run(data, out, OPTIONS, unlabelled=frames)
    moved = frames.rename(tmp_path / "moved")
    with pytest.raises(DataError, match="folder of frames"):
        resume_run(data, out)
    (moved / "00.png").rename(tmp_path / "00.png")
    with pytest.raises(DataError, match="changed folder"):
        resume_run(data, out, unlabelled=moved)
    (tmp_path / "00.png").rename(moved / "00.png")
    resume_run(data, out, unlabelled=moved)
    one, two = ((run / "weights.h5").read_bytes() for run in (tmp_path / "whole", out))
    assert one == two


def test_frames_of_held_out_cases_and_of_modalities_and_replicas_are_refused(tmp_path: Path, fail: Fail) -> None:
    data, out = make_disc_data(tmp_path / "discs", 20), tmp_path / "run"
    for number in range(20):
        # discs on noise look alike; textures do not
        image = np.random.default_rng(100 + number).integers(0, 255, (9, 12)).astype(np.uint8)
        write_image(data / f"images/case_{number:02d}.png", image.repeat(8, axis=0).repeat(8, axis=1))
    code, said = fail("train", data, "--out", out, "--model", "nano", "--size", 32, "--unlabelled", data)
    assert code == 1
    assert_says(said, "look nearly the same", "flatter")
    loaded = load_data(data, plain_split(0))
    frames = tmp_path / "frames"
    frames.mkdir()
    for case in loaded.split.train:
        (frames / case.image.name).symlink_to(case.image)
    assert train_run(data, out, OPTIONS, unlabelled=frames).unlabelled is not None
    with pytest.raises(TrainingError, match="look nearly the same"):
        train_folds(data, tmp_path / "folds", OPTIONS, 3, plain_split(0), unlabelled=frames)
    with pytest.raises(TrainingError, match="one device"):
        train_run(data, out, dataclasses.replace(OPTIONS, strategy="mirrored"), overwrite=True, unlabelled=frames)


def test_folds_take_frames_along(tmp_path: Path) -> None:
    data, frames = make_disc_data(tmp_path / "discs", 15), write_frames(tmp_path / "frames")
    train_folds(data, tmp_path / "folds", dataclasses.replace(OPTIONS, epochs=1), 3, plain_split(0), unlabelled=frames)
    for number in (1, 2, 3):
        record = read_run(tmp_path / f"folds/fold-{number}")
        assert record.unlabelled is not None
        assert (tmp_path / f"folds/fold-{number}" / record.unlabelled.folder).resolve() == frames


def test_hidden_patches_hide_their_share() -> None:
    hidden = draw_patches(64, 64, 16, np.random.default_rng(0))
    assert hidden.shape == (64, 64, 1)
    assert hidden.mean() == pytest.approx(10 / 16)
    assert all(cell.min() == cell.max() for cell in np.split(hidden[:16], 4, axis=1))
    assert draw_patches(20, 20, 32, np.random.default_rng(0)).all()


def test_only_hidden_pixels_count() -> None:
    truth = np.zeros((1, 4, 4, 2), np.float32)
    truth[0, 0, 0, 1] = 1.0
    filled = np.ones((1, 4, 4, 1), np.float32)
    assert float(fill_loss(truth, filled)[0]) == 1.0
    filled[0, 0, 0] = 0.0
    assert float(fill_loss(truth, filled)[0]) == 0.0


def test_frames_that_measure_the_error_come_from_files_of_their_own() -> None:
    files = [f"clip{number // 10}" for number in range(100)]
    apart = keep_apart(files, 0)
    assert {name for name, kept in zip(files, apart, strict=True) if kept} & {
        name for name, kept in zip(files, apart, strict=True) if not kept
    } == set()
    assert 0 < apart.sum() < 50
    assert keep_apart(["one"] * 30, 0).sum() == 3


def test_an_encoder_is_pretrained_continued_and_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail: Fail
) -> None:
    frames, out = write_frames(tmp_path / "frames", 20), tmp_path / "pretrained"
    record = pretrain_run(frames, tmp_path / "whole", OPTIONS)
    assert (record.frames.frames, record.status, record.spec.outputs) == (20, "finished", 1)
    assert record.error > 0.0
    names = {path.name for path in (tmp_path / "whole").iterdir()}
    assert {"pretrain.json", "weights.h5", "history.csv", "curve.png", "reconstructions.png", THUMBNAILS} <= names

    save = Checkpoint.save

    def save_and_stop(self: Checkpoint, epochs: int) -> None:
        save(self, epochs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, "save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            pretrain_run(frames, out, OPTIONS)
    code, said = fail("train", frames, "--out", out, "--resume")
    assert_says(said, "pretraining", "edgeseg pretrain")
    assert resume_pretraining(out).error == pytest.approx(record.error, abs=1e-4)

    model = build_unet(OPTIONS.describe_network(2))
    assert start_from(model, out) > 5
    assert all(
        np.array_equal(one, other)
        for one, other in zip(list_encoder(model), list_encoder(load_start(out)), strict=True)
    )
    with pytest.raises(RunError, match="differs at the layer"):
        start_from(build_unet(TrainOptions("micro", 32).describe_network(1)), out)
    for command in ("compress", "evaluate"):
        words = (out, "--out", tmp_path / "x") if command == "compress" else (out, frames)
        code, said = fail(command, *words)
        assert (code, "a pretraining" in said) == (2, True), said

    data = make_disc_data(tmp_path / "discs", 20)
    assert train_run(data, tmp_path / "run", OPTIONS, init=out).init == record.name.replace("whole", "pretrained")


def list_encoder(model: Any) -> list[NDArray[np.float32]]:
    """List the weights of a model's encoder."""
    layers = [layer for layer in model.layers if layer.name.startswith(ENCODER)]
    return [weight for layer in layers for weight in layer.get_weights()]


def test_a_pretraining_on_test_cases_is_refused_and_so_is_one_without_thumbnails(tmp_path: Path) -> None:
    data = make_disc_data(tmp_path / "discs", 20)
    # two of 20 images show no disc, and are uniform
    pretrain_run(data, tmp_path / "leaking", OPTIONS)
    with pytest.raises(TrainingError) as refused:
        train_run(data, tmp_path / "run", OPTIONS, init=tmp_path / "leaking")
    assert_says(refused.value, "look nearly the same", tmp_path / "leaking")
    with pytest.raises(TrainingError, match="look nearly the same"):
        train_folds(data, tmp_path / "folds", OPTIONS, 3, plain_split(0), init=tmp_path / "leaking")
    (tmp_path / "leaking" / THUMBNAILS).write_bytes(b"12")
    with pytest.raises(RunError, match="thumbnails"):
        train_run(data, tmp_path / "run", OPTIONS, init=tmp_path / "leaking")
    assert not partial_path(tmp_path / "run").exists()


def test_too_few_frames_teach_nothing(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="at least 10 frames"):
        pretrain_run(write_frames(tmp_path / "frames", 3), tmp_path / "out", OPTIONS)


def test_patches_are_hidden_behind_the_mean_and_truth_is_whole() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (3, 32, 32, 1)).astype(np.uint8)
    arrays = GridArrays(pixels, np.zeros((3, 0, 0, 0), np.uint8))
    feed = PatchFeed(arrays, 2, 0, 4, None, False, 1, 8)
    shown, truth = feed.make_case(0, 1)
    assert (shown.shape, truth.shape) == feed.shapes
    hidden = truth[..., -1].repeat(4, axis=0).repeat(4, axis=1) > 0
    whole = pixels[1, ..., 0].astype(np.float32) / 255
    assert np.array_equal(shown[..., 0][~hidden], whole[~hidden])
    assert np.allclose(shown[..., 0][hidden], whole.mean())
    again = feed.make_case(0, 1)
    assert np.array_equal(again[0], shown)
