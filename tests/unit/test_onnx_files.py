"""ONNX files: read without a library, refused when damaged, run by onnxruntime."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeseg.backends.select import select_backend
from edgeseg.core.card import Card, card_to_json
from edgeseg.core.errors import BackendError, EdgesegError, ModelFileError
from edgeseg.core.modelfile import CARD_NAME, GOLDEN_KEY, SEAL_NAME, GoldenPair, pack_metadata, read_model
from edgeseg.core.signature import split_onnx_metadata
from edgeseg.core.spec import ClassSpec, InputSpec, OutputSpec, Quantisation
from edgeseg.graph.operators import read_graph
from tests.networks import SIDE, describe_network

onnx = pytest.importorskip("onnx", reason="onnx writes the files that these tests read")
SHAPE = (1, SIDE, SIDE, 1)
PAIR = GoldenPair(np.linspace(-4, 4, SIDE * SIDE, dtype=np.float32).reshape(SHAPE), np.zeros(SHAPE, np.float32))


def build_onnx(operator: str = "Sigmoid") -> bytes:
    """Build an ONNX model of one operator."""
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, SHAPE) for name in ("image", "mask")]
    graph = onnx.helper.make_graph([onnx.helper.make_node(operator, ["image"], ["mask"])], "tiny", ends[:1], ends[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=7)
    return bytes(model.SerializeToString())


CARD = describe_network({}, Quantisation())


def append_metadata(bare: bytes, entries: dict[str, str]) -> bytes:
    """Put texts behind a model, as the export does."""
    behind = onnx.ModelProto()
    onnx.helper.set_model_props(behind, entries)
    return bare + bytes(behind.SerializeToString())


def add_metadata(bare: bytes, card: Card = CARD, golden: tuple[GoldenPair, ...] = ()) -> bytes:
    """Put a card, golden pairs and the seal behind a model."""
    return append_metadata(bare, pack_metadata(bare, card, golden))


def add_unsealed(bare: bytes, golden: tuple[GoldenPair, ...]) -> bytes:
    """Put a card and golden pairs behind a model as edgeseg did before there were seals."""
    card = dataclasses.replace(CARD, sha256=hashlib.sha256(bare).hexdigest(), schema=1)
    buffer = io.BytesIO()
    arrays = {f"input_{number}": pair.input for number, pair in enumerate(golden)}
    arrays |= {f"output_{number}": pair.output for number, pair in enumerate(golden)}
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    pairs = base64.b64encode(buffer.getvalue()).decode()
    return append_metadata(bare, {CARD_NAME: card_to_json(card), GOLDEN_KEY: pairs if golden else ""})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    golden = GoldenPair(PAIR.input, 1 / (1 + np.exp(-PAIR.input)))
    file = tmp_path / "tiny.onnx"
    file.write_bytes(add_metadata(build_onnx(), golden=(golden,)))
    return file


def test_onnx_package_reads_the_same_metadata(path: Path) -> None:
    bare, entries = split_onnx_metadata(path.read_bytes())
    assert bare == build_onnx()
    assert entries == {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def test_card_and_golden_pairs_are_read(path: Path) -> None:
    model = read_model(path)
    assert model.is_onnx
    assert (model.card.name, len(model.golden)) == ("tiny", 1)
    assert np.array_equal(model.golden[0].input, PAIR.input)


@pytest.mark.parametrize("requested", ["auto", "onnx"])
def test_onnxruntime_gives_the_golden_masks(path: Path, requested: str) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime runs ONNX files")
    report = select_backend(read_model(path), requested).report()
    assert report.name == "onnx"
    assert "CPUExecutionProvider" in report.detail
    assert report.parity is not None
    assert report.parity.difference is not None
    assert report.parity.difference < 1e-6
    assert report.fallback_reason is None


def test_onnx_file_on_the_cpu_backend(path: Path) -> None:
    with pytest.raises(BackendError, match="got an ONNX file") as caught:
        select_backend(read_model(path), "cpu")
    assert "--backend onnx" in caught.value.hint


def test_operator_that_onnxruntime_does_not_know(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime runs ONNX files")
    file = tmp_path / "odd.onnx"
    file.write_bytes(add_metadata(build_onnx("Whirl")))
    with pytest.raises(BackendError, match="Whirl"):
        select_backend(read_model(file), "onnx")


@pytest.mark.parametrize("kept", [0.2, 0.6, 0.99])
def test_truncated_file_is_refused(path: Path, kept: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ModelFileError, match="damaged"):
        read_model(path)


def test_file_without_a_card_is_refused(path: Path) -> None:
    path.write_bytes(build_onnx())
    with pytest.raises(ModelFileError, match="without one"):
        read_model(path)


def test_damaged_golden_pairs_are_refused(path: Path) -> None:
    path.write_bytes(append_metadata(build_onnx(), pack_metadata(build_onnx(), CARD) | {GOLDEN_KEY: "AAAA"}))
    with pytest.raises(ModelFileError, match="damaged"):
        read_model(path)


def test_changed_model_is_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"Sigmoid", b"Softmax"))
    with pytest.raises(ModelFileError, match="hash"):
        read_model(path)


def test_operators_of_an_onnx_file_are_not_read(path: Path) -> None:
    with pytest.raises(ModelFileError, match="Expected a TFLite flatbuffer"):
        read_graph(read_model(path).flatbuffer)


def test_text_is_no_onnx_file(tmp_path: Path) -> None:
    file = tmp_path / "text.onnx"
    file.write_text("hello, I am text", encoding="utf-8")
    with pytest.raises(EdgesegError, match=r"damaged|without one"):
        read_model(file)


@pytest.mark.parametrize("golden", [(), (PAIR, PAIR)])
def test_files_without_a_seal_are_read_with_a_notice(
    path: Path, golden: tuple[GoldenPair, ...], caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(add_unsealed(build_onnx(), golden))
    model = read_model(path)
    assert not model.sealed
    assert [np.array_equal(pair.input, PAIR.input) for pair in model.golden] == [True] * len(golden)
    assert str(path) in caplog.text


@pytest.mark.parametrize(
    "card",
    [
        dataclasses.replace(CARD, input=InputSpec(32, 32)),
        dataclasses.replace(CARD, input=InputSpec(SIDE, SIDE, "rgb")),
        dataclasses.replace(CARD, output_quantisation=Quantisation("int8", 0.1, 0)),
        dataclasses.replace(CARD, output=OutputSpec((ClassSpec("a"), ClassSpec("b")))),
    ],
    ids=["size", "colour", "type", "classes"],
)
def test_a_card_that_contradicts_its_network_is_refused(path: Path, card: Card) -> None:
    path.write_bytes(add_metadata(build_onnx(), card))
    with pytest.raises(ModelFileError, match="network"):
        read_model(path)


def change_entries(**changes: str | None) -> Callable[[bytes], bytes]:
    def apply(data: bytes) -> bytes:
        bare, entries = split_onnx_metadata(data)
        changed = {name.replace("_", "."): text for name, text in changes.items()}
        return append_metadata(bare, {key: text for key, text in (entries | changed).items() if text is not None})

    return apply


def change_model(change: Callable[[Any], object]) -> Callable[[bytes], bytes]:
    """Change the network and seal it again, as one would who knows how."""

    def apply(data: bytes) -> bytes:
        model = onnx.load_from_string(split_onnx_metadata(data)[0])
        change(model)
        return add_metadata(model.SerializeToString())

    return apply


def name_other_file(model: Any) -> None:
    tensor = model.graph.initializer.add(name="w", data_type=1, dims=[1], data_location=1)
    tensor.external_data.add(key="location", value="/etc/passwd")


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data + b"\x3a\x00",
        lambda data: data + b"\xff" * 1000,
        lambda _: b"\xff" * 1000,
        lambda _: b"",
        lambda _: b"\x3a\xff\xff\xff\xff\x0f",
        lambda data: data + split_tail(data),
        lambda data: data[:4] + b"TFL3" + data[8:],
        change_entries(edgeseg_seal=None),
        change_entries(edgeseg_seal="0" * 64),
        change_entries(extra="x"),
        change_entries(golden=""),
        change_entries(edgeseg_json="[" * 100_000),
        change_model(lambda model: model.graph.input.add().CopyFrom(model.graph.input[0])),
        change_model(lambda model: setattr(model.graph.input[0].type.tensor_type.shape.dim[0], "dim_param", "N")),
        change_model(lambda model: setattr(model.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", -1)),
        change_model(lambda model: model.functions.add(name="f")),
        change_model(lambda model: model.graph.node[0].attribute.add(name="g", type=5).g.SetInParent()),
        change_model(lambda model: model.ClearField("graph")),
        change_model(name_other_file),
    ],
    ids=[
        *("graph behind", "varint behind", "varints", "empty", "length", "twice", "two kinds"),
        *("no seal", "other seal", "extra", "no pairs", "deep card"),
        *("two inputs", "open size", "negative size", "functions", "inner graph", "no graph", "other file"),
    ],
)
def test_what_edgeseg_never_writes_is_refused(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ModelFileError, match=str(path)):
        read_model(path)


def split_tail(data: bytes) -> bytes:
    return data[len(split_onnx_metadata(data)[0]) :]


def test_every_changed_byte_is_noticed(path: Path) -> None:
    data = path.read_bytes()
    for place in range(0, len(data), 7):
        changed = bytearray(data)
        changed[place] ^= 0x10
        path.write_bytes(bytes(changed))
        with pytest.raises(ModelFileError):
            read_model(path)


def test_the_seal_stands_beside_the_card(path: Path) -> None:
    assert list(split_onnx_metadata(path.read_bytes())[1]) == [CARD_NAME, GOLDEN_KEY, SEAL_NAME]
