"""Files with a second output for findings: read in order, run, compared and refused; files of one output stay so."""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeseg.backends.cpu import CpuBackend
from edgeseg.backends.parity import measure_parity
from edgeseg.backends.select import select_backend
from edgeseg.convert.package import build_card
from edgeseg.core.archive import pack_archive
from edgeseg.core.card import card_from_json, card_to_json
from edgeseg.core.errors import BackendError, ModelFileError
from edgeseg.core.modelfile import (
    CARD_NAME,
    SEAL_NAME,
    GoldenPair,
    ModelFile,
    make_seal,
    pack_model,
    read_model,
    write_model,
)
from edgeseg.core.signature import order_outputs, read_tflite_signature
from edgeseg.core.spec import FindingSpec, Quantisation
from edgeseg.graph.lint import lint_graph
from edgeseg.graph.operators import read_graph
from edgeseg.inference.segmenter import Segmenter
from tests.networks import (
    FRAME_CLASSES,
    NUMBERS,
    SIDE,
    build_finding_network,
    build_network,
    describe_finding_network,
    describe_network,
    draw_ramp,
    save_network,
)

NETWORK = build_finding_network()
CARD = describe_finding_network()
FINDING_NAME = "golden/0/finding.npy"


class Shifted(CpuBackend):
    """Gives other findings than the file's."""

    by: ClassVar[int] = 0

    def invoke(self, tensor: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        mask, finding = super().invoke(tensor)
        return mask, np.clip(finding.astype(int) + self.by, -128, 127).astype(np.int8)


def make_pair() -> GoldenPair:
    return GoldenPair(draw_ramp(), *CpuBackend(NETWORK).invoke(draw_ramp()))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "two.tflite"
    write_model(file, NETWORK, CARD, (make_pair(), make_pair()))
    return file


def read_contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def seal_again(path: Path, contents: dict[str, bytes]) -> None:
    rest = {name: content for name, content in contents.items() if name != SEAL_NAME}
    path.write_bytes(NETWORK + pack_archive({**rest, SEAL_NAME: make_seal(NETWORK, rest)}, len(NETWORK)))


def test_both_outputs_of_a_golden_pair_are_written_and_read_again(path: Path) -> None:
    model, wanted = read_model(path), make_pair()
    assert (len(model.golden), model.card.finding) == (2, FindingSpec(FRAME_CLASSES))
    for pair in model.golden:
        assert pair.finding is not None
        assert [np.array_equal(*arrays) for arrays in zip(pair.arrays, wanted.arrays, strict=True)] == [True] * 3
    assert FINDING_NAME in read_contents(path)
    assert pack_model(NETWORK, CARD, model.golden) == path.read_bytes()


def test_a_file_of_one_output_has_the_same_parts_as_ever(tmp_path: Path) -> None:
    model = save_network(tmp_path / "one.tflite")
    assert list(read_contents(model.path)) == [CARD_NAME, "golden/0/input.npy", "golden/0/output.npy", SEAL_NAME]
    assert (model.card.finding, model.golden[0].finding, model.card.finding_channels) == (None, None, 0)


def test_a_card_that_knows_no_findings_keeps_its_seal(tmp_path: Path) -> None:
    network, pair = build_network(), GoldenPair(draw_ramp(), draw_ramp())
    card = json.loads(card_to_json(dataclasses.replace(describe_network({}), golden_pairs=1)))
    for key in ("finding", "finding_quantisation", "decision"):
        del card[key]
    newer = save_network(tmp_path / "one.tflite")
    contents = read_contents(newer.path)
    card["sha256"] = newer.card.sha256
    contents[CARD_NAME] = json.dumps(card).encode()
    rest = {name: content for name, content in contents.items() if name != SEAL_NAME}
    old = tmp_path / "old.tflite"
    old.write_bytes(network + pack_archive({**rest, SEAL_NAME: make_seal(network, rest)}, len(network)))
    model = read_model(old)
    assert (model.sealed, model.card.finding, model.card.decision) == (True, None, None)
    assert np.array_equal(model.golden[0].output, pair.output)


def test_backends_and_segmenter_give_the_mask_first(path: Path) -> None:
    model = read_model(path)
    segmenter = Segmenter(model, "cpu")
    shapes = [spec.shape for spec in segmenter.selection.backend.outputs]
    assert shapes == [(1, SIDE, SIDE, 1), (1, 1, 1, 3)]
    assert segmenter.segment(np.full((SIDE, SIDE), 255, np.uint8)).labels.all()


def test_a_runtime_that_lists_the_finding_first_is_put_in_order() -> None:
    straight, swapped = CpuBackend(NETWORK), CpuBackend(build_finding_network(swapped=True))
    assert straight.outputs == swapped.outputs
    for one, other in zip(straight.invoke(draw_ramp()), swapped.invoke(draw_ramp()), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize(
    ("shapes", "order"),
    [
        ([(1, 8, 8, 1)], (0,)),
        ([(1, 1, 1, 3), (1, 8, 8, 1)], (1, 0)),
        ([(1, 8, 8, 1), (1, 1, 1, 3)], (0, 1)),
        ([(1, 8, 8, 1), (1, 8, 8, 2)], (0, 1)),
        ([(), (1,)], (0, 1)),
    ],
)
def test_the_finding_is_the_output_of_one_position(shapes: list[tuple[int, ...]], order: tuple[int, ...]) -> None:
    assert order_outputs(shapes) == order


@pytest.mark.parametrize(("by", "held"), [(0, True), (12, True), (13, False), (-100, False)])
def test_parity_looks_at_findings(path: Path, by: int, held: bool) -> None:
    model, backend = read_model(path), Shifted(NETWORK)
    backend.by = by  # type: ignore[misc]
    parity = measure_parity(backend, model)
    assert parity is not None
    assert (parity.held, parity.iou) == (held, 1.0)
    assert parity.finding == pytest.approx(abs(by) / 256)


def test_a_backend_with_other_findings_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Shifted, "by", 100)
    monkeypatch.setitem(select_backend.__globals__["BACKENDS"], "cpu", Shifted)
    with pytest.raises(BackendError, match=r"findings 0\.39"):
        select_backend(read_model(path), "cpu")


def test_plain_litert_reads_both_outputs_in_order(path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], draw_ramp())
    interpreter.invoke()
    mask, finding = (interpreter.get_tensor(end["index"]) for end in interpreter.get_output_details())
    assert np.array_equal(mask, make_pair().output)
    assert np.array_equal(finding, make_pair().arrays[2])


def test_the_card_is_made_from_the_network() -> None:
    ends = CARD.input, CARD.output
    card = build_card(NETWORK, "two", ends, CARD.provenance, FindingSpec(FRAME_CLASSES))
    assert (card.finding_quantisation, card.finding_channels) == (NUMBERS, 3)
    assert lint_graph(read_graph(NETWORK)) == {"cpu": "ok", "edgetpu": "ok"}


# What is refused

WRONG_CARDS: dict[str, dict[str, Any]] = {
    "no finding": {"finding": None, "finding_quantisation": None},
    "other frame classes": {"finding": FindingSpec(("a", "b", "c"))},
    "no frame classes": {"finding": FindingSpec()},
    "other scale": {"finding_quantisation": Quantisation("int8", 1 / 128, -128)},
    "other type": {"finding_quantisation": Quantisation("float32")},
    "a finding without numbers": {"finding_quantisation": None},
    "numbers without a finding": {"finding": None},
    "an impossible zero point": {"finding_quantisation": Quantisation("int8", 1 / 256, 500)},
}


@pytest.mark.parametrize("name", WRONG_CARDS)
def test_a_card_that_says_something_else_of_the_second_output_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "wrong.tflite"
    write_model(path, NETWORK, dataclasses.replace(CARD, **WRONG_CARDS[name]), (make_pair(),))
    with pytest.raises(ModelFileError, match=r"finding|outputs"):
        read_model(path)


def test_a_card_with_a_finding_does_not_fit_a_network_of_one_output(tmp_path: Path) -> None:
    path = tmp_path / "wrong.tflite"
    write_model(path, build_network(), CARD, ())
    with pytest.raises(ModelFileError, match="2 outputs"):
        read_model(path)


@pytest.mark.parametrize("network", [build_finding_network(swapped=True), build_finding_network(side=SIDE)])
def test_a_network_with_other_second_outputs_is_refused(tmp_path: Path, network: bytes) -> None:
    path = tmp_path / "wrong.tflite"
    write_model(path, network, CARD, ())
    with pytest.raises(ModelFileError, match="card"):
        read_model(path)


def test_the_network_must_fit_the_card_when_it_is_loaded_too() -> None:
    model = ModelFile(Path("two.tflite"), NETWORK, describe_network({}), ())
    with pytest.raises(ModelFileError, match="0 findings"):
        select_backend(model, "cpu")


def _npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


CHANGES: dict[str, Callable[[dict[str, bytes]], object]] = {
    "missing": lambda parts: parts.pop(FINDING_NAME),
    "empty": lambda parts: parts.update({FINDING_NAME: b""}),
    "of another shape": lambda parts: parts.update({FINDING_NAME: _npy(np.zeros((1, 1, 1, 2), np.int8))}),
    "of another type": lambda parts: parts.update({FINDING_NAME: _npy(np.zeros((1, 1, 1, 3), np.float32))}),
    "of a mask": lambda parts: parts.update({FINDING_NAME: parts["golden/0/output.npy"]}),
    "larger than it may be": lambda parts: parts.update({FINDING_NAME: b"\x93NUMPY" + bytes(100_000)}),
    "one more": lambda parts: parts.update({"golden/2/finding.npy": parts[FINDING_NAME]}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_golden_finding_that_does_not_fit_is_refused_even_under_a_seal(path: Path, name: str) -> None:
    contents = read_contents(path)
    CHANGES[name](contents)
    seal_again(path, contents)
    with pytest.raises(ModelFileError):
        read_model(path)


def test_a_changed_finding_breaks_the_seal(path: Path) -> None:
    contents = read_contents(path)
    contents[FINDING_NAME] = _npy(np.full((1, 1, 1, 3), 5, np.int8))
    path.write_bytes(NETWORK + pack_archive(contents, len(NETWORK)))
    with pytest.raises(ModelFileError, match="seal"):
        read_model(path)


def test_three_outputs_are_refused() -> None:
    from ai_edge_litert import schema_py_generated as schema

    from edgeseg.convert.tflite import pack_model_objects

    network = schema.ModelT.InitFromObj(schema.Model.GetRootAs(NETWORK, 0))
    network.subgraphs[0].outputs = [3, 8, 5]
    with pytest.raises(ValueError, match="1 and 3"):
        read_tflite_signature(pack_model_objects(network))
    with pytest.raises(BackendError, match="outputs"):
        CpuBackend(pack_model_objects(network))


def test_a_card_keeps_what_it_says_of_findings() -> None:
    text = card_to_json(dataclasses.replace(CARD, sha256="0" * 64))
    assert card_from_json(text, "card").finding == CARD.finding
