"""A backend that fails or hangs in the middle of a stream: loaded again, then replaced by the CPU, and told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeseg.backends import select
from edgeseg.backends.base import Backend, Probe, TensorInfo
from edgeseg.core.errors import BackendError
from edgeseg.core.modelfile import ModelFile
from edgeseg.runtime.guarded import GuardedSegmenter
from edgeseg.runtime.hands import Hands
from tests.networks import NUMBERS, SIDE, save_network

LIMIT_S = 0.3
FRAME = np.linspace(0, 255, SIDE * SIDE).astype(np.uint8).reshape(SIDE, SIDE)


class Weak(Backend):
    """Works for some frames, then fails in its own way; a class that can no longer be loaded says so."""

    name: ClassVar[str] = "weak"
    lives: ClassVar[list[int]] = []
    """How many inferences each loaded one lasts; golden pairs count."""
    released: ClassVar[threading.Event] = threading.Event()
    hangs: ClassVar[bool] = False

    def __init__(self, network: bytes, threads: int = 1, variant: str = "") -> None:
        self.input = self.output = TensorInfo((1, SIDE, SIDE, 1), NUMBERS)
        self.detail = f"{len(network)} bytes, {threads} threads{variant}"
        if not self.lives:
            raise BackendError("Expected a device, got none.", "Plug it in.")
        self._left = self.lives.pop(0)

    @classmethod
    def probe(cls, network: bytes, variant: str = "") -> Probe:
        return Probe(True, f"{len(network)}{variant}")

    def invoke(self, tensor: NDArray[Any]) -> NDArray[Any]:
        self._left -= 1
        if self._left < 0 and self.hangs:
            self.released.wait()
        if self._left < 0:
            raise RuntimeError("the device was lost")
        return tensor


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelFile]:
    monkeypatch.setitem(select.BACKENDS, "weak", Weak)
    monkeypatch.setattr(Weak, "released", threading.Event())
    yield save_network(tmp_path / "tiny.tflite")
    Weak.released.set()


def open_weak(model: ModelFile, monkeypatch: pytest.MonkeyPatch, lives: list[int], hangs: bool) -> GuardedSegmenter:
    monkeypatch.setattr(Weak, "lives", lives)
    monkeypatch.setattr(Weak, "hangs", hangs)
    return GuardedSegmenter(model, "weak", limit_s=LIMIT_S)


@pytest.mark.parametrize("hangs", [False, True], ids=["fails", "hangs"])
def test_it_is_loaded_again_once_and_then_the_cpu_takes_over(
    model: ModelFile, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], hangs: bool
) -> None:
    segmenter = open_weak(model, monkeypatch, [4, 3], hangs)
    expected = segmenter.segment(FRAME).labels
    names = []
    for _ in range(8):
        np.testing.assert_array_equal(segmenter.segment(FRAME).labels, expected)
        names.append(segmenter.report().name)
    segmenter.close()
    assert names == ["weak"] * 4 + ["cpu"] * 4
    fault = "within 0.3 s, got none" if hangs else "the device was lost"
    assert [fault in incident for incident in segmenter.incidents] == [True, False, True, False]
    report = segmenter.report()
    assert report.requested == "weak"
    assert report.fallback_reason is not None
    assert fault in report.fallback_reason
    assert "The stream goes on with the backend cpu." in capsys.readouterr().err


def test_what_cannot_be_loaded_again_is_told_and_the_cpu_takes_over(
    model: ModelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter = open_weak(model, monkeypatch, [1], hangs=False)
    segmenter.segment(FRAME)
    segmenter.close()
    assert segmenter.report().name == "cpu"
    assert "It could not be loaded again: Expected a device, got none." in segmenter.incidents


def test_a_failing_cpu_is_the_end(model: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter = GuardedSegmenter(model, "cpu")

    def fail(tensor: NDArray[Any]) -> NDArray[Any]:
        raise RuntimeError(f"no memory for {tensor.shape}")

    monkeypatch.setattr(segmenter.selection.backend, "invoke", fail)
    with pytest.raises(BackendError, match="cpu failed in the stream: RuntimeError: no memory") as caught:
        segmenter.segment(FRAME)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_no_thread_is_left_where_nothing_hung(model: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(threading.enumerate())
    segmenter = open_weak(model, monkeypatch, [100], hangs=False)
    segmenter.warm_up()
    (worker,) = set(threading.enumerate()) - before
    segmenter.close()
    worker.join(10)
    assert not worker.is_alive()


def test_hands_raise_what_the_task_raised() -> None:
    hands = Hands("test")
    with pytest.raises(ZeroDivisionError):
        hands.do(lambda: 1 / 0, 10)
    with pytest.raises(TimeoutError, match="its own"):
        hands.do(raise_own_timeout, 10)
    assert hands.do(lambda: 5, 10) == 5
    hands.let_go()


def raise_own_timeout() -> None:
    raise TimeoutError("its own")
