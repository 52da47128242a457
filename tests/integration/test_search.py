"""A search over networks: killed, continued by two processes at once, and reported without a look at the test cases."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
from pathlib import Path

import cv2
import pytest

from edgeseg.core.errors import RunError
from edgeseg.search.networks import SearchSpace, StudyPlan, run_study
from edgeseg.training.trainer import plain_split
from tests.discs import make_disc_data
from tests.shallow import COMMAND
from tests.workers import start_worker, wait_for

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("shallow_sizes")]

SPACE = SearchSpace(("nano",), (32, 64), ("quarter",), ("dice",), (1e-3, 1e-2))
OPTIONS = "--models nano --sizes 32,64 --losses dice --learning-rates 1e-3,1e-2 --epochs 1 --trials 2"


def start_search(data: Path, out: Path) -> subprocess.Popen[bytes]:
    return start_worker("tune", data, "--out", out, *OPTIONS.split(), program=COMMAND)


def test_killed_study_is_continued_by_two_processes(tmp_path: Path) -> None:
    data, out = make_disc_data(tmp_path / "discs", 20), tmp_path / "study"
    killed = start_search(data, out)
    wait_for(out / "trials" / "0000.partial", killed)
    killed.send_signal(signal.SIGKILL)
    killed.wait()

    other = start_search(data, out)
    wait_for(out / "trials" / "0001.partial", other)
    report = run_study(data, out, StudyPlan(SPACE, plain_split(0), epochs=1), trials=2)
    assert other.wait(timeout=180) == 0

    saved = json.loads((out / "study.json").read_text(encoding="utf-8"))
    states = [row["state"] for row in saved["trials"]]
    assert (states.count("finished"), states.count("interrupted"), len(states)) == (2, 1, 3)
    first, again = saved["trials"][:2]
    assert [first[name] for name in ("size", "learning_rate")] == [again[name] for name in ("size", "learning_rate")]
    assert saved["data_fingerprint"] == report.data_fingerprint
    assert saved["pick"] in saved["front"]
    assert f"--learning-rate {saved['pick']['learning_rate']:g}" in saved["command"]
    check_files(out, finished=[number for number, state in enumerate(states) if state == "finished"])


def check_files(out: Path, finished: list[int]) -> None:
    runs = [out / "trials" / f"{number:04d}" for number in finished]
    assert sorted((out / "trials").iterdir()) == runs
    for run in runs:
        record = json.loads((run / "run.json").read_text(encoding="utf-8"))
        assert (record["status"], record["evaluation"]) == ("finished", None)
    with (out / "trials.csv").open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 3
    assert cv2.imread(str(out / "front.png")) is not None


def test_loss_that_is_no_number_fails_the_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeseg.model.losses import LOSSES, dice_loss

    monkeypatch.setitem(LOSSES, "broken", lambda truth, predicted: dice_loss(truth, predicted) * float("nan"))
    data, out = make_disc_data(tmp_path / "discs", 20), tmp_path / "study"
    space = SearchSpace(("nano",), (32,), ("half",), ("broken",), (1e-3, 1e-2))
    with pytest.raises(RunError, match=r"Expected a finite loss.* got loss nan in .*epoch 1"):
        run_study(data, out, StudyPlan(space, plain_split(0), epochs=1), trials=1)
    (row,) = json.loads((out / "study.json").read_text(encoding="utf-8"))["trials"]
    assert (row["state"], row["macs"]) == ("failed", None)
    assert list((out / "trials").iterdir()) == []
