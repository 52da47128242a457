"""What a network costs with some of its channels gone: counted, or timed as int8 on this machine."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from edgeseg.backends.cpu import CpuBackend
from edgeseg.compress.channels import Keep, WiredLayer, Wiring
from edgeseg.compress.cut import Network, shrink_spec
from edgeseg.convert.tflite import convert_model
from edgeseg.model.spec import UNetSpec
from edgeseg.model.unet import build_unet

TIMED_ROUNDS = 100
UNDISTURBED = 0.1
"""The quantile that is compared: what else the machine does only adds to a time, and a step too far is not undone."""
RANGE_IMAGES = 1
WRITTEN, READ = 16, 8
"""Kernels write and read so many channels at once; fewer take the same time."""
EXTRA = 56
"""What each written channel of a pixel takes beside its multiplications, in multiplications: rounding and storing."""

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
