"""Every example runs as it stands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeseg.core.images import read_image
from edgeseg.core.modelfile import read_model
from edgeseg.runtime.segmenter import Segmenter

pytestmark = pytest.mark.integration

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run_example(name: str, *arguments: str | Path) -> str:
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_no_example_is_left_out() -> None:
    tested = Path(__file__).read_text(encoding="utf-8")
    assert all(f'"{path.name}"' in tested for path in EXAMPLES.glob("*.py"))


def test_plain_litert_draws_nearly_the_same_mask(int8_model: Path, trained_data: Path, tmp_path: Path) -> None:
    image = trained_data / "images" / "case_00.png"
    run_example("plain_litert.py", int8_model, image, tmp_path / "mask.png")
    plain = np.asarray(cv2.imread(str(tmp_path / "mask.png"), cv2.IMREAD_GRAYSCALE)) > 0
    own = Segmenter(read_model(int8_model)).segment(read_image(image)).labels > 0
    assert 2 * np.count_nonzero(plain & own) / (np.count_nonzero(plain) + np.count_nonzero(own)) > 0.8


def test_segment_folder_writes_an_overlay_for_every_image(int8_model: Path, disc_data: Path, tmp_path: Path) -> None:
    said = run_example("segment_folder.py", int8_model, disc_data / "images", tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*.png"))) == said.count("marked") == 10


def test_webcam_streams_and_reports(int8_model: Path) -> None:
    said = run_example("webcam.py", int8_model, "phantom://?size=96", "15")
    assert "15 frames" in said
    assert "http://127.0.0.1:" in said


def test_watch_area_prints_every_class_in_square_millimetres(int8_model: Path) -> None:
    said = run_example("watch_area.py", int8_model, "phantom://?size=96", "10", "0.2")
    assert said.count("frame ") == 10
    assert "mm2" in said
    assert "budget " in said
