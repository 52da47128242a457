"""Build the card and the golden pairs of a new model file."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edgeseg.backends.cpu import CpuBackend, skip_trial
from edgeseg.core.card import Card, Provenance
from edgeseg.core.modelfile import GoldenPair
from edgeseg.core.spec import FindingSpec, InputSpec, OutputSpec
from edgeseg.data.reading import to_channels
from edgeseg.frame.postprocess import SCORE_ONE, tensor_to_scores
from edgeseg.frame.preprocess import frame_to_pixels, pixels_to_tensor
from edgeseg.graph.lint import lint_graph
from edgeseg.graph.operators import read_graph
from edgeseg.phantom import render_case

GOLDEN_SEED = 20
GOLDEN_CANDIDATES = 12
GOLDEN_PAIRS = 2
# The bits of a golden input that are kept: speckle in the lower ones would not compress.
GOLDEN_BITS = 0b11000000


def build_card(
    flatbuffer: bytes,
    name: str,
    ends: tuple[InputSpec, OutputSpec],
    provenance: Provenance,
    finding: FindingSpec | None = None,
) -> Card:
    """Build the card of a new flatbuffer, with all that can be read from the flatbuffer itself.

    Args:
        flatbuffer: The network.
        name: Of the model.
        ends: Its input and its mask.
        provenance: Where it comes from.
        finding: What its second output says; None for a network of one output.
    """
    backend, graph = CpuBackend(flatbuffer), read_graph(flatbuffer)
    mask, *others = [tensor.quantisation for tensor in backend.outputs]
    return Card(
        name=name,
        input=ends[0],
        input_quantisation=backend.input.quantisation,
        output=ends[1],
        output_quantisation=mask,
        provenance=provenance,
        parameters=graph.parameters,
        macs=graph.macs,
        lint=lint_graph(graph),
        finding=finding,
        finding_quantisation=others[0] if others else None,
    )


def make_golden(flatbuffer: bytes, card: Card) -> tuple[GoldenPair, ...]:
    """Make golden pairs from phantoms, so that no patient's image is inside a model file (docs/decisions/0006).

    Of a dozen phantoms those with the fullest masks are kept, since an empty mask proves little.
    """
    backend = CpuBackend(flatbuffer)
    pairs = []
    for pixels in render_golden_pixels(card.input):
        tensor = pixels_to_tensor(pixels, card.input_quantisation)
        pairs.append(GoldenPair(tensor, *(output.copy() for output in backend.invoke(tensor))))
    # it has just run here: no probe in another process is needed
    skip_trial(flatbuffer)
    return tuple(sorted(pairs, key=lambda pair: -_covered(pair, card))[:GOLDEN_PAIRS])


def render_golden_pixels(spec: InputSpec) -> list[NDArray[np.uint8]]:
    """Render the candidates of the golden inputs, as the network sees them."""
    return [_phantom_pixels(spec, index) for index in range(GOLDEN_CANDIDATES)]


@lru_cache(maxsize=GOLDEN_CANDIDATES)
def _phantom_pixels(spec: InputSpec, index: int) -> NDArray[np.uint8]:
    """Render a phantom, once for all files of a run: a dozen of them take seconds."""
    image = render_case(GOLDEN_SEED, index, (spec.height, spec.width)).image & np.uint8(GOLDEN_BITS)
    ends = InputSpec(spec.height, spec.width, spec.colour, spec.resize, modalities=spec.modalities)
    if spec.is_stack:
        # the others mirrored and darker, so that a backend that swaps channels gives another mask
        planes = [image[:, :: (-1) ** number] >> number for number in range(spec.channels)]
        return frame_to_pixels(np.stack(planes, axis=-1), ends)
    return frame_to_pixels(to_channels(image, spec.in_colour), ends)


def _covered(pair: GoldenPair, card: Card) -> float:
    scores = tensor_to_scores(pair.output, card.output_quantisation)
    return float(np.mean(scores.max(axis=2) > SCORE_ONE * card.output.threshold))
