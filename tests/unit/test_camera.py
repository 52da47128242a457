"""A camera is asked for size and rate in its fastest pixel format, and what it answers is checked."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import pytest

from edgeseg.core.errors import SourceError
from edgeseg.streaming.sources import gstreamer
from edgeseg.streaming.sources.camera import CameraSource
from edgeseg.streaming.sources.gstreamer import build_pipeline
from tests.commands import assert_says
from tests.fakes.video_capture import FakeVideoCapture


@pytest.fixture
def webcam(monkeypatch: pytest.MonkeyPatch) -> FakeVideoCapture:
    fake = FakeVideoCapture()
    monkeypatch.setattr(cv2, "VideoCapture", lambda *_: fake)
    return fake


@pytest.mark.parametrize(
    ("text", "chosen", "size"),
    [
        ("0", "YUYV", (640, 480)),
        ("/dev/video0?size=640x480&fps=30", "YUYV", (640, 480)),
        ("0?size=1280x720", "MJPG", (1280, 720)),
    ],
)
def test_the_faster_pixel_format_is_used(
    webcam: FakeVideoCapture, text: str, chosen: str, size: tuple[int, int]
) -> None:
    source = CameraSource(text)
    image = source.read()
    assert (webcam.format, image.shape[1::-1], source.fps) == (chosen, size, 30.0)
    assert source.arrived_at is not None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("size=1000x700", ("1000x700", "camera 0", "640x480", "30 fps")),
        ("size=1280x720&fps=60", ("1280x720", "60 fps", "camera 0", "30 fps")),
    ],
)
def test_what_the_camera_cannot_is_told(webcam: FakeVideoCapture, options: str, said: tuple[str, ...]) -> None:
    with pytest.raises(SourceError) as caught:
        CameraSource(f"0?{options}")
    assert_says(caught.value, *said)
    assert webcam.released


@pytest.mark.usefixtures("webcam")
def test_an_unplugged_camera_is_told() -> None:
    source = CameraSource("0")
    for _ in range(3):
        source.read()
    with pytest.raises(SourceError, match="camera 0"):
        source.read()


@pytest.mark.parametrize("element", ["nvarguscamerasrc", "libcamerasrc", "v4l2src"])
def test_csi_takes_what_the_board_has(element: str) -> None:
    pipeline = build_pipeline("csi://0?size=640x480&fps=15", lambda name: name == element)
    assert pipeline.startswith(element)
    assert "width=640,height=480,framerate=15/1" in pipeline


@pytest.mark.parametrize(
    ("text", "said"), [("csi://left", "camera's number"), ("csi://", "camera's number"), ("csi://1", "csi://0")]
)
def test_wrong_csi_is_refused(text: str, said: str) -> None:
    with pytest.raises(SourceError, match=said):
        build_pipeline(text, lambda name: name == "libcamerasrc")


def test_csi_without_its_plugins_says_what_to_install() -> None:
    with pytest.raises(SourceError, match="nvarguscamerasrc") as caught:
        build_pipeline("csi://0", lambda _: False)
    assert "gstreamer1.0-tools" in caught.value.hint


def test_a_gstreamer_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    inspector = tmp_path / gstreamer.INSPECTOR
    inspector.write_text("#!/bin/sh\nsleep 60\n", encoding="utf-8")
    inspector.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(gstreamer, "INSPECT_SECONDS", 0.2)
    with pytest.raises(SourceError, match=r"within 0\.2 s"):
        build_pipeline("csi://0")
