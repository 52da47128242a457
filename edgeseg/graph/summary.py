"""Summaries of a graph: operators by kind, layers, sparsity, peak of activation memory, and a drawing as SVG."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from edgeseg.core.redact import show_name
from edgeseg.frame.images import ACCENT, FAINT, INK, SOFT
from edgeseg.graph.operators import Graph, Operator, count_weights, read_graph

# Layout of the drawing in pixels.
_ROW, _TOP = 20, 40
_SKIPS, _NAMES, _OPERATORS, _SHAPES, _BARS, _BAR_WIDTH, _WIDTH = 110, 130, 260, 430, 570, 220, 880
# What the results of a network are called, in their order in the file.
_OUTPUTS = ("mask", "finding")
# Letters of a name that its column has room for.
_LETTERS = 18


@dataclass(frozen=True)
class OperatorGroup:
    """Operators of one kind."""

    name: str
    version: int
    count: int
    dtype: str
    macs: int


def summarise_operators(graph: Graph) -> tuple[OperatorGroup, ...]:
    """Group the operators by kind, version and type; those with most MACs first."""
    groups: dict[tuple[str, int, str], list[Operator]] = {}
    for operator in graph.operators:
        groups.setdefault((operator.name, operator.version, operator.outputs[0].dtype), []).append(operator)
    rows = [
        OperatorGroup(name, version, len(members), dtype, sum(member.macs for member in members))
        for (name, version, dtype), members in groups.items()
    ]
    return tuple(sorted(rows, key=lambda row: (-row.macs, row.name)))


def count_operators(graph: Graph) -> dict[str, int]:
    """Count the operators of each kind; the most frequent first."""
    return dict(Counter(operator.name for operator in graph.operators).most_common())


def measure_sparsity(flatbuffer: bytes) -> float:
    """Measure the sparsity: the share of zeros among convolution weights, from 0 to 1."""
    tensors = [tensor for operator in read_graph(flatbuffer).operators for tensor in operator.inputs]
    # only convolution kernels have four dimensions; biases are never pruned
    weights = {t.index: t.data for t in tensors if t.data is not None and t.data.ndim == 4}
    total = sum(data.size for data in weights.values())
    return sum(int(np.count_nonzero(data == 0)) for data in weights.values()) / total if total else 0.0


@dataclass(frozen=True)
class Layer:
    """An operator of a graph with its size and cost."""

    operator: str
    version: int
    dtype: str
    shape: tuple[int, ...]
    macs: int
    parameters: int
    inputs: tuple[int, ...]
    """The layers whose outputs it reads; the network's input is no layer."""
    name: str = ""
    """Of the layer that it was converted from, as `model summary` has it; of operators without one, their own."""


@dataclass(frozen=True)
class ActivationPeak:
    """The layer at which live activations need most memory, computed from the graph."""

    bytes: int
    layer: int


def summarise_layers(graph: Graph) -> tuple[Layer, ...]:
    """List the operators in execution order."""
    makers = {t.index: number for number, operator in enumerate(graph.operators) for t in operator.outputs}
    ends = {tensor.index: name for tensor, name in zip(graph.outputs, _OUTPUTS, strict=False)}
    return tuple(
        Layer(
            operator.name,
            operator.version,
            operator.outputs[0].dtype,
            operator.outputs[0].shape,
            operator.macs,
            count_weights(operator),
            tuple(makers[tensor.index] for tensor in operator.inputs if tensor.index in makers),
            ends.get(operator.outputs[0].index) or name_layer(operator.outputs[0].name, operator.name),
        )
        for operator in graph.operators
    )


def name_layer(tensor: str, operator: str) -> str:
    """Name the layer of an output tensor: the converter names it "unet/layer/op", fused layers separated by ";"."""
    parts = tensor.split(";")[0].split("/")
    return parts[1].removesuffix("_relu") if len(parts) > 2 else operator.lower()


def find_peak(graph: Graph) -> ActivationPeak:
    """Find the operator during which the live activations take most bytes.

    A runtime may need more: it aligns tensors, and XNNPACK keeps packed weights and scratch memory.
    """
    born = {tensor.index: 0 for tensor in graph.inputs}
    dies = {tensor.index: len(graph.operators) for tensor in graph.outputs}
    sizes = {tensor.index: tensor.bytes for tensor in graph.inputs}
    for number, operator in enumerate(graph.operators):
        for tensor in operator.outputs:
            born[tensor.index], sizes[tensor.index] = number, tensor.bytes
        for tensor in operator.inputs:
            dies[tensor.index] = max(number, dies.get(tensor.index, 0))
    # liveness: add a tensor's bytes where it is written first, subtract them behind its last use, then sum up
    changes = [0] * (len(graph.operators) + 1)
    for index, size in sizes.items():
        changes[born[index]] += size
        changes[min(dies.get(index, born[index]), len(graph.operators) - 1) + 1] -= size
    alive = list(accumulate(changes))[:-1]
    return ActivationPeak(max(alive), alive.index(max(alive)))


def draw_graph(title: str, layers: Sequence[Layer], times: Sequence[float] | None = None) -> str:
    """Draw the layers from top to bottom, with a bar of milliseconds, or of MACs without times.

    Args:
        title: The heading.
        layers: The layers in execution order.
        times: The milliseconds of each layer.
    """
    work = [layer.macs / 1e6 for layer in layers] if times is None else times
    most, unit = max(work, default=0) or 1, "{:.2f} MMACs" if times is None else "{:.3f} ms"
    parts = [_write(_NAMES, 20, title, INK, "bold")]
    for number, (layer, amount) in enumerate(zip(layers, work, strict=True)):
        parts += [*_draw_layer(number, layer), *_draw_bar(number, amount / most, unit.format(amount))]
        parts += [_draw_skip(source, number) for source in layer.inputs if source != number - 1]
    height = _TOP + _ROW * len(layers) + 10
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" font-family="sans-serif"'
    return "\n".join([f'{head} font-size="12"><rect width="100%" height="100%" fill="white"/>', *parts, "</svg>\n"])


def _draw_layer(number: int, layer: Layer) -> list[str]:
    y, shape = _find_row(number), "x".join(str(size) for size in layer.shape[1:])
    return [
        _write(_NAMES, y, _shorten(layer.name), INK, "bold"),
        _write(_OPERATORS, y, layer.operator, INK),
        _write(_SHAPES, y, f"{shape} {layer.dtype}", FAINT),
    ]


def _shorten(name: str) -> str:
    """Make a name of a file that may come from anywhere fit into its column."""
    name = show_name(name)
    return name if len(name) <= _LETTERS else f"{name[: _LETTERS - 2]}.."


def _draw_bar(number: int, share: float, figure: str) -> list[str]:
    y, width = _find_row(number), _BAR_WIDTH * share
    bar = f'<rect x="{_BARS}" y="{y - 11}" width="{width:.1f}" height="14" fill="{ACCENT}"/>'
    return [bar, _write(_BARS + width + 6, y, figure, INK)] if share else []


def _draw_skip(source: int, target: int) -> str:
    """Draw a skip connection as an arc on the left; the farther, the wider."""
    start, end = _find_row(source) - 4, _find_row(target) - 4
    left = max(5.0, _SKIPS - 6 * (target - source))
    way = f"M{_SKIPS} {start} C{left} {start} {left} {end} {_SKIPS} {end}"
    return f'<path d="{way}" fill="none" stroke="{SOFT}" stroke-width="1.5"/>'


def _find_row(number: int) -> int:
    return _TOP + _ROW * number + 14


def _write(x: float, y: int, text: str, colour: str, weight: str = "normal") -> str:
    safe = text.replace("&", "&amp;").replace("<", "&lt;")
    return f'<text x="{x:.1f}" y="{y}" fill="{colour}" font-weight="{weight}">{safe}</text>'
