"""The one file: what is written is read again, and what is damaged is refused with a sentence."""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgeseg.core.card import SCHEMA, Card, Provenance, SplitSpec
from edgeseg.core.errors import ModelFileError
from edgeseg.core.modelfile import CARD_NAME, GoldenPair, pack_model, read_model, write_model
from edgeseg.core.spec import ClassSpec, InputSpec, OutputSpec, Quantisation

FLATBUFFER = b"\x1c\x00\x00\x00TFL3" + bytes(range(256)) * 8
CARD = Card(
    name="test",
    input=InputSpec(64, 64),
    input_quantisation=Quantisation("int8", 1 / 255, -128),
    output=OutputSpec((ClassSpec("target"),)),
    output_quantisation=Quantisation("int8", 1 / 256, -128),
    provenance=Provenance("f" * 64, SplitSpec(0, 0.15, 0.2), 0, "int8-ptq", "nano", "0.1.0", {"numpy": "2"}),
    parameters=10,
    macs=100,
    lint={"cpu": "ok"},
)
PAIR = GoldenPair(np.arange(16, dtype=np.int8).reshape(1, 4, 4, 1), np.ones((1, 4, 4, 1), np.int8))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.tflite"
    write_model(path, FLATBUFFER, CARD, (PAIR,))
    return path


def replace_card(path: Path, **changes: object) -> None:
    """Write the same file with another card, as an edgeseg of another version would."""
    with zipfile.ZipFile(path) as archive:
        card = json.loads(archive.read(CARD_NAME)) | changes
    buffer = io.BytesIO(FLATBUFFER)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(CARD_NAME, json.dumps({k: v for k, v in card.items() if v is not None}))
    path.write_bytes(buffer.getvalue())


def test_what_is_written_is_read_again(model: Path) -> None:
    read = read_model(model)
    assert read.flatbuffer == FLATBUFFER
    assert dataclasses.replace(read.card, sha256="") == CARD
    assert np.array_equal(read.golden[0].input, PAIR.input)
    assert np.array_equal(read.golden[0].output, PAIR.output)


def test_same_input_gives_the_same_bytes() -> None:
    assert pack_model(FLATBUFFER, CARD, (PAIR,)) == pack_model(FLATBUFFER, CARD, (PAIR,))


def test_flatbuffer_stands_first_and_the_card_opens_with_plain_zip(model: Path) -> None:
    assert model.read_bytes().startswith(FLATBUFFER)
    with zipfile.ZipFile(model) as archive:
        assert json.loads(archive.read("edgeseg.json"))["schema"] == SCHEMA
        assert archive.testzip() is None


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="No such file"):
        read_model(tmp_path / "none.tflite")


def test_what_is_no_tflite_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.tflite"
    path.write_text("hello, I am text", encoding="utf-8")
    with pytest.raises(ModelFileError, match=r"Expected a \.tflite file"):
        read_model(path)


@pytest.mark.parametrize("kept", [0.3, 0.9, 0.999])
def test_truncated_file_is_refused(model: Path, kept: float) -> None:
    data = model.read_bytes()
    model.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ModelFileError, match="cut short"):
        read_model(model)


def test_bare_tflite_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bare.tflite"
    path.write_bytes(FLATBUFFER)
    with pytest.raises(ModelFileError, match="without one"):
        read_model(path)


def test_zip_without_a_card_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO(FLATBUFFER)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("labels.txt", "liver")
    path = tmp_path / "other.tflite"
    path.write_bytes(buffer.getvalue())
    with pytest.raises(ModelFileError, match="without one"):
        read_model(path)


def test_changed_model_is_refused(model: Path) -> None:
    data = bytearray(model.read_bytes())
    data[100] ^= 1
    model.write_bytes(bytes(data))
    with pytest.raises(ModelFileError, match="hash on its card"):
        read_model(model)


def test_damaged_golden_pair_is_refused(model: Path) -> None:
    data = bytearray(model.read_bytes())
    data[data.index(b"golden/0/input.npy") + 30] ^= 0xFF
    model.write_bytes(bytes(data))
    with pytest.raises(ModelFileError, match="damaged"):
        read_model(model)


def test_newer_schema_is_refused(model: Path) -> None:
    replace_card(model, schema=SCHEMA + 1)
    with pytest.raises(ModelFileError, match="got schema 2") as caught:
        read_model(model)
    assert "Update edgeseg" in caught.value.hint


def test_missing_field_is_refused(model: Path) -> None:
    replace_card(model, output=None)
    with pytest.raises(ModelFileError, match="missing field output"):
        read_model(model)


def test_impossible_value_is_refused(model: Path) -> None:
    replace_card(model, input={"height": 2, "width": 2})
    with pytest.raises(ModelFileError, match="at least 16x16"):
        read_model(model)


def test_field_of_a_later_version_is_passed_over(model: Path) -> None:
    replace_card(model, mood="good")
    assert read_model(model).card.name == "test"
