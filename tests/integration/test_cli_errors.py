"""Bad input on the command line: one sentence, the right exit code, and nothing lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeseg.frame.images import write_image
from tests.commands import Fail

pytestmark = pytest.mark.integration


def test_missing_data_folder(fail: Fail, tmp_path: Path) -> None:
    code, said = fail("train", tmp_path / "none", "--out", tmp_path / "run")
    assert code == 1
    assert said.startswith("edgeseg: ")
    assert str(tmp_path / "none") in said
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback(fail: Fail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGESEG_DEBUG", "1")
    code, said = fail("evaluate", tmp_path / "none.tflite", tmp_path)
    assert code == 1
    assert "Traceback" in said
    assert "FileNotFoundError" in said


def test_image_without_mask_stops_the_training_before_it_begins(fail: Fail, disc_data: Path, tmp_path: Path) -> None:
    (disc_data / "masks" / "case_01.png").unlink()
    code, said = fail("train", disc_data, "--out", tmp_path / "run")
    assert (code, "image case_01" in said) == (1, True)
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "run.partial").exists()


def test_data_without_anything_marked(fail: Fail, disc_data: Path, tmp_path: Path) -> None:
    for path in (disc_data / "masks").iterdir():
        write_image(path, np.zeros((72, 96), np.uint8))
    code, said = fail("train", disc_data, "--out", tmp_path / "run")
    assert (code, "empty" in said) == (1, True)


def test_existing_run_is_not_replaced(fail: Fail, disc_data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "precious.txt").write_text("keep me", encoding="utf-8")
    code, said = fail("train", disc_data, "--out", run, "--epochs", "1")
    assert (code, "already there" in said) == (1, True)
    assert (run / "precious.txt").read_text(encoding="utf-8") == "keep me"


def test_unknown_model_size(fail: Fail, disc_data: Path, tmp_path: Path) -> None:
    code, said = fail("train", disc_data, "--out", tmp_path / "run", "--model", "smal")
    assert (code, "small?" in said) == (1, True)


@pytest.mark.parametrize(
    "option", [("--epochs", "0"), ("--size", "100"), ("--size", "5"), ("--nonsense",), ("--skip", "sum")]
)
def test_wrong_usage_is_exit_code_2(fail: Fail, disc_data: Path, tmp_path: Path, option: tuple[str, ...]) -> None:
    code, _ = fail("train", disc_data, "--out", tmp_path / "run", *option)
    assert code == 2


def test_compress_of_what_is_no_run(fail: Fail, tmp_path: Path) -> None:
    code, said = fail("compress", tmp_path, "--out", tmp_path / "out")
    assert (code, "run folder" in said) == (1, True)
    assert not (tmp_path / "out").exists()


def test_unknown_recipe_and_board(fail: Fail, tmp_path: Path) -> None:
    code, said = fail("compress", tmp_path, "--out", tmp_path / "out", "--recipe", "int8-qta")
    assert (code, "int8-qat?" in said) == (1, True)
    code, said = fail("compress", tmp_path, "--out", tmp_path / "out", "--device", "generic-aarch46")
    assert (code, "generic-aarch64?" in said) == (1, True)


def test_compress_goes_on_from_nothing_or_with_a_teacher_that_nobody_hears(fail: Fail, tmp_path: Path) -> None:
    code, said = fail("compress", tmp_path, "--out", tmp_path / "out", "--resume")
    assert (code, "interrupted compression" in said) == (1, True)
    code, said = fail("compress", tmp_path, "--out", tmp_path / "out", "--recipe", "float16", "--teacher", tmp_path)
    assert (code, "recipe" in said) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_unknown_source_and_view(fail: Fail, int8_model: Path) -> None:
    code, said = fail("stream", int8_model, "--source", "phantom", "--view", "none")
    assert (code, "phantom" in said) == (1, True)
    code, said = fail("stream", int8_model, "--view", "holo")
    assert (code, "holo" in said) == (1, True)


def test_every_kind_of_wrong_model_file(fail: Fail, tmp_path: Path, int8_model: Path) -> None:
    whole = int8_model.read_bytes()
    cases = {"text": b"no model at all", "bare": whole[:4000], "empty": b""}
    for name, data in cases.items():
        path = tmp_path / f"{name}.tflite"
        path.write_bytes(data)
        for command in (("inspect", path), ("bench", path), ("stream", path, "--view", "none")):
            code, said = fail(*command)
            assert (code, said.startswith("edgeseg: Expected")) == (1, True), (name, command, said)


def test_nothing_is_written_onto_what_is_read(fail: Fail, tmp_path: Path) -> None:
    model, data = tmp_path / "int8.tflite", tmp_path / "data"
    model.write_bytes(b"precious")
    data.mkdir()
    for command in (
        ("bench", model, "--json", model),
        ("inspect", model, "--picture", model),
        ("inspect", model, "--picture", tmp_path / "a", "--json", tmp_path / "a"),
        ("evaluate", model, data, "--cases", model),
        ("stream", model, "--source", data, "--record", data),
        ("deploy", model, "--device", "generic-aarch64", "--out", model),
        ("compress", data, "--out", tmp_path, "--overwrite"),
        ("search", data, "--out", data, "--budget-ms", "1"),
        ("train", data, "--out", data, "--overwrite"),
        ("tune", data, "--out", data),
        ("data", "import", data, data, "--overwrite"),
        ("data", "check", data, "--sheet", data),
        ("model", "summary", data, "--json", data),
    ):
        code, said = fail(*command)
        assert (code, "one place" in said or "another place" in said) == (2, True), command
    assert model.read_bytes() == b"precious"
    assert data.is_dir()


def test_run_folder_of_an_interrupted_training(fail: Fail, tmp_path: Path) -> None:
    (tmp_path / "run.partial").mkdir()
    (tmp_path / "run.partial" / "run.json").write_text(
        json.dumps({"schema": 1, "status": "training"}), encoding="utf-8"
    )
    code, said = fail("compress", tmp_path / "run", "--out", tmp_path / "out")
    assert (code, "interrupted" in said) == (1, True)
    assert not (tmp_path / "out").exists()


def test_part_of_other_data(fail: Fail, int8_model: Path, disc_data: Path) -> None:
    code, said = fail("evaluate", int8_model, disc_data, "--split", "test")
    assert (code, "--split all" in said) == (1, True)


def test_the_installed_command_says_the_same(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edgeseg", "inspect", str(tmp_path / "none.tflite")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("edgeseg: ")
    assert str(tmp_path / "none.tflite") in done.stderr


def test_searches_that_cannot_begin(fail: Fail, disc_data: Path, tmp_path: Path) -> None:
    search = ("tune", disc_data, "--out", tmp_path / "study")
    assert fail(*search, "--sizes", "64,100")[0] == 2
    assert fail(*search, "--learning-rates", "1e-2,1e-3")[0] == 2
    code, said = fail(*search, "--losses", "dise")
    assert (code, "dice?" in said) == (1, True)
    assert not (tmp_path / "study").exists()


def test_searches_over_files_that_cannot_begin(fail: Fail, tmp_path: Path) -> None:
    search = ("search", tmp_path / "run", "--out", tmp_path / "search")
    assert fail(*search)[0] == 2
    assert fail(*search, "--budget-ms", "0")[0] == 2
    code, said = fail(*search, "--budget-ms", "1")
    assert (code, "run folder" in said) == (1, True)
    assert not (tmp_path / "search").exists()
