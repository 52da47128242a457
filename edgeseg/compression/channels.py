"""Which channels of a network belong together: read from the layers themselves, so that every kind of U-Net is covered.

Every channel that a convolution makes gets a number, which it keeps through normalisation, pooling, resizing and
depthwise convolutions. Concatenation lists the numbers of both sides; addition makes two numbers one, since the two
channels can only be removed together.
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
from edgeseg.model.unet import build_unet, count_places

Numbers = NDArray[np.int64]
Keep = NDArray[np.bool_]
"""For every channel's number, whether it stays."""
TIMED_ROUNDS = 100
UNDISTURBED = 0.1
"""The quantile that is compared: what else the machine does only adds to a time, and a step too far is not undone."""
RANGE_IMAGES = 1
WRITTEN, READ = 16, 8
"""Kernels write and read so many channels at once; fewer take the same time."""
EXTRA = 56
"""What each written channel of a pixel takes beside its multiplications, in multiplications: rounding and storing."""


@dataclass(frozen=True, eq=False)
class WiredLayer:
    """A layer with weights: the numbers of the channels it reads and of those it gives."""

    name: str
    reads: Numbers
    gives: Numbers
    taps: int
    """Pixels under its kernel; 0 where it has none."""
    places: int
    """How often the kernel is laid on an image."""
    apart: bool
    """Whether every channel has a kernel for itself."""


@dataclass(frozen=True, eq=False)
class Group:
    """The channels of one or several convolutions that have one width, since their results are added."""

    makers: tuple[str, ...]
    channels: Numbers


@dataclass(frozen=True, eq=False)
class Wiring:
    """Where every channel of a network comes from and goes to."""

    layers: tuple[WiredLayer, ...]
    groups: tuple[Group, ...]
    """Without the image's channels and the mask's, which nothing may remove."""
    total: int

    def keep_all(self) -> Keep:
        """Keep every channel."""
        return np.ones(self.total, np.bool_)

    def count_kept(self, keep: Keep) -> dict[str, int]:
        """Count the channels that stay of every convolution."""
        return {maker: int(keep[group.channels].sum()) for group in self.groups for maker in group.makers}


class _Numbering:
    """Hands out numbers, and remembers which are one."""

    def __init__(self) -> None:
        self.same: list[int] = []

    def begin(self, count: int) -> Numbers:
        """Number new channels."""
        first = len(self.same)
        self.same += range(first, first + count)
        return np.arange(first, first + count)

    def join(self, first: Numbers, second: Numbers) -> None:
        """Let channels be one in pairs."""
        for one, other in zip(self.resolve(first), self.resolve(second), strict=True):
            self.same[max(one, other)] = int(min(one, other))

    def resolve(self, numbers: Numbers) -> Numbers:
        """Give channels that are one the same number."""
        return np.array([self._find_root(int(number)) for number in numbers], np.int64)

    def _find_root(self, number: int) -> int:
        while self.same[number] != number:
            number = self.same[number]
        return number


def trace_channels(model: Any) -> Wiring:
    """Follow every channel through a model, from where it is made to where it is read."""
    numbering = _Numbering()
    gives: dict[str, Numbers] = {}
    reads: dict[str, Numbers] = {}
    for layer in model.layers:
        sources = [gives[name] for name in _list_sources(layer)]
        gives[layer.name] = _pass_on(layer, sources, numbering)
        if layer.weights:
            reads[layer.name] = sources[0]
    wired = {
        name: _wire_layer(model.get_layer(name), numbering.resolve(numbers), numbering.resolve(gives[name]))
        for name, numbers in reads.items()
    }
    makers = [wired[layer.name] for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    fixed = numbering.resolve(gives[model.output.node.layer.name])
    return Wiring(tuple(wired.values()), _group_makers(makers, fixed), len(numbering.same))


def _wire_layer(layer: Any, reads: Numbers, gives: Numbers) -> WiredLayer:
    taps = math.prod(getattr(layer, "kernel_size", (0,)))
    apart = isinstance(layer, keras.layers.DepthwiseConv2D)
    return WiredLayer(layer.name, reads, gives, taps, count_places(layer), apart)


def _list_sources(layer: Any) -> list[str]:
    if isinstance(layer, keras.layers.InputLayer):
        return []
    return [tensor.node.layer.name for tensor in tf.nest.flatten(layer.input)]


def _pass_on(layer: Any, sources: list[Numbers], numbering: _Numbering) -> Numbers:
    """Say which channels a layer gives: new ones, joined ones, or those it was given."""
    if isinstance(layer, (keras.layers.InputLayer, keras.layers.Conv2D)):
        return numbering.begin(int(layer.output.shape[-1]))
    if isinstance(layer, keras.layers.Concatenate):
        return np.concatenate(sources)
    for other in sources[1:]:
        numbering.join(sources[0], other)
    return sources[0]


def _group_makers(makers: list[WiredLayer], fixed: Numbers) -> tuple[Group, ...]:
    """Group the convolutions that make the same channels."""
    groups: dict[bytes, list[WiredLayer]] = {}
    for maker in makers:
        if not np.isin(maker.gives, fixed).any():
            groups.setdefault(maker.gives.tobytes(), []).append(maker)
    return tuple(Group(tuple(maker.name for maker in members), members[0].gives) for members in groups.values())


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


Meter = Callable[[Network, Keep], float]
"""Measures a network with fewer channels as a share of the first network's cost."""


@dataclass(frozen=True)
class Costs:
    """Parameters and MACs, counted as in the converted file, where normalisation has become part of the weights."""

    parameters: int
    macs: int
    work: int
    """MACs as kernels do them, which goes with the time of an int8 network on a CPU."""


def count_costs(wiring: Wiring, keep: Keep) -> Costs:
    """Count what is left when only some channels stay."""
    parameters = macs = work = 0
    for layer in wiring.layers:
        reads, gives = int(keep[layer.reads].sum()), int(keep[layer.gives].sum())
        weights = layer.taps * gives * (1 if layer.apart else reads)
        parameters += weights + (gives if layer.taps else 0)
        macs += weights * layer.places
        work += _count_work(layer, reads, gives)
    return Costs(parameters, macs, work)


def _count_work(layer: WiredLayer, reads: int, gives: int) -> int:
    if not layer.taps:
        return 0
    each = layer.taps * (1 if layer.apart else _round_up(reads, READ)) + EXTRA
    return layer.places * _round_up(gives, WRITTEN) * each


def _round_up(channels: int, lanes: int) -> int:
    return math.ceil(channels / lanes) * lanes


def choose_meter(budget: str, parent: Network) -> Meter:
    """Choose how the share of a budget that is left is measured."""
    if budget == "latency":
        return LatencyMeter(parent.spec)
    whole = getattr(count_costs(parent.wiring, parent.wiring.keep_all()), budget)
    return lambda network, keep: getattr(count_costs(network.wiring, keep), budget) / whole


class LatencyMeter:
    """Times networks as int8 files in turn with the first one, on one thread; their weights do not matter for that."""

    def __init__(self, parent: UNetSpec) -> None:
        self._parent = load_untrained(parent)

    def __call__(self, network: Network, keep: Keep) -> float:
        """Measure the share of the first network's time."""
        child = load_untrained(shrink_spec(network, keep))
        taken = [(_time_once(child), _time_once(self._parent)) for _ in range(TIMED_ROUNDS)]
        return float(np.divide(*np.quantile(taken, UNDISTURBED, axis=0)))


def load_untrained(spec: UNetSpec) -> CpuBackend:
    """Load an int8 network that has learned nothing."""
    images = np.random.default_rng(0).uniform(0, 1, (RANGE_IMAGES, spec.height, spec.width, spec.channels))
    return CpuBackend(convert_model(build_unet(spec), "int8", images.astype(np.float32)))


def _time_once(backend: CpuBackend) -> float:
    tensor = np.zeros(backend.input.shape, backend.input.quantisation.dtype)
    start = perf_counter()
    backend.invoke(tensor)
    return perf_counter() - start
