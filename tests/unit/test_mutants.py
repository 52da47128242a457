"""Hundreds of damaged model files, in all their parts, some sealed again: each is read, or refused with a sentence."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeseg.core.errors import ModelFileError
from edgeseg.core.flatbuffer import FlatbufferError, read_network
from edgeseg.core.limits import ARENA_BYTES
from edgeseg.core.modelfile import GoldenPair, pack_model, read_model
from edgeseg.graph.lint import lint_targets
from edgeseg.graph.operators import read_graph
from edgeseg.graph.summary import draw_graph, find_peak, measure_sparsity, summarise_layers, summarise_operators
from tests.flatfiles import Spot, Step, build_flatbuffer, make_weights
from tests.networks import SIDE, build_network, describe_network, draw_ramp

MUTANTS = 300
NASTY = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFC)


def build_small_unet() -> bytes:
    """Build a network with one of most operators that the graph's code looks into."""
    whole, half = Spot((1, SIDE, SIDE, 1)), Spot((1, SIDE // 2, SIDE // 2, 1))
    strides = {"strideW": 1, "strideH": 1}
    pool = {"filterWidth": 2, "filterHeight": 2, "strideW": 2, "strideH": 2}
    sizes = Spot((2,), "int32", np.array([SIDE, SIDE], np.int32))
    spots = [
        *(whole, make_weights(1, 3, 3, 1), Spot((1,), "int32", np.zeros(1, np.int32)), whole, half),
        *(
            make_weights(1, 3, 3, 1),
            half,
            sizes,
            whole,
            Spot((1, SIDE, SIDE, 2)),
            make_weights(1, 1, 1, 2),
            whole,
            whole,
        ),
    ]
    steps = [
        Step("CONV_2D", [0, 1, 2], [3], options=strides),
        Step("MAX_POOL_2D", [3], [4], options=pool),
        Step("DEPTHWISE_CONV_2D", [4, 5], [6], options=strides),
        Step("RESIZE_BILINEAR", [6, 7], [8]),
        Step("CONCATENATION", [8, 3], [9], options={"axis": 3}),
        Step("CONV_2D", [9, 10], [11], options=strides),
        Step("LOGISTIC", [11], [12]),
    ]
    return build_flatbuffer(spots, steps, [0], [12])


def damage(data: bytes, chance: random.Random) -> bytes:
    """Change a file as a bad disk, a bad cable or a bad person would."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8))):
        place = chance.randrange(len(changed) - 4)
        kind = chance.randrange(5)
        if kind == 0:
            changed[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            place -= place % 4
            changed[place : place + 4] = struct.pack("<I", chance.choice(NASTY))
        elif kind == 2:
            changed[place : place + 2] = struct.pack("<H", chance.choice(NASTY) & 0xFFFF)
        elif kind == 3:
            del changed[place : place + chance.randrange(1, 9)]
        else:
            changed[place:place] = chance.randbytes(chance.randrange(1, 9))
    return bytes(changed)


def look_into(flatbuffer: bytes) -> None:
    """Do all that edgeseg does with a graph without running it."""
    graph = read_graph(flatbuffer)
    summarise_operators(graph)
    find_peak(graph)
    lint_targets(graph)
    measure_sparsity(flatbuffer)
    draw_graph("mutant", summarise_layers(graph))


def find_refusal(look: Callable[[bytes], None], data: bytes) -> ModelFileError | None:
    """Give the sentence with which something was refused; any other exception is a defect."""
    try:
        look(data)
    except ModelFileError as error:
        return error
    return None


@pytest.mark.parametrize("seed", range(2))
def test_a_damaged_network_is_read_or_refused(seed: int) -> None:
    chance, flatbuffer = random.Random(seed), build_small_unet()
    look_into(flatbuffer)
    mutants = [damage(flatbuffer, chance) for _ in range(MUTANTS)]
    refusals = [error for data in mutants if (error := find_refusal(look_into, data)) is not None]
    assert MUTANTS // 3 < len(refusals) < MUTANTS
    assert all(error.hint and len(error.message) < 500 for error in refusals)


def list_mutants(count: int) -> Iterator[bytes]:
    """List damaged files: the whole, and damaged networks that are sealed again."""
    chance, flatbuffer, ramp = random.Random(7), build_network(), draw_ramp()
    card, pair = describe_network({}), (GoldenPair(ramp, ramp),)
    whole = pack_model(flatbuffer, card, pair)
    for number in range(count):
        yield damage(whole, chance) if number % 2 else pack_model(damage(flatbuffer, chance), card, pair)


def test_a_damaged_file_is_read_or_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mutant.tflite"

    def look(data: bytes) -> None:
        path.write_bytes(data)
        look_into(read_model(path).flatbuffer)

    refusals = [find_refusal(look, data) for data in list_mutants(MUTANTS)]
    assert MUTANTS // 2 < MUTANTS - refusals.count(None) < MUTANTS
    assert all(str(path) in error.message or "flatbuffer" in error.message for error in refusals if error)
    assert capsys.readouterr().err == ""


def replace_number(place: Callable[[bytes], int], number: int) -> bytes:
    data = bytearray(build_small_unet())
    data[place(bytes(data)) : place(bytes(data)) + 4] = struct.pack("<i", number)
    return bytes(data)


def find_root(data: bytes) -> int:
    return int(struct.unpack_from("<I", data)[0])


@pytest.mark.parametrize("number", [0, 1, -1, 4, -(2**31), 2**31 - 1])
def test_a_vtable_may_lie_nowhere_or_in_itself(number: int) -> None:
    with pytest.raises(FlatbufferError):
        read_network(replace_number(find_root, number))


@pytest.mark.parametrize("number", [0, -1, 3, 2**31 - 1, -(2**31)])
def test_the_root_may_lie_nowhere(number: int) -> None:
    with pytest.raises(FlatbufferError):
        read_network(replace_number(lambda _: 0, number))


PICTURE = Spot((1, SIDE, SIDE, 1))


@pytest.mark.parametrize(
    ("spots", "steps"),
    [
        ([PICTURE, PICTURE], []),
        ([PICTURE, Spot((0, SIDE, SIDE, 1))], [Step("LOGISTIC", [0], [1])]),
        ([PICTURE, Spot((-1, SIDE, SIDE, 1))], [Step("LOGISTIC", [0], [1])]),
        ([PICTURE, Spot((1,) * 20)], [Step("LOGISTIC", [0], [1])]),
        ([PICTURE, Spot((1, 2**31 - 1, 2**31 - 1, 1))], [Step("LOGISTIC", [0], [1])]),
        ([PICTURE, Spot((1, ARENA_BYTES, 1, 1))], [Step("LOGISTIC", [0], [1])]),
        ([PICTURE, PICTURE], [Step("LOGISTIC", [0], [2])]),
        ([PICTURE, PICTURE], [Step("LOGISTIC", [-2], [1])]),
        ([PICTURE, PICTURE], [Step("LOGISTIC", [0], [-1])]),
        ([PICTURE, PICTURE], [Step("LOGISTIC", [0], [])]),
        ([PICTURE, PICTURE], [Step("CONV_2D", [0], [1])]),
        ([PICTURE, Spot(()), PICTURE], [Step("CONV_2D", [0, 1], [2])]),
        ([PICTURE, PICTURE], [Step("TRANSPOSE_CONV", [0, 0, 0, 0, 0], [1]), Step("SOFTMAX", [], [1])]),
        ([PICTURE, Spot((7,))], [Step("RESIZE_BILINEAR", [0, 0], [1])]),
        ([PICTURE, Spot((1,), scale=(float("nan"),))], [Step("LOGISTIC", [0], [1])]),
        ([PICTURE, Spot((4,), "int8", np.zeros(5, np.int8))], [Step("ADD", [0, 1], [0])]),
        ([PICTURE, PICTURE], [Step("w" * 1000, [0], [1])]),
        ([PICTURE, PICTURE], [Step("ADD", [0, 0], [1], options={"fusedActivationFunction": 99})]),
    ],
    ids=[
        *("no operators", "zero", "negative", "rank", "huge", "arena", "output place", "input place", "absent output"),
        *("no output", "no weights", "scalar weights", "softmax of nothing", "resize to a row", "nan"),
        *("short constant", "long name", "activation"),
    ],
)
def test_graphs_that_cannot_be_are_refused(spots: list[Spot], steps: list[Step]) -> None:
    with pytest.raises(ModelFileError):
        look_into(build_flatbuffer(spots, steps, [0], [1]))


@pytest.mark.parametrize(
    ("spots", "ends"),
    [
        ([PICTURE, PICTURE], ([0, 0], [1])),
        ([PICTURE, PICTURE], ([0], [1, 1])),
        ([PICTURE, PICTURE], ([], [1])),
        ([PICTURE, PICTURE], ([0], [])),
        ([make_weights(1, SIDE, SIDE, 1), PICTURE], ([0], [1])),
        ([Spot((1, SIDE, SIDE, 1), signature=(-1, SIDE, SIDE, 1)), PICTURE], ([0], [1])),
        ([Spot((1, SIDE, SIDE, 1), scale=(0.1, 0.2)), PICTURE], ([0], [1])),
        ([Spot((1, SIDE, SIDE, 1), "int16"), PICTURE], ([0], [1])),
        ([Spot((1, SIDE, SIDE, 1), "float32"), PICTURE], ([0], [1])),
        ([PICTURE, Spot((SIDE, SIDE))], ([0], [1])),
        ([PICTURE, Spot((1, 3, 3, 1))], ([0], [1])),
    ],
)
def test_ends_that_no_card_can_mean_are_refused(
    tmp_path: Path, spots: list[Spot], ends: tuple[list[int], list[int]]
) -> None:
    path = tmp_path / "odd.tflite"
    path.write_bytes(pack_model(build_flatbuffer(spots, [Step("LOGISTIC", [0], [1])], *ends), describe_network({})))
    with pytest.raises(ModelFileError, match=str(path)):
        read_model(path)
