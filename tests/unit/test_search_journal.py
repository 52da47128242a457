"""The journal of a search over files: plain files first, nothing twice, and times that can be compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeseg.core.errors import RunError
from edgeseg.search.compressions import FIRST, PARENT_MS, FileScore, SearchJournal
from edgeseg.search.trials import FAILED, FINISHED, INTERRUPTED, Options, Task, TrialJournal, TrialResult

SCORED = TrialResult(1.0, FileScore(0.8, 0.5, 1000), notes={PARENT_MS: 2.0})


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Lay out what a run is known by."""
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("run.json", "weights.h5"):
        (folder / name).write_text(name, encoding="utf-8")
    return folder


def open_journal(run: Path, threads: int = 1) -> SearchJournal:
    return SearchJournal(run.parent / "search", run, 0, threads)


def run_trial(journal: TrialJournal[Options], result: TrialResult = SCORED) -> Options | None:
    with journal.claim(1000) as claim:
        if claim is None:
            return None
        journal.finish(claim, result)
        return claim.options


def test_plain_files_come_first(run: Path) -> None:
    parted = [run_trial(open_journal(run)) for _ in range(5)]
    assert tuple(parted[:4]) == FIRST
    assert parted[4] not in FIRST


def test_nothing_is_tried_twice(run: Path) -> None:
    journal = open_journal(run)
    tried = [run_trial(journal) for _ in range(14)]
    assert None not in tried
    assert len(set(tried)) == 14
    assert journal.count(FINISHED) == 14


def test_search_ends_when_all_was_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeseg.search.trials.PROPOSALS", 8)
    task = Task({}, 0, ("minimize",) * 3, frozenset({"x"}), lambda trial: trial.suggest_int("x", 0, 1))
    journal = TrialJournal(tmp_path / "toy", task)
    tried = [run_trial(journal) for _ in range(3)]
    assert set(tried[:2]) == {0, 1}
    assert tried[2] is None


def test_interrupted_trial_is_tried_again(run: Path) -> None:
    with open_journal(run).claim(9) as claim:
        assert claim is not None
    journal = open_journal(run)
    assert tuple(run_trial(journal) for _ in range(4)) == FIRST
    assert [row.state for row in journal.read_rows()].count(INTERRUPTED) == 1


def test_failed_trial_keeps_its_sentence(run: Path) -> None:
    journal = open_journal(run)
    run_trial(journal, TrialResult(0.1, sentence="Nothing left to prune."))
    (row,) = journal.read_rows()
    assert (row.state, row.sentence, row.score, row.ms) == (FAILED, "Nothing left to prune.", None, None)


def test_times_of_busy_minutes_can_be_compared(run: Path) -> None:
    journal = open_journal(run)
    for relative, parent_ms in ((0.5, 2.0), (0.4, 8.0), (0.6, 1.0)):
        run_trial(journal, TrialResult(1.0, FileScore(0.8, relative, 1000), notes={PARENT_MS: parent_ms}))
    assert [row.ms for row in journal.read_rows()] == [1.0, 0.8, 1.2]


def test_other_threads_and_other_runs_are_refused(run: Path) -> None:
    open_journal(run)
    with pytest.raises(RunError, match="threads 1, got 2"):
        open_journal(run, threads=2)
    (run / "weights.h5").write_text("trained again", encoding="utf-8")
    with pytest.raises(RunError, match="run"):
        open_journal(run)
