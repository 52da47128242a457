"""In which numbers an ONNX file computes: float32, float16, int8 as in the .tflite, or int8 as TensorRT takes it."""

from __future__ import annotations

from dataclasses import dataclass

from edgeseg.core.spec import check_choice
from edgeseg.graph.operators import Scales

PRECISIONS = ("float32", "float16", "int8")
RUNTIMES = ("onnxruntime", "tensorrt")
LOWEST, HIGHEST = -128, 127


@dataclass(frozen=True)
class Step:
    """The scale and the zero point of an int8 activation."""

    scale: float
    zero_point: int

    @property
    def limits(self) -> tuple[float, float]:
        """Give the smallest and the largest real number that it can hold."""
        return self.scale * (LOWEST - self.zero_point), self.scale * (HIGHEST - self.zero_point)


@dataclass(frozen=True)
class Scheme:
    """The precision of an ONNX file and the runtime it is laid out for."""

    precision: str = "float32"
    runtime: str = "onnxruntime"

    def __post_init__(self) -> None:
        check_choice("precision", self.precision, PRECISIONS)
        check_choice("runtime", self.runtime, RUNTIMES)

    @property
    def is_quantised(self) -> bool:
        """Say whether it computes with int8."""
        return self.precision == "int8"

    @property
    def is_half(self) -> bool:
        """Say whether it computes in float16; both ends of the file are float32 all the same."""
        return self.precision == "float16"

    @property
    def is_symmetric(self) -> bool:
        """Say whether every zero point must be 0, the only one that TensorRT takes."""
        return self.is_quantised and self.runtime == "tensorrt"

    def choose_step(self, scales: Scales | None) -> Step | None:
        """Choose how an activation is quantised; None where it stays real.

        Symmetric steps hold the same range, so what never goes below zero is left with 7 of 8 bits.
        """
        if scales is None or not self.is_quantised:
            return None
        kept = Step(scales.scale[0], scales.zero_point[0])
        return Step(max(map(abs, kept.limits)) / HIGHEST, 0) if self.is_symmetric else kept
