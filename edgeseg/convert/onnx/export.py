"""Export a model file as ONNX, with card and golden pairs in its metadata, and compare what the two files give."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

import edgeseg
from edgeseg.backends.cpu import CpuBackend
from edgeseg.backends.onnx import OnnxBackend
from edgeseg.backends.parity import LEAST_IOU, MOST_DIFFERENCE
from edgeseg.convert.onnx.scheme import Scheme
from edgeseg.convert.onnx.translate import translate_operator
from edgeseg.convert.onnx.writer import GraphWriter
from edgeseg.core.card import OK, Card
from edgeseg.core.errors import ModelFileError
from edgeseg.core.modelfile import GoldenPair, ModelFile, pack_metadata
from edgeseg.core.spec import Quantisation
from edgeseg.frame.postprocess import decide_labels, dequantise, tensor_to_scores
from edgeseg.frame.preprocess import pixels_to_tensor
from edgeseg.graph.operators import Graph, Tensor, read_graph

# Each input twice: quantised for the .tflite, and as float for the ONNX file.
Inputs = Iterable[tuple[NDArray[Any], NDArray[np.float32]]]
# The oldest opset with scales per channel; TensorRT 8 of JetPack 5 reads it, and all later versions do.
OPSET, IR_VERSION = 13, 7
INPUT, OUTPUTS = "image", ("mask", "finding")
FLOAT = Quantisation()


@dataclass(frozen=True)
class Comparison:
    """How close two files' outputs are on the same images."""

    images: int
    mask_iou: float
    """Over all images together; 1 where neither file marks anything."""
    largest_difference: float | None
    """Between two probabilities; None where one of them is not finite."""
    finding_difference: float | None = None
    """Between two probabilities of the finding output; None without it, and where one of them is not finite."""
    finding_held: bool = True
    """Whether findings are equal within the limit for backends; true where there are none."""

    @property
    def held(self) -> bool:
        """Whether the masks are equal except for pixels near the threshold, and the findings, by the backends' limits.

        False without images and where an output is not finite.
        """
        if self.images == 0 or self.largest_difference is None or not self.finding_held:
            return False
        return self.mask_iou >= LEAST_IOU or self.largest_difference <= MOST_DIFFERENCE


def list_golden(model: ModelFile) -> Iterator[tuple[NDArray[Any], NDArray[np.float32]]]:
    """List the inputs of a file's golden pairs."""
    for pair in model.golden:
        yield pair.input, dequantise(pair.input, model.card.input_quantisation).astype(np.float32)


def list_images(card: Card, images: Iterable[NDArray[np.uint8]]) -> Iterator[tuple[NDArray[Any], NDArray[np.float32]]]:
    """List images as inputs.

    Args:
        card: Of the .tflite.
        images: Pixels (height, width, channels) on the network's grid.
    """
    for pixels in images:
        yield pixels_to_tensor(pixels, card.input_quantisation), pixels_to_tensor(pixels, FLOAT)


def compare_masks(model: ModelFile, data: bytes, inputs: Inputs) -> Comparison:
    """Compare an ONNX file, given as its bytes, with the .tflite it was made from."""
    card, backend, exported = model.card, CpuBackend(model.flatbuffer), OnnxBackend(data)
    count = shared = marked = 0
    largest, findings = 0.0, []
    for tensor, reals in inputs:
        (wanted, *finding), (got, *other) = backend.invoke(tensor), exported.invoke(reals)
        first = decide_labels(tensor_to_scores(wanted, card.output_quantisation), card.output)
        second = decide_labels(tensor_to_scores(np.nan_to_num(got), FLOAT), card.output)
        count += 1
        shared += int(np.count_nonzero((first == second) & (first > 0)))
        marked += int(np.count_nonzero((first > 0) | (second > 0)))
        far = np.abs(dequantise(wanted, card.output_quantisation) - got).max()
        largest = float(np.maximum(largest, far))  # unlike max(), keeps NaN
        for first, second in zip(finding, other, strict=True):
            findings.append(np.abs(dequantise(first, card.finding_quantisation or FLOAT) - second).max())
    iou = round(shared / marked, 5) if marked else 1.0
    worst = float(np.max(findings)) if findings else None
    held = worst is None or worst <= MOST_DIFFERENCE
    return Comparison(count, iou, _round_finite(largest), _round_finite(worst), held)


def _round_finite(value: float | None) -> float | None:
    return round(value, 7) if value is not None and math.isfinite(value) else None


@dataclass(frozen=True)
class OnnxModel:
    """An ONNX file with its card, before it is written."""

    data: bytes
    card: Card
    operators: dict[str, int]


def export_onnx(model: ModelFile, scheme: Scheme) -> OnnxModel:
    """Convert a model file to ONNX; input and output are float32 in the .tflite's shapes, whatever the precision.

    The card has no Dice where the file computes in other numbers than the .tflite. Its hash is that of the bytes in
    front of the metadata.
    """
    graph = read_graph(model.flatbuffer)
    check_precision(graph, scheme)
    proto = build_model(graph, scheme)
    # before the metadata is appended: a wrong translation must not reach a device
    onnx.checker.check_model(proto, full_check=True)
    bare = proto.SerializeToString()
    card = _change_card(model.card, scheme, bare)
    operators = dict(Counter(node.op_type for node in proto.graph.node).most_common())
    return OnnxModel(bare + _pack_metadata(bare, card, _make_golden(model, bare)), card, operators)


def check_precision(graph: Graph, scheme: Scheme) -> None:
    """Refuse int8 where the .tflite has no ranges for it."""
    if scheme.is_quantised and graph.inputs[0].dtype != "int8":
        raise ModelFileError(
            f"Expected an int8 file for int8 ONNX, got one that takes {graph.inputs[0].dtype}.",
            "Make one with edgeseg compress RUN --recipe int8-ptq, or export with --precision float32.",
        )


def build_model(graph: Graph, scheme: Scheme) -> Any:
    """Build the ONNX model of a graph, without metadata."""
    writer = GraphWriter(scheme)
    (source,), sinks = graph.inputs, dict(zip(OUTPUTS, graph.outputs, strict=False))
    results = {sink.index for sink in sinks.values()}
    writer.scope = INPUT
    writer.set_input(source, INPUT)
    for number, operator in enumerate(graph.operators):
        writer.scope = f"{number}_{operator.name.lower()}"
        translate_operator(writer, operator, operator.outputs[0].index in results)
    for name, sink in sinks.items():
        writer.scope = name
        writer.set_output(sink, name)
    ends = [_describe_end(INPUT, source)], [_describe_end(name, sink) for name, sink in sinks.items()]
    body = onnx.helper.make_graph(writer.nodes, "edgeseg", *ends, writer.constants)
    return onnx.helper.make_model(
        body,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="edgeseg",
        producer_version=edgeseg.__version__,
    )


def _describe_end(name: str, tensor: Tensor) -> Any:
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, tensor.shape)


def _change_card(card: Card, scheme: Scheme, bare: bytes) -> Card:
    same_kind = scheme.is_quantised == (card.input_quantisation.dtype == "int8")
    exact = same_kind and not scheme.is_symmetric and not scheme.is_half
    return dataclasses.replace(
        card,
        input_quantisation=FLOAT,
        output_quantisation=FLOAT,
        finding_quantisation=None if card.finding is None else FLOAT,
        metrics=card.metrics if exact else None,
        lint={"onnx": OK},
        sha256=hashlib.sha256(bare).hexdigest(),
    )


def _make_golden(model: ModelFile, bare: bytes) -> tuple[GoldenPair, ...]:
    """Run the new file on the golden inputs."""
    backend = OnnxBackend(bare)
    reals = (dequantise(pair.input, model.card.input_quantisation) for pair in model.golden)
    inputs = [real.astype(np.float32) for real in reals]
    return tuple(GoldenPair(tensor, *backend.invoke(tensor)) for tensor in inputs)


def _pack_metadata(bare: bytes, card: Card, golden: tuple[GoldenPair, ...]) -> bytes:
    """Pack the metadata to append: concatenated protobuf messages are merged into one."""
    behind = onnx.ModelProto()
    onnx.helper.set_model_props(behind, pack_metadata(bare, card, golden))
    return bytes(behind.SerializeToString())
