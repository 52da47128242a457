"""`data check` and `data import` on the command line, and the same sentences from `train`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

from edgeseg.cli.app import main
from edgeseg.data.dataset import open_dataset
from tests.damages import DAMAGES, make_varied_data
from tests.layouts import MAKERS, NEEDED

pytestmark = pytest.mark.integration

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Give a function that runs a command; gives its exit code and what it said on stdout and stderr."""
    monkeypatch.setenv("COLUMNS", "200")

    def run_command(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["edgeseg", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        said = capsys.readouterr()
        return int(caught.value.code or 0), said.out, said.err

    return run_command


@pytest.fixture
def varied_data(tmp_path: Path) -> Path:
    return make_varied_data(tmp_path / "varied")


@pytest.mark.parametrize("name", DAMAGES)
def test_training_refuses_with_the_sentence_of_the_check(
    run: Run, varied_data: Path, tmp_path: Path, name: str
) -> None:
    DAMAGES[name][1](varied_data)
    checked, _, _ = run("data", "check", varied_data, "--json", tmp_path / "check.json")
    trained, _, said = run("train", varied_data, "--out", tmp_path / "run")
    (defect,) = json.loads((tmp_path / "check.json").read_text(encoding="utf-8"))["defects"]
    assert (checked, trained) == (3, 1)
    assert f"edgeseg: {defect['message']}\n  {defect['hint']}\n" in said
    assert not (tmp_path / "run").exists()


def test_check_writes_all_that_was_asked_for(run: Run, varied_data: Path, tmp_path: Path) -> None:
    wanted = [tmp_path / name for name in ("c.json", "s.png", "g.csv")]
    options = [word for pair in zip(("--json", "--sheet", "--write-groups"), wanted, strict=True) for word in pair]
    code, said, _ = run("data", "check", varied_data, *options)
    assert (code, said.splitlines()[-1].startswith("Ready")) == (0, True)
    assert json.loads(wanted[0].read_text(encoding="utf-8"))["verdict"] == "ready"
    assert cv2.imread(str(wanted[1])) is not None
    assert wanted[2].read_text(encoding="utf-8").startswith("stem,group\ncase_00,case_00\n")


def test_groups_that_the_check_wrote_mend_a_leak(run: Run, varied_data: Path) -> None:
    for kind in ("images", "masks"):
        (varied_data / kind / "twin.png").write_bytes((varied_data / kind / "case_03.png").read_bytes())
    code, said, _ = run("data", "check", varied_data, "--write-groups", varied_data / "groups.csv")
    assert (code, "case_03 and twin: correlation 1.000" in said) == (3, True)
    assert run("data", "check", varied_data)[0] == 0


@pytest.mark.parametrize("name", MAKERS)
def test_import_writes_the_plain_layout(run: Run, tmp_path: Path, name: str) -> None:
    if name in NEEDED:
        pytest.importorskip(NEEDED[name])
    MAKERS[name](tmp_path / "source")
    code, said, _ = run("data", "import", tmp_path / "source", tmp_path / "out")
    assert (code, f"from the layout {name}" in said) == (0, True)
    assert open_dataset(tmp_path / "out").layout == "plain"
    assert not (tmp_path / "out.partial").exists()


def test_import_of_damaged_data_leaves_nothing(run: Run, varied_data: Path, tmp_path: Path) -> None:
    DAMAGES["truncated image"][1](varied_data)
    code, _, said = run("data", "import", varied_data, tmp_path / "out")
    assert (code, "truncated" in said) == (1, True)
    assert [path.name for path in tmp_path.iterdir()] == ["varied"]


def test_an_empty_folder_is_told_all_layouts_and_a_misspelt_one_the_nearest(run: Run, tmp_path: Path) -> None:
    code, _, said = run("data", "check", tmp_path)
    listed = said.partition("Layouts: ")[2].partition(".")[0].split()
    assert (code, {name.strip(",") for name in listed}) == (1, set(MAKERS))
    code, _, said = run("data", "check", tmp_path, "--layout", "hc81")
    assert (code, "hc18?" in said) == (1, True)


@pytest.mark.usefixtures("shallow_sizes")
def test_pattern_of_the_training_divides_the_evaluation(run: Run, tmp_path: Path) -> None:
    root = make_varied_data(tmp_path / "data")
    model = tmp_path / "run"
    options = ("--model", "nano", "--size", "32", "--epochs", "1", "--group-pattern", r"(\d)$")
    filtered = ("--denoise", "speckle", "--augment", "-flip,-elastic")
    assert run("train", root, "--out", model, *options, *filtered)[0] == 0
    record = json.loads((model / "run.json").read_text(encoding="utf-8"))
    assert record["split"]["group_pattern"] == r"(\d)$"
    assert record["input"]["denoise"] == "speckle"
    assert record["options"]["augment"] == "-flip,-elastic"
    pictures = tmp_path / "pictures"
    code, said, _ = run("evaluate", model, root, "--overlays", pictures)
    assert (code, "on test cases" in said) == (0, True)
    assert (pictures / "sheet.png").is_file()
    code, _, said = run("evaluate", model, root, "--overlays", pictures)
    assert (code, "already there" in said) == (1, True)
