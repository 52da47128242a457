"""The CPU backend: LiteRT's interpreter with XNNPACK, or an older runtime with a warning that says why."""

from __future__ import annotations

from typing import ClassVar

from edgeseg.backends.base import Probe, refuse_variant
from edgeseg.backends.interpreter import InterpreterBackend, find_runtime, name_version
from edgeseg.backends.proved import name_network, remember_here
from edgeseg.backends.trial import try_once
from edgeseg.core.errors import BackendError

CRASH_HINT = "The file is damaged or was made to do harm: copy it again, or write it again with edgeseg compress."


class CpuBackend(InterpreterBackend):
    """A model on the CPU."""

    name: ClassVar[str] = "cpu"

    def __init__(self, network: bytes, threads: int = 1, variant: str = "") -> None:
        """Load a flatbuffer."""
        refuse_variant(self.name, variant)
        library = self._open(network, threads)
        self.detail = f"{library}, {'XNNPACK' if self.uses_xnnpack() else 'no XNNPACK'}, threads: {threads}"

    @classmethod
    def probe(cls, network: bytes = b"", variant: str = "") -> Probe:
        """Say which runtime would be used and, where a network is given, whether it runs without harm."""
        refuse_variant(cls.name, variant)
        try:
            library, module = find_runtime()
        except BackendError as error:
            return Probe(False, error.message, error.hint)
        if not network:
            return Probe(True, library)
        return try_once(cls.name, variant, network, name_version(library, module), CRASH_HINT)

    @classmethod
    def computes_in_memory(cls) -> bool:
        """Say so."""
        return True

    def uses_xnnpack(self) -> bool:
        """Prove that XNNPACK took over operators, instead of assuming it."""
        return self.count_delegated() > 0


def vouch_for(network: bytes) -> None:
    """Spare a network a trial that this process itself has made and run."""
    library, module = find_runtime()
    remember_here(name_network(network, CpuBackend.name, "", name_version(library, module)))
