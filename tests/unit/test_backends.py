"""Which backend runs a file, and why not: a sentence for everything that does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeseg.backends import select
from edgeseg.backends.base import Backend, Probe
from edgeseg.backends.edgetpu import EdgeTpuBackend
from edgeseg.backends.gpu import explain_refusal, find_adapter
from edgeseg.backends.parity import measure_parity, refuse_other_masks
from edgeseg.backends.select import BACKENDS, select_backend
from edgeseg.core.errors import BackendError, EdgesegError, UnknownNameError
from edgeseg.core.modelfile import GoldenPair, ModelFile
from edgeseg.core.signature import TensorSpec
from edgeseg.core.spec import Quantisation
from tests.networks import NUMBERS, SIDE, describe_network, draw_ramp, save_network


class Changed(Backend):
    """Gives its input back, changed by a function."""

    name: ClassVar[str] = "changed"
    change: Any = staticmethod(lambda tensor: tensor)

    def __init__(self, network: bytes = b"", threads: int = 1, variant: str = "") -> None:
        self.input = TensorSpec((1, SIDE, SIDE, 1), NUMBERS)
        self.outputs = (self.input,)
        self.detail = f"{len(network)} bytes, {threads} threads, {variant or 'no variant'}"

    @classmethod
    def probe(cls, network: bytes, variant: str = "") -> Probe:
        return Probe(not variant, f"{len(network)} bytes")

    def invoke(self, tensor: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        return (np.asarray(self.change(tensor)),)


def change_by(function: Any) -> Changed:
    backend = Changed()
    backend.change = function
    return backend


@pytest.fixture
def model(tmp_path: Path) -> ModelFile:
    return save_network(tmp_path / "tiny.tflite")


def test_cpu_gives_the_golden_masks(model: ModelFile) -> None:
    report = select_backend(model, "cpu").report()
    assert report.parity is not None
    assert (report.parity.iou, report.parity.difference, report.parity.held) == (1.0, 0.0, True)
    assert (report.name, report.requested, report.fallback_reason) == ("cpu", "cpu", None)


@pytest.mark.parametrize(
    ("function", "held", "difference"),
    [
        (lambda t: t, True, 0.0),
        (lambda t: t + np.int8(5), True, 5.0),
        (lambda t: t // 2 + np.int8(1), True, 51.0),
        (lambda t: t + np.int8(27), False, 27.0),
        (lambda t: np.full_like(t, -128), False, 228.0),
    ],
    ids=["same", "near the threshold", "other numbers, same masks", "other masks", "all black"],
)
def test_masks_decide_and_not_single_numbers(model: ModelFile, function: Any, held: bool, difference: float) -> None:
    backend = change_by(function)
    parity = measure_parity(backend, model)
    assert parity is not None
    assert (parity.held, parity.difference, parity.unit) == (held, difference, "quanta")
    if held:
        refuse_other_masks(backend, parity)
    else:
        with pytest.raises(BackendError, match="golden masks") as caught:
            refuse_other_masks(backend, parity)
        assert "--no-parity" in caught.value.hint


def test_what_is_no_number_is_refused(model: ModelFile) -> None:
    card, ramp = describe_network({}, Quantisation()), model.golden[0].input.astype(np.float32) / 256 + 0.5
    reals = ModelFile(model.path, model.flatbuffer, card, (GoldenPair(ramp, ramp),))
    parity = measure_parity(change_by(lambda tensor: tensor * np.float32("nan")), reals)
    assert parity is not None
    assert (parity.held, parity.difference, parity.unit) == (False, None, "reals")


def test_other_masks_at_ones_own_risk(model: ModelFile) -> None:
    backend = change_by(lambda tensor: np.full_like(tensor, -128))
    parity = measure_parity(backend, model, enforced=False)
    refuse_other_masks(backend, parity)
    assert parity is not None
    assert (parity.held, parity.enforced, parity.iou) == (False, False, 0.0)


def test_without_golden_pairs_nothing_is_claimed(model: ModelFile) -> None:
    bare = ModelFile(model.path, model.flatbuffer, model.card, ())
    assert select_backend(bare, "cpu").parity is None


def test_unknown_backend(model: ModelFile) -> None:
    with pytest.raises(UnknownNameError, match="got 'gpx'") as caught:
        select_backend(model, "gpx")
    assert "gpu" in caught.value.hint


@pytest.mark.parametrize("device", ["usb:", "usb:x", "pcie", "0", "USB", "usb:0 ", ":", "/dev/apex_0"])
def test_wrong_edge_tpu_device(device: str) -> None:
    with pytest.raises(BackendError, match="Expected an Edge TPU device") as caught:
        EdgeTpuBackend.probe(b"", device)
    assert "edgetpu:usb:0" in caught.value.hint


@pytest.mark.parametrize(
    ("requested", "fact"),
    [("cpu:fast", "cpu, got 'fast'"), ("gpu:float8", "float8")],
)
def test_wrong_variant(model: ModelFile, requested: str, fact: str) -> None:
    with pytest.raises(EdgesegError, match=fact):
        select_backend(model, requested)


def test_threads_below_one(model: ModelFile) -> None:
    with pytest.raises(BackendError, match="at least 1 thread"):
        select_backend(model, "cpu", 0)


def test_compiled_file_on_the_cpu(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="Edge TPU") as caught:
        select_backend(save_network(tmp_path / "c.tflite", custom="edgetpu-custom-op"), "cpu")
    assert "--backend edgetpu" in caught.value.hint


def test_unknown_custom_operator_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="Whirl"):
        select_backend(save_network(tmp_path / "w.tflite", custom="Whirl"), "cpu")


def test_plain_file_on_the_edge_tpu(model: ModelFile) -> None:
    with pytest.raises(BackendError, match="CPU"):
        select_backend(model, "edgetpu")


def test_tflite_file_on_onnx(model: ModelFile) -> None:
    with pytest.raises(BackendError, match=r"got a \.tflite file"):
        select_backend(model, "onnx")


def test_auto_tells_why_it_is_not_the_first(model: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "recommend_backends", lambda: ("edgetpu", "cpu"))
    report = select_backend(model).report()
    assert (report.name, report.requested) == ("cpu", "auto")
    assert str(report.fallback_reason).startswith("edgetpu: ")


def test_auto_listens_to_the_linter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKENDS, "changed", Changed)
    monkeypatch.setattr(select, "recommend_backends", lambda: ("changed", "cpu"))
    model = save_network(tmp_path / "l.tflite", lint={"changed": "ARG_MAX is not taken"})
    selection = select_backend(model)
    assert selection.backend.name == "cpu"
    assert "ARG_MAX is not taken" in str(selection.fallback_reason)


def test_auto_passes_over_a_backend_with_other_masks(model: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Changed, "change", staticmethod(lambda tensor: np.full_like(tensor, -128)))
    monkeypatch.setitem(BACKENDS, "changed", Changed)
    monkeypatch.setattr(select, "recommend_backends", lambda: ("changed", "cpu"))
    selection = select_backend(model)
    assert selection.backend.name == "cpu"
    assert "golden masks" in str(selection.fallback_reason)


def test_auto_without_any_fitting_backend_gives_every_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "recommend_backends", lambda: ("edgetpu",))
    with pytest.raises(BackendError, match=r"edgetpu: .* cpu: .*Whirl"):
        select_backend(save_network(tmp_path / "w.tflite", custom="Whirl"))


SELECTED = "I0000 environment.cc:532] Selected adapter: llvmpipe (LLVM 15.0.6, 256 bits), arch=software, vendor=mesa\n"


def test_the_gpu_is_named_as_a_whole() -> None:
    assert find_adapter(SELECTED) == "llvmpipe (LLVM 15.0.6, 256 bits)"
    assert find_adapter("nothing of it") == "adapter not named"


@pytest.mark.parametrize(
    ("log", "error", "sentence"),
    [
        (SELECTED + "ERROR: WHIRL is not known.", "", r"256 bits\).*WHIRL is not known\.$"),
        (
            SELECTED,
            "code=7\n└ ERROR: [a.cc:1]\n└ Failed to lock a buffer.",
            r"256 bits\).*Failed to lock a buffer\.$",
        ),
        (SELECTED, "code=7", "256 bits"),
        ("Found no drivers", "", "GPU.*Found no drivers"),
    ],
)
def test_the_gpu_s_refusal_is_found_where_it_is_said(log: str, error: str, sentence: str) -> None:
    with pytest.raises(BackendError, match=sentence):
        raise explain_refusal(log, error)


def test_ramp_marks_half(model: ModelFile) -> None:
    assert np.mean(model.golden[0].output > 0) == 0.5
    assert np.array_equal(model.golden[0].input, draw_ramp())
