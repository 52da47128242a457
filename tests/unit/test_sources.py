"""Sources are chosen from a string, play to their end, and say what is wrong with them."""

from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeseg.core.errors import SourceError, UnknownNameError
from edgeseg.runtime.sources.base import Source
from edgeseg.runtime.sources.choose import open_source


def count_frames(source: Source) -> int:
    count = 0
    while source.read() is not None:
        count += 1
    source.close()
    return count


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 12.0, (64, 48))
    for number in range(9):
        writer.write(np.full((48, 64, 3), 20 * number, np.uint8))
    writer.release()
    return path


def test_phantom_plays_so_many_frames() -> None:
    source = open_source("phantom://?seed=2&frames=5&size=64")
    first = source.read()
    assert first is not None
    assert first.shape == (64, 64)
    assert count_frames(source) == 4


def test_phantom_moves_without_a_jump() -> None:
    source = open_source("phantom://?seed=2&frames=6&size=64")
    frames = [frame for frame in (source.read() for _ in range(6)) if frame is not None]
    steps = [float(np.abs(a.astype(int) - b).mean()) for a, b in itertools.pairwise(frames)]
    strangers = open_source("phantom://?seed=9&frames=1&size=64").read()
    assert strangers is not None
    assert all(step > 0 for step in steps)
    assert max(steps) < float(np.abs(frames[0].astype(int) - strangers).mean())


@pytest.mark.parametrize("text", ["phantom://?speed=2", "phantom://?seed=x", "phantom://?size=9000", "phantom://x"])
def test_wrong_phantom_is_refused(text: str) -> None:
    with pytest.raises(SourceError, match="phantom://"):
        open_source(text)


def test_video_plays_at_its_own_rate(video: Path) -> None:
    source = open_source(str(video))
    assert source.fps == pytest.approx(12.0)
    assert count_frames(source) == 9


def test_video_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"no video")
    with pytest.raises(SourceError, match="cannot be decoded"):
        open_source(str(path))


def test_missing_video_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        open_source(str(tmp_path / "clip.mp4"))


def test_folder_plays_in_order(disc_data: Path) -> None:
    assert count_frames(open_source(str(disc_data / "images"))) == 10
    assert count_frames(open_source(str(disc_data))) == 10


def test_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="Expected images in "):
        open_source(str(tmp_path))


def test_absent_camera_is_refused() -> None:
    with pytest.raises(SourceError, match="Expected a camera at /dev/video99"):
        open_source("/dev/video99")


@pytest.mark.parametrize("text", ["", " ", "camera", "clip.txt", "ftp://x/y"])
def test_unknown_source_lists_the_kinds(text: str) -> None:
    with pytest.raises(UnknownNameError, match="name of a source") as caught:
        open_source(text)
    assert "phantom://" in caught.value.hint
