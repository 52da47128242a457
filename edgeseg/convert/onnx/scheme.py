"""The precision of an ONNX file: float32, float16, int8 as in the .tflite, or symmetric int8 for TensorRT."""

from __future__ import annotations

from dataclasses import dataclass

from edgeseg.core.spec import check_choice
from edgeseg.graph.operators import Scales

PRECISIONS = ("float32", "float16", "int8")
RUNTIMES = ("onnxruntime", "tensorrt")
LOWEST, HIGHEST = -128, 127


@dataclass(frozen=True)
class Step:
    """Scale and zero point of an int8 activation."""

    scale: float
    zero_point: int

    @property
    def limits(self) -> tuple[float, float]:
        """The smallest and the largest real number in range."""
        return self.scale * (LOWEST - self.zero_point), self.scale * (HIGHEST - self.zero_point)


@dataclass(frozen=True)
class Scheme:
    """The precision of an ONNX file, and the runtime it is for."""

    precision: str = "float32"
    runtime: str = "onnxruntime"

    def __post_init__(self) -> None:
        check_choice("precision", self.precision, PRECISIONS)
        check_choice("runtime", self.runtime, RUNTIMES)

    @property
    def is_quantised(self) -> bool:
        """Whether it computes in int8."""
        return self.precision == "int8"

    @property
    def is_half(self) -> bool:
        """Whether it computes in float16; input and output stay float32."""
        return self.precision == "float16"

    @property
    def is_symmetric(self) -> bool:
        """Whether every zero point must be 0, the only one that TensorRT takes."""
        return self.is_quantised and self.runtime == "tensorrt"

    def choose_step(self, scales: Scales | None) -> Step | None:
        """Choose how an activation is quantised; None where it stays float.

        Symmetric steps cover the same range, so activations that are never negative are left with 7 of 8 bits.
        """
        if scales is None or not self.is_quantised:
            return None
        kept = Step(scales.scale[0], scales.zero_point[0])
        return Step(max(map(abs, kept.limits)) / HIGHEST, 0) if self.is_symmetric else kept
