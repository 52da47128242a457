"""A training that is killed and continued ends where an uninterrupted one does."""

from __future__ import annotations

import signal
from pathlib import Path
from time import monotonic, sleep

import numpy as np
import pytest

from edgeseg.cli.app import main
from edgeseg.core.errors import DataError, RunError
from edgeseg.core.files import staged_folder
from edgeseg.core.marks import write_mark
from edgeseg.frame.images import read_image, write_image
from edgeseg.training import trainer
from edgeseg.training.options import CONFIG, EMA, TrainOptions
from edgeseg.training.run import read_interrupted, read_run
from edgeseg.training.validation import read_history
from tests.commands import Fail
from tests.discs import make_disc_data
from tests.encoders import STANDING_STILL, read_encoder
from tests.shallow import COMMAND
from tests.workers import start_worker

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("shallow_sizes")]

SAME_DICE = 0.05
"""Dropout is drawn anew after an interruption, so the two are not equal to the digit."""


def stop(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def count_epochs(run: Path) -> int:
    history = run / "history.csv"
    return len(history.read_text(encoding="utf-8").splitlines()) - 1 if history.is_file() else 0


def make_older(run: Path) -> None:
    """Leave a training as an earlier release did: without config.toml, and with the former name of the EMA."""
    (run / CONFIG).unlink()
    record = (run / "run.json").read_text(encoding="utf-8")
    (run / "run.json").write_text(record.replace('"ema"', '"average"'), encoding="utf-8")


def wait_for_epoch(partial: Path, epoch: int) -> None:
    """Wait until an epoch stands in the history, or fail after ten minutes."""
    deadline = monotonic() + 600
    while count_epochs(partial) < epoch:
        assert monotonic() < deadline, "the training never got that far"
        sleep(0.02)


def test_killed_training_is_continued(trained_data: Path, trained_run: Path, tmp_path: Path, fail: Fail) -> None:
    killed, options = tmp_path / "killed", read_run(trained_run).options
    chosen = ("--model", options.model, "--size", options.size, "--epochs", options.epochs, "--seed", options.seed)
    process = start_worker("train", trained_data, "--out", killed, *map(str, chosen), program=COMMAND)
    wait_for_epoch(tmp_path / "killed.partial", 12)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not killed.exists()
    code, said = fail("train", trained_data, "--out", killed)
    assert (code, "--resume" in said) == (1, True)

    record = trainer.resume_run(trained_data, killed)
    assert record.options == options
    assert count_epochs(killed) == options.epochs
    assert not (tmp_path / "killed.partial").exists()
    assert not (killed / "checkpoint").exists()
    whole = read_run(trained_run).evaluation
    assert record.evaluation is not None
    assert whole is not None
    assert record.evaluation["dice"]["mean"] == pytest.approx(whole["dice"]["mean"], abs=SAME_DICE)


def test_nothing_to_continue_and_changed_data_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_disc_data(tmp_path / "discs", 20)
    with pytest.raises(RunError, match="got none"):
        trainer.resume_run(data, tmp_path / "run")

    monkeypatch.setattr(trainer, "_fit", stop)
    with pytest.raises(KeyboardInterrupt):
        trainer.train_run(data, tmp_path / "run", TrainOptions("nano", 32, epochs=2))
    rows = [f"case_{number:02d},patient{number // 2}" for number in range(20)]
    (data / "groups.csv").write_text("\n".join(["stem,group", *rows]), encoding="utf-8")
    with pytest.raises(DataError, match="groups or parts"):
        trainer.resume_run(data, tmp_path / "run")
    (data / "groups.csv").unlink()
    write_image(data / "images" / "case_00.png", np.zeros((72, 96), np.uint8))
    with pytest.raises(DataError, match="changed folder"):
        trainer.resume_run(data, tmp_path / "run")


def test_a_training_that_was_stopped_before_its_record_is_begun_anew_by_resume(
    disc_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail: Fail
) -> None:
    """Plain and --resume must not send the user to each other."""
    out = tmp_path / "run"
    (tmp_path / "run.partial").mkdir()
    write_mark(tmp_path / "run.partial", whole=False)
    (tmp_path / "run.partial" / "half").touch()
    write_mark(tmp_path / "run.partial", whole=False)
    code, said = fail("train", disc_data, "--out", out)
    assert (code, "--resume" in said) == (1, True), said
    monkeypatch.setattr(trainer, "_fit", stop)
    code, said = fail("train", disc_data, "--out", out, "--resume", "--model", "nano", "--size", "32")
    assert (code, "begins anew" in said) == (130, True), said
    assert read_interrupted(tmp_path / "run.partial").options.model == "nano"
    assert not (tmp_path / "run.partial" / "half").exists()
    assert f"--out {out} --resume" in said


def test_record_says_what_is_white_in_images_of_12_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_disc_data(tmp_path / "discs", 20)
    for path in (data / "images").iterdir():
        write_image(path, read_image(path).astype(np.uint16) * np.uint16(16))
    monkeypatch.setattr(trainer, "_fit", stop)
    with pytest.raises(KeyboardInterrupt):
        trainer.train_run(data, tmp_path / "run", TrainOptions("nano", 32, epochs=2))
    assert read_interrupted(tmp_path / "run.partial").input.white == 4095


def test_a_training_stopped_in_its_first_epoch_still_starts_from_the_other_run(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = make_disc_data(tmp_path / "discs", 20), tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(trainer, "fit_model", stop)
        with pytest.raises(KeyboardInterrupt):
            trainer.train_run(data, out, STANDING_STILL, init=trained_run)
    assert trainer.resume_run(data, out).init == read_run(trained_run).name
    for kept, given in zip(read_encoder(out), read_encoder(trained_run), strict=True):
        np.testing.assert_allclose(kept, given, atol=1e-6)


def test_a_training_that_lost_the_other_run_is_not_continued(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_disc_data(tmp_path / "discs", 20)
    monkeypatch.setattr(trainer, "start_from", stop)
    with pytest.raises(KeyboardInterrupt):
        trainer.train_run(data, tmp_path / "run", STANDING_STILL, init=trained_run)
    with pytest.raises(RunError, match=r"weights.*discs-nano") as caught:
        trainer.resume_run(data, tmp_path / "run")
    assert "--init and --overwrite" in caught.value.hint


def test_a_training_that_was_stopped_while_it_was_exported_only_exports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail: Fail
) -> None:
    data = make_disc_data(tmp_path / "discs", 20)
    with staged_folder(tmp_path / "run") as older:
        (older / "old").touch()
    with monkeypatch.context() as patched:
        patched.setattr(trainer, "export_run", stop)
        with pytest.raises(KeyboardInterrupt):
            trainer.train_run(data, tmp_path / "run", TrainOptions("nano", 32, epochs=2), overwrite=True)
    before = read_history(tmp_path / "run.partial")
    make_older(tmp_path / "run.partial")
    code, said = fail("train", tmp_path / "not-read-yet", "--out", tmp_path / "run", "--resume")
    assert (code, "--resume --overwrite" in said) == (1, True)
    record = trainer.resume_run(data, tmp_path / "run", overwrite=True)
    assert read_history(tmp_path / "run") == before
    assert record.options.ema == EMA
    assert record.timing is not None
    assert record.timing.peak_memory_mb > 100
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        ".edgeseg",
        "curve.png",
        "history.csv",
        "logs",
        "model.tflite",
        "run.json",
        "split.csv",
        "test-cases.csv",
        "test-cases.png",
        "weights.h5",
    ]


def test_a_config_trains_the_same_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, first, again = make_disc_data(tmp_path / "discs", 20), tmp_path / "first", tmp_path / "deeper" / "again"
    trainer.train_run(data, first, TrainOptions("nano", 32, epochs=1, dropout=0.0, seed=5))
    monkeypatch.setattr("sys.argv", ["edgeseg", "train", "--config", str(first / CONFIG), "--out", str(again)])
    with pytest.raises(SystemExit) as caught:
        main()
    assert not caught.value.code
    one, two = read_run(first), read_run(again)
    assert (one.options, one.split, one.data_fingerprint) == (two.options, two.split, two.data_fingerprint)
    assert one.evaluation == two.evaluation
    assert (first / CONFIG).read_text("utf-8") == (again / CONFIG).read_text("utf-8").replace("../../", "../")
