"""The signature of a network: shape, type and quantisation of its input and outputs, and whether the card agrees.

It is read from the network itself, a .tflite flatbuffer or an ONNX model, and neither is trusted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeseg.core.errors import ModelFileError
from edgeseg.core.flatbuffer import NetworkTensor, read_network
from edgeseg.core.limits import OPERATORS, TENSOR_DIMENSIONS, TENSORS
from edgeseg.core.registration_card import AnyCard
from edgeseg.core.spec import FLOATS, InputSpec, Quantisation, check_quantisation

# Scales are written in 32 bits into the flatbuffer and in decimals onto the card.
_SCALE_TOLERANCE = 1e-6

# Field numbers from onnx.proto: ModelProto and its metadata_props, GraphProto, NodeProto, TensorProto.
_GRAPH, _METADATA = 7, 14
_KEY, _VALUE = 1, 2
# The fields of a model that is one graph: no functions, no training, no devices.
_PLAIN_MODEL = (1, 2, 3, 4, 5, 6, _GRAPH, 8)
_NODE, _INITIALIZER, _INPUT, _OUTPUT, _SPARSE = 1, 5, 11, 12, 15
# Where a tensor names another file that holds its numbers.
_EXTERNAL, _LOCATION = 13, 14
# A node's attributes; the one that is a tensor, and the kinds that edgeseg never writes: graphs, lists, sparse tensors.
_ATTRIBUTE, _TENSOR, _INNER = 5, 5, (6, 10, 11, 22, 23)
# TensorProto.DataType
_ELEMENT_TYPES = {1: "float32", 2: "uint8", 3: "int8", 10: "float16"}
# Protobuf's wire types, and the bytes of a varint of 64 bits.
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 10
# How many fields of messages are read in all; the limit ends a file that is made of empty fields.
_FIELDS = 4_000_000


@dataclass(frozen=True)
class TensorSpec:
    """Shape and quantisation of an input or output tensor."""

    shape: tuple[int, ...]
    quantisation: Quantisation

    @property
    def bytes(self) -> int:
        """Count the bytes of the tensor."""
        width = {"float32": 4, "float16": 2, "int16": 2}.get(self.quantisation.dtype, 1)
        return math.prod(self.shape) * width

    def describe(self) -> str:
        """Describe the tensor in a few words: type, shape, scale and zero point."""
        q = self.quantisation
        shape = f"{q.dtype} {'x'.join(map(str, self.shape))}"
        return shape if q.dtype in FLOATS else f"{shape} (scale {q.scale:g}, zero {q.zero_point})"


@dataclass(frozen=True)
class NetworkSignature:
    """The only input, the mask's scores, and the finding where the network has a second output."""

    input: TensorSpec
    output: TensorSpec
    finding: TensorSpec | None = None

    @property
    def ends(self) -> tuple[TensorSpec, ...]:
        """The tensors of a golden pair: the input, the mask and the finding, if there is one."""
        return (self.input, self.output) if self.finding is None else (self.input, self.output, self.finding)


def order_outputs(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Say in which order outputs are mask, then finding; runtimes and converters may list them in another one.

    The finding is the one of a single position, 1x1.
    """
    return tuple(sorted(range(len(shapes)), key=lambda index: shapes[index][1:3] == (1, 1)))


def check_signature(card: AnyCard, found: NetworkSignature, path: Path) -> None:
    """Refuse a card that describes another network: its masks would be wrong, and its golden pairs with them."""
    shape = found.output.shape
    height, width = shape[1:3] if len(shape) == 4 else (0, 0)
    source = TensorSpec((1, card.input.height, card.input.width, card.input_channels), card.input_quantisation)
    sink = TensorSpec((1, height, width, card.output_channels), card.output_quantisation)
    _check_finding(card, found, path)
    tensors = [("input", source, found.input), ("output", sink, found.output)]
    if found.finding is not None and card.finding_quantisation is not None:
        finding = TensorSpec((1, 1, 1, card.finding_channels), card.finding_quantisation)
        tensors.append(("finding", finding, found.finding))
    for name, wanted, got in tensors:
        check_quantisation(name, got.quantisation)
        if wanted.shape != got.shape or not _is_same(wanted.quantisation, got.quantisation):
            raise ModelFileError(
                f"Expected the card in {path} to describe its network, got {wanted.describe()} on the card and "
                f"{got.describe()} in the network for the {name}.",
                "Write the file again with edgeseg compress; a card is never changed by hand.",
            )
    if not has_integer_stride(card.input, shape):
        raise ModelFileError(
            f"Expected an output of {card.input.height}x{card.input.width} or a whole fraction of it from the network "
            f"in {path}, got {height}x{width}.",
            "Write the file again with edgeseg compress.",
        )


def _check_finding(card: AnyCard, found: NetworkSignature, path: Path) -> None:
    if (card.finding is None) != (found.finding is None):
        wanted, got = (1, 2) if card.finding is None else (2, 1)
        raise ModelFileError(
            f"Expected {wanted} outputs from the network in {path} as its card says, got {got}.",
            "Write the file again with edgeseg compress; a card is never changed by hand.",
        )


def has_integer_stride(spec: InputSpec, shape: tuple[int, ...]) -> bool:
    """Say whether an output (1, height, width, channels) has the input's size divided by a whole output stride."""
    if len(shape) != 4 or shape[0] != 1 or min(shape) < 1 or shape[1] > spec.height:
        return False
    stride = spec.height // shape[1]
    return (stride * shape[1], stride * shape[2]) == (spec.height, spec.width)


def _is_same(card: Quantisation, network: Quantisation) -> bool:
    same_scale = math.isclose(card.scale, network.scale, rel_tol=_SCALE_TOLERANCE)
    return (card.dtype, card.zero_point) == (network.dtype, network.zero_point) and same_scale


def read_tflite_signature(flatbuffer: bytes) -> NetworkSignature:
    """Read the signature of a .tflite.

    Raises:
        ValueError: The flatbuffer is damaged or beyond a limit, or has not one input and one or two outputs of fixed
            size.
    """
    network = read_network(flatbuffer)
    check_ends(len(network.inputs), len(network.outputs))
    return NetworkSignature(*(_read_tensor(network.tensors[i]) for i in (*network.inputs, *network.outputs)))


def check_ends(inputs: int, outputs: int) -> None:
    """Refuse a network that has not one input and one or two outputs."""
    if inputs != 1 or outputs not in (1, 2):
        raise ValueError(f"expected one input and one or two outputs, got {inputs} and {outputs}")


def _read_tensor(tensor: NetworkTensor) -> TensorSpec:
    if tensor.data is not None or tensor.dynamic:
        raise ValueError("expected an input and output of fixed sizes that are no constants, got others")
    if tensor.dtype in FLOATS or not tensor.scale:
        return TensorSpec(tensor.shape, Quantisation(tensor.dtype))
    if len(tensor.scale) > 1:
        raise ValueError(f"expected one scale for the input and for the output, got {len(tensor.scale)}")
    return TensorSpec(tensor.shape, Quantisation(tensor.dtype, tensor.scale[0], tensor.zero_point[0]))


def split_onnx_metadata(data: bytes) -> tuple[bytes, dict[str, str]]:
    """Split an ONNX model into its bytes without the metadata, and the metadata.

    Raises:
        ValueError: The data are no ONNX file, not a whole one, or hold something behind the metadata.
    """
    entries: dict[str, str] = {}
    end, reader = len(data), _ProtobufReader()
    for start, field, value, _ in reader.walk(memoryview(data)):
        if field == _METADATA:
            end = min(end, start)
            pair = {number: text for _, number, text, _ in reader.walk(value)}
            if set(pair) != {_KEY, _VALUE}:
                raise ValueError("expected a key and a text among the metadata, got something else")
            key = bytes(pair[_KEY]).decode("utf-8")
            if key in entries:
                raise ValueError(f"expected {key[:80]!r} once among the metadata, got it twice")
            entries[key] = bytes(pair[_VALUE]).decode("utf-8")
        elif entries:
            raise ValueError(f"expected nothing behind the metadata, got the field {field}")
    return data[:end], entries


def read_onnx_signature(bare: bytes) -> NetworkSignature:
    """Read the input and the outputs of an ONNX model; a model that refers to other files is refused.

    Raises:
        ValueError: The model is damaged, or of a kind that edgeseg does not write.
    """
    reader, graphs = _ProtobufReader(), []
    for _, field, value, _ in reader.walk(memoryview(bare)):
        if field not in _PLAIN_MODEL:
            raise ValueError(f"expected a model of one graph, got the field {field}")
        if field == _GRAPH:
            graphs.append(value)
    if len(graphs) != 1:
        raise ValueError(f"expected one graph, got {len(graphs)}")
    found: dict[int, list[memoryview]] = {_NODE: [], _INITIALIZER: [], _INPUT: [], _OUTPUT: [], _SPARSE: []}
    for _, field, value, _ in reader.walk(graphs[0]):
        found.get(field, []).append(value)
    if len(found[_NODE]) > OPERATORS or len(found[_INITIALIZER]) > TENSORS or found[_SPARSE]:
        raise ValueError(f"expected at most {OPERATORS} nodes and {TENSORS} dense weights, got others")
    check_ends(len(found[_INPUT]), len(found[_OUTPUT]))
    for tensor in found[_INITIALIZER]:
        _check_tensor(reader, tensor)
    for node in found[_NODE]:
        _check_node(reader, node)
    return NetworkSignature(*(_read_value_info(reader, value) for value in (*found[_INPUT], *found[_OUTPUT])))


def _check_node(reader: _ProtobufReader, node: memoryview) -> None:
    for _, field, attribute, _ in reader.walk(node):
        if field == _ATTRIBUTE:
            for _, kind, value, _ in reader.walk(attribute):
                if kind in _INNER:
                    raise ValueError("expected plain nodes, got one that holds a graph")
                if kind == _TENSOR:
                    _check_tensor(reader, value)


def _check_tensor(reader: _ProtobufReader, tensor: memoryview) -> None:
    if any(field == _EXTERNAL or (field == _LOCATION and number) for _, field, _, number in reader.walk(tensor)):
        raise ValueError("expected all weights inside the file, got the name of another file")


def _read_value_info(reader: _ProtobufReader, value: memoryview) -> TensorSpec:
    """Read a ValueInfoProto down to its sizes: type (2), tensor type (1), element (1) and shape (2), sizes (1)."""
    tensor = _take_only(reader, _take_only(reader, value, 2), 1)
    kinds = [number for _, field, _, number in reader.walk(tensor) if field == 1]
    sizes = [size for _, field, size, _ in reader.walk(_take_only(reader, tensor, 2)) if field == 1]
    if len(kinds) != 1 or kinds[0] not in _ELEMENT_TYPES or len(sizes) > TENSOR_DIMENSIONS:
        raise ValueError("expected an input and output of a known type, got another type")
    shape = tuple(next((number for _, field, _, number in reader.walk(size) if field == 1), 0) for size in sizes)
    if not all(0 < size < 2**31 for size in shape):
        raise ValueError(f"expected an input and output of fixed sizes, got {shape}")
    return TensorSpec(shape, Quantisation(_ELEMENT_TYPES[kinds[0]]))


def _take_only(reader: _ProtobufReader, data: memoryview, wanted: int) -> memoryview:
    """Take the only field of a number; protobuf would merge several."""
    found = [value for _, field, value, _ in reader.walk(data) if field == wanted]
    if len(found) != 1:
        raise ValueError(f"expected one field {wanted} in the input or output of the graph, got {len(found)}")
    return found[0]


class _ProtobufReader:
    """Lists the fields of protobuf messages, and counts them: nested ones may be read again and again."""

    def __init__(self) -> None:
        self._left = _FIELDS

    def walk(self, data: memoryview) -> Iterator[tuple[int, int, memoryview, int]]:
        """List a message's fields: where each starts, its number, and the bytes or the number that it holds."""
        position = 0
        while position < len(data):
            self._left -= 1
            if self._left < 0:
                raise ValueError(f"expected at most {_FIELDS} fields, got more")
            start = position
            tag, position = _read_varint(data, position)
            value, number = data[:0], 0
            if tag & 7 == _VARINT:
                number, position = _read_varint(data, position)
            elif tag & 7 == _BYTES:
                length, position = _read_varint(data, position)
                value, position = data[position : position + length], position + length
            elif tag & 7 in (_FIXED64, _FIXED32):
                position += 8 if tag & 7 == _FIXED64 else 4
            else:
                raise ValueError(f"expected a field of a known type at byte {start}, got type {tag & 7}")
            if position > len(data):
                raise ValueError(f"expected {position - len(data)} more bytes for the field at byte {start}")
            yield start, tag >> 3, value, number


def _read_varint(data: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for number in range(_LONGEST_VARINT):
        if position + number >= len(data):
            raise ValueError(f"expected a number at byte {position}, got the end")
        byte = data[position + number]
        value |= (byte & 0x7F) << 7 * number
        if byte < 0x80:
            return value, position + number + 1
    raise ValueError(f"expected a number of at most {_LONGEST_VARINT} bytes at byte {position}, got a longer one")
