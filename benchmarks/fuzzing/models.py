"""Model files: flatbuffers, cards and zips that are changed and sealed again, so that hashes match."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgeseg.core.card import Card, Provenance, SplitSpec
from edgeseg.core.modelfile import CARD_NAME, pack_model
from edgeseg.core.spec import ClassSpec, FindingSpec, InputSpec, OutputSpec, Quantisation
from fuzzing import doors
from fuzzing.kind import Kind
from fuzzing.mutate import DEEP, NUMBERS, count_steps, mutate_bytes, mutate_text, mutate_tree, nest
from fuzzing.packing import MIB, STORED, Entry, deflate_zeros, gzip_zeros, mutate_npy, mutate_zip, write_npy, write_zip
from fuzzing.sealing import describe, pack_sealed, pack_texts, seal_texts
from tests.flatfiles import Spot, Step, build_flatbuffer, make_weights
from tests.networks import FACTORS, FRAME_CLASSES, build_finding_network

SIDE = 16
END = Quantisation("int8", 1 / 256, -128)
MOST_OPERATORS = 210
"""A few more than TFLite has."""
_SIZES = (-(2**31), -1, 0, 1, 2, 3, 255, 65536, 2**24, 2**31 - 1)


def build_plain() -> bytes:
    """Build a network of one operator, as the smallest that can be run."""
    ends = [Spot((1, SIDE, SIDE, 1), scale=(END.scale,), zero_point=END.zero_point)] * 2
    return build_flatbuffer(ends, [Step("LOGISTIC", [0], [1])], [0], [1])


def build_net() -> bytes:
    """Build a small U of every operator that our networks have."""
    half, quarter = (1, SIDE // 2, SIDE // 2, 4), (1, SIDE // 4, SIDE // 4, 4)
    one = {"strideW": 1, "strideH": 1}
    two = {"strideW": 2, "strideH": 2}
    bias = Spot((4,), "int32", np.zeros(4, np.int32), scale=(0.1, 0.2, 0.3, 0.4))
    spots = [
        Spot((1, SIDE, SIDE, 1), scale=(END.scale,), zero_point=END.zero_point),
        dataclasses.replace(make_weights(4, 3, 3, 1), scale=(0.1, 0.2, 0.3, 0.4)),
        bias,
        Spot(half),
        Spot(quarter),
        make_weights(1, 3, 3, 4),
        Spot(quarter),
        Spot((2,), "int32", np.array([SIDE // 2, SIDE // 2], np.int32)),
        Spot(half),
        Spot(half),
        Spot((1, SIDE // 2, SIDE // 2, 8)),
        make_weights(1, 1, 1, 8),
        Spot((1,), "int32", np.zeros(1, np.int32)),
        Spot((1, SIDE // 2, SIDE // 2, 1)),
        Spot((1, SIDE // 2, SIDE // 2, 1), scale=(END.scale,), zero_point=END.zero_point),
        Spot((4,), "int32", np.zeros(4, np.int32)),
    ]
    steps = [
        Step("CONV_2D", [0, 1, 2], [3], 3, two),
        Step("MAX_POOL_2D", [3], [4], 2, two | {"filterWidth": 2, "filterHeight": 2}),
        Step("DEPTHWISE_CONV_2D", [4, 5, 15], [6], 3, one | {"depthMultiplier": 1}),
        Step("RESIZE_BILINEAR", [6, 7], [8], 3, {"halfPixelCenters": True}),
        Step("ADD", [8, 3], [9], 2),
        Step("CONCATENATION", [9, 3], [10], 2, {"axis": 3}),
        Step("CONV_2D", [10, 11, 12], [13], 3, one),
        Step("LOGISTIC", [13], [14], 2),
    ]
    return build_flatbuffer(spots, steps, [0], [14])


def build_float() -> bytes:
    """Build a float32 network with a transposed convolution."""
    spots = [
        Spot((1, SIDE, SIDE, 1), "float32"),
        make_weights(2, 3, 3, 1, dtype="float32"),
        Spot((2,), "float32", np.zeros(2, np.float32)),
        Spot((1, SIDE // 2, SIDE // 2, 2), "float32"),
        Spot((4,), "int32", np.array([1, SIDE, SIDE, 1], np.int32)),
        make_weights(1, 2, 2, 2, dtype="float32"),
        Spot((1, SIDE, SIDE, 1), "float32"),
        Spot((1, SIDE, SIDE, 1), "float32"),
    ]
    steps = [
        Step("CONV_2D", [0, 1, 2], [3], 1, {"strideW": 2, "strideH": 2}),
        Step("TRANSPOSE_CONV", [4, 5, 3], [6], 1, {"strideW": 2, "strideH": 2}),
        Step("LOGISTIC", [6], [7]),
    ]
    return build_flatbuffer(spots, steps, [0], [7])


def build_custom() -> bytes:
    """Build a network as the Edge TPU's compiler leaves one."""
    ends = [Spot((1, SIDE, SIDE, 1), scale=(END.scale,), zero_point=END.zero_point)] * 2
    return build_flatbuffer(ends, [Step("edgetpu-custom-op", [0], [1])], [0], [1])


SEEDS: Mapping[str, Callable[[], bytes]] = {
    "plain": build_plain,
    "net": build_net,
    "float": build_float,
    "custom": build_custom,
    "two": build_finding_network,
}


def make_card(numbers: Quantisation = END, two: bool = False) -> Card:
    """Write the card of such a network, of one output or of two."""
    return Card(
        name="fuzz",
        input=InputSpec(SIDE, SIDE),
        input_quantisation=numbers,
        output=OutputSpec((ClassSpec("target"),)),
        output_quantisation=numbers,
        provenance=Provenance("f" * 64, SplitSpec(0, 0.15, 0.2), 0, "int8-ptq", "nano", "0.1.0", {"numpy": "2"}),
        parameters=1,
        macs=SIDE * SIDE,
        lint={"cpu": "ok", "edgetpu": "ok"},
        finding=FindingSpec(FRAME_CLASSES) if two else None,
        finding_quantisation=numbers if two else None,
    )


def seal(network: bytes, card: Card) -> bytes:
    """Make a model file whose hash and seal match."""
    return pack_model(network, card)


def mutate_network(rng: Random, network: bytes) -> bytes:
    """Change a flatbuffer: what it says, where that can be written down at all, or its bytes."""
    if rng.random() < 0.6:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(network, 0))
        for _ in range(count_steps(rng)):
            _change_part(rng, _choose_part(rng, model))
        if model.operatorCodes and rng.random() < 0.25:
            code, number = rng.choice(model.operatorCodes), rng.randrange(MOST_OPERATORS)
            code.builtinCode, code.deprecatedBuiltinCode = number, min(number, 127)
        try:
            builder = schema.flatbuffers.Builder(1024)
            builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
            return bytes(builder.Output())
        except Exception:  # noqa: BLE001, S110 - the schema's writer refuses some values in its own ways
            pass
    return mutate_bytes(rng, network, rng.choice((0, 8, 8)))


def _choose_part(rng: Random, model: Any) -> Any:
    """Choose where to begin: mostly at what the runtime computes with, seldom at names and versions."""
    graph = model.subgraphs[0] if model.subgraphs else model
    parts = [getattr(graph, "operators", None), getattr(graph, "tensors", None), model.operatorCodes, model.buffers]
    options = [operator.builtinOptions for operator in parts[0] or () if operator.builtinOptions is not None]
    ranges = [tensor.quantization for tensor in parts[1] or () if tensor.quantization is not None]
    filled = [part for part in (*parts, options, ranges) if part]
    return rng.choice(rng.choice(filled)) if filled and rng.random() < 0.85 else model


def _change_part(rng: Random, part: Any) -> None:
    """Walk down to a part of the object tree and change one of its fields."""
    while True:
        fields = [name for name, value in vars(part).items() if value is not None]
        if not fields:
            return
        name = rng.choice(fields)
        value = getattr(part, name)
        if hasattr(value, "__dict__") and not isinstance(value, np.ndarray):
            if rng.random() < 0.15:
                setattr(part, name, None)
                return
            part = value
        elif isinstance(value, list) and value and hasattr(value[0], "__dict__") and rng.random() < 0.85:
            part = rng.choice(value)
        else:
            setattr(part, name, _change_field(rng, value))
            return


def _change_field(rng: Random, value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice((value + 1, value - 1, rng.choice(_SIZES), rng.randrange(160)))
    if isinstance(value, float):
        return rng.choice((0.0, -1.0, 1e38, float("nan"), float("inf"), 1e-45))
    if isinstance(value, (bytes, str)):
        return rng.choice((b"", b"\xff\xfe", b"x" * 70_000, b"edgetpu-custom-op", b"\x1b[2J", None))
    if isinstance(value, np.ndarray):
        wide = np.float64 if value.dtype.kind == "f" else np.int64
        with np.errstate(all="ignore"):
            return np.asarray(_change_list(rng, value.tolist()), wide).astype(value.dtype)
    return _change_list(rng, value) if isinstance(value, list) else None


def _change_list(rng: Random, values: list[Any]) -> list[Any]:
    changed = list(values)
    act = rng.random()
    if not changed or hasattr(changed[0], "__dict__"):
        return rng.choice((changed[:-1], changed[1:], changed * 2, changed[::-1], []))
    if act < 0.1:
        return rng.choice(([], [0], [-1], [1] * 9))
    place = rng.randrange(len(changed))
    if act < 0.25:
        del changed[place]
    elif act < 0.4:
        changed.append(changed[place])
    elif isinstance(changed[place], (int, float)):
        small = changed[place] if isinstance(changed[place], float) else 0
        options = [*_SIZES, *range(-2, 20)] if isinstance(changed[place], int) else [small * 1e30, -1.0, 0.0, 1e-40]
        changed[place] = rng.choice(options)
    return changed


class ModelKind(Kind):
    """Networks in sealed files: read, drawn and judged by the linter, not run."""

    name: ClassVar[str] = "model"
    share: ClassVar[float] = 3.0

    def __init__(self, folder: Path) -> None:
        """Build the seeds."""
        super().__init__(folder)
        self.networks = {name: build() for name, build in SEEDS.items()}

    def bombs(self) -> Mapping[str, Callable[[], bytes]]:
        """Give networks that announce more than they hold."""
        return {
            "tensor of 2^62 numbers": lambda: self._seal_changed(_announce_huge),
            "negative shape": lambda: self._seal_changed(_announce_negative),
            "20,000 tensors": lambda: self._seal_changed(_announce_many),
            "operators in a circle": lambda: self._seal_changed(_close_circle),
            "no tensors": lambda: self._seal_changed(_drop_tensors),
            "only an identifier": lambda: seal(b"\0\0\0\0TFL3", make_card()),
            "root far outside": lambda: seal(b"\xf0\xff\xff\x7fTFL3" + bytes(64), make_card()),
            "empty file": lambda: b"",
        }

    def mutate(self, rng: Random) -> bytes:
        """Change a network and seal it again."""
        name = rng.choice(("plain", "net", "net", "net", "two", "float", "custom"))
        numbers = Quantisation() if name == "float" else END
        return seal(mutate_network(rng, self.networks[name]), make_card(numbers, name == "two"))

    def feed(self, data: bytes) -> None:
        """Look at the file as edgeseg inspect does."""
        path = self.folder / "mutant.tflite"
        path.write_bytes(data)
        doors.inspect_model(path)

    def _seal_changed(self, change: Callable[[Any], None]) -> bytes:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(self.networks["net"], 0))
        change(model)
        builder = schema.flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return seal(bytes(builder.Output()), make_card())


def _announce_huge(model: Any) -> None:
    model.subgraphs[0].tensors[3].shape = [1, 2**31 - 1, 2**31 - 1, 4]


def _announce_negative(model: Any) -> None:
    model.subgraphs[0].tensors[3].shape = [1, -8, -8, 4]


def _announce_many(model: Any) -> None:
    graph = model.subgraphs[0]
    graph.tensors = graph.tensors + [graph.tensors[3]] * 20_000


def _close_circle(model: Any) -> None:
    for operator in model.subgraphs[0].operators:
        operator.inputs = [int(operator.outputs[0]), *map(int, operator.inputs[1:])]


def _drop_tensors(model: Any) -> None:
    model.subgraphs[0].tensors = []


class CardKind(Kind):
    """Cards that say what they like about a good network, with a seal over it or, as in older files, without one."""

    name: ClassVar[str] = "card"
    share: ClassVar[float] = 2.0

    def __init__(self, folder: Path) -> None:
        """Build a network and its cards."""
        super().__init__(folder)
        self.network = build_finding_network()
        self.cards = {sealed: describe(self.network, make_card(two=True), sealed=sealed) for sealed in (True, False)}

    def bombs(self) -> Mapping[str, Callable[[], bytes]]:
        """Give cards that no person would write."""
        card = self.cards[False]
        spaces = Entry(CARD_NAME.encode(), b"", size=800 * MIB, crc=0, packed=deflate_zeros(800 * MIB))
        open_field = json.dumps(card)[:-1].encode() + b', "x": '
        huge = card | {"input": card["input"] | {"height": 2**31 - 1, "width": 2**31 - 1}}
        many = card | {"output": card["output"] | {"classes": [{"name": "x"}] * 100_000}}
        digits = json.dumps(card).replace('"macs": 256', f'"macs": {"9" * 10_000}')
        texts = {
            "nested lists": nest().encode(),
            "nested lists in a field": open_field + nest().encode() + b"}",
            "nested lists without an end": open_field + b"[" * DEEP,
            "number of 10,000 digits": digits.encode(),
            "input of 2^31 squared": json.dumps(huge).encode(),
            "100,000 classes": json.dumps(many).encode(),
        }
        bombs = {name: partial(self._pack, text, sealed=False) for name, text in texts.items()}
        return {"800 MiB of card in 0.8 MB": lambda: write_zip(self.network, [spaces]), **bombs}

    def mutate(self, rng: Random) -> bytes:
        """Change what the card says, or its text."""
        sealed = rng.random() < 0.5
        card = self.cards[sealed]
        if rng.random() < 0.75:
            text = json.dumps(mutate_tree(rng, card, list(card))).encode("utf-8", "replace")
        else:
            text = mutate_text(rng, json.dumps(card, indent=1))
        return self._pack(text, sealed)

    def feed(self, data: bytes) -> None:
        """Look at the file as edgeseg inspect does."""
        path = self.folder / "mutant.tflite"
        path.write_bytes(data)
        doors.inspect_model(path)

    def _pack(self, text: bytes, sealed: bool) -> bytes:
        if sealed:
            return pack_sealed(self.network, text, {})
        return write_zip(self.network, [Entry(CARD_NAME.encode(), text)])


class ZipKind(Kind):
    """The zip behind a network: sizes, names, flags, methods, golden pairs."""

    name: ClassVar[str] = "zip"
    share: ClassVar[float] = 2.0

    def __init__(self, folder: Path) -> None:
        """Build the entries of a good file, with a seal and without."""
        super().__init__(folder)
        self.network = build_finding_network()
        picture = write_npy(f"(1, {SIDE}, {SIDE}, 1)", "|i1", bytes(SIDE * SIDE))
        finding = write_npy(f"(1, 1, 1, {len(FACTORS)})", "|i1", bytes(len(FACTORS)))
        parts = {"input": picture, "output": picture, "finding": finding}
        self.arrays = {f"golden/0/{end}.npy": array for end, array in parts.items()}
        self.sealed = json.dumps(describe(self.network, make_card(two=True), 1)).encode()
        text = json.dumps(describe(self.network, make_card(two=True), 1, sealed=False)).encode()
        self.card = Entry(CARD_NAME.encode(), text)
        self.golden = [Entry(name.encode(), data) for name, data in self.arrays.items()]

    def bombs(self) -> Mapping[str, Callable[[], bytes]]:
        """Give zips that unpack to gigabytes, lie about it, or hold far too much."""
        head = deflate_head(write_npy(f"({5 * 1024}, 1024, 1024)"))
        big = Entry(b"golden/0/input.npy", b"", size=5 * 1024 * MIB, crc=0, packed=head + deflate_zeros(5 * 1024 * MIB))
        lying = dataclasses.replace(big, size=400)
        overlapping = dataclasses.replace(self.golden[0], offset=len(self.network))
        many = [Entry(b"golden/%d/input.npy" % number, b"", STORED) for number in range(20_000)]
        arrays = {
            "array that announces 2^62 bytes": write_npy("(2147483647, 2147483647)"),
            "array of 200,000,000 nothings": write_npy("(200000000, 0, 0)"),
            "array of objects": write_npy("(1,)", "|O", b"\x80\4N."),
        }
        return {
            "5 GiB of golden pair": lambda: self._write(big, *self.golden[1:]),
            "5 GiB of golden pair that says 400 bytes": lambda: self._write(lying, *self.golden[1:]),
            "encrypted card": lambda: write_zip(self.network, [dataclasses.replace(self.card, flags=1)]),
            "unknown compression": lambda: write_zip(self.network, [dataclasses.replace(self.card, method=99)]),
            "two cards": lambda: self._write(self.card),
            "20,000 entries": lambda: self._write(*many),
            "overlapping entries": lambda: self._write(*[overlapping] * 500),
            **{name: partial(self._replace_input, data) for name, data in arrays.items()},
        }

    def mutate(self, rng: Random) -> bytes:
        """Change the zip, or an array in it, under the seal or without one."""
        act = rng.random()
        if act < 0.2:
            name = rng.choice(list(self.arrays))
            changed = {name: mutate_npy(rng, self.arrays[name])}
            return pack_sealed(self.network, self.sealed, self.arrays | changed)
        if act < 0.3:
            return mutate_bytes(rng, pack_sealed(self.network, self.sealed, self.arrays), len(self.network))
        entries = [self.card, *self.golden]
        if act < 0.5:
            place = rng.randrange(1, len(entries))
            entries[place] = dataclasses.replace(entries[place], data=mutate_npy(rng, entries[place].data))
            return write_zip(self.network, entries)
        return mutate_zip(rng, self.network, entries)

    def feed(self, data: bytes) -> None:
        """Look at the file as edgeseg inspect does."""
        path = self.folder / "mutant.tflite"
        path.write_bytes(data)
        doors.inspect_model(path)

    def _write(self, *entries: Entry) -> bytes:
        return write_zip(self.network, [self.card, *entries])

    def _replace_input(self, data: bytes) -> bytes:
        return self._write(dataclasses.replace(self.golden[0], data=data), *self.golden[1:])


def deflate_head(data: bytes) -> bytes:
    """Write bytes as the first block of a deflate stream that goes on."""
    return b"\0" + len(data).to_bytes(2, "little") + (0xFFFF - len(data)).to_bytes(2, "little") + data


class LitertKind(ModelKind):
    """Networks and cards that are loaded and run as a stream does, through the runtime itself."""

    name: ClassVar[str] = "litert"
    share: ClassVar[float] = 0.6

    def __init__(self, folder: Path) -> None:
        """Build the seeds of both kinds."""
        super().__init__(folder)
        self.cards = CardKind(folder)

    def bombs(self) -> Mapping[str, Callable[[], bytes]]:
        """Give the bombs of networks, and a network that needs gigabytes though its file is small."""
        return {
            **super().bombs(),
            "4 GiB between two layers": lambda: seal(build_wide(), make_card()),
            "4 GiB between two layers that say 256 bytes": lambda: seal(build_lying(), make_card()),
            "operator that lacks an input": lambda: seal(build_lacking(), make_card()),
        }

    def mutate(self, rng: Random) -> bytes:
        """Change a network, or a card in front of a good one."""
        return self.cards.mutate(rng) if rng.random() < 0.3 else super().mutate(rng)

    def feed(self, data: bytes) -> None:
        """Load the file and draw two masks."""
        path = self.folder / "mutant.tflite"
        path.write_bytes(data)
        doors.run_model(path)


def build_lacking() -> bytes:
    """Build a network that some runtimes die of: an operator looks for a second input that is not there."""
    ends = [Spot((1, SIDE, SIDE, 1), scale=(END.scale,), zero_point=END.zero_point)] * 2
    return build_flatbuffer(ends, [Step("SPLIT", [0], [1])], [0], [1])


def build_lying() -> bytes:
    """Build a network that makes a picture of 65,536 squared inside, of which its file says nothing."""
    picture = Spot((1, SIDE, SIDE, 1), scale=(END.scale,), zero_point=END.zero_point)
    sizes = [Spot((2,), "int32", np.array([side, side], np.int32)) for side in (65_536, SIDE)]
    steps = [Step("RESIZE_NEAREST_NEIGHBOR", [0, 1], [2], 2), Step("RESIZE_NEAREST_NEIGHBOR", [2, 3], [4], 2)]
    return build_flatbuffer([picture, sizes[0], picture, sizes[1], picture], steps, [0], [4])


def build_wide() -> bytes:
    """Build a network that resizes its picture to 32,768 squared and back; its file is a few hundred bytes."""
    side = 32_768
    spots = [
        Spot((1, SIDE, SIDE, 1), scale=(END.scale,), zero_point=END.zero_point),
        Spot((2,), "int32", np.array([side, side], np.int32)),
        Spot((1, side, side, 1), scale=(END.scale,), zero_point=END.zero_point),
        Spot((1, side, side, 1), scale=(END.scale,), zero_point=END.zero_point),
        Spot((1, side, side, 1), scale=(END.scale,), zero_point=END.zero_point),
        Spot((2,), "int32", np.array([SIDE, SIDE], np.int32)),
        Spot((1, SIDE, SIDE, 1), scale=(END.scale,), zero_point=END.zero_point),
    ]
    steps = [
        Step("RESIZE_BILINEAR", [0, 1], [2], 3),
        Step("LOGISTIC", [2], [3], 2),
        Step("ADD", [3, 2], [4], 2),
        Step("RESIZE_BILINEAR", [4, 5], [6], 3),
    ]
    return build_flatbuffer(spots, steps, [0], [6])


class OnnxKind(Kind):
    """ONNX files: their metadata, the golden pairs in it, and the model."""

    name: ClassVar[str] = "onnx"
    share: ClassVar[float] = 1.0
    needs: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")

    def __init__(self, folder: Path) -> None:
        """Build a model of one operator."""
        super().__init__(folder)
        import onnx

        shape = (1, SIDE, SIDE, 1)
        ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in ("image", "mask")]
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node("Sigmoid", ["image"], ["mask"])], "tiny", ends[:1], ends[1:]
        )
        opset = onnx.helper.make_opsetid("", 13)
        model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=7)
        self.onnx, self.bare = onnx, bytes(model.SerializeToString())
        self.arrays = [_save(np.zeros(shape, np.float32)), _save(np.full(shape, 0.5, np.float32))]
        names = (b"input_0.npy", b"output_0.npy")
        self.entries = [Entry(name, data) for name, data in zip(names, self.arrays, strict=True)]

    def bombs(self) -> Mapping[str, Callable[[], bytes]]:
        """Give golden pairs that unpack to gigabytes, and protobuf that has no end."""
        head = deflate_head(write_npy("(3072, 1024, 1024)"))
        big = Entry(b"input_0.npy", b"", size=3072 * MIB, crc=0, packed=head + deflate_zeros(3072 * MIB))
        return {
            "3 GiB of golden pair": lambda: self._pack(self.bare, write_zip(b"", [big, self.entries[1]])),
            "gzip as golden pair": lambda: self._pack(self.bare, gzip_zeros(64 * MIB)),
            "varint without an end": lambda: b"\xff" * 2_000_000,
            "500,000 fields": lambda: b"\x08\x01" * 500_000,
            "empty file": lambda: b"",
        }

    def mutate(self, rng: Random) -> bytes:
        """Change golden pairs, card, model, or the whole file, under the seal or without one."""
        act = rng.random()
        if act < 0.2:
            return self._pack(self.bare, mutate_zip(rng, b"", self.entries))
        if act < 0.35:
            entries = [dataclasses.replace(self.entries[0], data=mutate_npy(rng, self.arrays[0])), self.entries[1]]
            return self._pack(self.bare, write_zip(b"", entries))
        if act < 0.45:
            return self._seal(self.bare, [mutate_npy(rng, self.arrays[0]), self.arrays[1]])
        if act < 0.65:
            card = self._describe(self.bare, rng.random() < 0.5)
            changed = json.dumps(mutate_tree(rng, card, list(card))).encode("utf-8", "replace")
            return self._pack(self.bare, write_zip(b"", self.entries), changed)
        if act < 0.8:
            return mutate_bytes(rng, self._seal(self.bare, self.arrays))
        return self._seal(mutate_bytes(rng, self.bare), self.arrays)

    def feed(self, data: bytes) -> None:
        """Read the file."""
        path = self.folder / "mutant.onnx"
        path.write_bytes(data)
        doors.read_model(path)

    def _describe(self, bare: bytes, sealed: bool = False) -> dict[str, Any]:
        return describe(bare, make_card(Quantisation()), 1, sealed)

    def _pack(self, bare: bytes, golden: bytes, card: bytes | None = None) -> bytes:
        """Write metadata without a seal."""
        text = json.dumps(self._describe(bare)).encode() if card is None else card
        return bare + write_metadata(pack_texts(text, golden))

    def _seal(self, bare: bytes, arrays: Sequence[bytes]) -> bytes:
        text = json.dumps(self._describe(bare, sealed=True)).encode()
        return bare + write_metadata(seal_texts(bare, text, arrays))


def write_metadata(texts: Mapping[str, str]) -> bytes:
    """Write texts as the metadata of an ONNX file."""
    pairs = (_write_field(1, name.encode()) + _write_field(2, text.encode()) for name, text in texts.items())
    return b"".join(_write_field(14, pair) for pair in pairs)


class OnnxRunKind(OnnxKind):
    """ONNX files that onnxruntime itself loads and runs."""

    name: ClassVar[str] = "onnxrun"
    share: ClassVar[float] = 0.3

    def bombs(self) -> Mapping[str, Callable[[], bytes]]:
        """Give what only a runtime notices: a model that expands its picture to gigabytes."""
        return {"4 GiB out of a constant": lambda: self._seal(self._expand(), self.arrays)}

    def mutate(self, rng: Random) -> bytes:
        """Change the model and seal it again."""
        model = self.onnx.ModelProto.FromString(self.bare)
        for _ in range(count_steps(rng)):
            _change_onnx(rng, model)
        bare = mutate_bytes(rng, self.bare) if rng.random() < 0.3 else bytes(model.SerializeToString())
        return self._seal(bare, self.arrays)

    def feed(self, data: bytes) -> None:
        """Load the file and draw two masks."""
        path = self.folder / "mutant.onnx"
        path.write_bytes(data)
        doors.run_model(path)

    def _expand(self) -> bytes:
        onnx = self.onnx
        make = onnx.helper.make_node
        size = onnx.numpy_helper.from_array(np.array([1, 32768, 32768, 1], np.int64), "size")
        zero = onnx.numpy_helper.from_array(np.zeros((1, 1, 1, 1), np.float32), "zero")
        nodes = [
            make("Expand", ["zero", "size"], ["wide"]),
            make("ReduceMax", ["wide"], ["one"], keepdims=1),
            make("Add", ["image", "one"], ["mask"]),
        ]
        shape = (1, SIDE, SIDE, 1)
        ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in ("image", "mask")]
        graph = onnx.helper.make_graph(nodes, "wide", ends[:1], ends[1:], [size, zero])
        opset = onnx.helper.make_opsetid("", 13)
        return bytes(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=7).SerializeToString())


def _change_onnx(rng: Random, model: Any) -> None:
    graph = model.graph
    operators = ("Relu", "Identity", "Loop", "If", "Reshape", "Conv", "Expand", "NoSuch", "Tile", "Pad", "")
    ends = [*graph.input, *graph.output]
    act = rng.randrange(7)
    if act == 0 and graph.node:
        rng.choice(graph.node).op_type = rng.choice(operators)
    elif act == 1 and ends:
        sizes = rng.choice(ends).type.tensor_type.shape.dim
        if sizes:
            rng.choice(sizes).dim_value = rng.choice((*NUMBERS, 2**40))
    elif act == 2 and ends:
        rng.choice(ends).type.tensor_type.elem_type = rng.randrange(25)
    elif act == 3 and graph.node:
        rng.choice(graph.node).input.append(rng.choice(("image", "mask", "", "nothing")))
    elif act == 4 and graph.node:
        graph.node.append(graph.node[0])
    elif act == 5 and model.opset_import:
        model.opset_import[0].version = rng.choice((0, 1, 7, 14, 22, 2**40))
    else:
        model.ir_version = rng.choice((0, 1, 3, 10, 2**40))


def _write_field(number: int, data: bytes) -> bytes:
    return _write_varint(number << 3 | 2) + _write_varint(len(data)) + data


def _write_varint(value: int) -> bytes:
    written = b""
    while value > 0x7F:
        written += bytes([value & 0x7F | 0x80])
        value >>= 7
    return written + bytes([value])


def _save(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


KINDS: tuple[type[Kind], ...] = (ModelKind, CardKind, ZipKind, OnnxKind, LitertKind, OnnxRunKind)
