"""Bad input of compress: one sentence, the right exit code, the run untouched, and no result that looks like one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeseg.frame.images import write_image
from tests.commands import Fail, assert_says, read_files

pytestmark = pytest.mark.integration

BOARD = """
title = "A board with nothing but an Edge TPU"
machine = ["x86_64"]
python = ["3.11"]
verified = []
not_verified = ["everything: it was made up for a test"]
[recommended]
recipes = ["float16"]
backends = ["edgetpu"]
threads = 1
budget_ms = 1000.0
source = "0"
"""


@pytest.fixture
def run(trained_run: Path) -> Iterator[Path]:
    """Give the session's run, and see afterwards that nothing in it has changed."""
    before = read_files(trained_run)
    yield trained_run
    assert read_files(trained_run) == before


def write_recipe(path: Path, text: str) -> Path:
    path.write_text(f'summary = "mine"\nprecision = "int8"\n{text}\n', encoding="utf-8")
    return path


def copy_run(run: Path, data: Path, out: Path) -> Path:
    """Copy a run with its data folder, so that both can be spoilt."""
    shutil.copytree(data, out / data.name)
    return shutil.copytree(run, out / run.name)


@pytest.mark.parametrize(
    ("recipe", "sentence"),
    [
        ('keep_float = ["hed"]', "head?"),
        ('keep_float = ["head"]\n[qat]\nepochs = 1\nlearning_rate = 1e-3\ndistillation = 0.0', "without [qat]"),
        (
            "[prune]\nmacs = 0.02\nepochs = 1\nrecovery_epochs = 1\nlearning_rate = 1e-3\ndistillation = 0.0",
            " 2% of its macs",
        ),
    ],
)
def test_recipe_that_asks_for_what_the_network_cannot_give(
    recipe: str, sentence: str, run: Path, tmp_path: Path, fail: Fail
) -> None:
    path = write_recipe(tmp_path / "mine.toml", recipe)
    code, said = fail("compress", run, "--out", tmp_path / "out", "--recipe", f"int8-ptq,{path}")
    assert (code, sentence in said) == (1, True), said
    assert list(tmp_path.iterdir()) == [path]


def test_too_few_calibration_images(run: Path, tmp_path: Path, fail: Fail, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeseg.compression import context

    monkeypatch.setattr(context, "FEWEST_IMAGES", 1000)
    path = write_recipe(tmp_path / "mine.toml", "calibration_images = 1000")
    code, said = fail("compress", run, "--out", tmp_path / "out", "--recipe", path)
    assert (code, "1000 training images" in said) == (1, True), said
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.partial" / "mine.tflite").exists()


def test_run_whose_files_belong_to_different_trainings(
    run: Path, trained_data: Path, tmp_path: Path, fail: Fail
) -> None:
    other = copy_run(run, trained_data, tmp_path)
    record = json.loads((other / "run.json").read_text(encoding="utf-8"))
    record["input"]["resize"] = "stretch"
    (other / "run.json").write_text(json.dumps(record), encoding="utf-8")
    code, said = fail("compress", other, "--out", tmp_path / "out", "--recipe", "int8-ptq")
    assert (code, "calibration" in said) == (1, True), said
    assert not (tmp_path / "out").exists()


def test_data_that_changed_after_the_training(run: Path, trained_data: Path, tmp_path: Path, fail: Fail) -> None:
    other = copy_run(run, trained_data, tmp_path)
    write_image(tmp_path / trained_data.name / "images" / "case_00.png", np.zeros((72, 96), np.uint8))
    code, said = fail("compress", other, "--out", tmp_path / "out", "--recipe", "int8-ptq")
    assert (code, "changed folder" in said) == (1, True), said
    assert not (tmp_path / "out").exists()


def test_test_cases_with_nothing_to_find(disc_data: Path) -> None:
    from edgeseg.compression.context import check_cases
    from edgeseg.core.errors import DataError
    from edgeseg.data.dataset import open_dataset, read_cases

    images = list(read_cases(open_dataset(disc_data).cases))
    check_cases(images, "val")
    with pytest.raises(DataError, match=r"part test.*\b2\b"):
        check_cases([image for image in images if not any(image.marked)], "test")


def test_budget_that_no_file_holds(run: Path, tmp_path: Path, fail: Fail) -> None:
    code, said = fail("compress", run, "--out", tmp_path / "out", "--recipe", "int8-ptq", "--budget-ms", "0.001")
    assert code == 3
    assert_says(said, "0.001 ms", "int8-ptq", "--recipe prune50-int8-qat", "edgeseg search")
    report = json.loads((tmp_path / "out" / "compress.json").read_text(encoding="utf-8"))
    assert (report["gate"]["budget_ms"], report["gate"]["held"], report["chosen"]) == (0.001, False, "int8-ptq")
    assert {"report.html", "report.md", "int8-ptq.tflite"} <= {path.name for path in (tmp_path / "out").iterdir()}


def test_board_that_takes_none_of_the_files(run: Path, tmp_path: Path, fail: Fail) -> None:
    board = tmp_path / "profile.toml"
    board.write_text(BOARD, encoding="utf-8")
    code, said = fail("compress", run, "--out", tmp_path / "out", "--device", board)
    assert code == 3
    assert_says(said, "float16", "(edgetpu:")
    report = json.loads((tmp_path / "out" / "compress.json").read_text(encoding="utf-8"))
    assert report["gate"]["held"] is False
    assert report["advice"] in said
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert f"--recipe recipes/float16.toml --max-drop 0.01 --device {tmp_path.name}" in text
    for library in ("tensorflow-model-optimization", "ai-edge-litert"):
        assert f"| {library} | {report['libraries'][library]} |" in text
