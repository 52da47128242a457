"""Count what a graph is made of: by kind, layer by layer, and the memory its results need at most."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from edgeseg.graph.operators import Graph, Operator, count_weights, read_graph


@dataclass(frozen=True)
class OperatorGroup:
    """Operators of one kind, for a table."""

    name: str
    version: int
    count: int
    dtype: str
    macs: int


def summarise_operators(graph: Graph) -> tuple[OperatorGroup, ...]:
    """Group the operators by kind, version and type; the ones with most work first."""
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
    """Measure the share of zeros among the weights, from 0 to 1."""
    tensors = [tensor for operator in read_graph(flatbuffer).operators for tensor in operator.inputs]
    weights = {t.index: t.data for t in tensors if t.data is not None and t.data.ndim == 4}
    total = sum(data.size for data in weights.values())
    return sum(int(np.count_nonzero(data == 0)) for data in weights.values()) / total if total else 0.0


@dataclass(frozen=True)
class Layer:
    """One operator of a graph, for a table."""

    operator: str
    version: int
    dtype: str
    shape: tuple[int, ...]
    macs: int
    parameters: int
    inputs: tuple[int, ...]
    """The layers whose results it takes; the network's input is none."""


@dataclass(frozen=True)
class ActivationPeak:
    """Where the results that are alive at the same time need most memory, worked out from the graph."""

    bytes: int
    layer: int


def summarise_layers(graph: Graph) -> tuple[Layer, ...]:
    """List the operators in the order they run."""
    makers = {t.index: number for number, operator in enumerate(graph.operators) for t in operator.outputs}
    return tuple(
        Layer(
            operator.name,
            operator.version,
            operator.outputs[0].dtype,
            operator.outputs[0].shape,
            operator.macs,
            count_weights(operator),
            tuple(makers[tensor.index] for tensor in operator.inputs if tensor.index in makers),
        )
        for operator in graph.operators
    )


def find_peak(graph: Graph) -> ActivationPeak:
    """Find the operator during which the tensors still needed take most bytes.

    A runtime may need more: it aligns tensors, and XNNPACK keeps packed weights and scratch memory of its own.
    """
    born = {tensor.index: 0 for tensor in graph.inputs}
    dies = {tensor.index: len(graph.operators) for tensor in graph.outputs}
    sizes = {tensor.index: tensor.bytes for tensor in graph.inputs}
    for number, operator in enumerate(graph.operators):
        for tensor in operator.outputs:
            born[tensor.index], sizes[tensor.index] = number, tensor.bytes
        for tensor in operator.inputs:
            dies[tensor.index] = max(number, dies.get(tensor.index, 0))
    changes = [0] * (len(graph.operators) + 1)
    for index, size in sizes.items():
        changes[born[index]] += size
        changes[min(dies.get(index, born[index]), len(graph.operators) - 1) + 1] -= size
    alive = list(accumulate(changes))[:-1]
    return ActivationPeak(max(alive), alive.index(max(alive)))
