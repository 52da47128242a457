"""Recorded files that are not whole: what can be shown is shown, and the rest is counted."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeseg.core.errors import DataError, SourceError
from edgeseg.frame.images import write_image
from edgeseg.streaming.sources.base import Source
from edgeseg.streaming.sources.choose import open_source

FRAMES = 40


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (64, 48))
    noise = np.random.default_rng(1).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    for number in range(FRAMES):
        writer.write(np.roll(noise, number, axis=1))
    writer.release()
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number in range(4):
        write_image(tmp_path / "images" / f"frame{number}.png", np.full((16, 16), 50 * number, np.uint8))
    return tmp_path / "images"


def play(source: Source) -> int:
    count = 0
    while source.read() is not None:
        count += 1
    source.close()
    return count


def test_a_truncated_video_plays_what_it_holds(video: Path) -> None:
    whole = video.read_bytes()
    video.write_bytes(whole[: len(whole) // 2])
    source = open_source(str(video))
    shown = play(source)
    assert 10 < shown < 30
    assert source.health.missing + source.health.corrupt >= FRAMES - shown - 2


def test_a_corrupt_frame_in_the_middle_ends_nothing(video: Path) -> None:
    data = bytearray(video.read_bytes())
    starts = [at for at in range(len(data) - 3) if data[at : at + 3] == b"\xff\xd8\xff"]
    middle = starts[len(starts) // 2]
    data[middle : middle + 400] = bytes(400)
    video.write_bytes(data)
    source = open_source(str(video))
    assert play(source) >= FRAMES - 2


def test_a_whole_video_misses_nothing(video: Path) -> None:
    source = open_source(str(video))
    assert play(source) == FRAMES
    assert (source.health.missing, source.health.corrupt) == (0, 0)


def test_a_video_without_frames_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (64, 48)).release()
    with pytest.raises(SourceError, match=r"clip.avi"):
        open_source(str(path))


def test_a_pattern_finds_its_images(images: Path) -> None:
    assert play(open_source(f"{images}/*.png")) == 4
    assert play(open_source(f"{images}/frame[12].png")) == 2
    assert play(open_source(f"{images.parent}/*/frame?.png")) == 4
    with pytest.raises(SourceError, match="tif"):
        open_source(f"{images}/*.tif")


def test_a_damaged_image_is_left_out(images: Path) -> None:
    (images / "frame1.png").write_bytes(b"no image")
    source = open_source(str(images))
    assert play(source) == 3
    assert source.health.corrupt == 1
    for path in images.iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match="image"):
        open_source(str(images)).read()
