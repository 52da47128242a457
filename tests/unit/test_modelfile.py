"""The one file: what is written is read again, and what is damaged or does not fit is refused with a sentence."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeseg.core.archive import ENTRIES, pack_archive
from edgeseg.core.card import SCHEMA, Card
from edgeseg.core.errors import EdgesegError, LimitError, ModelFileError
from edgeseg.core.modelfile import CARD_NAME, SEAL_NAME, GoldenPair, make_seal, pack_model, read_model, write_model
from edgeseg.core.spec import ClassSpec, InputSpec, OutputSpec, Quantisation
from tests.networks import SIDE, build_network, describe_network, draw_ramp

FLATBUFFER = build_network()
CARD = describe_network({"cpu": "ok"})
PAIR = GoldenPair(draw_ramp(), draw_ramp())


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.tflite"
    write_model(path, FLATBUFFER, CARD, (PAIR,))
    return path


def read_contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def read_card(path: Path) -> dict[str, Any]:
    card: dict[str, Any] = json.loads(read_contents(path)[CARD_NAME])
    return card


def seal_again(path: Path, contents: dict[str, bytes], flatbuffer: bytes = FLATBUFFER) -> None:
    """Write a file as one would who knows how, whatever stands in it."""
    rest = {name: content for name, content in contents.items() if name != SEAL_NAME}
    sealed = {**rest, SEAL_NAME: make_seal(flatbuffer, rest)}
    path.write_bytes(flatbuffer + pack_archive(sealed, len(flatbuffer)))


def replace_card(path: Path, **changes: object) -> None:
    """Write the same file with another card, as an edgeseg of another version would."""
    contents = read_contents(path)
    card = json.loads(contents[CARD_NAME]) | changes
    contents[CARD_NAME] = json.dumps({key: value for key, value in card.items() if value is not None}).encode()
    seal_again(path, contents)


def write_unsealed(path: Path, golden: bool = True) -> None:
    """Write a file as edgeseg did before there were seals, with Python's own zip."""
    card = read_card(path) | {"schema": 1}
    del card["golden_pairs"]
    contents = read_contents(path)
    buffer = io.BytesIO(FLATBUFFER)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(CARD_NAME, json.dumps(card))
        for name in ("golden/0/input.npy", "golden/0/output.npy") if golden else ():
            archive.writestr(name, contents[name])
    path.write_bytes(buffer.getvalue())


def test_what_is_written_is_read_again(model: Path) -> None:
    read = read_model(model)
    assert read.flatbuffer == FLATBUFFER
    assert read.sealed
    assert dataclasses.replace(read.card, sha256="", golden_pairs=0) == CARD
    assert read.card.golden_pairs == len(read.golden) == 1
    assert np.array_equal(read.golden[0].input, PAIR.input)
    assert np.array_equal(read.golden[0].output, PAIR.output)


def test_same_input_gives_the_same_bytes() -> None:
    assert pack_model(FLATBUFFER, CARD, (PAIR,)) == pack_model(FLATBUFFER, CARD, (PAIR,))


def test_flatbuffer_stands_first_and_the_card_opens_with_plain_zip(model: Path) -> None:
    assert model.read_bytes().startswith(FLATBUFFER)
    with zipfile.ZipFile(model) as archive:
        assert json.loads(archive.read("edgeseg.json"))["schema"] == SCHEMA
        assert archive.testzip() is None
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"none.tflite"):
        read_model(tmp_path / "none.tflite")


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.tflite")
    for path in (tmp_path, tmp_path / "fifo.tflite", Path("/dev/zero")):
        with pytest.raises(LimitError, match=str(path)):
            read_model(path)


@pytest.mark.parametrize("data", [b"", b"hello, I am text", b"\x00" * 100, FLATBUFFER[:4]])
def test_what_is_no_tflite_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "text.tflite"
    path.write_bytes(data)
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
    with pytest.raises(ModelFileError, match="hash"):
        read_model(model)


def test_every_changed_byte_is_noticed(model: Path) -> None:
    """But for the few bits that fill the last byte of what was packed: they unpack to the same."""
    data, contents = model.read_bytes(), read_contents(model)
    for place in range(len(FLATBUFFER), len(data), 3):
        changed = bytearray(data)
        changed[place] ^= 0x10
        model.write_bytes(bytes(changed))
        try:
            read_model(model)
        except ModelFileError:
            continue
        assert read_contents(model) == contents, place


# A card against its network


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("input_quantisation", {"scale": 4 / 256}),
        ("input_quantisation", {"zero_point": 0}),
        ("output_quantisation", {"scale": 1 / 64}),
        ("output_quantisation", {"zero_point": -100}),
        ("input_quantisation", {"dtype": "uint8", "zero_point": 128}),
        ("output_quantisation", {"dtype": "float32", "scale": 0.0, "zero_point": 0}),
        ("input", {"height": 32}),
        ("input", {"colour": "rgb"}),
        ("output", {"classes": [{"name": "a"}, {"name": "b"}]}),
        ("output", {"activation": "softmax"}),
    ],
)
def test_a_card_that_contradicts_its_network_is_refused(model: Path, field: str, change: dict[str, Any]) -> None:
    replace_card(model, **{field: read_card(model)[field] | change})
    with pytest.raises(ModelFileError, match="network"):
        read_model(model)


def test_an_old_card_is_held_against_its_network_too(model: Path) -> None:
    replace_card(model, input_quantisation={"dtype": "int8", "scale": 4 / 256, "zero_point": -128})
    write_unsealed(model)
    with pytest.raises(ModelFileError, match=r"scale 0\.015625.*scale 0\.00390625"):
        read_model(model)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("input", {"height": 2, "width": 2}, "at least 16x16"),
        ("input", {"height": 10**6, "width": 16}, "at most"),
        ("input", {"height": 16, "width": 16, "region": {"x": -1, "y": 0, "width": 5, "height": 5}}, "region"),
        ("input", {"height": 16, "width": 16, "region": {"x": 0, "y": 0, "width": 10**9, "height": 5}}, "region"),
        ("input", {"height": 16, "width": 16, "white": 10**9}, "white"),
        ("input", {"height": "16", "width": 16}, "height"),
        ("input", {"height": True, "width": 16}, "height"),
        ("input_quantisation", {"dtype": "int8", "scale": 0.0, "zero_point": 0}, "scale above 0"),
        ("input_quantisation", {"dtype": "int8", "scale": -1.0, "zero_point": 0}, "scale above 0"),
        ("input_quantisation", {"dtype": "int8", "scale": 0.1, "zero_point": 128}, "zero point"),
        ("output_quantisation", {"dtype": "float32", "scale": 0.1, "zero_point": 0}, "no scale"),
        ("output_quantisation", {"dtype": "object", "scale": 0.1, "zero_point": 0}, "object"),
        ("output", {"classes": []}, "class"),
        ("output", {"classes": [{"name": "a"}, {"name": "a"}]}, "different names"),
        ("output", {"classes": [{"name": " "}]}, "name"),
        ("output", {"classes": [{"name": "x" * 300}]}, "255"),
        ("output", {"classes": [{"name": "a", "colour": [0, 0, 256]}]}, "colour"),
        ("output", {"classes": [{"name": "a"}], "threshold": 1.5}, "threshold"),
        ("output", {"classes": [{"name": "a"}], "smallest_region": -1}, "smallest region"),
        ("name", "", "name"),
        ("parameters", -1, "parameters"),
        ("macs", -1, "macs"),
        ("golden_pairs", 65, "golden_pairs"),
        ("sha256", "z" * 64, "hash"),
        ("disclaimer", "x" * 30_000, "texts"),
        ("metrics", {"cases": -1}, "parent_dice"),
    ],
)
def test_impossible_values_are_refused(model: Path, field: str, value: object, told: str) -> None:
    replace_card(model, **{field: value})
    with pytest.raises(ModelFileError, match=told):
        read_model(model)


def test_impossible_figures_are_refused(model: Path) -> None:
    dice = {"mean": 0.9, "median": 0.9, "ci95": [0.8, 1.0]}
    replace_card(model, metrics={"cases": 3, "parent_dice": dice, "dice": dice | {"mean": 1.1}, "drop": dice})
    with pytest.raises(ModelFileError, match=r"metrics\.dice"):
        read_model(model)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"schema": 2, "schema": 1}',
        '{"schema": NaN}',
        '{"schema": 1e999}',
        '{"schema": ' + "9" * 5000 + "}",
        "[]",
        "null",
        "",
        '"text"',
        "{",
        '{"schema": true}',
        '{"schema": "2"}',
        '{"schema": 0}',
        '{"schema": 2}',
    ],
    ids=lambda text: str(text)[:20],
)
def test_a_card_that_is_none_is_one_sentence(model: Path, text: str) -> None:
    contents = read_contents(model)
    seal_again(model, contents | {CARD_NAME: text.encode()})
    with pytest.raises(ModelFileError, match=r"card|schema") as caught:
        read_model(model)
    assert len(caught.value.message) < 600


def test_a_card_without_measure_is_refused_before_it_is_unpacked(model: Path) -> None:
    contents = read_contents(model)
    seal_again(model, contents | {CARD_NAME: b" " * 100_000_000})
    assert model.stat().st_size < 200_000
    with pytest.raises(ModelFileError, match=r"at most 1\.0 MiB in edgeseg\.json"):
        read_model(model)


def test_texts_cannot_steer_a_terminal(model: Path) -> None:
    classes = [{"name": "a\x1b]0;owned\x07\x9b31m\u202e\ud800\n"}]
    replace_card(model, output={"classes": classes}, lint={"cpu\x1b[2J": "\x1b[31mok"}, mood="good")
    card = read_model(model).card
    shown = f"{card.output.classes[0].name} {card.lint}"
    assert shown.isprintable()
    assert "owned" in shown


def test_newer_schema_is_refused(model: Path) -> None:
    replace_card(model, schema=SCHEMA + 1)
    with pytest.raises(ModelFileError, match=f"got schema {SCHEMA + 1}") as caught:
        read_model(model)
    assert "Update edgeseg" in caught.value.hint


def test_missing_field_is_refused(model: Path) -> None:
    replace_card(model, output=None)
    with pytest.raises(ModelFileError, match="output"):
        read_model(model)


# The seal


def test_an_old_file_is_read_with_one_notice(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_unsealed(model)
    first, second = read_model(model), read_model(model)
    assert not first.sealed
    assert len(second.golden) == 1
    said = caplog.text
    assert said.count(str(model)) == 1
    assert "edgeseg compress" in said


def test_a_sealed_file_is_read_in_silence(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    read_model(model)
    assert caplog.text == ""


def test_a_removed_seal_does_not_make_an_old_file(model: Path) -> None:
    contents = read_contents(model)
    del contents[SEAL_NAME]
    model.write_bytes(FLATBUFFER + pack_archive(contents, len(FLATBUFFER)))
    with pytest.raises(ModelFileError, match=r"edgeseg\.seal"):
        read_model(model)


def test_a_seal_that_was_left_behind_does_not_pass_for_an_old_file(model: Path) -> None:
    replace_card(model, schema=1)
    with pytest.raises(ModelFileError, match=r"edgeseg\.seal"):
        read_model(model)


@pytest.mark.parametrize("part", [CARD_NAME, "golden/0/output.npy", SEAL_NAME])
def test_a_part_of_another_file_breaks_the_seal(model: Path, tmp_path: Path, part: str) -> None:
    other = tmp_path / "other.tflite"
    pair = GoldenPair(PAIR.input, -1 - PAIR.output)
    write_model(other, FLATBUFFER, dataclasses.replace(CARD, output=OutputSpec((ClassSpec("another"),))), (pair,))
    contents = read_contents(model) | {part: read_contents(other)[part]}
    model.write_bytes(FLATBUFFER + pack_archive(contents, len(FLATBUFFER)))
    with pytest.raises(ModelFileError, match="seal"):
        read_model(model)


# The zip


def change_contents(change: Callable[[dict[str, bytes]], object]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        contents = read_contents(path)
        change(contents)
        seal_again(path, contents)

    return apply


def write_by_zipfile(path: Path, twice: str = "", comment: bytes = b"", extra: bytes = b"") -> None:
    """Write an old file by Python's own zip, with one of its liberties."""
    contents = read_contents(path)
    card = json.dumps(json.loads(contents[CARD_NAME]) | {"schema": 1})
    buffer = io.BytesIO(FLATBUFFER)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = comment
        for name in (CARD_NAME, twice) if twice else (CARD_NAME,):
            entry = zipfile.ZipInfo(name)
            entry.extra = extra
            archive.writestr(entry, card)
    path.write_bytes(buffer.getvalue())


def lie_about_size(path: Path) -> None:
    """Announce fewer bytes in both lists than the data unpack to."""
    data = bytearray(path.read_bytes())
    size = struct.pack("<I", len(read_contents(path)["golden/0/input.npy"]))
    while size in data:
        place = data.index(size)
        data[place : place + 4] = struct.pack("<I", 10)
    path.write_bytes(bytes(data))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(path.read_bytes() + b"x"),
        lambda path: path.write_bytes(path.read_bytes() + b"PK\x05\x06" + b"\x00" * 18),
        lambda path: path.write_bytes(b"front" + path.read_bytes()),
        lambda path: path.write_bytes(path.read_bytes().replace(b"PK\x03\x04", b"gap!PK\x03\x04", 1)),
        lambda path: write_by_zipfile(path, twice=CARD_NAME),
        lambda path: write_by_zipfile(path, twice="golden/0/input.npy"),
        lambda path: write_by_zipfile(path, twice="../../evil"),
        lambda path: write_by_zipfile(path, comment=b"comment"),
        lambda path: write_by_zipfile(path, extra=b"\x01\x00\x10\x00" + b"\xff" * 16),
        lambda path: write_by_zipfile(path, extra=b"\x99\x99\x01\x00x"),
        lie_about_size,
        change_contents(lambda contents: contents.pop("golden/0/output.npy")),
        change_contents(lambda contents: [contents.pop(f"golden/0/{end}.npy") for end in ("input", "output")]),
        change_contents(lambda contents: contents.update({"extra.txt": b"x"})),
        change_contents(lambda contents: contents.update({f"{number}": b"" for number in range(ENTRIES)})),
        change_contents(lambda contents: contents.update({"golden/0/input.npy": b"\x93NUMPY"})),
        change_contents(lambda contents: contents.update({"golden/0/input.npy": b"\x00" * 50_000_000})),
    ],
    ids=[
        *("behind", "second end", "in front", "gap", "card twice", "half a pair", "path", "comment", "zip64", "extra"),
        *("size", "half a pair sealed", "none of one", "extra sealed", "many", "no array", "bomb"),
    ],
)
def test_what_edgeseg_never_writes_is_refused(model: Path, change: Callable[[Path], None]) -> None:
    change(model)
    with pytest.raises(ModelFileError, match=str(model)):
        read_model(model)


def test_a_hundred_thousand_entries_are_refused_unread(tmp_path: Path) -> None:
    body = FLATBUFFER + pack_archive({CARD_NAME: b"{}"}, len(FLATBUFFER))
    path = tmp_path / "many.tflite"
    path.write_bytes(body[:-14] + struct.pack("<2H", 65535, 65535) + body[-10:])
    with pytest.raises(ModelFileError, match="65535"):
        read_model(path)


@pytest.mark.parametrize("bits", [{"flag_bits": 1}, {"compress_type": 14}, {"compress_type": 99}])
def test_encrypted_or_oddly_packed_entries_are_refused(model: Path, bits: dict[str, int]) -> None:
    write_unsealed(model, golden=False)
    data = bytearray(model.read_bytes())
    value = next(iter(bits.values()))
    shift = 0 if "flag_bits" in bits else 2
    for sign, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = data.index(sign) + offset + shift
        data[place : place + 2] = struct.pack("<H", value)
    model.write_bytes(bytes(data))
    with pytest.raises(ModelFileError, match=r"flags|method"):
        read_model(model)


# Golden pairs


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((1, SIDE, SIDE, 1), np.uint8),
        np.zeros((1, SIDE, SIDE, 2), np.int8),
        np.zeros((SIDE, SIDE), np.int8),
        np.zeros((1, SIDE, SIDE, 1), np.float32),
    ],
)
def test_golden_pairs_of_another_network_are_refused(model: Path, array: np.ndarray[Any, Any]) -> None:
    write_model(model, FLATBUFFER, CARD, (GoldenPair(array, PAIR.output),))
    with pytest.raises(ModelFileError, match=r"golden.* int8 1x16x16x1|at most"):
        read_model(model)


@pytest.mark.parametrize(
    "shape", ["(99999999999, 16, 16, 1)", "(-1, 16, 16, 1)", "(1, 16, 16, 1)+()", "[1]", "(" * 200, "(1,)*10**9"]
)
def test_a_header_is_not_believed(model: Path, shape: str) -> None:
    text = f"{{'descr': '|i1', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + b"\x00" * SIDE * SIDE
    contents = read_contents(model) | {"golden/0/input.npy": array}
    seal_again(model, contents)
    with pytest.raises(ModelFileError, match="golden pair"):
        read_model(model)


def test_card_is_whole_without_golden_pairs(tmp_path: Path) -> None:
    path = tmp_path / "none.tflite"
    write_model(path, FLATBUFFER, CARD)
    assert read_model(path).golden == ()


def test_field_of_a_later_version_is_passed_over(model: Path) -> None:
    replace_card(model, mood="good")
    assert read_model(model).card.name == "tiny"


def test_the_hash_on_the_card_is_the_network_s(model: Path) -> None:
    assert read_model(model).card.sha256 == hashlib.sha256(FLATBUFFER).hexdigest()


def test_int16_and_float_cards_are_cards(model: Path) -> None:
    for numbers in (Quantisation("int16", 0.1, 0), Quantisation("float32")):
        write_model(model, FLATBUFFER, dataclasses.replace(CARD, input_quantisation=numbers))
        with pytest.raises(EdgesegError, match="network"):
            read_model(model)


def test_specs_know_their_limits() -> None:
    with pytest.raises(ValueError, match="8192"):
        InputSpec(16, 10_000)
    assert isinstance(CARD, Card)
