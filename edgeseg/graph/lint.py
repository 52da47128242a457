"""Say for each target which operators it takes, and which stand in the way."""

from __future__ import annotations

from edgeseg.core.verdict import COMPILED, UNMAPPED
from edgeseg.graph.edgetpu import lint_edgetpu
from edgeseg.graph.finding import Finding, Objection, make_finding, summarise_findings
from edgeseg.graph.operators import Graph, Operator


def lint_targets(graph: Graph) -> dict[str, tuple[Finding, ...]]:
    """Judge every operator of a graph for every target."""
    return {"cpu": _lint_cpu(graph), "edgetpu": lint_edgetpu(graph)}


def lint_graph(graph: Graph) -> dict[str, str]:
    """Judge a graph for every target in one line: "ok", or the first reason against it."""
    return {target: summarise_findings(findings) for target, findings in lint_targets(graph).items()}


def _lint_cpu(graph: Graph) -> tuple[Finding, ...]:
    return tuple(make_finding(o.name, index, _judge_for_cpu(o)) for index, o in enumerate(graph.operators))


def _judge_for_cpu(operator: Operator) -> Objection | None:
    if any(tensor.dynamic for tensor in (*operator.inputs, *operator.outputs)):
        return Objection(UNMAPPED, "has a dynamic shape", "build the network for one input size")
    if operator.name == COMPILED:
        return Objection(UNMAPPED, "runs on an Edge TPU only", "take the file from before its compilation")
    if operator.custom:
        return Objection(UNMAPPED, "is none of TFLite's own operators", "use layers that TFLite has")
    return None
