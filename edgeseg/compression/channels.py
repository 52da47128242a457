"""The channels of a network: which layers produce and read them, removing them, and what the rest costs.

The wiring is traced through the layers themselves, so that every kind of U-Net is covered. Every output channel of a
convolution gets an id, which it keeps through normalisation, pooling, resizing and depthwise convolutions.
Concatenation lists the ids of both inputs. Addition merges ids, since channels that are added can only be removed
together.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.backends.cpu import CpuBackend
from edgeseg.convert.tflite import convert_model
from edgeseg.model.keras import keras, tf
from edgeseg.model.spec import UNetSpec
from edgeseg.model.unet import DepthToSpace, build_unet, count_positions

ChannelIds = NDArray[np.int64]
# For every channel id whether the channel stays.
Keep = NDArray[np.bool_]
TIMED_ROUNDS = 100
# The quantile of the times that is compared: other load on the machine only ever adds to a time.
FAST_QUANTILE = 0.1
# For networks that are only timed.
CALIBRATION_IMAGES = 1
# Channels that XNNPACK's int8 kernels write and read at once; fewer take the same time (docs/decisions/0039).
WRITTEN, READ = 16, 8
# Cost of rounding and storing a written channel of a pixel, in multiplications; measured as 0039 says.
EXTRA = 56
_STAGE = re.compile(r"(?:down|up)(\d+)_")


@dataclass(frozen=True, eq=False)
class WiredLayer:
    """A layer with weights: the ids of its input and output channels."""

    name: str
    inputs: ChannelIds
    outputs: ChannelIds
    kernel_area: int
    """Pixels under the kernel; 0 for layers without one."""
    positions: int
    """How often the kernel is applied to an image."""
    depthwise: bool
    """Whether every channel has a kernel of its own."""


@dataclass(frozen=True, eq=False)
class Group:
    """The channels of convolutions whose outputs are added, and so have one width."""

    producers: tuple[str, ...]
    channels: ChannelIds


@dataclass(frozen=True, eq=False)
class Wiring:
    """Where every channel of a network is produced and read."""

    layers: tuple[WiredLayer, ...]
    groups: tuple[Group, ...]
    """Without the channels of image, mask and finding, which must stay."""
    total: int

    def keep_all(self) -> Keep:
        """Keep every channel."""
        return np.ones(self.total, np.bool_)

    def count_kept(self, keep: Keep) -> dict[str, int]:
        """Count the kept channels of every convolution."""
        return {producer: int(keep[group.channels].sum()) for group in self.groups for producer in group.producers}


@dataclass(frozen=True, eq=False)
class Network:
    """A model with the spec it was built from, and its wiring."""

    spec: UNetSpec
    model: Any
    wiring: Wiring


# Measures the cost of a network that keeps some channels, as a share of the whole network's cost.
Meter = Callable[[Network, Keep], float]


def wire_network(spec: UNetSpec, model: Any) -> Network:
    """Trace the channels of a model that was built from a spec."""
    return Network(spec, model, trace_channels(model))


def cut_network(network: Network, keep: Keep) -> Network:
    """Build a smaller copy that computes what the network would with the other channels at zero."""
    spec = shrink_spec(network, keep)
    model = build_unet(spec)
    for wired in network.wiring.layers:
        layer = network.model.get_layer(wired.name)
        model.get_layer(wired.name).set_weights(_cut_weights(layer, wired, keep))
    return wire_network(spec, model)


def shrink_spec(network: Network, keep: Keep) -> UNetSpec:
    """Describe the smaller network: a stage has the width of its encoder, other widths go to `own`."""
    kept = network.wiring.count_kept(keep)
    widths = tuple(kept[f"down{stage}_b"] for stage in range(len(network.spec.widths)))
    bare = dataclasses.replace(network.spec, widths=widths, own={})
    # without `own` a convolution has its stage's width
    own = {name: width for name, width in kept.items() if width != bare.width_of(name, _find_stage(name))}
    return dataclasses.replace(bare, own=own)


def _find_stage(producer: str) -> int:
    found = _STAGE.match(producer)
    return int(found.group(1)) if found else 0


def _cut_weights(layer: Any, wired: WiredLayer, keep: Keep) -> list[NDArray[np.float32]]:
    inputs, outputs = keep[wired.inputs], keep[wired.outputs]
    third, fourth = _order_ends(layer, inputs, outputs)
    return [
        weight[:, :, third][:, :, :, fourth] if weight.ndim == 4 else weight[outputs] for weight in layer.get_weights()
    ]


def _order_ends(layer: Any, inputs: Keep, outputs: Keep) -> tuple[Keep, Keep]:
    """Order what is kept as the last two axes of a kernel are ordered."""
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        # (height, width, channels, 1)
        return outputs, np.ones(1, np.bool_)
    if isinstance(layer, keras.layers.Conv2DTranspose):
        # (height, width, outputs, inputs)
        return outputs, inputs
    # (height, width, inputs, outputs)
    return inputs, outputs


def trace_channels(model: Any) -> Wiring:
    """Trace every channel of a model from its convolution to the layers that read it."""
    ids = _IdForest()
    outputs: dict[str, ChannelIds] = {}
    inputs: dict[str, ChannelIds] = {}
    for layer in model.layers:
        sources = [outputs[name] for name in _list_sources(layer)]
        outputs[layer.name] = _pass_on(layer, sources, ids)
        if layer.weights:
            inputs[layer.name] = sources[0]
    wired = {
        name: _wire_layer(model.get_layer(name), ids.resolve(numbers), ids.resolve(outputs[name]))
        for name, numbers in inputs.items()
    }
    producers = [wired[layer.name] for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    # the channels of the outputs are the classes and findings
    fixed = ids.resolve(np.concatenate([outputs[tensor.node.layer.name] for tensor in model.outputs]))
    return Wiring(tuple(wired.values()), _group_producers(producers, fixed), len(ids.parents))


def _wire_layer(layer: Any, inputs: ChannelIds, outputs: ChannelIds) -> WiredLayer:
    kernel_area = math.prod(getattr(layer, "kernel_size", (0,)))
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    return WiredLayer(layer.name, inputs, outputs, kernel_area, count_positions(layer), depthwise)


def _list_sources(layer: Any) -> list[str]:
    if isinstance(layer, keras.layers.InputLayer):
        return []
    return [tensor.node.layer.name for tensor in tf.nest.flatten(layer.input)]


def _pass_on(layer: Any, sources: list[ChannelIds], ids: _IdForest) -> ChannelIds:
    """Find the ids of a layer's output channels: new ones, merged ones, or those of its input."""
    if isinstance(layer, (keras.layers.InputLayer, keras.layers.Conv2D)):
        return ids.assign(int(layer.output.shape[-1]))
    if isinstance(layer, keras.layers.Concatenate):
        return np.concatenate(sources)
    if isinstance(layer, DepthToSpace):
        # the head's channels are mask pixels: naming some of them is enough for all of them to stay
        return sources[0][: int(layer.output.shape[-1])]
    if int(layer.output.shape[-1]) != len(sources[0]):
        # the image's pixels as channels, or one modality of it: like the image's, nothing produces them, so they stay
        return ids.assign(int(layer.output.shape[-1]))
    for other in sources[1:]:
        ids.merge(sources[0], other)
    return sources[0]


def _group_producers(producers: list[WiredLayer], fixed: ChannelIds) -> tuple[Group, ...]:
    """Group the convolutions that produce the same channels."""
    groups: dict[bytes, list[WiredLayer]] = {}
    for producer in producers:
        if not np.isin(producer.outputs, fixed).any():
            groups.setdefault(producer.outputs.tobytes(), []).append(producer)
    return tuple(Group(tuple(producer.name for producer in members), members[0].outputs) for members in groups.values())


class _IdForest:
    """Assigns channel ids and merges them (a disjoint-set forest)."""

    def __init__(self) -> None:
        self.parents: list[int] = []

    def assign(self, count: int) -> ChannelIds:
        """Assign ids to new channels."""
        first = len(self.parents)
        self.parents += range(first, first + count)
        return np.arange(first, first + count)

    def merge(self, first: ChannelIds, second: ChannelIds) -> None:
        """Merge ids in pairs."""
        for one, other in zip(self.resolve(first), self.resolve(second), strict=True):
            # the smaller id becomes the root, so that ids stay in order of execution
            self.parents[max(one, other)] = int(min(one, other))

    def resolve(self, numbers: ChannelIds) -> ChannelIds:
        """Replace merged ids by one of them."""
        return np.array([self._find_root(int(number)) for number in numbers], np.int64)

    def _find_root(self, number: int) -> int:
        while self.parents[number] != number:
            number = self.parents[number]
        return number


@dataclass(frozen=True)
class Costs:
    """Parameters and MACs as in the converted file, where batch normalisation is folded into the weights."""

    parameters: int
    macs: int
    work: int
    """MACs as kernels compute them, in whole blocks of channels: it predicts an int8 network's time on a CPU."""


def count_costs(wiring: Wiring, keep: Keep) -> Costs:
    """Count the costs of the kept channels."""
    parameters = macs = work = 0
    for layer in wiring.layers:
        inputs, outputs = int(keep[layer.inputs].sum()), int(keep[layer.outputs].sum())
        weights = layer.kernel_area * outputs * (1 if layer.depthwise else inputs)
        # folded batch normalisation leaves one bias per output channel
        parameters += weights + (outputs if layer.kernel_area else 0)
        macs += weights * layer.positions
        work += _count_work(layer, inputs, outputs)
    return Costs(parameters, macs, work)


def _count_work(layer: WiredLayer, inputs: int, outputs: int) -> int:
    if not layer.kernel_area:
        return 0
    each = layer.kernel_area * (1 if layer.depthwise else _round_up(inputs, READ)) + EXTRA
    return layer.positions * _round_up(outputs, WRITTEN) * each


def _round_up(channels: int, lanes: int) -> int:
    return math.ceil(channels / lanes) * lanes


def choose_meter(budget: str, parent: Network) -> Meter:
    """Choose how a budget's cost is measured."""
    if budget == "latency":
        return LatencyMeter(parent.spec)
    whole = getattr(count_costs(parent.wiring, parent.wiring.keep_all()), budget)
    return lambda network, keep: getattr(count_costs(network.wiring, keep), budget) / whole


class LatencyMeter:
    """Times networks as int8 files in turn with the whole one, on one thread; weights do not matter for that."""

    def __init__(self, parent: UNetSpec) -> None:
        self._parent = load_untrained(parent)

    def __call__(self, network: Network, keep: Keep) -> float:
        """Measure the share of the whole network's latency."""
        child = load_untrained(shrink_spec(network, keep))
        # in turn, so that frequency scaling and other load hit both networks alike
        taken = [(_time_once(child), _time_once(self._parent)) for _ in range(TIMED_ROUNDS)]
        return float(np.divide(*np.quantile(taken, FAST_QUANTILE, axis=0)))


def load_untrained(spec: UNetSpec) -> CpuBackend:
    """Load an untrained int8 network."""
    # any images will do: ranges do not change how long an int8 network takes
    images = np.random.default_rng(0).uniform(0, 1, (CALIBRATION_IMAGES, spec.height, spec.width, spec.channels))
    return CpuBackend(convert_model(build_unet(spec), "int8", images.astype(np.float32)))


def _time_once(backend: CpuBackend) -> float:
    tensor = np.zeros(backend.input.shape, backend.input.quantisation.dtype)
    start = perf_counter()
    backend.invoke(tensor)
    return perf_counter() - start
