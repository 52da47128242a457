"""Which channels of a network belong together: read from the layers themselves, so that every kind of U-Net is covered.

Every channel that a convolution makes gets a number, which it keeps through normalisation, pooling, resizing and
depthwise convolutions. Concatenation lists the numbers of both sides; addition makes two numbers one, since the two
channels can only be removed together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.model.keras import keras, tf
from edgeseg.model.summary import count_places

Numbers = NDArray[np.int64]
Keep = NDArray[np.bool_]
"""For every channel's number, whether it stays."""


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
