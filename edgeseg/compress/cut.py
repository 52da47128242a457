"""Build a network again with fewer channels; those that stay keep their weights."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.compress.channels import Keep, WiredLayer, Wiring, trace_channels
from edgeseg.model.keras import keras
from edgeseg.model.spec import UNetSpec
from edgeseg.model.unet import build_unet

_STAGE = re.compile(r"(?:down|up)(\d+)_")


@dataclass(frozen=True, eq=False)
class Network:
    """A model with the spec it was built from, and where its channels go."""

    spec: UNetSpec
    model: Any
    wiring: Wiring


def wire_network(spec: UNetSpec, model: Any) -> Network:
    """Follow the channels of a model that was built from a spec."""
    return Network(spec, model, trace_channels(model))


def cut_network(network: Network, keep: Keep) -> Network:
    """Build a smaller copy that draws what the network would draw if the other channels were zero."""
    spec = shrink_spec(network, keep)
    model = build_unet(spec)
    for wired in network.wiring.layers:
        layer = network.model.get_layer(wired.name)
        model.get_layer(wired.name).set_weights(_cut_weights(layer, wired, keep))
    return wire_network(spec, model)


def shrink_spec(network: Network, keep: Keep) -> UNetSpec:
    """Describe the network that is left: stages have the width of their way down, the others their own."""
    kept = network.wiring.count_kept(keep)
    widths = tuple(kept[f"down{stage}_b"] for stage in range(len(network.spec.widths)))
    bare = dataclasses.replace(network.spec, widths=widths, own={})
    own = {name: width for name, width in kept.items() if width != bare.width_of(name, _find_stage(name))}
    return dataclasses.replace(bare, own=own)


def _find_stage(maker: str) -> int:
    found = _STAGE.match(maker)
    return int(found.group(1)) if found else 0


def _cut_weights(layer: Any, wired: WiredLayer, keep: Keep) -> list[NDArray[np.float32]]:
    reads, gives = keep[wired.reads], keep[wired.gives]
    third, fourth = _order_ends(layer, reads, gives)
    return [
        weight[:, :, third][:, :, :, fourth] if weight.ndim == 4 else weight[gives] for weight in layer.get_weights()
    ]


def _order_ends(layer: Any, reads: Keep, gives: Keep) -> tuple[Keep, Keep]:
    """Say what a kernel's last two axes are: what is read and what is given, and not always in this order."""
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return gives, np.ones(1, np.bool_)
    if isinstance(layer, keras.layers.Conv2DTranspose):
        return gives, reads
    return reads, gives
