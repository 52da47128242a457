"""Model files of one operator, made without TensorFlow: enough to be loaded, run and refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgeseg.backends.cpu import CpuBackend
from edgeseg.backends.probe_model import build_probe_model
from edgeseg.core.card import Card, Provenance, SplitSpec
from edgeseg.core.modelfile import GoldenPair, ModelFile, read_model, write_model
from edgeseg.core.spec import ClassSpec, FindingSpec, InputSpec, OutputSpec, Quantisation
from tests.flatfiles import Spot, Step, build_flatbuffer

SIDE = 16
NUMBERS = Quantisation("int8", 1 / 256, -128)
FRAME_CLASSES = ("benign", "malignant")
# By how much the mean of the frame is multiplied for each finding: of the class, and of the frame classes.
FACTORS = (1, 0, 2)


def build_network(custom: str = "") -> bytes:
    """Build a network that gives its int8 input back; with a custom operator in place of its convolution if named."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(build_probe_model(), 0))
    for tensor in (model.subgraphs[0].tensors[0], model.subgraphs[0].tensors[3]):
        tensor.shape = [1, SIDE, SIDE, 1]
        tensor.quantization.scale, tensor.quantization.zeroPoint = [NUMBERS.scale], [NUMBERS.zero_point]
    if custom:
        code = schema.BuiltinOperator.CUSTOM
        model.operatorCodes[0] = schema.OperatorCodeT(deprecatedBuiltinCode=code, builtinCode=code, customCode=custom)
        model.subgraphs[0].operators[0].builtinOptions = None
        model.subgraphs[0].operators[0].builtinOptionsType = schema.BuiltinOptions.NONE
    builder = schema.flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def describe_network(lint: dict[str, str], numbers: Quantisation = NUMBERS) -> Card:
    """Write the card of such a network."""
    return Card(
        name="tiny",
        input=InputSpec(SIDE, SIDE),
        input_quantisation=numbers,
        output=OutputSpec((ClassSpec("target"),)),
        output_quantisation=numbers,
        provenance=Provenance("f" * 64, SplitSpec(0, 0.15, 0.2), 0, "int8-ptq", "nano", "0.1.0", {}),
        parameters=1,
        macs=SIDE * SIDE,
        lint=lint,
    )


def build_finding_network(side: int = 1, swapped: bool = False) -> bytes:
    """Build a network that gives its int8 input back, and multiples of its mean as a second output.

    Args:
        side: Of the second output; a finding has a side of 1.
        swapped: Whether the finding comes first.
    """
    scale, zero = (NUMBERS.scale,), NUMBERS.zero_point
    picture, findings = (1, SIDE, SIDE, 1), len(FACTORS)
    spots = (
        Spot(picture, scale=scale, zero_point=zero),
        Spot((1, 1, 1, 1), data=np.ones((1, 1, 1, 1), np.int8), scale=(1.0,)),
        Spot((1,), "int32", np.zeros(1, np.int32), scale=scale),
        Spot(picture, scale=scale, zero_point=zero),
        Spot((2,), "int32", np.array([1, 2], np.int32)),
        Spot((1, 1, 1, 1), scale=scale, zero_point=zero),
        Spot((findings, 1, 1, 1), data=np.reshape(FACTORS, (findings, 1, 1, 1)).astype(np.int8), scale=(1.0,)),
        Spot((findings,), "int32", np.zeros(findings, np.int32), scale=scale),
        Spot((1, side, side, findings), scale=scale, zero_point=zero),
    )
    plain = {"strideW": 1, "strideH": 1, "dilationWFactor": 1, "dilationHFactor": 1}
    steps = [
        Step("CONV_2D", (0, 1, 2), (3,), 3, plain),
        Step("MEAN", (0, 4), (5,), 2, {"keepDims": True}),
        Step("CONV_2D", (5 if side == 1 else 0, 6, 7), (8,), 3, plain),
    ]
    return build_flatbuffer(spots, steps, [0], [8, 3] if swapped else [3, 8])


def describe_finding_network() -> Card:
    """Write the card of such a network."""
    finding = FindingSpec(FRAME_CLASSES)
    return replace(describe_network({}), finding=finding, finding_quantisation=NUMBERS)


def draw_ramp() -> np.ndarray[tuple[int, ...], np.dtype[np.int8]]:
    """Draw an input whose right half is marked."""
    return np.broadcast_to(np.linspace(-100, 100, SIDE).astype(np.int8)[:, None], (1, SIDE, SIDE, 1)).copy()


def save_network(path: Path, custom: str = "", lint: dict[str, str] | None = None) -> ModelFile:
    """Write such a model file with a golden pair and read it again."""
    ramp = draw_ramp()
    output = ramp if custom else CpuBackend(build_network()).invoke(ramp)[0].copy()
    write_model(path, build_network(custom), describe_network(lint or {}), (GoldenPair(ramp, output),))
    return read_model(path)
