"""A training on measured heads leaves a file that draws ellipses, and says so."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeseg.cli.app import main
from edgeseg.core.files import write_rows
from edgeseg.core.modelfile import read_model
from tests.discs import write_case

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("shallow_sizes")]


def make_head_data(root: Path, cases: int) -> Path:
    """Make a data folder of drawn ellipses, each with the circumference that was measured."""
    stems = [f"head_{number:02d}" for number in range(cases)]
    for number, stem in enumerate(stems):
        mask = np.zeros((150, 200), np.uint8)
        cv2.ellipse(mask, (90 + number, 70), (60, 45), 10 * number, 0, 360, 255, cv2.FILLED)
        write_case(root, stem, mask // 2 + 60, mask)
    write_rows(root / "groups.csv", ("stem", "group", "head_circumference_mm"), [(stem, stem, 180) for stem in stems])
    return root


def test_measured_heads_are_drawn_as_ellipses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = make_head_data(tmp_path / "heads", 10), tmp_path / "run"
    tiny = ["--model", "nano", "--size", "32", "--epochs", "1"]
    monkeypatch.setattr("sys.argv", ["edgeseg", "train", str(data), "--out", str(run), *tiny])
    with pytest.raises(SystemExit) as caught:
        main()
    assert not caught.value.code
    assert "masks are drawn as ellipses" in capsys.readouterr().out
    assert read_model(run / "model.tflite").card.output.shape == "ellipse"
