"""`edgeseg predict` is killed again and again, and the result is the one of a run that nobody disturbed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest

import edgeseg
from tests.tinymodels import write_bright_model
from tests.unit.test_predict import draw, list_files, read_table, write_pictures, write_video

pytestmark = pytest.mark.integration
SECONDS = 120.0


def start(model: Path, source: Path, out: Path, *more: str) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "edgeseg", "predict", str(model), str(source), "--out", str(out), "--overlay"]
    return subprocess.Popen([*words, "--workers", "2", *more], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def kill_after(process: subprocess.Popen[bytes], folder: Path, files: int) -> None:
    """Kill a process when it has written so many files."""
    limit = time.monotonic() + SECONDS
    # folders may vanish meanwhile, which os.walk passes over
    while process.poll() is None and sum(len(names) for _, _, names in os.walk(folder)) < files:
        assert time.monotonic() < limit
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_killed_run_goes_on_without_a_double_or_missing_row(tmp_path: Path) -> None:
    model = write_bright_model(tmp_path / "model.tflite")
    source = write_pictures(tmp_path / "in", *(f"{number:04d}.png" for number in range(8)))
    for number in range(8, 400):
        (source / f"{number:04d}.png").symlink_to(source / f"{number % 8:04d}.png")
    write_video(source / "0200.avi", 40)
    cv2.imwrite(str(source / "large.png"), draw(0, (2000, 3000)))
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    more: tuple[str, ...] = ()
    for files in (40, 300, 480):
        kill_after(start(model, source, out, *more), partial, files)
        assert not out.exists()
        more = ("--resume",)
    assert start(model, source, out, *more).wait(SECONDS) == 0
    whole = edgeseg.predict(model, source, tmp_path / "whole", overlay=True)
    result = edgeseg.PredictResult(out, whole.summary)
    assert read_table(result) == read_table(whole)
    assert list_files(out) == list_files(tmp_path / "whole")
    for file in sorted(list_files(out / "masks")):
        assert (out / "masks" / file).read_bytes() == (tmp_path / "whole/masks" / file).read_bytes()


def test_ctrl_c_names_the_command_that_goes_on(tmp_path: Path) -> None:
    model = write_bright_model(tmp_path / "model.tflite")
    source = write_pictures(tmp_path / "in", "0.png")
    for number in range(1, 800):
        (source / f"{number}.png").symlink_to(source / "0.png")
    words = [sys.executable, "-m", "edgeseg", "predict", str(model), str(source), "--out", str(tmp_path / "out")]
    with subprocess.Popen(words, stderr=subprocess.PIPE) as process:
        limit = time.monotonic() + SECONDS
        while not (tmp_path / "out.partial/masks").is_dir() and time.monotonic() < limit:
            time.sleep(0.001)
        os.kill(process.pid, signal.SIGINT)
        said = process.communicate(timeout=SECONDS)[1].decode()
    assert process.returncode == 130
    assert "--resume" in said
    assert edgeseg.predict(model, source, tmp_path / "out", resume=True).summary.files == 800
