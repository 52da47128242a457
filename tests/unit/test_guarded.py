"""A backend that fails or hangs in the middle of a stream: the CPU takes over until it could be loaded again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeseg.backends import select
from edgeseg.backends.base import Backend, Probe
from edgeseg.core.errors import BackendError
from edgeseg.core.modelfile import ModelFile
from edgeseg.core.signature import TensorSpec
from edgeseg.inference import supervision
from edgeseg.inference.supervision import (
    HEALTHY_AFTER_S,
    LOAD_LIMIT_S,
    RETRY_PAUSES_S,
    SupervisedSegmenter,
    TimeoutWorker,
)
from tests.commands import assert_says
from tests.networks import NUMBERS, SIDE, save_network

LIMIT_S = 0.3
SECONDS = 10
FRAME = np.linspace(0, 255, SIDE * SIDE).astype(np.uint8).reshape(SIDE, SIDE)


class Weak(Backend):
    """Works for some frames, then fails in its own way; a class that can no longer be loaded says so."""

    name: ClassVar[str] = "weak"
    lives: ClassVar[list[int]] = []
    """How many inferences each loaded one lasts; golden pairs count."""
    released: ClassVar[threading.Event] = threading.Event()
    hangs: ClassVar[bool] = False
    may_load: ClassVar[threading.Event] = threading.Event()

    def __init__(self, network: bytes, threads: int = 1, variant: str = "") -> None:
        self.input = TensorSpec((1, SIDE, SIDE, 1), NUMBERS)
        self.outputs = (self.input,)
        self.detail = f"{len(network)} bytes, {threads} threads{variant}"
        self.may_load.wait(SECONDS)
        if not self.lives:
            raise BackendError("Expected a device, got none.", "Plug it in.")
        self._left = self.lives.pop(0)

    @classmethod
    def probe(cls, network: bytes, variant: str = "") -> Probe:
        return Probe(True, f"{len(network)}{variant}")

    def invoke(self, tensor: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        self._left -= 1
        if self._left < 0 and self.hangs:
            self.released.wait()
        if self._left < 0:
            raise RuntimeError("the device was lost")
        return (tensor,)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelFile]:
    monkeypatch.setitem(select.BACKENDS, "weak", Weak)
    monkeypatch.setattr(Weak, "released", threading.Event())
    monkeypatch.setattr(Weak, "may_load", threading.Event())
    Weak.may_load.set()
    yield save_network(tmp_path / "tiny.tflite")
    Weak.released.set()


def open_weak(
    model: ModelFile,
    monkeypatch: pytest.MonkeyPatch,
    lives: list[int],
    hangs: bool,
    clock: Callable[[], float] = monotonic,
) -> SupervisedSegmenter:
    monkeypatch.setattr(Weak, "lives", lives)
    monkeypatch.setattr(Weak, "hangs", hangs)
    return SupervisedSegmenter(model, "weak", limit_s=LIMIT_S, clock=clock)


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def wait_for(segmenter: SupervisedSegmenter, is_true: Callable[[], bool]) -> None:
    """Segment frames until something is true: what is loaded in the background is looked for between frames."""
    deadline = monotonic() + SECONDS
    while not is_true():
        segmenter.segment(FRAME)
        assert monotonic() < deadline


@pytest.mark.parametrize("hangs", [False, True], ids=["fails", "hangs"])
def test_the_cpu_takes_over_until_the_accelerator_is_loaded_again(
    model: ModelFile, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, hangs: bool
) -> None:
    clock = Clock()
    segmenter = open_weak(model, monkeypatch, [4, 300], hangs, clock)
    expected = segmenter.segment(FRAME).labels
    names = []
    for _ in range(8):
        np.testing.assert_array_equal(segmenter.segment(FRAME).labels, expected)
        names.append(segmenter.report().name)
    assert names == ["weak"] * 2 + ["cpu"] * 6
    fault = "within 0.3 s, got none" if hangs else "the device was lost"
    report = segmenter.report()
    assert report.requested == "weak"
    assert fault in (report.fallback_reason or "")
    assert_says(caplog.text, "weak", " 1 s")
    clock.now += RETRY_PAUSES_S[0]
    wait_for(segmenter, lambda: segmenter.report().name == "weak")
    assert segmenter.report().fallback_reason is None
    assert_says(caplog.text, "weak", "again")
    np.testing.assert_array_equal(segmenter.segment(FRAME).labels, expected)
    segmenter.close()


def test_months_of_faults_end_on_the_accelerator_whenever_it_is_there(
    model: ModelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    segmenter = open_weak(model, monkeypatch, [4], False, clock)
    wait_for(segmenter, lambda: segmenter.report().name == "cpu")
    for _ in range(200):  # not there for four days
        segmenter.incidents.clear()
        clock.now += RETRY_PAUSES_S[-1]
        wait_for(segmenter, lambda: bool(segmenter.incidents))
        assert "Expected a device, got none." in segmenter.incidents[0]
    assert "1800 s" in (segmenter.report().fallback_reason or "")
    Weak.lives.append(10**6)
    clock.now += 3600.0
    wait_for(segmenter, lambda: segmenter.report().name == "weak")
    segmenter.close()


def test_loading_again_holds_up_no_frame(model: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    segmenter = open_weak(model, monkeypatch, [4, 300], False, clock)
    wait_for(segmenter, lambda: segmenter.report().name == "cpu")
    monkeypatch.setattr(Weak, "may_load", threading.Event())
    clock.now += RETRY_PAUSES_S[0]
    for _ in range(50):
        segmenter.segment(FRAME)
    assert segmenter.report().name == "cpu"
    clock.now += LOAD_LIMIT_S + 1
    segmenter.segment(FRAME)
    assert_says(segmenter.report().fallback_reason or "", "120 s", " 10 s")
    Weak.may_load.set()
    clock.now += RETRY_PAUSES_S[1]
    Weak.lives[:] = [300, 300]
    wait_for(segmenter, lambda: segmenter.report().name == "weak")
    segmenter.close()


def test_a_file_that_only_the_accelerator_takes_is_loaded_again_at_once_and_not_for_ever(
    model: ModelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    segmenter = open_weak(model, monkeypatch, [4, 4, 4], False, clock)
    monkeypatch.delitem(select.BACKENDS, "cpu")
    for _ in range(5):
        segmenter.segment(FRAME)
    assert segmenter.report().name == "weak"
    clock.now += HEALTHY_AFTER_S
    wait_for(segmenter, lambda: not Weak.lives)
    with pytest.raises(BackendError, match="weak"):
        wait_for(segmenter, lambda: False)
    segmenter.close()


@pytest.mark.parametrize("requested", ["weak", "auto"])
def test_a_first_load_that_hangs_ends_at_its_time_limit(
    model: ModelFile, monkeypatch: pytest.MonkeyPatch, requested: str
) -> None:
    monkeypatch.setattr(supervision, "LOAD_LIMIT_S", LIMIT_S)
    monkeypatch.setattr(Weak, "may_load", threading.Event())
    monkeypatch.setattr(
        supervision,
        "select_backend",
        lambda file, wanted, *more: select.select_backend(file, "weak" if wanted == "auto" else wanted, *more),
    )
    try:
        if requested == "auto":
            segmenter = SupervisedSegmenter(model, "auto")
            assert (segmenter.report().name, segmenter.report().requested) == ("cpu", "auto")
            assert f"{LIMIT_S:g} s" in (segmenter.report().fallback_reason or "")
        else:
            with pytest.raises(BackendError, match=f"weak .*{LIMIT_S:g} s"):
                SupervisedSegmenter(model, "weak")
    finally:
        Weak.may_load.set()


def test_a_failing_cpu_is_the_end(model: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter = SupervisedSegmenter(model, "cpu")

    def fail(tensor: NDArray[Any]) -> NDArray[Any]:
        raise RuntimeError(f"no memory for {tensor.shape}")

    monkeypatch.setattr(segmenter.selection.backend, "invoke", fail)
    with pytest.raises(BackendError, match=r"cpu.*RuntimeError: no memory") as caught:
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
    worker = TimeoutWorker("test")
    with pytest.raises(ZeroDivisionError):
        worker.run(lambda: 1 / 0, 10)
    with pytest.raises(TimeoutError, match="its own"):
        worker.run(raise_own_timeout, 10)
    assert worker.run(lambda: 5, 10) == 5
    worker.abandon()


def raise_own_timeout() -> None:
    raise TimeoutError("its own")
