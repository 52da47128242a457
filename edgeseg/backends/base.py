"""What every backend can do: say whether it works here, load a flatbuffer, turn a tensor into a tensor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from numpy.typing import NDArray

from edgeseg.core.spec import Quantisation


@dataclass(frozen=True)
class TensorInfo:
    """Shape and quantisation of one end of a model."""

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

    @classmethod
    @abstractmethod
    def probe(cls) -> Probe:
        """Say whether this backend can be used on this machine."""

    @abstractmethod
    def invoke(self, tensor: NDArray[Any]) -> NDArray[Any]:
        """Run the model once; the result stays valid until the next call."""
