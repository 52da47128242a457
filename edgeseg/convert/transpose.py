"""Split activations off transposed convolutions, since older runtimes and the Edge TPU compiler read them apart only.

TensorFlow fuses a ReLU into TRANSPOSE_CONV and writes version 4 of it. The same sums stand in version 3, and the ReLU
in an operator behind it: the tensor between them has the scale of the ReLU's result, so nothing is rounded twice.
"""

from __future__ import annotations

import copy
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from edgeseg.convert.pack import pack_model_objects

FUSED_VERSION, SPLIT_VERSION = 4, 3
_OPERATORS, _TYPES, _ACTIVATIONS = schema.BuiltinOperator, schema.TensorType, schema.ActivationFunctionType
_SPLIT = {_ACTIVATIONS.RELU: _OPERATORS.RELU, _ACTIVATIONS.RELU6: _OPERATORS.RELU6}
_SPLIT_VERSIONS = {_TYPES.FLOAT32: 1, _TYPES.INT8: 2, _TYPES.INT16: 3}
"""Which version of the activation takes which numbers."""


def split_transposed_activations(flatbuffer: bytes) -> bytes:
    """Give each ReLU that is fused into a TRANSPOSE_CONV an operator of its own; other files stay as they are."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(flatbuffer, 0))
    split = [_split_graph(model, graph) for graph in model.subgraphs]
    if not any(split):
        return flatbuffer
    for index, code in enumerate(model.operatorCodes):
        if _is_transposed(code) and code.version == FUSED_VERSION and not _is_used_fused(model, index):
            code.version = SPLIT_VERSION
    return pack_model_objects(model)


def _split_graph(model: Any, graph: Any) -> bool:
    """Split in one graph, and say whether there was something to split."""
    steps: list[Any] = []
    for operator in graph.operators:
        steps.append(operator)
        if _is_transposed(model.operatorCodes[operator.opcodeIndex]) and _read_activation(operator) in _SPLIT:
            steps.append(_take_off(model, graph, operator))
    found = len(steps) > len(graph.operators)
    graph.operators = steps
    return found


def _take_off(model: Any, graph: Any, operator: Any) -> Any:
    """Take the activation off an operator and lay it behind; a new tensor goes between them."""
    (result,) = operator.outputs
    between = copy.deepcopy(graph.tensors[result])
    between.name, between.buffer = between.name + b"_before_activation", 0
    graph.tensors.append(between)
    operator.outputs = [len(graph.tensors) - 1]
    code = _find_code(model, _SPLIT[_read_activation(operator)], _SPLIT_VERSIONS[between.type])
    operator.builtinOptions.fusedActivationFunction = _ACTIVATIONS.NONE
    return schema.OperatorT(opcodeIndex=code, inputs=list(operator.outputs), outputs=[result])


def _find_code(model: Any, builtin: int, version: int) -> int:
    """Find an operator among those that the file names, or name it."""
    for index, code in enumerate(model.operatorCodes):
        if code.builtinCode == builtin and code.version == version:
            return index
    model.operatorCodes.append(
        schema.OperatorCodeT(deprecatedBuiltinCode=builtin, builtinCode=builtin, version=version)
    )
    return len(model.operatorCodes) - 1


def _is_used_fused(model: Any, code: int) -> bool:
    operators = (operator for graph in model.subgraphs for operator in graph.operators)
    return any(o.opcodeIndex == code and _read_activation(o) != _ACTIVATIONS.NONE for o in operators)


def _is_transposed(code: Any) -> bool:
    return bool(code.builtinCode == _OPERATORS.TRANSPOSE_CONV)


def _read_activation(operator: Any) -> int:
    return int(operator.builtinOptions.fusedActivationFunction)
