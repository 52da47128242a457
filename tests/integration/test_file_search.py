"""A search over files: killed and continued, judged on test cases only in the end, and honest about what failed."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from edgeseg.cli.app import main
from edgeseg.compression.context import open_run
from edgeseg.compression.gate import Gate
from edgeseg.core.marks import MARK
from edgeseg.core.modelfile import read_model
from edgeseg.search.recipes import Bench, RecipeChoice, make_and_judge, open_bench, run_search
from edgeseg.search.study import try_trial
from tests.workers import start_worker, wait_for

pytestmark = pytest.mark.integration

PLENTY = Gate(budget_ms=1000.0, max_drop=1.0)


@pytest.fixture(scope="module")
def killed_search(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Leave a search that was killed in its second trial."""
    out = tmp_path_factory.mktemp("search") / "search"
    killed = start_worker("search", trained_run, "--out", out, "--budget-ms", "1000", "--trials", "3")
    wait_for(out / "trials" / "0001.partial", killed)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    return out


@pytest.fixture(scope="module")
def bench(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Open the session's run for trials."""
    return open_bench(open_run(trained_run), tmp_path_factory.mktemp("bench"), threads=1)


def test_killed_search_goes_on_and_its_pick_is_judged(
    trained_run: Path, killed_search: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = killed_search / "trials" / "0000" / "float16.tflite"
    made = first.stat().st_mtime_ns
    report = run_search(trained_run, killed_search, PLENTY, trials=3)

    assert first.stat().st_mtime_ns == made
    assert [row.state for row in report.trials].count("interrupted") == 1
    finished = [row for row in report.trials if row.state == "finished"]
    assert [row.choice.name for row in finished] == ["float16", "dynamic-int8", "int8-ptq"]
    for row in finished:
        file = killed_search / "trials" / f"{row.number:04d}" / f"{row.choice.name}.tflite"
        assert read_model(file).card.metrics is None
    assert report.pick is not None
    picked = read_model(killed_search / "pick" / f"{report.pick.choice.name}.tflite")
    assert picked.card.metrics is not None
    assert picked.golden
    assert report.gate["held"]
    check_smaller_budget(trained_run, killed_search, monkeypatch, capsys)


def check_smaller_budget(
    run: Path, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ask the same search for what no file keeps: nothing is tried again, and the fastest one is named."""
    command = ["edgeseg", "search", run, "--out", out, "--budget-ms", "0.001", "--trials", "3"]
    monkeypatch.setattr("sys.argv", [str(word) for word in command])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 3
    saved = json.loads((out / "search.json").read_text(encoding="utf-8"))
    assert (saved["pick"], saved["judged"], len(saved["trials"])) == (None, [], 4)
    assert f"trial {saved['front'][0]['number']} (" in capsys.readouterr().err
    assert not (out / "pick").exists()


def test_network_with_too_little_to_prune_fails_the_trial(bench: Bench, tmp_path: Path) -> None:
    result = try_trial(lambda: make_and_judge(bench, tmp_path / "0004", RecipeChoice(20, "float16").recipe))
    assert result.score is None
    assert "Expected a network that can be pruned to 20% of its macs" in result.sentence
    assert list(tmp_path.iterdir()) == []


def test_pruned_file_is_made_with_what_describes_it(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeseg.search.recipes.PRUNE_EPOCHS", 1)
    monkeypatch.setattr("edgeseg.search.recipes.RECOVERY_EPOCHS", 1)
    score = make_and_judge(bench, tmp_path / "0004", RecipeChoice(80, "int8-ptq").recipe)
    assert score.bytes == (tmp_path / "0004" / "keep80-int8-ptq.tflite").stat().st_size
    made = {path.name for path in (tmp_path / "0004").iterdir()}
    assert made == {MARK, "keep80-int8-ptq.tflite", "recipes", "networks"}
