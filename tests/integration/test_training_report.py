"""The report that a training leaves: it can be written for any run, and a run outlives a report that fails."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeseg.core.files import staged_folder
from edgeseg.core.marks import list_foreign
from tests.pages import copy_run

# Figures that evaluations of older versions lack.
NEWER = ("operating_point", "confidence", "calibration", "finding", "dice_all", "out_of_distribution")

pytestmark = pytest.mark.integration


@pytest.fixture
def run(trained_run: Path, tmp_path: Path) -> Path:
    return copy_run(trained_run, tmp_path)


def write(run: Path) -> str:
    from edgeseg.report.training import write_training_report

    write_training_report(run)
    return (run / "report.html").read_text(encoding="utf-8")


def change_record(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    change(record)
    (run / "run.json").write_text(json.dumps(record), encoding="utf-8")


def test_it_shows_what_was_trained_on_what_and_what_came_out(run: Path) -> None:
    page = write(run)
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    for fact in (
        f"Dice {record['evaluation']['dice']['mean']:.3f}",
        "50 in 50 groups",
        "96x72 (50 images)",
        "without target",
        "edgeseg compress",
        "Few cases.",
        record["data_fingerprint"],
    ):
        assert fact in page
    assert page.index('id="verdict"') < page.index('id="cases"') < page.index('id="next"') < page.index('id="details"')
    assert str(run.parent) not in re.sub(r"<code>.*?</code>", "", page, flags=re.DOTALL)


def test_the_record_knows_the_data_by_part(run: Path) -> None:
    summary = json.loads((run / "run.json").read_text(encoding="utf-8"))["data_summary"]
    assert (summary["images"], summary["groups"], summary["sizes"]) == (50, 50, {"96x72": 50})
    assert sum(part["cases"] for part in summary["parts"]) == 50
    assert sum(part["lacking"]["target"] for part in summary["parts"]) == 10


def test_the_next_command_is_taken_by_the_command_line(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeseg.cli.arguments import take_run

    monkeypatch.chdir(run.parent)
    page = write(run)
    command = re.search(r"edgeseg compress (\S+) --out (\S+)</code>", page)
    assert command is not None
    assert command.groups() == ("run", "run-small")
    assert take_run(Path(command[1]), "").is_dir()


def test_the_report_is_edgesegs_own_so_that_the_run_can_be_replaced(run: Path) -> None:
    write(run)
    assert list_foreign(run) == []
    (run / "notes.txt").write_text("mine", encoding="utf-8")
    write(run)
    assert list_foreign(run) == ["notes.txt"]


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        (lambda record: record.pop("data_summary"), '<td dir="auto">training</td>'),
        (lambda record: record.update(evaluation=None), "Not judged"),
        (lambda record: record["evaluation"].pop("per_class"), "Not judged"),
        (
            lambda record: [record["evaluation"].pop(key) for key in ("operating_point", "confidence", "calibration")],
            "Dice",
        ),
        (lambda record: record.update(timing=None), "Dice"),
        (lambda record: record.update(data="gone"), "there are no pictures"),
        (
            lambda record: record["evaluation"].update(useless=True, notices=["These masks are useless."]),
            "Useless masks",
        ),
    ],
)
def test_runs_of_older_versions_and_damaged_ones_have_a_page(
    run: Path, change: Callable[[dict[str, Any]], object], fact: str
) -> None:
    change_record(run, change)
    assert fact in write(run)


def test_a_run_without_test_cases_says_so(run: Path) -> None:
    (run / "test-cases.csv").unlink()
    change_record(run, lambda record: record["evaluation"].update(dice=None, cases=0))
    assert "No test case shows anything to find" in write(run)


def test_a_run_outlives_a_report_that_fails(
    run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from edgeseg.report import training

    before = sorted(path.name for path in run.iterdir())
    for error in (ValueError("no such colour"), OSError(28, "No space left on device"), MemoryError()):
        caplog.clear()

        def fail(*_: object, error: BaseException = error, **__: object) -> str:
            raise error

        monkeypatch.setattr(training, "render_page", fail)
        assert training.leave_report(run) is None
        assert "training is whole" in caplog.text
    assert sorted(path.name for path in run.iterdir()) == before


def test_a_run_inside_a_folder_that_grows_is_named_by_its_final_place(run: Path, tmp_path: Path) -> None:
    from edgeseg.report.training import leave_report

    with staged_folder(tmp_path / "demo") as folder:
        shutil.copytree(run, folder / "run")
        shutil.copytree(tmp_path / "discs", folder / "discs")
        assert leave_report(folder / "run", tmp_path / "demo" / "run") is not None
    page = (tmp_path / "demo" / "run" / "report.html").read_text(encoding="utf-8")
    assert ".partial" not in page
    assert list_foreign(tmp_path / "demo") == []
