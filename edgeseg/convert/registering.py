"""Build the card and the golden pairs of a file that registers."""

from __future__ import annotations

import numpy as np

from edgeseg.backends.cpu import CpuBackend, skip_trial
from edgeseg.convert.package import GOLDEN_BITS, GOLDEN_PAIRS, GOLDEN_SEED
from edgeseg.core.modelfile import GoldenPair
from edgeseg.core.registration_card import RegistrationCard, RegistrationProvenance
from edgeseg.core.spec import InputSpec
from edgeseg.frame.preprocess import pixels_to_tensor
from edgeseg.graph.lint import lint_graph
from edgeseg.graph.operators import read_graph
from edgeseg.phantom.pairs import render_pair
from edgeseg.registration.coding import pair_to_pixels


def build_registration_card(
    flatbuffer: bytes, name: str, source: InputSpec, reach_px: float, provenance: RegistrationProvenance
) -> RegistrationCard:
    """Build the card of a new flatbuffer, with all that can be read from the flatbuffer itself.

    Args:
        flatbuffer: The network.
        name: Of the model.
        source: Each of the two frames.
        reach_px: The displacement that an output of 1 stands for.
        provenance: Where it comes from.
    """
    backend, graph = CpuBackend(flatbuffer), read_graph(flatbuffer)
    return RegistrationCard(
        name=name,
        input=source,
        input_quantisation=backend.input.quantisation,
        output_quantisation=backend.outputs[0].quantisation,
        reach_px=reach_px,
        provenance=provenance,
        parameters=graph.parameters,
        macs=graph.macs,
        lint=lint_graph(graph),
    )


def make_registration_golden(flatbuffer: bytes, card: RegistrationCard) -> tuple[GoldenPair, ...]:
    """Make golden pairs from phantoms that moved, so that no patient's image is inside a model file."""
    backend = CpuBackend(flatbuffer)
    size = (card.input.height, card.input.width)
    pairs = []
    for index in range(GOLDEN_PAIRS):
        phantom = render_pair(GOLDEN_SEED, index, size)
        pixels = pair_to_pixels(phantom.fixed.image, phantom.moving.image) & np.uint8(GOLDEN_BITS)
        tensor = pixels_to_tensor(pixels, card.input_quantisation)
        pairs.append(GoldenPair(tensor, backend.invoke(tensor)[0].copy()))
    # it has just run here: no probe in another process is needed
    skip_trial(flatbuffer)
    return tuple(pairs)
