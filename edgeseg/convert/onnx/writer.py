"""Build an ONNX graph: nodes, constants, and the ONNX name of each tensor of the .tflite."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgeseg.convert.onnx.scheme import Scheme
from edgeseg.core.errors import ExportError
from edgeseg.graph.operators import Tensor

ONNX_CHANNELS = 1
# Orders of axes: ONNX has NCHW, TFLite NHWC.
TO_ONNX, TO_TFLITE = (0, 3, 1, 2), (0, 2, 3, 1)
LARGEST_HALF = float(np.finfo(np.float16).max)


class GraphWriter:
    """The nodes and constants of an ONNX graph."""

    def __init__(self, scheme: Scheme) -> None:
        self.scheme = scheme
        self.scope = ""
        """Prefix of the next nodes' names."""
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
        """Add a constant; floats in the precision of the scheme."""
        name = f"{self.scope}/constant_{len(self.constants)}"
        if self.scheme.is_half and values.dtype.kind == "f":
            values = _halve(values, name)
        self.constants.append(onnx.numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def add_weights(self, tensor: Tensor, order: tuple[int, ...], axis: int) -> str:
        """Add a kernel; for int8 as floats behind QuantizeLinear and DequantizeLinear: TensorRT 8 takes no other form.

        Args:
            tensor: The kernel.
            order: Its axes in ONNX's order.
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
        """Add a bias: onnxruntime needs an integer one to compute in integers, TensorRT only takes floats."""
        scales = tensor.scales
        if not self.scheme.is_quantised or self.scheme.is_symmetric or scales is None or tensor.data is None:
            return self.add_constant(self.read_constant(tensor))
        scale = np.broadcast_to(np.asarray(scales.scale, np.float32), tensor.data.shape)
        return self.add("DequantizeLinear", self.add_constant(tensor.data), self.add_constant(scale), axis=0)

    def fold_constant(self, source: Tensor, target: Tensor) -> None:
        """Keep a constant that the .tflite dequantises at run time."""
        self._folded[target.index] = self.read_constant(source)

    def read_constant(self, tensor: Tensor) -> NDArray[np.float32]:
        """Read a constant as real numbers."""
        if tensor.data is None:
            return self._folded[tensor.index]
        if tensor.scales is None:
            return tensor.data.astype(np.float32)
        shape = [1] * tensor.data.ndim
        shape[tensor.scales.axis] = -1
        scale, zero_point = (np.reshape(part, shape) for part in (tensor.scales.scale, tensor.scales.zero_point))
        return np.asarray((tensor.data.astype(np.float64) - zero_point) * scale, np.float32)

    def name_of(self, tensor: Tensor) -> str:
        """Look up the ONNX name of a computed tensor."""
        return self._names[tensor.index]

    def set_result(self, tensor: Tensor, name: str, is_output: bool = False) -> None:
        """Set a tensor's ONNX name, quantised as the scheme says; the graph's outputs stay float."""
        step = None if is_output else self.scheme.choose_step(tensor.scales)
        if step is not None:
            name = self._add_pair(name, np.float32(step.scale), np.int8(step.zero_point))
        self._names[tensor.index] = name

    def set_output(self, tensor: Tensor, name: str) -> None:
        """Make a tensor one of the graph's outputs: float32 and NHWC."""
        source = self.name_of(tensor)
        if self.scheme.is_half:
            source = self.add("Cast", source, to=onnx.TensorProto.FLOAT)
        self.nodes.append(onnx.helper.make_node("Transpose", [source], [name], name=name, perm=TO_TFLITE))

    def set_input(self, tensor: Tensor, name: str) -> None:
        """Make a tensor the graph's input: from float32 and NHWC to NCHW."""
        source = self.add("Cast", name, to=onnx.TensorProto.FLOAT16) if self.scheme.is_half else name
        self.set_result(tensor, self.add("Transpose", source, perm=TO_ONNX))

    def _add_pair(self, name: str, scale: Any, zero_point: Any, **attributes: Any) -> str:
        """Add QuantizeLinear and DequantizeLinear."""
        ends = self.add_constant(np.asarray(scale)), self.add_constant(np.asarray(zero_point))
        quantised = self.add("QuantizeLinear", name, *ends, **attributes)
        return self.add("DequantizeLinear", quantised, *ends, **attributes)


def _halve(values: NDArray[Any], name: str) -> NDArray[np.float16]:
    """Round to float16; values beyond its range, which would become infinite, are refused."""
    largest = float(np.abs(values[np.isfinite(values)]).max(initial=0.0))
    if largest > LARGEST_HALF:
        raise ExportError(
            f"Expected numbers up to {LARGEST_HALF:.0f} for float16, got {largest:.6g} in {name}.",
            "Export with --precision float32.",
        )
    return values.astype(np.float16)
