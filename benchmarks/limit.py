"""How near a network is to what one core computes: peaks in int8 and float32, memory bandwidth, roofline, operators.

    python benchmarks/limit.py OUT [--model FILE] [--candidates]

Peaks are those of XNNPACK's own convolutions on shapes that suit them (runs of four equal layers, one thread) and of
the float32 matrix product of NumPy's BLAS; bandwidth is that of copying within the second-level cache and beyond all
caches. Every operator of the file then stands against the roof at its own arithmetic intensity (Williams, Waterman
and Patterson 2009). --candidates times other shapes of the same network in turn with it. Writes OUT/limit.md, .json
and .png.
"""

from __future__ import annotations

import argparse
import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

# one thread for the matrix product; read when NumPy is imported
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
from trained import describe_place, write_results
from untrained import pick_model

from edgeseg.backends.cpu import CpuBackend
from edgeseg.bench.operators import match_layers, time_operators
from edgeseg.core.files import write_bytes, write_json
from edgeseg.core.modelfile import ModelFile, read_model
from edgeseg.graph.operators import Graph, read_graph
from edgeseg.graph.summary import summarise_layers

# Kernel, side and channels of the runs of convolutions; four layers each, so that no end dominates.
SHAPES = (
    *((3, 64, 8), (3, 64, 16), (3, 64, 32), (3, 32, 32), (3, 32, 64), (3, 16, 64), (3, 16, 128), (3, 8, 256)),
    *((1, 64, 16), (1, 32, 64), (1, 16, 128), (1, 16, 256), (1, 16, 512), (1, 8, 512)),
)
FLOAT_SHAPES = ((3, 32, 64), (3, 16, 128), (1, 16, 512))
LAYERS, ROUNDS, BLOCK = 4, 30, 5
# Bytes that are copied: within the second-level cache of common cores, and beyond the last one.
NEAR, FAR = 2**18, 2**28
SIDE = 1024
GOAL = 0.8
HEADER = (
    "operator",
    "output",
    "million MACs",
    "ms",
    "GMAC/s",
    "MACs per byte",
    "share of the roof",
    "share of the time",
)
# Other shapes of `small`: stem, widths behind it.
CANDIDATES: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "quarter, as `small`": ("quarter", (16, 32, 64, 128)),
    "quarter, the first stage wider": ("quarter", (32, 32, 64, 128)),
    "s2d4": ("s2d4", (16, 32, 64, 128)),
    "s2d4, wider": ("s2d4", (16, 48, 80, 128)),
    "s2d8": ("s2d8", (32, 64, 128)),
    "s2d8, the first stage wider": ("s2d8", (48, 64, 128)),
    "s2d8, all stages wider": ("s2d8", (48, 80, 160)),
    "s2d8, a stage more": ("s2d8", (32, 64, 128, 128)),
}
Run = Callable[[], object]
# Operators whose MACs per byte differ by less than this factor share the place of their names.
ALIKE = 1.5


@dataclass(frozen=True)
class Point:
    """What was measured of something that multiplies: million MACs, and milliseconds of one run."""

    name: str
    macs: int
    ms: float

    @property
    def rate(self) -> float:
        """GMAC/s."""
        return self.macs / self.ms / 1e6


def time_in_turn(runs: Mapping[str, Run], rounds: int = ROUNDS) -> dict[str, float]:
    """Time several runs in turn, in blocks whose first run is not counted; medians in milliseconds."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            run()
            for _ in range(BLOCK):
                start = perf_counter()
                run()
                taken[name].append(1e3 * (perf_counter() - start))
    return {name: median(times) for name, times in taken.items()}


def load_network(model: Any, precision: str) -> tuple[int, Run]:
    """Convert a Keras model; returns its MACs and what runs it once on one thread."""
    from edgeseg.convert.tflite import compact_flatbuffer, convert_model

    shape = model.input_shape[1:]
    noise = np.random.default_rng(0).random((4, *shape), dtype=np.float32)
    noise[:, 0, 0], noise[:, 0, 1] = 0.0, 1.0
    flatbuffer = compact_flatbuffer(convert_model(model, precision, noise))
    backend = CpuBackend(flatbuffer, 1)
    tensor = (255 * noise[:1] - 128).astype(np.int8) if precision == "int8" else noise[:1]
    return count_macs(read_graph(flatbuffer)), lambda: backend.invoke(tensor)


def count_macs(graph: Graph) -> int:
    """Count the multiplications of a graph."""
    return sum(operator.macs for operator in graph.operators)


def build_run(kernel: int, side: int, channels: int) -> Any:
    """Build a network of equal convolutions."""
    from edgeseg.model.keras import keras

    image = x = keras.Input((side, side, channels))
    for _ in range(LAYERS):
        x = keras.layers.Conv2D(channels, kernel, padding="same", kernel_initializer="he_normal", activation="relu")(x)
    return keras.Model(image, x)


def measure_peaks() -> tuple[list[Point], list[Point]]:
    """Time the convolutions and the matrix product, all in turn; returns int8 and float32."""
    networks: dict[str, tuple[int, Run]] = {}
    for precision, shapes in (("int8", SHAPES), ("float32", FLOAT_SHAPES)):
        for kernel, side, channels in shapes:
            name = f"{precision} {kernel}x{kernel}, {side}x{side}x{channels}"
            networks[name] = load_network(build_run(kernel, side, channels), precision)
    matrix = np.random.default_rng(0).random((SIDE, SIDE), dtype=np.float32)
    networks[f"float32 matrix product, {SIDE}x{SIDE}, BLAS"] = (SIDE**3, lambda: matrix @ matrix)
    times = time_in_turn({name: run for name, (_, run) in networks.items()})
    points = [Point(name, macs, times[name]) for name, (macs, _) in networks.items()]
    return [p for p in points if p.name.startswith("int8")], [p for p in points if not p.name.startswith("int8")]


def measure_bandwidth() -> tuple[float, float]:
    """Copy within a cache and beyond all of them; GB/s read and written."""
    rates = []
    for size, repeats in ((NEAR, 200), (FAR, 5)):
        source, target = np.ones(size // 2, np.uint8), np.zeros(size // 2, np.uint8)
        taken = []
        for _ in range(ROUNDS):
            start = perf_counter()
            for _ in range(repeats):
                np.copyto(target, source)
            taken.append((perf_counter() - start) / repeats)
        rates.append(size / median(taken) / 1e9)
    return rates[0], rates[1]


@dataclass(frozen=True)
class Placed:
    """An operator of the file with its time and its bytes: inputs, weights and outputs, each once."""

    name: str
    shape: tuple[int, ...]
    macs: int
    ms: float
    bytes: int

    @property
    def intensity(self) -> float:
        """MACs per byte."""
        return self.macs / self.bytes

    def roof(self, peak: float, bandwidth: float) -> float:
        """GMAC/s that the core could reach at this intensity."""
        return min(peak, self.intensity * bandwidth)


def place_operators(flatbuffer: bytes) -> list[Placed]:
    """Time every operator of a file by LiteRT's profiler."""
    graph = read_graph(flatbuffer)
    layers = summarise_layers(graph)
    times = match_layers(layers, time_operators(flatbuffer, rounds=ROUNDS))
    if times is None:
        raise SystemExit("Expected the profiler's operators to be those of the file, got others.")
    return [
        Placed(
            f"{layer.name} ({operator.name})",
            layer.shape,
            operator.macs,
            ms,
            sum(tensor.bytes for tensor in (*operator.inputs, *operator.outputs)),
        )
        for operator, layer, ms in zip(graph.operators, layers, times, strict=True)
    ]


def measure_candidates(size: int = 256) -> list[Point]:
    """Time untrained networks of other shapes in turn."""
    from edgeseg.model.spec import UNetSpec
    from edgeseg.model.unet import build_unet

    networks = {
        name: load_network(build_unet(UNetSpec(size, size, 1, 1, "sigmoid", widths, stem=stem)), "int8")
        for name, (stem, widths) in CANDIDATES.items()
    }
    times = time_in_turn({name: run for name, (_, run) in networks.items()}, 2 * ROUNDS)
    return [Point(name, macs, times[name]) for name, (macs, _) in networks.items()]


def join_near(placed: Sequence[Placed]) -> list[list[Placed]]:
    """Put operators together that the roofline shows at nearly one place, so that their names share one."""
    joined: list[list[Placed]] = []
    for one in sorted(placed, key=lambda one: one.intensity):
        if joined and one.intensity < ALIKE * joined[-1][0].intensity:
            joined[-1].append(one)
        else:
            joined.append([one])
    return joined


def draw_roofline(placed: Sequence[Placed], peak: float, near: float, far: float) -> bytes:
    """Draw the roofs and every operator that multiplies; its area is its share of the time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    ends = np.geomspace(0.5, 2000, 200)
    axes.plot(ends, np.minimum(peak, ends * near), color="#1b2a33", label=f"{peak:.0f} GMAC/s; cache {near:.0f} GB/s")
    axes.plot(ends, np.minimum(peak, ends * far), color="#64748b", linestyle="--", label=f"memory {far:.0f} GB/s")
    multiplying = [one for one in placed if one.macs and one.ms > 0]
    total = sum(one.ms for one in placed)
    for one in multiplying:
        rate = one.macs / one.ms / 1e6
        axes.scatter(one.intensity, rate, s=3000 * one.ms / total, color="#0f766e", alpha=0.5, linewidths=0)
    for alike in join_near([one for one in multiplying if one.ms / total > 0.03]):
        names = "\n".join(one.name.split(" (")[0] for one in alike)
        lowest = min(one.macs / one.ms / 1e6 for one in alike)
        place = {"textcoords": "offset points", "va": "top", "ha": "center", "fontsize": 8}
        axes.annotate(names, (alike[0].intensity, lowest), (0, -16), **place)
    axes.set(xscale="log", yscale="log", xlabel="MACs per byte", ylabel="GMAC/s", xlim=(0.5, 2000), ylim=(5, 2 * peak))
    axes.legend(frameon=False, loc="lower right")
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    return content.getvalue()


def make_rows(placed: Sequence[Placed], peak: float, near: float) -> list[list[str]]:
    """Put the operators into cells, the slowest first."""
    total = sum(one.ms for one in placed)
    rows = []
    for one in sorted(placed, key=lambda one: -one.ms):
        rate = one.macs / one.ms / 1e6 if one.ms else 0.0
        roof = f"{rate / one.roof(peak, near):.0%}" if one.macs else ""
        shape = "x".join(str(side) for side in one.shape[1:])
        cells = [f"{one.macs / 1e6:.2f}", f"{one.ms:.4f}", f"{rate:.0f}" if one.macs else "", f"{one.intensity:.1f}"]
        rows.append([one.name, shape, *cells, roof, f"{one.ms / total:.1%}"])
    return rows


def list_points(title: str, points: Sequence[Point], peak: float) -> list[str]:
    """Write a small table of rates."""
    lines = ["", f"## {title}", "", "| what | million MACs | ms | GMAC/s | of the int8 peak |", "|---|---|---|---|---|"]
    return lines + [
        f"| {p.name} | {p.macs / 1e6:.1f} | {p.ms:.3f} | {p.rate:.0f} | {p.rate / peak:.0%} |" for p in points
    ]


@dataclass(frozen=True)
class Measured:
    """What was measured: the network, its operators, and the limits of the core."""

    network: Point
    placed: Sequence[Placed]
    whole: Sequence[Point]
    """The shapes that set the int8 peak."""
    reals: Sequence[Point]
    """The same in float32."""
    near: float
    """Bandwidth within the cache in GB/s."""
    far: float
    """Beyond it."""
    candidates: Sequence[Point]

    @property
    def peak(self) -> float:
        """The fastest int8 shape, in GMAC/s."""
        return max(point.rate for point in self.whole)


def measure(model: ModelFile, candidates: bool) -> Measured:
    """Measure the core, and the network on it."""
    whole, reals = measure_peaks()
    near, far = measure_bandwidth()
    backend, spec = CpuBackend(model.flatbuffer, 1), model.card.input
    tensor = np.zeros((1, spec.height, spec.width, spec.channels), np.int8)
    placed = place_operators(model.flatbuffer)
    ms = time_in_turn({"network": lambda: backend.invoke(tensor)}, 4 * ROUNDS)["network"]
    network = Point(model.card.name, count_macs(read_graph(model.flatbuffer)), ms)
    others = measure_candidates(spec.height) if candidates else []
    return Measured(network, placed, whole, reals, near, far, others)


def describe(found: Measured) -> list[str]:
    """Say in words what was measured."""
    network, peak = found.network, found.peak
    held = "held" if network.rate >= GOAL * peak else "missed"
    return [
        "# What one core can do, and what the network takes of it",
        "",
        "    python benchmarks/limit.py OUT --candidates",
        "",
        f"{network.name}: {network.macs / 1e6:.0f} million MACs in {network.ms:.3f} ms, {network.rate:.0f} GMAC/s, "
        f"{network.rate / peak:.0%} of the int8 peak of {peak:.0f} (goal {GOAL:.0%}: {held}).",
        f"Copies within the cache: {found.near:.0f} GB/s, beyond it {found.far:.0f}. The roof of an operator is the",
        "lower one of the peak and of its MACs per byte at the cache's bandwidth. Time of operators by LiteRT's",
        "profiler, to a microsecond.",
        *list_points("Peaks", [*found.whole, *found.reals], peak),
        *(list_points("Other shapes, untrained, in turn", found.candidates, peak) if found.candidates else []),
        "",
        "## Operators",
    ]


def main() -> None:
    """Measure, and write table, figures and picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=Path, help="an int8 file; an untrained `small` without it")
    parser.add_argument("--candidates", action="store_true", help="time other shapes of the network, too")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    found = measure(read_model(pick_model(chosen.model, chosen.out)), chosen.candidates)
    peak, near, far = found.peak, found.near, found.far
    write_results(chosen.out, "limit", describe(found), HEADER, make_rows(found.placed, peak, near))
    figures = {
        "measured": describe_place(),
        "peak_gmacs": peak,
        "bandwidth_gbs": {"cache": near, "memory": far},
        "network": {**asdict(found.network), "share": found.network.rate / peak},
        "peaks": [asdict(point) for point in (*found.whole, *found.reals)],
        "candidates": [asdict(point) for point in found.candidates],
        "operators": [asdict(one) for one in found.placed],
    }
    write_json(chosen.out / "limit.json", figures)
    write_bytes(chosen.out / "limit.png", draw_roofline(found.placed, peak, near, far))


if __name__ == "__main__":
    main()
