"""Compare a file with its float parent layer by layer, to see where the accuracy goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

from edgeseg.compress.variant import LayerError
from edgeseg.core.card import Card
from edgeseg.core.errors import RecipeError, UnknownNameError
from edgeseg.core.frame import pixels_to_tensor, tensor_to_reals
from edgeseg.core.modelfile import ModelFile
from edgeseg.core.quiet import quiet_native_output
from edgeseg.core.spec import Quantisation
from edgeseg.graph.operators import CONVERSIONS


@dataclass(frozen=True)
class _Step:
    """One operator that computes, and where its result lies."""

    operator: str
    node: str
    tensor: int
    shape: tuple[int, ...]
    quantisation: Quantisation
    name: str


class LayerReader:
    """Runs a model without XNNPACK, so that every layer's result can be read afterwards."""

    def __init__(self, model: ModelFile) -> None:
        self._card: Card = model.card
        self._interpreter = _open_flatbuffer(model.flatbuffer)
        self.steps = _list_steps(self._interpreter)

    def read(self, pixels: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
        """Run one image (height, width, channels) and give every layer's result in real numbers."""
        (source,) = self._interpreter.get_input_details()
        self._interpreter.set_tensor(source["index"], pixels_to_tensor(pixels, self._card.input_quantisation))
        self._interpreter.invoke()
        return [tensor_to_reals(self._interpreter.get_tensor(step.tensor), step.quantisation) for step in self.steps]


def compare_layers(parent: ModelFile, child: ModelFile, images: NDArray[np.uint8]) -> tuple[LayerError, ...]:
    """Measure for every layer how far its result is from the parent's.

    Args:
        parent: The float file.
        child: The file to judge.
        images: Pixels (n, height, width, channels) on the network's grid.

    Returns:
        One entry per layer; nothing where the two files are not built alike.
    """
    readers = LayerReader(parent), LayerReader(child)
    kinds = [[(step.operator, step.shape) for step in reader.steps] for reader in readers]
    if kinds[0] != kinds[1]:
        return ()
    wrong, whole = np.zeros(len(kinds[0])), np.zeros(len(kinds[0]))
    for pixels in images:
        for index, (wanted, got) in enumerate(zip(*(reader.read(pixels) for reader in readers), strict=True)):
            wrong[index] += float(np.square(got - wanted).sum())
            whole[index] += float(np.square(wanted).sum())
    errors = np.sqrt(wrong / np.maximum(whole, np.finfo(np.float64).tiny))
    return tuple(
        LayerError(step.name, step.operator, round(float(error), 5))
        for step, error in zip(readers[0].steps, errors, strict=True)
    )


def find_nodes(flatbuffer: bytes, layers: Sequence[str]) -> tuple[str, ...]:
    """Find the tensors in which some layers leave their results; unknown layers are refused, and all at once."""
    steps = _list_steps(_open_flatbuffer(flatbuffer))
    known = {step.name for step in steps}
    for layer in layers:
        if layer not in known:
            raise UnknownNameError("layer", layer, known)
    if known <= set(layers):
        raise RecipeError(
            "Expected layers that are left for int8 beside keep_float, got every layer kept in float.",
            "Keep fewer layers in float, or take the recipe float16.",
        )
    return tuple(step.node for step in steps if step.name in layers)


def _open_flatbuffer(flatbuffer: bytes) -> Any:
    with quiet_native_output():
        interpreter = Interpreter(
            model_content=flatbuffer,
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        interpreter.allocate_tensors()
    return interpreter


def _list_steps(interpreter: Any) -> tuple[_Step, ...]:
    details = {detail["index"]: detail for detail in interpreter.get_tensor_details()}
    steps = []
    for operator in interpreter._get_ops_details():
        if operator["op_name"] in CONVERSIONS:
            continue
        result = details[operator["outputs"][0]]
        scale, zero_point = result["quantization"]
        shape = tuple(int(n) for n in result["shape"])
        name = name_layer(result["name"], operator["op_name"])
        quantisation = Quantisation(np.dtype(result["dtype"]).name, float(scale), int(zero_point))
        steps.append(_Step(operator["op_name"], result["name"], result["index"], shape, quantisation, name))
    return tuple(steps)


def name_layer(tensor: str, operator: str) -> str:
    """Name the layer whose result a tensor is: the converter lists fused layers with the network's name before them."""
    parts = tensor.split(";")[0].split("/")
    return parts[1].removesuffix("_relu") if len(parts) > 2 else operator.lower()
