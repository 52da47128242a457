"""Which model file is meant by a folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeseg.core.errors import ModelFileError
from edgeseg.core.modelfile import find_model


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def write_report(folder: Path, chosen: object, file: object = "int8-ptq.tflite") -> None:
    report = {"chosen": chosen, "variants": [{"name": "int8-ptq", "file": file}]}
    (folder / "compress.json").write_text(json.dumps(report), encoding="utf-8")


def test_a_file_is_meant_itself_and_a_missing_one_is_left_to_the_reader(tmp_path: Path) -> None:
    touch(tmp_path / "a.tflite")
    assert find_model(tmp_path / "a.tflite") == tmp_path / "a.tflite"
    assert find_model(tmp_path / "none.tflite") == tmp_path / "none.tflite"


@pytest.mark.parametrize(
    ("files", "meant"),
    [
        (["model.tflite", "run.json"], "model.tflite"),
        (["only.tflite"], "only.tflite"),
        (["only.onnx"], "only.onnx"),
        (["search.json", "pick/float32.tflite", "pick/keep40.tflite"], "pick/keep40.tflite"),
        (["fold-1/model.tflite"], "fold-1/model.tflite"),
    ],
)
def test_a_folder_means_its_file(tmp_path: Path, files: list[str], meant: str) -> None:
    touch(*(tmp_path / file for file in files))
    assert find_model(tmp_path) == tmp_path / meant


def test_a_compression_means_its_chosen_file(tmp_path: Path) -> None:
    touch(tmp_path / "float32.tflite", tmp_path / "int8-ptq.tflite")
    write_report(tmp_path, "int8-ptq")
    assert find_model(tmp_path) == tmp_path / "int8-ptq.tflite"


@pytest.mark.parametrize(("chosen", "file"), [("other", "a"), (["x"], "a"), ("int8-ptq", "gone.tflite"), (None, None)])
def test_a_report_that_names_no_file_is_refused_with_the_files_that_are_there(
    tmp_path: Path, chosen: object, file: object
) -> None:
    touch(tmp_path / "float32.tflite")
    write_report(tmp_path, chosen, file)
    with pytest.raises(ModelFileError) as caught:
        find_model(tmp_path)
    assert str(tmp_path / "float32.tflite") in caught.value.hint


def test_a_report_cannot_name_a_file_elsewhere(tmp_path: Path) -> None:
    touch(tmp_path / "secret.tflite", tmp_path / "DIR" / "float32.tflite")
    write_report(tmp_path / "DIR", "int8-ptq", "../secret.tflite")
    with pytest.raises(ModelFileError, match=r"secret\.tflite"):
        find_model(tmp_path / "DIR")


@pytest.mark.parametrize("report", ["[" * 100_000, "", "[]", "\x00", '{"chosen": NaN}'])
def test_a_damaged_report_is_one_sentence(tmp_path: Path, report: str) -> None:
    (tmp_path / "compress.json").write_text(report, encoding="utf-8")
    with pytest.raises(ModelFileError, match=r"compress\.json"):
        find_model(tmp_path)


@pytest.mark.parametrize("files", [[], ["a.tflite", "b.tflite"], ["fold-1/model.tflite", "fold-2/model.tflite"]])
def test_none_or_several_say_what_to_type(tmp_path: Path, files: list[str]) -> None:
    touch(*(tmp_path / file for file in files))
    with pytest.raises(ModelFileError) as caught:
        find_model(tmp_path)
    assert all(str(tmp_path / file) in caught.value.hint for file in files)
