"""The linter: which operators of a graph run on the CPU and on an Edge TPU.

The Edge TPU's rules come from its documentation (https://coral.ai/docs/edgetpu/models-intro), its compiler's messages
and reports. They are not verified with the compiler: `edgeseg export --to edgetpu` runs the compiler itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from edgeseg.core.card import COMPILED, UNCERTAIN, UNMAPPED
from edgeseg.graph.findings import Finding, Objection, make_finding, summarise_findings
from edgeseg.graph.operators import Graph, Operator, Tensor

# Highest version of each operator that the compiler reads; it refuses a whole file with a higher one.
VERSIONS = {
    "ADD": 4,
    "CONCATENATION": 3,
    "CONV_2D": 5,
    "DEPTHWISE_CONV_2D": 6,
    "LOGISTIC": 3,
    "MAX_POOL_2D": 3,
    "MEAN": 2,
    "QUANTIZE": 2,
    "RELU": 3,
    "RELU6": 3,
    "RESIZE_BILINEAR": 4,
    "RESIZE_NEAREST_NEIGHBOR": 4,
    "SOFTMAX": 3,
    "TRANSPOSE_CONV": 3,
}
# Operators that are documented as mapped, with limits and versions that are not documented.
UNTRIED = (
    *("AVERAGE_POOL_2D", "EXPAND_DIMS", "FULLY_CONNECTED", "L2_NORMALIZATION", "MAXIMUM", "MINIMUM", "MUL"),
    *("PACK", "PAD", "PRELU", "REDUCE_MAX", "REDUCE_MIN", "RELU_N1_TO_1", "RESHAPE", "SLICE", "SPACE_TO_DEPTH"),
    *("SPLIT", "SQUEEZE", "STRIDED_SLICE", "SUB", "SUM", "TANH", "TRANSPOSE"),
)
# What comes from a choice of the training.
_STEMS = {"SPACE_TO_DEPTH": "train with --stem quarter", "DEPTH_TO_SPACE": "train with --stem quarter or s2d4"}
# On-chip memory of the Edge TPU for weights and activations.
CHIP_BYTES = 8 * 2**20
# Sides of a resize's output: mapped up to the first, on the CPU beyond the second, according to reports.
SURE_SIDE, DOUBTFUL_SIDE = 128, 256
# Documented limit of a softmax's input.
SOFTMAX_LIMIT = 16_000
# Pixels of a mean over a picture: 128x64 are mapped and 256x128 are not, according to
# https://github.com/google-coral/edgetpu/issues/461, and the compiler breaks off at 256x256 (issue 183 there).
MEAN_PIXELS, TOO_MANY_PIXELS = 128 * 64, 256 * 128
# Documented for a mean over the channels.
_MEAN_CHANNELS = 4
_FUSED = ("NONE", "RELU", "RELU6", "RELU_N1_TO_1")
_UNFUSED = ("AVERAGE_POOL_2D", "CONCATENATION", "MAX_POOL_2D", "TRANSPOSE_CONV")
_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED")
_INT8_RECIPE = "use an int8 recipe"


def judge_operator(operator: Operator) -> Objection | None:
    """Find the first rule by which an operator is not mapped, else the first by which it is uncertain."""
    objections = [objection for rule in _RULES if (objection := rule(operator)) is not None]
    return next((found for found in objections if found.verdict == UNMAPPED), next(iter(objections), None))


def _judge_shapes(operator: Operator) -> Objection | None:
    if any(tensor.dynamic for tensor in (*operator.inputs, *operator.outputs)):
        return Objection(UNMAPPED, "has a dynamic shape", "build the network for one input size and batch 1")
    if any(size > 1 for tensor in _list_activations(operator) for size in tensor.shape[:-3]):
        return Objection(UNMAPPED, "has more than three dimensions above 1", "build the network for batch 1")
    return None


def _judge_types(operator: Operator) -> Objection | None:
    if operator.is_float:
        return Objection(UNMAPPED, "computes with float numbers", _INT8_RECIPE)
    if any(tensor.dtype not in ("int8", "uint8") for tensor in _list_activations(operator)):
        return Objection(UNMAPPED, "computes with other numbers than 8 bits", _INT8_RECIPE)
    return None


def _judge_kind(operator: Operator) -> Objection | None:
    cure = _STEMS.get(operator.name, "leave it out of the network")
    if operator.name in UNTRIED:
        return Objection(
            UNCERTAIN,
            "is documented as mapped, with limits that are not known here",
            f"compile it and read the log, or {cure}",
        )
    if operator.name not in VERSIONS:
        return Objection(UNMAPPED, "is not mapped to the Edge TPU", cure)
    return None


def _judge_version(operator: Operator) -> Objection | None:
    limit = VERSIONS.get(operator.name, operator.version)
    if operator.version <= limit:
        return None
    cure = "write the file again with an int8 recipe of edgeseg compress"
    if operator.name == "TRANSPOSE_CONV":
        cure = "write the file again with edgeseg, which splits the activation off"
    return Objection(UNMAPPED, f"has version {operator.version}, the Edge TPU compiler reads up to {limit}", cure)


def _judge_activation(operator: Operator) -> Objection | None:
    allowed = ("NONE",) if operator.name in _UNFUSED else _FUSED
    if operator.activation in allowed:
        return None
    return Objection(
        UNMAPPED,
        f"has the activation {operator.activation} fused into it",
        "put the activation behind a convolution" if allowed != _FUSED else "use relu or relu6",
    )


def _judge_weights_are_constant(operator: Operator) -> Objection | None:
    if operator.name not in _WEIGHTED or any(len(tensor.shape) > 1 for tensor in operator.inputs if tensor.constant):
        return None
    return Objection(UNMAPPED, "has weights that are not constant", "use layers whose weights are trained and stay")


def _judge_dilation(operator: Operator) -> Objection | None:
    factors = [getattr(operator.options, f"dilation{side}Factor", 1) for side in "HW"]
    if factors == [1, 1]:
        return None
    said = f"is dilated by {factors[0]}x{factors[1]}"
    cure = "take convolutions without dilation"
    return Objection(UNMAPPED if factors[0] != factors[1] else UNCERTAIN, said, cure)


def _judge_resize(operator: Operator) -> Objection | None:
    if operator.name not in ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"):
        return None
    height, width = operator.outputs[0].shape[1:3]
    said = f"resizes to {height}x{width}"
    if max(height, width) > DOUBTFUL_SIDE:
        return Objection(UNMAPPED, said, "train with a smaller --size or --stem quarter")
    if max(height, width) > SURE_SIDE:
        return Objection(UNCERTAIN, said, f"train with --stem quarter, or with a --size of {SURE_SIDE}")
    if operator.name == "RESIZE_NEAREST_NEIGHBOR" and getattr(operator.options, "halfPixelCenters", False):
        return Objection(UNCERTAIN, "takes half-pixel centres", "train with --upsampling bilinear")
    return None


def _judge_concatenation(operator: Operator) -> Objection | None:
    constants = [tensor for tensor in operator.inputs if tensor.constant]
    if operator.name != "CONCATENATION" or not constants:
        return None
    if len(operator.inputs) == 2 and all(tensor.is_zero for tensor in constants):
        return None
    return Objection(UNMAPPED, "joins a constant that is not zero", "train with --skip add")


def _judge_softmax(operator: Operator) -> Objection | None:
    if operator.name != "SOFTMAX":
        return None
    shape = operator.inputs[0].shape
    if max(shape[:-1], default=1) > 1 or shape[-1] > SOFTMAX_LIMIT:
        return Objection(UNMAPPED, "runs over the channels of a picture", "train with --activation sigmoid")
    return None


def _judge_mean(operator: Operator) -> Objection | None:
    if operator.name != "MEAN":
        return None
    axes, shape = operator.reduced_axes, operator.inputs[0].shape
    if axes is None:
        return Objection(UNMAPPED, "has axes that are not constant", "take the mean over rows and columns")
    if 0 in axes and len(shape) > 3:
        return Objection(UNMAPPED, "takes the mean over the batch", "take the mean over rows and columns")
    if len(shape) - 1 in axes and shape[-1] % _MEAN_CHANNELS:
        return Objection(UNMAPPED, f"takes the mean over {shape[-1]} channels", "take a multiple of 4 channels")
    pixels = math.prod(shape[axis] for axis in axes)
    if pixels >= TOO_MANY_PIXELS:
        return Objection(UNMAPPED, f"takes the mean over {pixels:,} pixels", "train a network of more stages")
    if pixels > MEAN_PIXELS:
        return Objection(UNCERTAIN, f"takes the mean over {pixels:,} pixels", "train a network of more stages")
    return None


def _judge_activation_memory(operator: Operator) -> Objection | None:
    needed = sum(tensor.bytes for tensor in _list_activations(operator))
    if needed <= CHIP_BYTES:
        return None
    return Objection(
        UNMAPPED,
        f"takes and gives {needed / 2**20:.1f} MiB at once, the chip holds {CHIP_BYTES // 2**20}",
        "train with a smaller --size, a smaller --model or --stem quarter",
    )


def _list_activations(operator: Operator) -> list[Tensor]:
    return [tensor for tensor in (*operator.inputs, *operator.outputs) if not tensor.constant]


_RULES: tuple[Callable[[Operator], Objection | None], ...] = (
    _judge_types,
    _judge_kind,
    _judge_shapes,
    _judge_version,
    _judge_activation,
    _judge_weights_are_constant,
    _judge_dilation,
    _judge_resize,
    _judge_concatenation,
    _judge_softmax,
    _judge_mean,
    _judge_activation_memory,
)


def lint_edgetpu(graph: Graph) -> tuple[Finding, ...]:
    """Judge every operator; all behind the first one that is not mapped run on the CPU, too."""
    findings: list[Finding] = []
    tail: Objection | None = None
    weights = 0
    for index, operator in enumerate(graph.operators):
        weights += sum(tensor.bytes for tensor in operator.inputs if tensor.constant)
        own = None if operator.name == COMPILED else judge_operator(operator)
        blocked = own is not None and own.verdict == UNMAPPED
        objection = own if blocked else tail or own or _judge_weights(weights)
        findings.append(make_finding(operator.name, index, objection))
        if blocked and tail is None and not _quantises_input(operator, index):
            tail = Objection(
                UNMAPPED, f"comes after {operator.name} (operator {index}), which ends the chip's part", "cure that one"
            )
    return tuple(findings)


def _quantises_input(operator: Operator, index: int) -> bool:
    """Say whether it only quantises a float input: the compiler leaves that on the CPU and maps the rest."""
    return index == 0 and operator.name == "QUANTIZE"


def _judge_weights(total: int) -> Objection | None:
    if total <= CHIP_BYTES:
        return None
    return Objection(
        UNCERTAIN,
        f"exceeds the chip's {CHIP_BYTES // 2**20} MiB with its weights: they are sent there with every frame",
        "train a smaller --model, or use a pruning recipe",
    )


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
        return Objection(UNMAPPED, "is a custom operator", "use layers that TFLite has")
    return None
