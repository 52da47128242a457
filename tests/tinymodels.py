"""A model file of one operator, which marks what is bright: made in a moment, without a training."""

from __future__ import annotations

from pathlib import Path

from edgeseg.core.card import Card, Provenance, SplitSpec
from edgeseg.core.modelfile import write_model
from edgeseg.core.spec import COLOURS, ClassSpec, InputSpec, OutputSpec, Quantisation
from tests.flatfiles import Spot, Step, build_flatbuffer

SIZE = 64


def write_bright_model(path: Path, colour: str = "grey") -> Path:
    """Write a model that marks pixels brighter than about half of white."""
    channels = COLOURS[colour]
    shape = (1, SIZE, SIZE, channels)
    ends = Quantisation("int8", 1 / 255, -128), Quantisation("int8", 1 / 256, -128)
    spots = [Spot(shape, scale=(end.scale,), zero_point=end.zero_point) for end in ends]
    flatbuffer = build_flatbuffer(spots, [Step("LOGISTIC", [0], [1])], [0], [1])
    classes = tuple(ClassSpec(f"bright{number}") for number in range(channels))
    provenance = Provenance("0" * 64, SplitSpec(1, 0.1, 0.2), 1, "int8-ptq", "tiny", "0", {})
    card = Card(
        name="bright",
        input=InputSpec(SIZE, SIZE, colour),
        input_quantisation=ends[0],
        output=OutputSpec(classes, threshold=0.62),
        output_quantisation=ends[1],
        provenance=provenance,
        parameters=0,
        macs=0,
        lint={},
    )
    write_model(path, flatbuffer, card)
    return path
