"""A stream outlives its backend: one that fails or hangs is loaded again, then replaced by the CPU, and told."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from numpy.typing import NDArray

from edgeseg.backends.cpu import CpuBackend
from edgeseg.backends.select import AUTO, select_backend
from edgeseg.core.errors import BackendError, EdgesegError
from edgeseg.core.modelfile import ModelFile
from edgeseg.runtime.hands import Hands
from edgeseg.runtime.masks import AS_THE_CARD_SAYS, MaskOptions
from edgeseg.runtime.segmenter import Segmenter

T = TypeVar("T")

INVOKE_LIMIT_S = 10.0
"""Longer than any first inference that compiles shaders; a hang lasts for ever."""
LOAD_LIMIT_S = 120.0
RESTARTS = 1


class GuardedSegmenter(Segmenter):
    """A segmenter for streams; accelerators are called on a thread that can be given up.

    The CPU is called directly: it is what is fallen back to, and a thread in between costs some 20 microseconds.
    """

    def __init__(
        self,
        model: ModelFile,
        requested: str = AUTO,
        threads: int = 1,
        enforce_parity: bool = True,
        masks: MaskOptions = AS_THE_CARD_SAYS,
        limit_s: float = INVOKE_LIMIT_S,
    ) -> None:
        """Load a model file as a segmenter does; an inference that takes longer than `limit_s` counts as hung."""
        self._hands: Hands | None = None
        super().__init__(model, requested, threads, enforce_parity, masks)
        self._model, self._threads, self._enforce_parity = model, threads, enforce_parity
        self._limit_s, self._restarts = limit_s, RESTARTS

    def close(self) -> None:
        """End the thread that calls the accelerator."""
        if self._hands is not None:
            self._hands.let_go()
            self._hands = None

    def _invoke(self, tensor: NDArray[Any]) -> NDArray[Any]:
        while True:
            backend = self.selection.backend
            try:
                return self._do(partial(backend.invoke, tensor), self._limit_s, backend.name)
            except Exception as error:  # noqa: BLE001 - whatever a native runtime raises is its fault, told and survived
                self._recover(error)

    def _do(self, task: Callable[[], T], limit_s: float, name: str) -> T:
        if name == CpuBackend.name:
            return task()
        if self._hands is None:
            self._hands = Hands("edgeseg-backend")
        return self._hands.do(task, limit_s)

    def _recover(self, error: Exception) -> None:
        """Load the backend again; where that was tried before or fails as well, load the CPU backend."""
        name, requested = self.selection.backend.name, self.selection.requested
        self.close()
        self._tell(f"The backend {name} failed in the stream: {_describe(error)}")
        if name == CpuBackend.name:
            raise BackendError(self.incidents[-1], "Check the model file with edgeseg inspect.") from error
        if self._restarts > 0:
            self._restarts -= 1
            try:
                self._load(name if requested == AUTO else requested)
            except EdgesegError as refusal:
                self._tell(f"It could not be loaded again: {refusal.message}")
            else:
                self._tell(f"The backend {name} was loaded again.")
                return
        self._load(CpuBackend.name)
        self._tell("The stream goes on with the backend cpu.")

    def _load(self, wanted: str) -> None:
        task = partial(select_backend, self._model, wanted, self._threads, self._enforce_parity)
        selection = self._do(task, LOAD_LIMIT_S, wanted)
        kept = self.selection
        changed = selection.backend.name != kept.backend.name
        reason = " ".join(self.incidents) if changed else kept.fallback_reason
        self.selection = replace(selection, requested=kept.requested, fallback_reason=reason)

    def _tell(self, sentence: str) -> None:
        self.incidents.append(sentence)
        print(f"edgeseg: {sentence}", file=sys.stderr)


def _describe(error: Exception) -> str:
    return error.message if isinstance(error, EdgesegError) else f"{type(error).__name__}: {error}."
