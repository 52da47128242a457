"""The Edge TPU's rules, each broken once in a file of one or a few operators."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgeseg.core.card import MAPPED, OK, UNCERTAIN, UNMAPPED, read_verdict
from edgeseg.graph.findings import Objection, group_findings, summarise_findings
from edgeseg.graph.lint import lint_graph, lint_targets
from edgeseg.graph.operators import Graph, read_graph
from tests.flatfiles import Spot, Step, build_flatbuffer, make_weights

PICTURE = (1, 16, 16, 8)
FUSED = schema.ActivationFunctionType
KERNEL, BIAS = make_weights(8, 3, 3, 8), make_weights(8, dtype="int32")
UPSCALE = (Spot((4,), "int32", np.array(PICTURE, np.int32)), KERNEL)
CONV = {"strideW": 1, "strideH": 1}
POOL = CONV | {"filterWidth": 2, "filterHeight": 2}
AXIS = Spot((1,), "int32")


@dataclass(frozen=True)
class Case:
    """One operator, and what is to be said of it."""

    name: str
    verdict: str = MAPPED
    rule: str = ""
    version: int = 1
    before: tuple[Spot, ...] = ()
    """Constants that stand before the picture."""
    source: Spot = field(default_factory=lambda: Spot(PICTURE))
    constants: tuple[Spot, ...] = ()
    sink: Spot = field(default_factory=lambda: Spot(PICTURE))
    options: dict[str, Any] = field(default_factory=dict)

    def build(self) -> Graph:
        """Build the file of this operator alone."""
        spots = (*self.before, self.source, *self.constants, self.sink)
        last = len(spots) - 1
        step = Step(self.name, range(last), [last], self.version, self.options)
        return read_graph(build_flatbuffer(spots, [step], [len(self.before)], [last]))


def picture(side: int, channels: int = 8, dtype: str = "int8", batch: int = 1) -> Spot:
    return Spot((batch, side, side, channels), dtype)


def conv(verdict: str = MAPPED, rule: str = "", **changes: Any) -> Case:
    plain: dict[str, Any] = {"version": 3, "constants": (KERNEL, BIAS), "options": CONV}
    return Case("CONV_2D", verdict, rule, **(plain | changes))


def mean(axes: tuple[int, ...], verdict: str = MAPPED, rule: str = "", **changes: Any) -> Case:
    constants = (Spot((len(axes),), "int32", np.array(axes, np.int32)),)
    plain: dict[str, Any] = {"version": 2, "constants": constants, "sink": picture(1), "options": {"keepDims": True}}
    return Case("MEAN", verdict, rule, **(plain | changes))


CASES = {
    "plain convolution": conv(options=CONV | {"fusedActivationFunction": FUSED.RELU6}),
    "uint8 convolution": conv(source=picture(16, dtype="uint8"), sink=picture(16, dtype="uint8")),
    "relu6": Case("RELU6", version=2),
    "pool": Case("MAX_POOL_2D", version=2, sink=picture(8), options=POOL),
    "resize to 128": Case("RESIZE_BILINEAR", version=3, source=picture(64), sink=picture(128)),
    "concatenation with zeros": Case("CONCATENATION", constants=(Spot(PICTURE, data=np.zeros(PICTURE, np.int8)),)),
    "one-dimensional softmax": Case("SOFTMAX", source=Spot((1, 1000)), sink=Spot((1, 1000))),
    "compiled part": Case("edgetpu-custom-op"),
    "version of a convolution": conv(UNMAPPED, "has version 8", version=8),
    "version of a transposed convolution": Case("TRANSPOSE_CONV", UNMAPPED, "has version 4", 4, UPSCALE),
    "impossible version": Case("LOGISTIC", UNMAPPED, "has version 99", 99),
    "float image": Case("ADD", UNMAPPED, "float numbers", source=picture(16, dtype="float32")),
    "float result": Case("DEQUANTIZE", UNMAPPED, "float numbers|not mapped", sink=picture(16, dtype="float32")),
    "16 bits": Case("ADD", UNMAPPED, "other numbers than 8 bits", sink=picture(16, dtype="int16")),
    "64-bit input": Case("ADD", UNMAPPED, "other numbers than 8 bits", source=picture(16, dtype="int64")),
    "unknown operator": Case("HARD_SWISH", UNMAPPED, "is not mapped to the Edge TPU"),
    "argmax": Case("ARG_MAX", UNMAPPED, "is not mapped to the Edge TPU"),
    "foreign operator": Case("my-own-op", UNMAPPED, "is not mapped to the Edge TPU"),
    "documented operator": Case("TANH", UNCERTAIN, "limits that are not known here"),
    "mean of a picture": mean((1, 2)),
    "mean of many pixels": mean((1, 2), UNCERTAIN, "16,384 pixels", source=picture(128)),
    "mean of too many pixels": mean((-3, -2), UNMAPPED, "65,536 pixels", source=picture(256)),
    "mean of channels": mean((3,)),
    "mean of odd channels": mean((3,), UNMAPPED, "mean over 6 channels", source=picture(16, 6)),
    "mean of the batch": mean((0,), UNMAPPED, "over the batch"),
    "mean of later versions": mean((1, 2), UNMAPPED, "has version 3", version=3),
    "mean of axes that nobody knows": Case("MEAN", UNMAPPED, "other numbers than 8 bits", 2, constants=(AXIS,)),
    "mean of axes that there are not": mean((1, 7), UNMAPPED, "axes that are not constant"),
    "padded rows": Case("PAD", UNCERTAIN, "limits that are not known here", sink=picture(18)),
    "padded batch": Case("PAD", UNMAPPED, "more than three dimensions", sink=picture(16, batch=2)),
    "batch of two": Case("LOGISTIC", UNMAPPED, "more than three dimensions", source=picture(16, batch=2)),
    "dynamic shape": Case("LOGISTIC", UNMAPPED, "dynamic shape", source=Spot(PICTURE, signature=(-1, 16, 16, 8))),
    "activation in a pool": Case(
        "MAX_POOL_2D", UNMAPPED, "RELU6 fused", 2, options=POOL | {"fusedActivationFunction": FUSED.RELU6}
    ),
    "activation in a concatenation": Case(
        "CONCATENATION", UNMAPPED, "RELU fused", 2, options={"fusedActivationFunction": FUSED.RELU}
    ),
    "activation in a transposed convolution": Case(
        "TRANSPOSE_CONV", UNMAPPED, "RELU fused", 3, UPSCALE, options={"fusedActivationFunction": FUSED.RELU}
    ),
    "tanh in a convolution": conv(UNMAPPED, "TANH fused", options=CONV | {"fusedActivationFunction": FUSED.TANH}),
    "weights that are computed": conv(UNMAPPED, "not constant", constants=(Spot((1, 3, 3, 8)), BIAS)),
    "dilation": conv(UNCERTAIN, "dilated by 2x2", options=CONV | {"dilationHFactor": 2, "dilationWFactor": 2}),
    "uneven dilation": conv(UNMAPPED, "dilated by 2x1", options=CONV | {"dilationHFactor": 2}),
    "resize to 256": Case("RESIZE_BILINEAR", UNCERTAIN, "resizes to 256x256", 3, sink=picture(256)),
    "resize to 512": Case("RESIZE_BILINEAR", UNMAPPED, "resizes to 512x512", 3, sink=picture(512)),
    "half-pixel nearest": Case(
        "RESIZE_NEAREST_NEIGHBOR", UNCERTAIN, "half-pixel", 3, options={"halfPixelCenters": True}
    ),
    "concatenation with ones": Case("CONCATENATION", UNMAPPED, "not zero", constants=(make_weights(*PICTURE),)),
    "softmax over channels": Case("SOFTMAX", UNMAPPED, "channels of a picture"),
    "softmax over too many": Case("SOFTMAX", UNMAPPED, "channels", source=Spot((1, 20_000)), sink=Spot((1, 20_000))),
    "large activations": Case("LOGISTIC", UNMAPPED, "16.0 MiB at once", source=picture(1024), sink=picture(1024)),
    "large weights": conv(UNCERTAIN, "exceeds the chip's 8 MiB", constants=(make_weights(1024, 3, 3, 1024), BIAS)),
}


@pytest.mark.parametrize("name", CASES)
def test_every_rule_is_found_and_has_a_cure(name: str) -> None:
    case = CASES[name]
    (finding,) = lint_targets(case.build())["edgetpu"]
    assert (finding.operator, finding.index, finding.verdict) == (case.name, 0, case.verdict)
    assert any(part in finding.rule for part in case.rule.split("|"))
    assert bool(finding.cure) == (case.verdict != MAPPED)


def build_chain(*names: str, first: str = "int8") -> Graph:
    """Build a graph of operators with one input each, one after another."""
    spots = [picture(16, dtype=first), *(picture(16) for _ in names)]
    steps = [Step(name, [number], [number + 1]) for number, name in enumerate(names)]
    return read_graph(build_flatbuffer(spots, steps, [0], [len(names)]))


def test_what_comes_after_an_unmapped_operator_stays_on_the_cpu() -> None:
    findings = lint_targets(build_chain("RELU6", "HARD_SWISH", "RELU6", "TANH", "HARD_SWISH"))["edgetpu"]
    assert [finding.verdict for finding in findings] == [MAPPED, *[UNMAPPED] * 4]
    assert "HARD_SWISH (operator 1)" in findings[2].rule
    assert [finding.rule for finding in findings[2:4]] == [findings[2].rule] * 2
    assert "not mapped" in findings[4].rule
    groups = group_findings(findings)
    assert [group.operators for group in groups] == ["2 HARD_SWISH", "RELU6, TANH"]


def test_quantising_a_float_image_stays_on_the_cpu_and_ends_nothing() -> None:
    findings = lint_targets(build_chain("QUANTIZE", "RELU6", first="float32"))["edgetpu"]
    assert [finding.verdict for finding in findings] == [UNMAPPED, MAPPED]


def test_one_line_names_the_first_reason_before_any_doubt() -> None:
    doubtful, refused = build_chain("TANH", "RELU6"), build_chain("TANH", "HARD_SWISH")
    assert lint_graph(doubtful)["edgetpu"].startswith("uncertain: TANH ")
    assert lint_graph(refused)["edgetpu"].startswith("HARD_SWISH ")
    assert lint_graph(build_chain("RELU6")) == {"cpu": OK, "edgetpu": OK}
    verdicts = [read_verdict(lint_graph(graph)["edgetpu"]) for graph in (doubtful, refused, build_chain("RELU6"))]
    assert verdicts == [UNCERTAIN, UNMAPPED, MAPPED]
    assert summarise_findings(()) == OK


def test_compiled_and_foreign_files_do_not_run_on_the_cpu() -> None:
    assert lint_graph(build_chain("edgetpu-custom-op"))["cpu"].startswith("edgetpu-custom-op ")
    assert lint_graph(build_chain("my-own-op"))["cpu"].startswith("my-own-op ")
    assert "dynamic shape" in lint_graph(CASES["dynamic shape"].build())["cpu"]


@pytest.mark.parametrize(("verdict", "rule", "cure"), [(MAPPED, "a", "b"), (UNMAPPED, "", "b"), (UNCERTAIN, "a", "")])
def test_objection_that_says_nothing_is_refused(verdict: str, rule: str, cure: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        Objection(verdict, rule, cure)


def test_what_a_stem_brings_is_cured_by_another_stem() -> None:
    for name in ("SPACE_TO_DEPTH", "DEPTH_TO_SPACE"):
        (finding,) = lint_targets(Case(name).build())["edgetpu"]
        assert "--stem quarter" in finding.cure
