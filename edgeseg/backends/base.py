"""What every backend can do: say whether it works here, load a network, turn a tensor into a tensor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from numpy.typing import NDArray

from edgeseg.core.errors import BackendError
from edgeseg.core.spec import Quantisation


@dataclass(frozen=True)
class TensorInfo:
    """Shape of one end of a model, and how its numbers are read as far as the runtime tells: its type at least."""

    shape: tuple[int, ...]
    quantisation: Quantisation


@dataclass(frozen=True)
class Probe:
    """Whether a backend can be used here, and if not, exactly why and what to do."""

    available: bool
    detail: str
    hint: str = ""


class Backend(ABC):
    """A loaded model on one kind of hardware."""

    name: ClassVar[str]
    input: TensorInfo
    output: TensorInfo
    detail: str
    """The library and the accelerator in use, for reports."""

    @abstractmethod
    def __init__(self, network: bytes, threads: int = 1, variant: str = "") -> None:
        """Load a network.

        Args:
            network: A flatbuffer, or what else this backend takes.
            threads: How many CPU threads the runtime may use.
            variant: What the user wrote behind the backend's name and a colon: a precision, a device.
        """

    @classmethod
    @abstractmethod
    def probe(cls, network: bytes, variant: str = "") -> Probe:
        """Say whether this backend can be used on this machine for this network."""

    @classmethod
    def computes_in_memory(cls) -> bool:
        """Say whether a network takes this process's own memory and no accelerator's."""
        return False

    @abstractmethod
    def invoke(self, tensor: NDArray[Any]) -> NDArray[Any]:
        """Run the model once; the result stays valid until the next call."""


def refuse_variant(name: str, variant: str) -> None:
    """Refuse anything behind the name of a backend that comes in one kind only."""
    if variant:
        raise BackendError(
            f"Expected nothing behind the name of the backend {name}, got {variant!r}.", f"Write: --backend {name}"
        )
