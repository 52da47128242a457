"""Hold an ONNX graph while it grows: nodes, constants, and which name stands for which tensor of the .tflite."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgeseg.convert.onnx.scheme import Scheme
from edgeseg.core.errors import ExportError
from edgeseg.graph.operators import Tensor

ONNX_CHANNELS = 1
TO_ONNX, TO_TFLITE = (0, 3, 1, 2), (0, 2, 3, 1)
"""The orders of axes: ONNX has the channels in front of rows and columns, TFLite behind them."""
LARGEST_HALF = float(np.finfo(np.float16).max)


class GraphWriter:
    """The nodes and constants of an ONNX graph."""

    def __init__(self, scheme: Scheme) -> None:
        self.scheme = scheme
        self.scope = ""
        """What the names of the next nodes begin with."""
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._names: dict[int, str] = {}
        self._folded: dict[int, NDArray[np.float32]] = {}

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node.

        Returns:
            The name of its result.
        """
        name = f"{self.scope}/{kind}_{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def add_constant(self, values: NDArray[Any]) -> str:
        """Add a constant; a real one as the numbers that the scheme computes in."""
        name = f"{self.scope}/constant_{len(self.constants)}"
        if self.scheme.is_half and values.dtype.kind == "f":
            values = _halve(values, name)
        self.constants.append(onnx.numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def add_weights(self, tensor: Tensor, order: tuple[int, ...], axis: int) -> str:
        """Add a kernel; where it is int8, as real numbers with a pair around them: TensorRT 8 takes no other.

        Args:
            tensor: The kernel.
            order: Its axes in the order that ONNX has them.
            axis: The axis of the output channels in that order.
        """
        name = self.add_constant(self.read_constant(tensor).transpose(order))
        if not self.scheme.is_quantised or tensor.scales is None:
            return name
        scale = np.asarray(tensor.scales.scale, np.float32)
        if scale.size == 1:
            return self._add_pair(name, scale[0], np.int8(0))
        return self._add_pair(name, scale, np.zeros(scale.shape, np.int8), axis=axis)

    def add_bias(self, tensor: Tensor) -> str:
        """Add a bias: onnxruntime computes with integers only where it is one, TensorRT only takes real numbers."""
        scales = tensor.scales
        if not self.scheme.is_quantised or self.scheme.is_symmetric or scales is None or tensor.data is None:
            return self.add_constant(self.read_constant(tensor))
        scale = np.broadcast_to(np.asarray(scales.scale, np.float32), tensor.data.shape)
        return self.add("DequantizeLinear", self.add_constant(tensor.data), self.add_constant(scale), axis=0)

    def fold(self, source: Tensor, target: Tensor) -> None:
        """Remember a constant that the .tflite converts while it runs."""
        self._folded[target.index] = self.read_constant(source)

    def read_constant(self, tensor: Tensor) -> NDArray[np.float32]:
        """Read a constant's real numbers."""
        if tensor.data is None:
            return self._folded[tensor.index]
        if tensor.scales is None:
            return tensor.data.astype(np.float32)
        shape = [1] * tensor.data.ndim
        shape[tensor.scales.axis] = -1
        scale, zero_point = (np.reshape(part, shape) for part in (tensor.scales.scale, tensor.scales.zero_point))
        return np.asarray((tensor.data.astype(np.float64) - zero_point) * scale, np.float32)

    def name_of(self, tensor: Tensor) -> str:
        """Name what stands for a tensor that was computed."""
        return self._names[tensor.index]

    def keep(self, tensor: Tensor, name: str, is_output: bool = False) -> None:
        """Let a name stand for a tensor, quantised as the scheme says; the graph's output stays real."""
        step = None if is_output else self.scheme.choose_step(tensor.scales)
        if step is not None:
            name = self._add_pair(name, np.float32(step.scale), np.int8(step.zero_point))
        self._names[tensor.index] = name

    def finish(self, tensor: Tensor, name: str) -> None:
        """Let the graph's output be a tensor in float32, with the axes as TFLite has them."""
        source = self.name_of(tensor)
        if self.scheme.is_half:
            source = self.add("Cast", source, to=onnx.TensorProto.FLOAT)
        self.nodes.append(onnx.helper.make_node("Transpose", [source], [name], name=name, perm=TO_TFLITE))

    def begin(self, tensor: Tensor, name: str) -> None:
        """Let the graph's input, which is float32, stand for a tensor, with the axes as ONNX has them."""
        source = self.add("Cast", name, to=onnx.TensorProto.FLOAT16) if self.scheme.is_half else name
        self.keep(tensor, self.add("Transpose", source, perm=TO_ONNX))

    def _add_pair(self, name: str, scale: Any, zero_point: Any, **attributes: Any) -> str:
        """Quantise and dequantise."""
        ends = self.add_constant(np.asarray(scale)), self.add_constant(np.asarray(zero_point))
        quantised = self.add("QuantizeLinear", name, *ends, **attributes)
        return self.add("DequantizeLinear", quantised, *ends, **attributes)


def _halve(values: NDArray[Any], name: str) -> NDArray[np.float16]:
    """Round real numbers to float16; what is beyond its largest would become infinite."""
    largest = float(np.abs(values[np.isfinite(values)]).max(initial=0.0))
    if largest > LARGEST_HALF:
        raise ExportError(
            f"Expected numbers up to {LARGEST_HALF:.0f} for float16, got {largest:.6g} in {name}.",
            "Export with --precision float32.",
        )
    return values.astype(np.float16)
