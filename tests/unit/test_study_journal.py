"""The study on disk: shared, continued, and never in doubt about what was interrupted."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from edgeseg.core.card import SplitSpec
from edgeseg.core.errors import DataError, OutputError, RunError
from edgeseg.search.networks import Journal, Score, SearchSpace, StudyPlan
from edgeseg.search.trials import FAILED, FINISHED, INTERRUPTED, RUNNING, TrialResult, hold_lock, is_held
from edgeseg.search.trials import Claim as AnyClaim
from edgeseg.training.run import TrainOptions

Claim = AnyClaim[TrainOptions]
DATA = Path("data")
PLAN = StudyPlan(SearchSpace(sizes=(32, 64)), SplitSpec(0, 0.12, 0.15), epochs=1)
SCORED = TrialResult(1.5, Score(0.5, 1000))


def open_journal(folder: Path, plan: StudyPlan = PLAN, fingerprint: str = "abc") -> Journal:
    return Journal(folder, DATA, plan, fingerprint)


def run_trials(journal: Journal, count: int, trials: int = 100, result: TrialResult = SCORED) -> list[Claim]:
    done = []
    for _ in range(count):
        with journal.claim(trials) as claim:
            assert claim is not None
            journal.finish(claim, result)
            done.append(claim)
    return done


def interrupt_trial(journal: Journal) -> Claim:
    with journal.claim(100) as claim:
        assert claim is not None
        (claim.folder.with_name(claim.folder.name + ".partial")).mkdir()
    return claim


def list_states(journal: Journal) -> list[str]:
    return [row.state for row in journal.read_rows()]


def test_finished_trials_stay_and_the_study_goes_on(tmp_path: Path) -> None:
    run_trials(open_journal(tmp_path), 2, trials=2)
    journal = open_journal(tmp_path)
    with journal.claim(2) as claim:
        assert claim is None
    run_trials(journal, 1, trials=3)
    assert list_states(journal) == [FINISHED] * 3
    assert (journal.read_rows()[0].validation_dice, journal.read_rows()[0].macs) == (0.5, 1000)


def test_same_seed_proposes_the_same_whether_interrupted_or_not(tmp_path: Path) -> None:
    whole = run_trials(open_journal(tmp_path / "whole"), 4)
    parted = [claim for _ in range(4) for claim in run_trials(open_journal(tmp_path / "parted"), 1)]
    assert [claim.options for claim in whole] == [claim.options for claim in parted]
    assert len({claim.options.learning_rate for claim in whole}) == 4


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
    assert again.options == lost.options
    assert list_states(journal) == [INTERRUPTED, FINISHED]
    assert list((tmp_path / "trials").iterdir()) == []


def test_trial_that_ends_its_process_again_and_again_has_failed(tmp_path: Path) -> None:
    for _ in range(3):
        interrupt_trial(open_journal(tmp_path))
    journal = open_journal(tmp_path)
    run_trials(journal, 1)
    rows = journal.read_rows()
    assert [row.state for row in rows] == [INTERRUPTED, INTERRUPTED, FAILED, FINISHED]
    assert "3 times" in rows[2].sentence
    assert rows[3].learning_rate != rows[2].learning_rate


def test_failed_trial_keeps_its_sentence_and_counts(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    run_trials(journal, 1, trials=1, result=TrialResult(1.0, sentence="Expected a number, got nan."))
    assert journal.read_rows()[0].sentence == "Expected a number, got nan."
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


def test_half_a_line_of_a_killed_process_is_mended(tmp_path: Path) -> None:
    run_trials(open_journal(tmp_path), 1)
    log = tmp_path / "journal.log"
    os.truncate(log, log.stat().st_size - 9)
    (tmp_path / "journal.log.lock").symlink_to(log)
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
        '{"op_code": 0, "worker_id": "x", "study_name": "edgeseg", "directions": [7]}\n',
    ],
)
def test_lines_of_another_hand_are_told(tmp_path: Path, line: str) -> None:
    run_trials(open_journal(tmp_path), 1)
    journal = tmp_path / "journal.log"
    whole = journal.read_text(encoding="utf-8").splitlines(keepends=True)
    journal.write_text("".join([whole[0], line, *whole[1:]]), encoding="utf-8")
    with pytest.raises(RunError, match=r"journal\.log"):
        open_journal(tmp_path)


def test_a_journal_of_another_kind_of_search_is_told(tmp_path: Path) -> None:
    run_trials(open_journal(tmp_path), 1)
    journal = tmp_path / "journal.log"
    text = journal.read_text(encoding="utf-8").replace('"directions":[2,1]', '"directions":[2,1,1]')
    journal.write_text(text, encoding="utf-8")
    with pytest.raises(RunError, match=r"journal\.log"):
        open_journal(tmp_path)


@pytest.mark.parametrize("left", ["study.lock", "journal.log.lock"])
def test_locks_that_the_dead_left_hold_nobody_up(tmp_path: Path, left: str) -> None:
    (tmp_path / left).write_text("other-host:1234", encoding="utf-8")
    (tmp_path / "trials").mkdir()
    (tmp_path / "trials" / "0000.lock").touch()
    assert len(run_trials(open_journal(tmp_path), 1)) == 1
