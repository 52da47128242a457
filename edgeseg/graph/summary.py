"""Count what a graph is made of: by kind, layer by layer, and the memory its results need at most."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from edgeseg.graph.operators import Graph, Operator, read_graph


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
