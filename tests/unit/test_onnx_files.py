"""ONNX files: read without a library, refused when damaged, run by onnxruntime."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest

from edgeseg.backends.select import select_backend
from edgeseg.core.card import card_to_json
from edgeseg.core.errors import BackendError, EdgesegError, ModelFileError
from edgeseg.core.modelfile import CARD_NAME, GOLDEN_KEY, GoldenPair, pack_golden, read_model
from edgeseg.core.onnxfile import split_onnx
from edgeseg.core.spec import Quantisation
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


def add_metadata(bare: bytes, golden: str) -> bytes:
    """Put a card and golden pairs behind a model, as the export does."""
    card = dataclasses.replace(describe_network({}, Quantisation()), sha256=hashlib.sha256(bare).hexdigest())
    behind = onnx.ModelProto()
    onnx.helper.set_model_props(behind, {CARD_NAME: card_to_json(card), GOLDEN_KEY: golden})
    return bare + bytes(behind.SerializeToString())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    golden = GoldenPair(PAIR.input, 1 / (1 + np.exp(-PAIR.input)))
    file = tmp_path / "tiny.onnx"
    file.write_bytes(add_metadata(build_onnx(), pack_golden((golden,))))
    return file


def test_onnx_package_reads_the_same_metadata(path: Path) -> None:
    bare, entries = split_onnx(path.read_bytes())
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
    file.write_bytes(add_metadata(build_onnx("Whirl"), ""))
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
    path.write_bytes(add_metadata(build_onnx(), "AAAA"))
    with pytest.raises(ModelFileError, match="damaged"):
        read_model(path)


def test_changed_model_is_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"Sigmoid", b"Softmax"))
    with pytest.raises(ModelFileError, match="hash on its card"):
        read_model(path)


def test_operators_of_an_onnx_file_are_not_read(path: Path) -> None:
    with pytest.raises(ModelFileError, match="Expected a TFLite flatbuffer"):
        read_graph(read_model(path).flatbuffer)


def test_text_is_no_onnx_file(tmp_path: Path) -> None:
    file = tmp_path / "text.onnx"
    file.write_text("hello, I am text", encoding="utf-8")
    with pytest.raises(EdgesegError, match=r"damaged|without one"):
        read_model(file)
