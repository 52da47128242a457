"""Say for each target whether it takes a model as it is, or which operator stands in the way."""

from __future__ import annotations

from edgeseg.graph.operators import Graph

OK = "ok"
INTEGER_TARGETS = ("edgetpu",)
"""Targets that take no operator with float numbers."""
_EDGETPU_VERSIONS = {
    "ADD": 2,
    "CONCATENATION": 2,
    "CONV_2D": 5,
    "DEPTHWISE_CONV_2D": 6,
    "LOGISTIC": 2,
    "MAX_POOL_2D": 2,
    "QUANTIZE": 2,
    "RELU": 2,
    "RESIZE_BILINEAR": 3,
    "RESIZE_NEAREST_NEIGHBOR": 3,
    "TRANSPOSE_CONV": 3,
}


def lint_graph(graph: Graph) -> dict[str, str]:
    """Judge a graph for every target; the verdict is "ok" or the first reason against it."""
    return {"cpu": _lint_cpu(graph), "edgetpu": _lint_edgetpu(graph)}


def _lint_cpu(graph: Graph) -> str:
    for operator in graph.operators:
        if any(tensor.dynamic for tensor in (*operator.inputs, *operator.outputs)):
            return f"{operator.name} has a dynamic shape"
    return OK


def _lint_edgetpu(graph: Graph) -> str:
    for operator in graph.operators:
        if operator.is_float:
            return f"{operator.name} computes with float numbers: use an int8 recipe"
        if operator.is_wide:
            return f"{operator.name} computes with more than 8 bits: use an int8 recipe"
        limit = _EDGETPU_VERSIONS.get(operator.name)
        if limit is None:
            return f"{operator.name} is not mapped to the Edge TPU"
        if operator.version > limit:
            return f"{operator.name} has version {operator.version}, the Edge TPU compiler takes {limit}"
    return OK
