"""Cut off what a ReLU cuts off, and refuse what cannot be said in ONNX."""

from __future__ import annotations

import numpy as np

from edgeseg.convert.onnx.writer import GraphWriter
from edgeseg.core.errors import ModelFileError
from edgeseg.graph.operators import Operator

_CEILINGS = {"NONE": None, "RELU": np.inf, "RELU6": 6.0}


def limit_result(writer: GraphWriter, operator: Operator, name: str) -> str:
    """Cut off what the operator's ReLU cuts off, as far as the int8 range of the result does not do it."""
    ceiling = _find_ceiling(operator)
    if ceiling is None:
        return name
    step = writer.scheme.choose_step(operator.outputs[0].scales)
    low, high = step.limits if step is not None else (-np.inf, np.inf)
    half = step.scale / 2 if step is not None else 0.0
    if high <= ceiling + half:
        return name if low >= 0.0 else writer.add("Relu", name)
    ends = (writer.add_constant(np.asarray(end, np.float32)) for end in (0.0, ceiling))
    return writer.add("Clip", name, *ends)


def _find_ceiling(operator: Operator) -> float | None:
    """Find where the operator's ReLU ends, if it has one."""
    kind = operator.name if operator.name in _CEILINGS else operator.activation
    if kind not in _CEILINGS:
        raise refuse_export(f"{operator.name} with the activation {kind}")
    return _CEILINGS[kind]


def refuse_export(what: str) -> ModelFileError:
    """Say that an operator has no counterpart here."""
    return ModelFileError(
        f"Expected operators that the ONNX export knows, got {what}.",
        "Export a file of a network that edgeseg trained; the operators are listed in docs/how-to/jetson-onnx.md.",
    )
