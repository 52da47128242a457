"""The interface of every backend: probe whether it works here, load a network, run inference on a tensor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from numpy.typing import NDArray

from edgeseg.core.errors import BackendError
from edgeseg.core.signature import TensorSpec


@dataclass(frozen=True)
class Probe:
    """Whether a backend can be used on this machine, and if not, why and what to do."""

    available: bool
    detail: str
    hint: str = ""


class Backend(ABC):
    """A loaded model on one kind of hardware."""

    name: ClassVar[str]
    input: TensorSpec
    outputs: tuple[TensorSpec, ...]
    """As the runtime reports them, the mask first and then the finding; some report the type and neither scale nor
    zero point."""
    detail: str
    """The library and the accelerator in use, for reports."""

    @abstractmethod
    def __init__(self, network: bytes, threads: int = 1, variant: str = "") -> None:
        """Load a network.

        Args:
            network: A flatbuffer, or the format that this backend takes instead.
            threads: How many CPU threads the runtime may use.
            variant: The part behind the colon in `--backend NAME:VARIANT`: a precision, a device.
        """

    @classmethod
    @abstractmethod
    def probe(cls, network: bytes, variant: str = "") -> Probe:
        """Say whether this backend can be used on this machine for this network."""

    @classmethod
    def computes_in_memory(cls) -> bool:
        """Say whether inference takes this process's memory and no accelerator's, so that it can be limited."""
        return False

    @abstractmethod
    def invoke(self, tensor: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        """Run inference once: the mask's scores, and the finding of a network that has one.

        The results stay valid until the next call.
        """


def refuse_variant(name: str, variant: str) -> None:
    """Refuse a variant for a backend that has none."""
    if variant:
        raise BackendError(
            f"Expected nothing behind the name of the backend {name}, got {variant!r}.", f"Write: --backend {name}"
        )
