"""The CPU backend: LiteRT's interpreter with XNNPACK, or an older runtime with a warning that says why."""

from __future__ import annotations

from typing import ClassVar

from edgeseg.backends.base import Probe, refuse_variant
from edgeseg.backends.interpreter import InterpreterBackend, find_runtime
from edgeseg.core.errors import BackendError


class CpuBackend(InterpreterBackend):
    """A model on the CPU."""

    name: ClassVar[str] = "cpu"

    def __init__(self, network: bytes, threads: int = 1, variant: str = "") -> None:
        """Load a flatbuffer."""
        refuse_variant(self.name, variant)
        library = self._open(network, threads)
        self.detail = f"{library}, {'XNNPACK' if self.uses_xnnpack() else 'no XNNPACK'}, threads: {threads}"

    @classmethod
    def probe(cls, network: bytes = b"", variant: str = "") -> Probe:  # noqa: ARG003 - one kind, any network
        """Say which runtime would be used."""
        try:
            library, _ = find_runtime()
        except BackendError as error:
            return Probe(False, error.message, error.hint)
        return Probe(True, library)

    def uses_xnnpack(self) -> bool:
        """Prove that XNNPACK took over operators, instead of assuming it."""
        return self.count_delegated() > 0
