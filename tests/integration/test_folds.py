"""Cross-validation: every case is tested once, by a network that has not seen its group, whatever comes between."""

from __future__ import annotations

import dataclasses
import json
import os
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeseg
from edgeseg.cli.app import main
from edgeseg.compression.context import open_run
from edgeseg.core.errors import DataError, RunError, TrainingError
from edgeseg.core.files import partial_path, read_rows, staged_folder, write_json
from edgeseg.core.schema import to_plain
from edgeseg.data.dataset import fingerprint_dataset, open_dataset
from edgeseg.evaluation.out_of_fold import OUT_OF_FOLD, pick_judged
from edgeseg.inference.ensemble import open_segmenter
from edgeseg.training import trainer
from edgeseg.training.folds import FoldPlan, _train_fold, resume_folds, train_folds
from edgeseg.training.options import CONFIG, TrainOptions, read_config
from edgeseg.training.run import RunRecord, read_run
from edgeseg.training.trainer import export_run, plain_split
from tests.commands import Fail
from tests.discs import make_disc_data
from tests.encoders import STANDING_STILL, read_encoder

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("shallow_sizes")]

OPTIONS = TrainOptions("nano", 32, epochs=1)


def stop_in_second_fold(patched: pytest.MonkeyPatch) -> None:
    """Let the second training be interrupted when its epochs are done."""
    calls = count(1)

    def export_once(*arguments: Any) -> RunRecord:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return export_run(*arguments)

    patched.setattr(trainer, "export_run", export_once)


def test_interrupted_folds_go_on_and_leave_a_run_each_and_a_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail: Fail
) -> None:
    data, out = make_disc_data(tmp_path / "discs", 18), tmp_path / "cv"
    with staged_folder(out) as older:
        (older / "old").touch()
    with monkeypatch.context() as patched:
        stop_in_second_fold(patched)
        with pytest.raises(KeyboardInterrupt):
            train_folds(data, out, OPTIONS, 3, plain_split(0), overwrite=True)
    assert {path.name for path in partial_path(out).iterdir()} == {
        *(".edgeseg", "plan.json", CONFIG, "fold-1", "fold-2.partial")
    }
    assert read_config(partial_path(out) / CONFIG)["folds"] == 3
    first = (partial_path(out) / "fold-1" / "weights.h5").stat().st_mtime_ns
    code, said = fail("train", data, "--out", out, "--folds", "3")
    assert (code, "--resume --overwrite" in said) == (1, True)

    monkeypatch.setattr("sys.argv", ["edgeseg", "train", str(data), "--out", str(out), "--resume", "--overwrite"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert not caught.value.code
    assert (out / "fold-1" / "weights.h5").stat().st_mtime_ns == first
    assert not partial_path(out).exists()
    assert not (out / "old").exists()
    saved = json.loads((out / "folds.json").read_text(encoding="utf-8"))
    runs = [read_run(out / f"fold-{number}") for number in (1, 2, 3)]
    assert saved["dice"] == [run.evaluation["dice"]["mean"] for run in runs if run.evaluation is not None]
    together, apart = saved["evaluation"], [run.evaluation for run in runs if run.evaluation is not None]
    cases = [evaluation["cases"] for evaluation in apart]
    assert together["cases"] == sum(cases)
    assert together["dice"]["mean"] == pytest.approx(np.average(saved["dice"], weights=cases), abs=1e-4)
    tested = [case.stem for k in (1, 2, 3) for case in open_run(out / f"fold-{k}").data.split.test]
    assert [row["stem"] for row in read_rows(out / "cases.csv")] == tested
    assert sorted(tested) == [f"case_{number:02d}" for number in range(18)]
    check_ensemble(data, out, saved)


def check_ensemble(data: Path, out: Path, saved: dict[str, Any]) -> None:
    """Check that the folder is one model, which judges its own data out of fold and other data with all networks."""
    together = edgeseg.evaluate(out, data)
    assert together.dice is not None
    assert (together.cases, together.dice.mean) == (saved["evaluation"]["cases"], saved["evaluation"]["dice"]["mean"])
    segmenter = open_segmenter(out)
    assert pick_judged(segmenter, data).part == OUT_OF_FOLD
    with pytest.raises(DataError, match="every fold"):
        pick_judged(segmenter, data, "train")
    other = make_disc_data(out.parent / "other", 4)
    assert (pick_judged(open_segmenter(out), other).part, edgeseg.evaluate(out, other).cases) == ("all", 4)
    (data / "groups.csv").write_text(
        "stem,group\n" + "".join(f"case_{n:02d},g{n // 2}\n" for n in range(18)), encoding="utf-8"
    )
    with pytest.raises(DataError, match="groups or parts"):
        pick_judged(segmenter, data)
    rows = read_rows(out / "look-first.csv") if saved["labels_in_doubt"] else []
    assert len(rows) == saved["labels_in_doubt"]
    assert (out / "look-first.csv").is_file()
    assert (out / "look-first.png").is_file() == bool(rows)


def test_cross_validation_on_changed_data_is_not_continued(tmp_path: Path) -> None:
    data, out = make_disc_data(tmp_path / "discs", 6), tmp_path / "cv"
    with pytest.raises(RunError, match="cross-validation"):
        resume_folds(data, out)
    plan = FoldPlan(OPTIONS, 3, plain_split(0), "another fingerprint")
    write_json(partial_path(out) / "plan.json", to_plain(plan))
    with pytest.raises(DataError, match="changed folder"):
        resume_folds(data, out)
    same = fingerprint_dataset(open_dataset(data))
    plan = dataclasses.replace(plan, data_fingerprint=same, split_fingerprint="another division")
    write_json(partial_path(out) / "plan.json", to_plain(plan))
    with pytest.raises(DataError, match="groups or parts"):
        resume_folds(data, out)


def test_a_fold_that_kept_nothing_begins_again_from_the_other_run(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    data, out = make_disc_data(tmp_path / "discs", 18), tmp_path / "cv"
    with monkeypatch.context() as patched:
        patched.setattr(trainer, "start_from", stop)
        with pytest.raises(KeyboardInterrupt):
            train_folds(data, out, STANDING_STILL, 3, plain_split(0), init=trained_run)
    plan = FoldPlan(STANDING_STILL, 3, plain_split(0), "any", init=os.path.relpath(trained_run, out))
    assert _train_fold(data, partial_path(out), plan, 0).init == read_run(trained_run).name
    for kept, given in zip(read_encoder(partial_path(out) / "fold-1"), read_encoder(trained_run), strict=True):
        np.testing.assert_allclose(kept, given, atol=1e-6)


def test_fewer_groups_than_folds_are_refused(tmp_path: Path) -> None:
    data = make_disc_data(tmp_path / "discs", 10)
    rows = [f"case_{number:02d},patient{number % 3}" for number in range(10)]
    (data / "groups.csv").write_text("stem,group\n" + "\n".join(rows) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="5 folds"):
        train_folds(data, tmp_path / "cv", OPTIONS, 5, plain_split(0))
    assert [path.name for path in tmp_path.iterdir()] == ["discs"]


def test_folds_are_not_for_several_workers(tmp_path: Path) -> None:
    options = dataclasses.replace(OPTIONS, strategy="multi-worker")
    with pytest.raises(TrainingError, match="cross-validation"):
        train_folds(tmp_path, tmp_path / "cv", options, 3, plain_split(0))
