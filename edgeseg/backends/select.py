"""Choose a backend by name; a fall-back is never silent."""

from __future__ import annotations

from dataclasses import dataclass

from edgeseg.backends.base import Backend
from edgeseg.backends.cpu import CpuBackend
from edgeseg.core.errors import BackendError, UnknownNameError

BACKENDS = {CpuBackend.name: CpuBackend}
CHOICES = ("auto", *BACKENDS)


@dataclass(frozen=True)
class Selection:
    """A loaded backend, what was asked for, and why it is another one, if it is."""

    backend: Backend
    requested: str
    fallback_reason: str | None = None


def select_backend(flatbuffer: bytes, requested: str = "auto", threads: int = 1) -> Selection:
    """Load a flatbuffer on the requested backend, or on the best one when that is left open.

    Args:
        flatbuffer: The model.
        requested: "auto" or the name of a backend.
        threads: How many threads a CPU backend may use.
    """
    if requested not in CHOICES:
        raise UnknownNameError("backend", requested, CHOICES)
    if threads < 1:
        raise BackendError(f"Expected at least 1 thread, got {threads}.", "Give --threads 1 or more.")
    chosen = BACKENDS["cpu" if requested == "auto" else requested]
    return Selection(chosen(flatbuffer, threads), requested)
