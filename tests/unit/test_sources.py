"""Sources are chosen from a string, play to their end, and say what is wrong with them."""

from __future__ import annotations

import itertools
import math
import os
import struct
import tempfile
from pathlib import Path
from time import monotonic

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgeseg.core.errors import LimitError, SourceError, UnknownNameError
from edgeseg.frame.images import write_image
from edgeseg.streaming.grabber import Grabber
from edgeseg.streaming.options import CaptureOptions
from edgeseg.streaming.sources.address import show_source
from edgeseg.streaming.sources.base import Source
from edgeseg.streaming.sources.choose import open_source


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
    with pytest.raises(SourceError, match=r"clip.mp4"):
        open_source(str(path))


def test_missing_video_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        open_source(str(tmp_path / "clip.mp4"))


def test_folder_plays_in_order(disc_data: Path) -> None:
    assert count_frames(open_source(str(disc_data / "images"))) == 10
    assert count_frames(open_source(str(disc_data))) == 10


@pytest.mark.parametrize("name", ["clip [1].avi", "clip*.avi", "what?.avi", "[].avi"])
def test_an_existing_file_is_no_pattern(video: Path, name: str) -> None:
    path = video.rename(video.with_name(name))
    assert count_frames(open_source(str(path))) == 9


def read_names(text: str) -> list[str]:
    """Play a source through the thread that captures; gives the file names that its frames carry."""
    with Grabber(open_source(text), CaptureOptions(rate=math.inf, every_frame=True)) as grabber:
        return [frame.name for frame in iter(grabber.newest, None)]


def test_frames_carry_the_names_of_their_files(tmp_path: Path, video: Path) -> None:
    for name in ("b.png", "a [2].png", "c.txt"):
        write_image(tmp_path / "frames [1]" / name, np.full((8, 8), 90, np.uint8))
    folder = tmp_path / "frames [1]"
    assert read_names(str(folder)) == ["a [2].png", "b.png"]
    assert read_names(f"{folder}/*.png") == ["a [2].png", "b.png"]
    assert read_names(f"{folder}/a [2].png") == ["a [2].png"]
    assert set(read_names("phantom://?size=32&frames=2")) == {""}
    assert set(read_names(str(video))) == {""}


def test_a_repeated_folder_repeats_its_names(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        write_image(tmp_path / name, np.full((8, 8), 90, np.uint8))
    options = CaptureOptions(rate=math.inf, every_frame=True, loop=True)
    with Grabber(open_source(str(tmp_path), options=options), options) as grabber:
        frames = [grabber.newest() for _ in range(3)]
    assert [frame.name for frame in frames if frame is not None] == ["a.png", "b.png", "a.png"]


def test_a_folder_of_what_is_no_image_is_left_out_and_counted(tmp_path: Path) -> None:
    write_image(tmp_path / "z.png", np.full((8, 8), 90, np.uint8))
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("/dev/zero")
    (tmp_path / "c.png").mkdir()
    (tmp_path / "d.png").symlink_to("nowhere")
    source = open_source(str(tmp_path))
    assert count_frames(source) == 1
    assert (source.name, source.health.corrupt) == ("z.png", 4)


def test_an_image_that_announces_too_much_is_left_out_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.png", "z.png"):
        write_image(tmp_path / name, np.full((8, 8), 90, np.uint8))
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data[:16] + struct.pack(">II", 30_000, 30_000) + data[24:])
    decoded: list[tuple[int, ...]] = []
    decode = cv2.imdecode

    def watch(buffer: NDArray[np.uint8], flags: int) -> object:
        decoded.append(buffer.shape)
        return decode(buffer, flags)

    monkeypatch.setattr(cv2, "imdecode", watch)
    source = open_source(str(tmp_path))
    assert count_frames(source) == 1
    assert (len(decoded), source.health.corrupt) == (1, 1)


@pytest.mark.parametrize("name", ["a.png", "a.mp4", "a.dcm"])
def test_a_fifo_is_no_file(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(LimitError, match="FIFO"):
        open_source(str(tmp_path / name)).read()


@pytest.mark.parametrize(
    "name", ["cl\nip.avi", "größe ß.avi", "c\udcff.avi", "concat:x.avi", "-.avi", "a%03d.avi", "$(x).avi"]
)
def test_a_video_may_have_any_name(video: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    video.rename(video.with_name(name))
    monkeypatch.chdir(video.parent)
    assert count_frames(open_source(name)) == 9
    assert show_source(str(video.with_name(name))).isprintable()


@pytest.mark.parametrize("name", ["a\nb.png", "a\udcff.png", "größe.png", "\x1b[2J.png"])
def test_an_image_may_have_any_name(tmp_path: Path, name: str) -> None:
    write_image(tmp_path / "a.png", np.full((8, 8), 90, np.uint8))
    (tmp_path / "a.png").rename(tmp_path / name)
    source = open_source(str(tmp_path))
    assert source.read() is not None
    assert source.name.isprintable()
    assert source.name.encode()


@pytest.mark.parametrize("text", ["a\0b.mp4", "a" * 5000 + ".png", "frames/**x/*.png", "/dev/a\udcff", "/dev/a\0"])
def test_a_name_that_none_can_have_is_told(text: str) -> None:
    with pytest.raises(SourceError) as caught:
        open_source(text)
    assert caught.value.message.isprintable()


def test_a_video_that_announces_too_much_is_refused(video: Path) -> None:
    data, side = video.read_bytes(), 12_000  # FFmpeg refuses what is much larger by itself
    for kind, begin in (("<II", b""), (">HH", b"\xff\xc0\x00\x11\x08")):  # the file's headers, the frames' own
        size = (64, 48) if kind == "<II" else (48, 64)
        data = data.replace(begin + struct.pack(kind, *size), begin + struct.pack(kind, side, side))
    video.write_bytes(data)
    with pytest.raises(LimitError, match=r"clip\.avi.*12000x12000"):
        open_source(str(video))


def test_a_video_in_memory_is_no_camera(video: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        path = Path(folder) / video.name
        path.write_bytes(video.read_bytes())
        assert count_frames(open_source(str(path))) == 9


def test_a_scheme_may_be_written_in_capitals() -> None:
    assert count_frames(open_source("PHANTOM://?frames=2&size=32")) == 2


@pytest.mark.parametrize(
    "text", ["https://me:Zq7@host/?token=Zq7", "rtsps://host/user=a&password=Zq7 Zq7", "tcp://a:Zq7/Zq7@h"]
)
def test_an_unknown_address_is_told_without_its_secrets(text: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        open_source(text)
    assert "Zq7" not in f"{caught.value.message}{caught.value.hint}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/me/patient/clip [1].mp4", "clip [1].mp4"),
        ("../patient/frames/*.png", "*.png"),
        ("patient/frames/", "frames"),
        (".", "."),
        ("/dev/video0?size=640x480", "/dev/video0?size=640x480"),
        ("-?size=6x4", "-?size=6x4"),
        ("phantom://?seed=2", "phantom://?seed=2"),
        ("rtsp://me:a b@host/x", "rtsp://host/x"),
        ("rtsp://host/user=me&password=a b c&channel=1", "rtsp://host/user=***&password=***&channel=1"),
        ("gst://filesrc location=/home/me/a.mp4 ! decodebin", "gst://filesrc location=a.mp4 ! decodebin"),
        ('gst://filesrc location="/home/me/b c/a.mp4" ! x', 'gst://filesrc location="a.mp4" ! x'),
        ("gst://filesrc location=/a/Jane\\ Doe/a.mp4 ! x", "gst://filesrc location=a.mp4 ! x"),
        ('gst://filesrc location="Jane Doe/a.mp4" ! x', 'gst://filesrc location="a.mp4" ! x'),
        ("gst://filesrc 'location=/a/Jane Doe/a.mp4' ! x", "gst://filesrc 'location=a.mp4' ! x"),
        ("gst://uridecodebin uri=file:///home/me/a.mp4", "gst://uridecodebin uri=file://a.mp4"),
        ("gst://v4l2src device=/dev/video1 ! video/x-raw", "gst://v4l2src device=/dev/video1 ! video/x-raw"),
        ("gst://rtspsrc location=rtsp://a:b@h/p/q user-pw=x", "gst://rtspsrc location=rtsp://h/p/q user-pw=***"),
    ],
)
def test_what_is_told_of_a_source_is_no_secret_and_no_folder(text: str, shown: str) -> None:
    assert show_source(text) == shown


@pytest.mark.parametrize("piece", ["location=", "=/a ", "(/ ", '="', "\\", "a/"])
def test_the_time_to_hide_folders_grows_with_the_text_only(piece: str) -> None:
    began = monotonic()
    show_source("gst://" + piece * (20_000 // len(piece)))
    assert monotonic() - began < 1


def test_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=str(tmp_path)):
        open_source(str(tmp_path))


def test_absent_camera_is_refused() -> None:
    with pytest.raises(SourceError, match="/dev/video99"):
        open_source("/dev/video99")


@pytest.mark.parametrize("text", ["", " ", "camera", "clip.txt", "ftp://x/y"])
def test_unknown_source_lists_the_kinds(text: str) -> None:
    with pytest.raises(UnknownNameError, match="source") as caught:
        open_source(text)
    assert "phantom://" in caught.value.hint
