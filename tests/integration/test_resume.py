"""A training that is killed and continued ends where an uninterrupted one does."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

import numpy as np
import pytest

from edgeseg.core.errors import DataError, RunError
from edgeseg.core.images import write_image
from edgeseg.train.run import TrainOptions
from tests.discs import make_disc_data

pytestmark = pytest.mark.integration

OPTIONS = ["--model", "nano", "--size", "32", "--stem", "full", "--epochs", "40", "--seed", "5"]
SAME_DICE = 0.05
"""Dropout is drawn anew after an interruption, so the two are not equal to the digit."""


def train(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "edgeseg", "train", *map(str, arguments)]


def wait_for_epoch(partial: Path, epoch: int) -> None:
    """Wait until an epoch stands in the history, or fail after two minutes."""
    history, deadline = partial / "history.csv", monotonic() + 120
    while not (history.is_file() and len(history.read_text(encoding="utf-8").splitlines()) > epoch):
        assert monotonic() < deadline, "the training never got that far"
        sleep(0.05)


def read_dice(run: Path) -> float:
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    return float(record["evaluation"]["dice"]["mean"])


def test_killed_training_is_continued(tmp_path: Path) -> None:
    data = make_disc_data(tmp_path / "discs", 40)
    subprocess.run(train(data, "--out", tmp_path / "whole", *OPTIONS), check=True, capture_output=True)

    killed = tmp_path / "killed"
    process = subprocess.Popen(train(data, "--out", killed, *OPTIONS), stderr=subprocess.DEVNULL)
    wait_for_epoch(tmp_path / "killed.partial", 12)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not killed.exists()

    again = subprocess.run(train(data, "--out", killed, *OPTIONS), capture_output=True, text=True, check=False)
    assert (again.returncode, "Continue it with --resume" in again.stderr) == (1, True)

    subprocess.run(train(data, "--out", killed, "--resume"), check=True, capture_output=True)
    assert len((killed / "history.csv").read_text(encoding="utf-8").splitlines()) == 41
    assert not (tmp_path / "killed.partial").exists()
    assert not (killed / "checkpoint").exists()
    assert read_dice(killed) == pytest.approx(read_dice(tmp_path / "whole"), abs=SAME_DICE)


def test_nothing_to_continue_and_changed_data_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeseg.train import trainer

    data = make_disc_data(tmp_path / "discs", 40)
    with pytest.raises(RunError, match="got none"):
        trainer.resume_run(data, tmp_path / "run")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "_fit", stop)
    with pytest.raises(KeyboardInterrupt):
        trainer.train_run(data, tmp_path / "run", TrainOptions("nano", 32, "full", 2))
    write_image(data / "images" / "case_00.png", np.zeros((72, 96), np.uint8))
    with pytest.raises(DataError, match="got a changed folder"):
        trainer.resume_run(data, tmp_path / "run")


def test_a_training_that_was_stopped_while_it_was_exported_only_exports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeseg.train import trainer
    from edgeseg.train.history import read_history

    data = make_disc_data(tmp_path / "discs", 20)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(trainer, "export_run", stop)
        with pytest.raises(KeyboardInterrupt):
            trainer.train_run(data, tmp_path / "run", TrainOptions("nano", 32, "full", 2))
    before = read_history(tmp_path / "run.partial")
    record = trainer.resume_run(data, tmp_path / "run")
    assert read_history(tmp_path / "run") == before
    assert record.timing is not None
    assert record.timing.peak_memory_mb > 100
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "curve.png",
        "history.csv",
        "logs",
        "model.tflite",
        "run.json",
        "test-cases.png",
        "weights.h5",
    ]
