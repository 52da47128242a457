"""The two ends of a network as the network itself has them, and whether its card says the same."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from edgeseg.core.archive import OnnxEnd, read_onnx_ends
from edgeseg.core.card import Card
from edgeseg.core.errors import ModelFileError
from edgeseg.core.flatbuffer import NetworkTensor, read_network
from edgeseg.core.spec import FLOATS, InputSpec, Quantisation, check_numbers

_CLOSE = 1e-6
"""Scales are written in 32 bits into the flatbuffer and in decimals onto the card."""


@dataclass(frozen=True)
class NetworkEnd:
    """The shape of an input or output, and how its numbers stand for real ones."""

    shape: tuple[int, ...]
    numbers: Quantisation

    @property
    def bytes(self) -> int:
        """Count the bytes of its tensor."""
        width = {"float32": 4, "float16": 2, "int16": 2}.get(self.numbers.dtype, 1)
        return math.prod(self.shape) * width

    def describe(self) -> str:
        """Put it into a few words."""
        numbers = self.numbers
        shape = f"{numbers.dtype} {'x'.join(map(str, self.shape))}"
        return shape if numbers.dtype in FLOATS else f"{shape} (scale {numbers.scale:g}, zero {numbers.zero_point})"


@dataclass(frozen=True)
class NetworkEnds:
    """The only input and the only output."""

    input: NetworkEnd
    output: NetworkEnd


def read_tflite_ends(flatbuffer: bytes) -> NetworkEnds:
    """Read both ends of a .tflite.

    Raises:
        ValueError: The flatbuffer is damaged or beyond a limit, or has other ends than one each of fixed size.
    """
    network = read_network(flatbuffer)
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        raise ValueError(f"expected one input and one output, got {len(network.inputs)} and {len(network.outputs)}")
    return NetworkEnds(*(_describe(network.tensors[place]) for place in (*network.inputs, *network.outputs)))


def _describe(tensor: NetworkTensor) -> NetworkEnd:
    if tensor.data is not None or tensor.dynamic:
        raise ValueError("expected ends that are computed and of fixed sizes, got others")
    if tensor.dtype in FLOATS or not tensor.scale:
        return NetworkEnd(tensor.shape, Quantisation(tensor.dtype))
    if len(tensor.scale) > 1:
        raise ValueError(f"expected one scale at each end, got {len(tensor.scale)}")
    return NetworkEnd(tensor.shape, Quantisation(tensor.dtype, tensor.scale[0], tensor.zero_point[0]))


def read_onnx_network_ends(bare: bytes) -> NetworkEnds:
    """Read both ends of an ONNX model, which takes and gives plain numbers.

    Raises:
        ValueError: The model is damaged, or has other ends than one each of fixed size.
    """
    return NetworkEnds(*(_describe_onnx(end) for end in read_onnx_ends(bare)))


def _describe_onnx(end: OnnxEnd) -> NetworkEnd:
    return NetworkEnd(end.shape, Quantisation(end.dtype))


def check_ends(card: Card, ends: NetworkEnds, path: Path) -> None:
    """Refuse a card that speaks of another network: its masks would be wrong, and its golden pairs with them."""
    wanted = NetworkEnd((1, card.input.height, card.input.width, card.input.channels), card.input_quantisation)
    height, width = (ends.output.shape[1:3]) if len(ends.output.shape) == 4 else (0, 0)
    drawn = NetworkEnd((1, height, width, card.output.channels), card.output_quantisation)
    for name, said, found in (("input", wanted, ends.input), ("output", drawn, ends.output)):
        check_numbers(name, found.numbers)
        if said.shape != found.shape or not _is_same(said.numbers, found.numbers):
            raise ModelFileError(
                f"Expected the card in {path} to speak of its network, got {said.describe()} on the card and "
                f"{found.describe()} in the network for the {name}.",
                "Write the file again with edgeseg compress; a card is never changed by hand.",
            )
    if not fits_grid(card.input, ends.output.shape):
        raise ModelFileError(
            f"Expected masks of {card.input.height}x{card.input.width} or a whole fraction of it from the network in "
            f"{path}, got {height}x{width}.",
            "Write the file again with edgeseg compress.",
        )


def fits_grid(spec: InputSpec, shape: tuple[int, ...]) -> bool:
    """Say whether an output (1, height, width, channels) is drawn on the input's grid, or on a whole fraction of it."""
    if len(shape) != 4 or shape[0] != 1 or min(shape) < 1 or shape[1] > spec.height:
        return False
    step = spec.height // shape[1]
    return (step * shape[1], step * shape[2]) == (spec.height, spec.width)


def _is_same(said: Quantisation, found: Quantisation) -> bool:
    same_scale = math.isclose(said.scale, found.scale, rel_tol=_CLOSE)
    return (said.dtype, said.zero_point) == (found.dtype, found.zero_point) and same_scale
