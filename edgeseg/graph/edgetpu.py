"""Judge a whole graph for the Edge TPU: its operators one by one, and what follows from their order and weights."""

from __future__ import annotations

from edgeseg.core.verdict import COMPILED, UNCERTAIN, UNMAPPED
from edgeseg.graph.edgetpu_rules import CHIP_BYTES, judge_operator
from edgeseg.graph.finding import Finding, Objection, make_finding
from edgeseg.graph.operators import Graph, Operator


def lint_edgetpu(graph: Graph) -> tuple[Finding, ...]:
    """Judge every operator; what comes after the first that is not mapped stays on the CPU with it."""
    findings: list[Finding] = []
    tail: Objection | None = None
    weights = 0
    for index, operator in enumerate(graph.operators):
        weights += sum(tensor.bytes for tensor in operator.inputs if tensor.constant)
        own = None if operator.name == COMPILED else judge_operator(operator)
        blocked = own is not None and own.verdict == UNMAPPED
        objection = own if blocked else tail or own or _judge_weights(weights)
        findings.append(make_finding(operator.name, index, objection))
        if blocked and tail is None and not _feeds_the_chip(operator, index):
            tail = Objection(
                UNMAPPED, f"comes after {operator.name} (operator {index}), which ends the chip's part", "cure that one"
            )
    return tuple(findings)


def _feeds_the_chip(operator: Operator, index: int) -> bool:
    """Say whether it only turns a float image into integers: the compiler leaves that on the CPU and goes on."""
    return index == 0 and operator.name == "QUANTIZE"


def _judge_weights(total: int) -> Objection | None:
    if total <= CHIP_BYTES:
        return None
    return Objection(
        UNCERTAIN,
        f"exceeds the chip's {CHIP_BYTES // 2**20} MiB with its weights: they are sent there with every frame",
        "train a smaller --model, or use a pruning recipe",
    )
