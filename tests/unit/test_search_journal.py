"""The study of a search over recipes: a grid in a fixed order, and times that can be compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeseg.core.errors import RunError
from edgeseg.search.recipes import (
    GRID,
    LEFT,
    PRECISIONS,
    FileScore,
    RecipeChoice,
    RecipeStudy,
    RecipeTrial,
    align_times,
    open_search,
)
from edgeseg.search.results import FAILED, INTERRUPTED
from edgeseg.search.study import TrialResult

SCORED = TrialResult(1.0, FileScore(0.8, 0.5, 1000, 2.0, 1.0))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Lay out what a run is known by."""
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("run.json", "weights.h5"):
        (folder / name).write_text(name, encoding="utf-8")
    return folder


def open_journal(run: Path, threads: int = 1) -> RecipeStudy:
    return open_search(run.parent / "search", run, threads)


def run_trial(journal: RecipeStudy, result: TrialResult[FileScore] = SCORED) -> RecipeChoice | None:
    with journal.claim(1000) as claim:
        if claim is None:
            return None
        journal.finish(claim, result)
        return claim.choice


def read_trials(journal: RecipeStudy) -> list[RecipeTrial]:
    with journal.locked() as trials:
        return trials


def test_grid_is_tried_in_its_order_and_then_ends(run: Path) -> None:
    tried = [run_trial(open_journal(run)) for _ in range(37)]
    assert tried == [*GRID, None]
    assert len(set(tried)) == 37


def test_unpruned_files_come_first_and_then_the_whole_range() -> None:
    assert [choice.name for choice in GRID[:4]] == list(PRECISIONS)
    assert {choice.left for choice in GRID[:20]} == {100, 70, 50, 30, 20}
    assert sorted(LEFT) == list(range(20, 101, 10))


def test_interrupted_trial_is_tried_again(run: Path) -> None:
    with open_journal(run).claim(9) as claim:
        assert claim is not None
    journal = open_journal(run)
    assert tuple(run_trial(journal) for _ in range(4)) == GRID[:4]
    assert [trial.state for trial in read_trials(journal)].count(INTERRUPTED) == 1


def test_failed_trial_keeps_its_sentence(run: Path) -> None:
    journal = open_journal(run)
    run_trial(journal, TrialResult(0.1, sentence="Nothing left to prune."))
    (trial,) = read_trials(journal)
    assert (trial.state, trial.sentence, trial.score) == (FAILED, "Nothing left to prune.", None)


def test_times_of_busy_minutes_can_be_compared(run: Path) -> None:
    journal = open_journal(run)
    for relative, parent_ms in ((0.5, 2.0), (0.4, 8.0), (0.6, 1.0)):
        run_trial(journal, TrialResult(1.0, FileScore(0.8, relative, 1000, parent_ms, relative * parent_ms)))
    scores = [trial.score for trial in align_times(read_trials(journal))]
    assert [score.ms for score in scores if score is not None] == [1.0, 0.8, 1.2]


def test_other_threads_and_other_runs_are_refused(run: Path) -> None:
    open_journal(run)
    with pytest.raises(RunError, match="threads 1, got 2"):
        open_journal(run, threads=2)
    (run / "weights.h5").write_text("trained again", encoding="utf-8")
    with pytest.raises(RunError, match="run"):
        open_journal(run)
