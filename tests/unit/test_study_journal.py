"""The study on disk: shared by processes, continued after kills, and refused where it is another or damaged."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from edgeseg.core.card import SplitSpec
from edgeseg.core.errors import DataError, OutputError, RunError
from edgeseg.search.journal import hold_lock, is_held
from edgeseg.search.networks import (
    NetworkChoice,
    NetworkScore,
    NetworkStudy,
    NetworkTrial,
    SearchSpace,
    StudyPlan,
    open_study,
)
from edgeseg.search.recipes import open_search
from edgeseg.search.results import FAILED, FINISHED, INTERRUPTED, RUNNING
from edgeseg.search.study import Claim, TrialResult

NetworkClaim = Claim[NetworkChoice]
DATA = Path("data")
PLAN = StudyPlan(SearchSpace(sizes=(32, 64)), SplitSpec(0, 0.12, 0.15), epochs=1)
SCORED = TrialResult(1.5, NetworkScore(0.5, 1000))
WRONG_SCORE = '{"trial": 0, "seconds": 1.5, "score": {"validation_dice": "high", "macs": 1}, "sentence": ""}\n'


def open_journal(folder: Path, plan: StudyPlan = PLAN, fingerprint: str = "abc") -> NetworkStudy:
    return open_study(folder, DATA, plan, fingerprint)


def read_trials(journal: NetworkStudy) -> list[NetworkTrial]:
    with journal.locked() as trials:
        return trials


def run_trials(
    journal: NetworkStudy, count: int, trials: int = 100, result: TrialResult[NetworkScore] = SCORED
) -> list[NetworkClaim]:
    done = []
    for _ in range(count):
        with journal.claim(trials) as claim:
            assert claim is not None
            journal.finish(claim, result)
            done.append(claim)
    return done


def interrupt_trial(journal: NetworkStudy) -> NetworkClaim:
    with journal.claim(100) as claim:
        assert claim is not None
        (claim.folder.with_name(claim.folder.name + ".partial")).mkdir()
    return claim


def list_states(journal: NetworkStudy) -> list[str]:
    return [trial.state for trial in read_trials(journal)]


def test_finished_trials_stay_and_the_study_goes_on(tmp_path: Path) -> None:
    run_trials(open_journal(tmp_path), 2, trials=2)
    journal = open_journal(tmp_path)
    with journal.claim(2) as claim:
        assert claim is None
    run_trials(journal, 1, trials=3)
    assert list_states(journal) == [FINISHED] * 3
    assert read_trials(journal)[0].score == NetworkScore(0.5, 1000)


def test_same_seed_proposes_the_same_whether_interrupted_or_not(tmp_path: Path) -> None:
    whole = run_trials(open_journal(tmp_path / "whole"), 4)
    parted = [claim for _ in range(4) for claim in run_trials(open_journal(tmp_path / "parted"), 1)]
    assert [claim.choice for claim in whole] == [claim.choice for claim in parted]
    assert len({claim.choice.learning_rate for claim in whole}) == 4


def test_two_processes_never_run_the_same_trial(tmp_path: Path) -> None:
    first, second = open_journal(tmp_path), open_journal(tmp_path)
    with first.claim(2) as one, second.claim(2) as other:
        assert one is not None
        assert other is not None
        assert one.folder != other.folder
        assert list_states(open_journal(tmp_path)) == [RUNNING, RUNNING]
        with open_journal(tmp_path).claim(2) as third:
            assert third is None


def test_interrupted_trial_is_tried_again_with_its_values(tmp_path: Path) -> None:
    lost = interrupt_trial(open_journal(tmp_path))
    journal = open_journal(tmp_path)
    (again,) = run_trials(journal, 1, trials=1)
    assert again.choice == lost.choice
    assert list_states(journal) == [INTERRUPTED, FINISHED]
    assert list((tmp_path / "trials").iterdir()) == []


def test_trial_that_ends_its_process_again_and_again_has_failed(tmp_path: Path) -> None:
    for _ in range(3):
        interrupt_trial(open_journal(tmp_path))
    journal = open_journal(tmp_path)
    run_trials(journal, 1)
    rows = read_trials(journal)
    assert [row.state for row in rows] == [INTERRUPTED, INTERRUPTED, FAILED, FINISHED]
    assert "3 times" in rows[2].sentence
    assert rows[3].choice != rows[2].choice


def test_failed_trial_keeps_its_sentence_and_counts(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    run_trials(journal, 1, trials=1, result=TrialResult(1.0, sentence="Expected a number, got nan."))
    assert read_trials(journal)[0].sentence == "Expected a number, got nan."
    with journal.claim(1) as claim:
        assert claim is None


def test_other_search_and_other_data_are_refused(tmp_path: Path) -> None:
    open_journal(tmp_path)
    wider = dataclasses.replace(PLAN, space=SearchSpace(sizes=(32, 96)))
    with pytest.raises(RunError, match=r"sizes \[32, 64\], got \[32, 96\]"):
        open_journal(tmp_path, wider)
    with pytest.raises(RunError, match="epochs 1, got 2"):
        open_journal(tmp_path, dataclasses.replace(PLAN, epochs=2))
    with pytest.raises(RunError, match=r"seed 0\b.*\b1\b"):
        open_journal(tmp_path, dataclasses.replace(PLAN, split=SplitSpec(1, 0.12, 0.15)))
    with pytest.raises(DataError, match="changed folder data"):
        open_journal(tmp_path, fingerprint="abd")
    open_journal(tmp_path)


def test_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("keep me", encoding="utf-8")
    with pytest.raises(OutputError, match="other files"):
        open_journal(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_half_a_line_of_a_killed_process_is_cut_off(tmp_path: Path) -> None:
    run_trials(open_journal(tmp_path), 1)
    log = tmp_path / "journal.log"
    os.truncate(log, log.stat().st_size - 9)
    journal = open_journal(tmp_path)
    run_trials(journal, 2)
    assert list_states(journal).count(FINISHED) == 2


def test_lock_is_free_when_its_holder_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_held(path)
    with hold_lock(path):
        assert is_held(path)
    assert not is_held(path)


@pytest.mark.parametrize(
    "line",
    [
        "this is no JSON\n",
        '{"op_code": 99, "worker_id": "x"}\n',
        '{"a": 1}\n',
        "[1, 2]\n",
        "\x00\x00\n",
        "null\n",
        '{"trial": 1, "choice": {}}\n',
        '{"trial": 7, "seconds": 1.0}\n',
        WRONG_SCORE,
    ],
)
def test_damaged_lines_are_refused(tmp_path: Path, line: str) -> None:
    run_trials(open_journal(tmp_path), 1)
    journal = tmp_path / "journal.log"
    whole = journal.read_text(encoding="utf-8").splitlines(keepends=True)
    journal.write_text("".join([whole[0], line, *whole[1:]]), encoding="utf-8")
    with pytest.raises(RunError, match=r"journal\.log"):
        open_journal(tmp_path)


def test_a_study_of_another_kind_is_refused(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name in ("run.json", "weights.h5"):
        (run / name).touch()
    open_journal(tmp_path / "study")
    with pytest.raises(RunError, match="kind networks, got recipes"):
        open_search(tmp_path / "study", run, threads=1)


def test_a_journal_that_optuna_kept_is_refused(tmp_path: Path) -> None:
    line = '{"op_code": 0, "worker_id": "x", "study_name": "edgeseg", "directions": [2, 1]}\n'
    (tmp_path / "journal.log").write_text(line, encoding="utf-8")
    with pytest.raises(RunError, match="got one of an earlier version"):
        open_journal(tmp_path)
    assert (tmp_path / "journal.log").read_text(encoding="utf-8") == line


def test_search_ends_when_all_was_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeseg.search.networks.PROPOSALS", 8)
    space = SearchSpace(models=("nano",), sizes=(32, 64), learning_rates=(1e-3, 1e-3))
    journal = open_journal(tmp_path, dataclasses.replace(PLAN, space=space))
    assert {claim.choice.size for claim in run_trials(journal, 2)} == {32, 64}
    with journal.claim(100) as claim:
        assert claim is None


def test_locks_that_a_killed_process_left_block_nobody(tmp_path: Path) -> None:
    (tmp_path / "study.lock").write_text("other-host:1234", encoding="utf-8")
    (tmp_path / "trials").mkdir()
    (tmp_path / "trials" / "0000.lock").touch()
    assert len(run_trials(open_journal(tmp_path), 1)) == 1
