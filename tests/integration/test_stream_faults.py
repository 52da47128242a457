"""A stream as a user starts it: what goes wrong with its source is one sentence, and what was done is kept."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgeseg.frame.images import write_image
from tests.cameras import HEAD, LAST, STALL, Camera, draw_jpeg, make_parts, wrap_part
from tests.commands import Fail
from tests.tinymodels import write_bright_model

pytestmark = pytest.mark.integration
SECONDS = 60


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bright_model(tmp_path_factory.mktemp("model") / "bright.tflite")


def start_stream(model: Path, source: str, report: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "edgeseg", "stream", str(model), "--source", source, "--view", "none"]
    return subprocess.Popen(
        [*command, "--max-miss", "1", "--json", str(report), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=SECONDS)
    return process.returncode, out, err


def read_report(path: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return report


def test_a_camera_that_comes_back_is_told_and_counted(model: Path, tmp_path: Path) -> None:
    report = tmp_path / "stream.json"
    with Camera([HEAD, *make_parts(10, 20)], [HEAD, *make_parts(30), LAST]) as camera:
        code, out, err = finish(start_stream(model, camera.url, report))
    assert code == 0
    assert " back after " in err
    assert "lost 1 times" in out
    health = read_report(report)["source_health"]
    assert health["interruptions"] == 1
    assert health["lost_seconds"] > 0.4


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_lost_stream_with_its_figures(model: Path, tmp_path: Path, number: signal.Signals) -> None:
    report = tmp_path / "stream.json"
    with Camera([HEAD, *make_parts(10, 20)], [STALL]) as camera:
        process = start_stream(model, camera.url, report)
        assert process.stderr is not None
        assert "again" in process.stderr.readline()
        process.send_signal(number)
        code, _, _ = finish(process)
    figures = read_report(report)
    assert (code, figures["frames"]["captured"]) == (0, 2)
    assert figures["source_health"]["interruptions"] == 1


@pytest.mark.skipif(shutil.which("gst-launch-1.0") is None, reason="no gst-launch-1.0 here")
def test_a_signal_leaves_no_pipeline_behind(model: Path, tmp_path: Path) -> None:
    mark = f"name=edgeseg{os.getpid()}"
    process = start_stream(model, f"gst://videotestsrc is-live=true {mark}", tmp_path / "stream.json", "--frames", "30")
    code, _, _ = finish(process)
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert code == 0
    assert not any(mark.encode() in command for command in commands if b"gst-launch" in command)


def test_what_was_done_is_kept_when_the_stream_breaks(model: Path, tmp_path: Path) -> None:
    folder, report = tmp_path / "frames", tmp_path / "stream.json"
    write_image(folder / "a.png", np.zeros((64, 64), np.uint8))
    write_image(folder / "b.png", np.zeros((32, 32), np.uint8))
    options = ("--roi", "0,0,64,64", "--every-frame", "--rate", "max")
    code, out, err = finish(start_stream(model, str(folder), report, *options))
    assert code == 1
    assert "32x32" in err
    assert "1 processed" in out
    assert read_report(report)["frames"]["processed"] == 1


def test_a_size_that_changes_is_followed(model: Path, tmp_path: Path) -> None:
    report = tmp_path / "stream.json"
    with Camera([HEAD, *make_parts(10), wrap_part(draw_jpeg(20, (96, 128))), LAST]) as camera:
        code, _, _ = finish(start_stream(model, camera.url, report))
    assert (code, read_report(report)["frames"]["captured"]) == (0, 2)


def test_passwords_reach_no_report(model: Path, tmp_path: Path) -> None:
    report = tmp_path / "stream.json"
    with Camera([HEAD, *make_parts(10), LAST]) as camera:
        url = camera.url.replace("//", "//name:secret@")
        code, out, err = finish(start_stream(model, url, report))
    assert code == 0
    assert "secret" not in out + err + report.read_text(encoding="utf-8")


def test_every_frame_of_a_video(model: Path, tmp_path: Path) -> None:
    path, report = tmp_path / "clip.avi", tmp_path / "stream.json"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (64, 48))
    for number in range(50):
        writer.write(np.full((48, 64, 3), number, np.uint8))
    writer.release()
    code, _, _ = finish(start_stream(model, str(path), report, "--every-frame", "--rate", "max"))
    frames = read_report(report)["frames"]
    assert (code, frames["captured"], frames["processed"], frames["dropped"]) == (0, 50, 50, 0)


@pytest.mark.parametrize("option", [("--loop",), ("--every-frame",), ("--rate", "5")])
def test_a_live_source_is_not_held(model: Path, fail: Fail, option: tuple[str, ...]) -> None:
    with Camera([HEAD, *make_parts(10), STALL]) as camera:
        code, err = fail("stream", model, "--view", "none", "--source", camera.url, *option)
    assert (code, "recorded" in err) == (2, True)
