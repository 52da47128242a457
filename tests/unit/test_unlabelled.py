"""Frames without masks: which files are read, how many frames of a clip, what is refused as a leak."""

from __future__ import annotations

import itertools
import logging
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgeseg.core.errors import DataError, TrainingError
from edgeseg.core.spec import InputSpec
from edgeseg.data.augment import AugmentSpec, strengthen, view_twice
from edgeseg.data.dataset import LabelledImage, open_dataset, read_cases
from edgeseg.frame.images import write_image
from edgeseg.prediction.inputs import list_inputs
from edgeseg.training import unlabelled
from edgeseg.training.unlabelled import read_frames, refuse_leaks, thin_out
from tests.commands import assert_says
from tests.discs import draw_case, make_disc_data

SPEC = InputSpec(32, 32)


def write_clip(path: Path, frames: int) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (64, 48))
    for number in range(frames):
        writer.write(cv2.resize(np.repeat(draw_case(number)[0][:, :, None], 3, axis=2), (64, 48)))
    writer.release()


def write_frames(folder: Path, seeds: range) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        write_image(folder / f"{seed:03d}.png", draw_texture(seed))
    return folder


def draw_texture(seed: int) -> NDArray[np.uint8]:
    """Draw a frame that resembles no other one."""
    coarse = np.random.default_rng(seed).integers(0, 255, (9, 12)).astype(np.uint8)
    return np.asarray(cv2.resize(coarse, (96, 72), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def read_part(root: Path, numbers: slice) -> list[LabelledImage]:
    return list(read_cases(open_dataset(root).cases[numbers]))


def test_images_and_clips_below_a_folder_are_read_and_masks_are_not(tmp_path: Path) -> None:
    make_disc_data(tmp_path, 4)
    (tmp_path / "exam").mkdir()
    write_clip(tmp_path / "exam/a.avi", 7)
    (tmp_path / "notes.txt").write_text("no frame", encoding="utf-8")
    (tmp_path / ".hidden.png").write_bytes(b"")
    names = [item.name for item in list_inputs([tmp_path])]
    assert names == ["exam/a.avi", *(f"images/case_{number:02d}.png" for number in range(4))]
    frames = read_frames(tmp_path, SPEC)
    assert len(frames) == 4 + 7
    assert frames.pixels.shape == (11, 32, 32, 1)
    record = frames.describe(tmp_path / "run")
    assert (record.folder, record.frames, record.files) == ("..", 11, 5)
    assert record.fingerprint == read_frames(tmp_path, SPEC).fingerprint


@pytest.mark.parametrize("name", ["masks", "masks_vessel"])
def test_a_folder_of_masks_holds_no_frames(tmp_path: Path, name: str) -> None:
    write_frames(tmp_path / name, range(2))
    for root in (tmp_path, tmp_path / name):
        with pytest.raises(DataError, match="only 2 masks"):
            read_frames(root, SPEC)


def test_a_folder_without_frames_is_refused(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "missing"):
        with pytest.raises(DataError) as refused:
            read_frames(root, SPEC)
        assert_says(refused.value, root, "got none")


def test_unreadable_files_are_named_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_frames(tmp_path, range(3))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    (tmp_path / "broken.dcm").write_bytes(b"no dicom")
    os.mkfifo(tmp_path / "pipe.jpg")
    with caplog.at_level(logging.WARNING):
        assert len(read_frames(tmp_path, SPEC)) == 3
    assert "4 of 7 files" in caplog.text
    assert all(name in caplog.text for name in ("broken.png", "broken.mp4", "broken.dcm", "pipe.jpg"))


def test_only_unreadable_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"nothing")
    with pytest.raises(DataError) as refused:
        read_frames(tmp_path, SPEC)
    assert_says(refused.value, "1 files without one", "broken.png")


def test_one_frame_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_frames(tmp_path, range(1))
    with caplog.at_level(logging.WARNING):
        assert len(read_frames(tmp_path, SPEC)) == 1
    assert "one frame only" in caplog.text


@pytest.mark.parametrize(("count", "expected"), [(3, [0, 1, 2]), (4, [0, 1, 2, 3]), (5, [0, 2, 4]), (17, [0, 8, 16])])
def test_a_clip_is_thinned_evenly(count: int, expected: list[int]) -> None:
    assert thin_out(range(count), int, kept=4, decoded=100) == expected


def test_a_clip_without_end_is_left() -> None:
    found = thin_out(itertools.count(), int, kept=10, decoded=1000)
    assert len(found) <= 10
    assert found[-1] < 1000


def test_frames_that_memory_cannot_hold_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_frames(tmp_path, range(3))
    monkeypatch.setattr("edgeseg.training.memory.read_free_mb", lambda: 1e-3)
    with pytest.raises(TrainingError, match="3 unlabelled frames"):
        read_frames(tmp_path, SPEC)


def test_near_duplicates_of_held_out_cases_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("images", "masks"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    for number in range(6):
        write_image(tmp_path / f"data/images/{number}.png", draw_texture(number))
        write_image(tmp_path / f"data/masks/{number}.png", np.full((72, 96), 255, np.uint8))
    held_out = read_part(tmp_path / "data", slice(3, 6))
    frames = write_frames(tmp_path / "frames", range(100, 110))
    refuse_leaks(read_frames(frames, SPEC), held_out)
    # of a case that is trained on
    write_image(frames / "again.png", draw_texture(0))
    refuse_leaks(read_frames(frames, SPEC), held_out)
    darker = cv2.resize((draw_texture(4) * 0.6 + 10).astype(np.uint8), (120, 90))
    write_image(frames / "leak.png", np.asarray(darker))
    monkeypatch.setattr(unlabelled, "BLOCK", 4)
    with pytest.raises(TrainingError) as refused:
        refuse_leaks(read_frames(frames, SPEC), held_out)
    assert_says(refused.value, "got 1 frames", "leak.png", "other patients")
    assert "again.png" not in refused.value.message


def test_uniform_frames_resemble_no_case(tmp_path: Path) -> None:
    make_disc_data(tmp_path / "data", 5)
    write_frames(tmp_path / "frames", range(1))
    write_image(tmp_path / "frames/black.png", np.zeros((48, 64), np.uint8))
    refuse_leaks(read_frames(tmp_path / "frames", SPEC), read_part(tmp_path / "data", slice(0, 5)))


def test_both_views_have_one_geometry() -> None:
    pixels = draw_texture(3)[:64, :64, None]
    still = AugmentSpec(gain=0, depth_gain=0, gamma=0, shadow=0, speckle=0, noise=0, blur=0)
    weak, strong = view_twice(pixels, still, "none", np.random.default_rng(5))
    assert np.array_equal(weak, strong)
    assert not np.array_equal(weak, pixels)
    first, again = (view_twice(pixels, AugmentSpec(), "none", np.random.default_rng(5)) for _ in range(2))
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))
    assert not np.array_equal(*first)
    # without augmentation the frame stays where it is, and its brightness is varied all the same
    weak, strong = view_twice(pixels, None, "median", np.random.default_rng(5))
    assert np.array_equal(weak[..., 0], cv2.medianBlur(pixels, 3))
    assert not np.array_equal(weak, strong)


def test_the_strong_view_varies_brightness_twice_as_much() -> None:
    spec = strengthen(AugmentSpec())
    assert (spec.gain, spec.shadow, spec.rotation_degrees) == (0.5, 0.5, AugmentSpec().rotation_degrees)
