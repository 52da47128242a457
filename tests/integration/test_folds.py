"""Cross-validation: every case is tested once, by a network that has not seen its group."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from edgeseg.core.errors import DataError, TrainingError
from edgeseg.train.folds import train_folds
from edgeseg.train.run import TrainOptions
from edgeseg.train.trainer import plain_split
from tests.discs import make_disc_data

pytestmark = pytest.mark.integration

OPTIONS = TrainOptions("nano", 32, "full", epochs=2)


def test_folds_leave_a_run_each_and_a_summary(tmp_path: Path) -> None:
    from edgeseg.compress.workshop import open_run

    data = make_disc_data(tmp_path / "discs", 18)
    summary = train_folds(data, tmp_path / "cv", OPTIONS, 3, plain_split(0))
    saved = json.loads((tmp_path / "cv" / "folds.json").read_text(encoding="utf-8"))
    assert saved["dice"] == list(summary.dice)
    tested = [case.stem for k in (1, 2, 3) for case in open_run(tmp_path / "cv" / f"fold-{k}").data.split.test]
    assert sorted(tested) == [f"case_{number:02d}" for number in range(18)]


def test_fewer_groups_than_folds_are_refused(tmp_path: Path) -> None:
    data = make_disc_data(tmp_path / "discs", 10)
    rows = [f"case_{number:02d},patient{number % 3}" for number in range(10)]
    (data / "groups.csv").write_text("stem,group\n" + "\n".join(rows) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="5 folds"):
        train_folds(data, tmp_path / "cv", OPTIONS, 5, plain_split(0))
    assert not (tmp_path / "cv").exists()


def test_folds_are_not_for_several_workers(tmp_path: Path) -> None:
    options = dataclasses.replace(OPTIONS, strategy="multi-worker")
    with pytest.raises(TrainingError, match="got a cross-validation"):
        train_folds(tmp_path, tmp_path / "cv", options, 3, plain_split(0))
