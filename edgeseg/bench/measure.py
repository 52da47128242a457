"""Time model files on this machine: stage by stage, several in turn, so that drift hits all alike."""

from __future__ import annotations

import platform
import resource
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

import edgeseg
from edgeseg.backends.parity import Parity
from edgeseg.core.modelfile import read_model
from edgeseg.core.progress import ignore
from edgeseg.core.stats import Percentiles, summarise_times
from edgeseg.data.phantom import render_case
from edgeseg.data.reading import to_channels
from edgeseg.runtime.latency import STAGES
from edgeseg.runtime.segmenter import Segmenter, StageTimes

BLOCK = 10
FRAME_SIZE = (480, 640)


@dataclass(frozen=True)
class BenchResult:
    """What one model file takes on this machine."""

    model: str
    backend: str
    threads: int
    runs: int
    latency_ms: dict[str, Percentiles]
    load_ms: float
    first_inference_ms: float
    peak_rss_mb: float
    host: dict[str, Any]
    requested: str
    fallback_reason: str | None
    parity: Parity | None


@dataclass(frozen=True)
class LoadedModel:
    """A model file ready to be timed, and what it took to get there."""

    path: Path
    segmenter: Segmenter
    load_ms: float
    first_inference_ms: float


def load_models(paths: Sequence[Path], requested: str, threads: int, enforce_parity: bool = True) -> list[LoadedModel]:
    """Load model files for timing.

    Args:
        paths: The files.
        requested: "auto" or the names of backends, with commas: every file is loaded on each of them.
        threads: CPU threads each model may use.
        enforce_parity: Whether a backend is refused whose masks are not those of the golden pairs.
    """
    return [_load(path, name, threads, enforce_parity) for path in paths for name in requested.split(",")]


def _load(path: Path, requested: str, threads: int, enforce_parity: bool) -> LoadedModel:
    start = perf_counter()
    segmenter = Segmenter(read_model(path), requested, threads, enforce_parity)
    load_ms = 1e3 * (perf_counter() - start)
    return LoadedModel(path, segmenter, round(load_ms, 3), round(segmenter.warm_up(), 3))


def bench_models(
    models: Sequence[LoadedModel], threads: int, runs: int, on_block: Callable[[str], None] = ignore
) -> list[BenchResult]:
    """Time several models in one run.

    Args:
        models: The models, loaded.
        threads: CPU threads they were loaded with.
        runs: How many frames each model is timed on.
        on_block: Told after each block of frames.
    """
    times = time_segmenters([model.segmenter for model in models], runs, on_block)
    return [_put_together(model, latency, threads, runs) for model, latency in zip(models, times, strict=True)]


def _put_together(model: LoadedModel, latency: dict[str, Percentiles], threads: int, runs: int) -> BenchResult:
    ran_on = model.segmenter.selection.report()
    return BenchResult(
        model=model.path.name,
        backend=ran_on.name,
        threads=threads,
        runs=runs,
        latency_ms=latency,
        load_ms=model.load_ms,
        first_inference_ms=model.first_inference_ms,
        peak_rss_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        host=describe_host(ran_on.detail),
        requested=ran_on.requested,
        fallback_reason=ran_on.fallback_reason,
        parity=ran_on.parity,
    )


def time_segmenters(
    segmenters: Sequence[Segmenter], runs: int, on_block: Callable[[str], None] = ignore
) -> list[dict[str, Percentiles]]:
    """Time models in turn, in blocks; the first frame of a block warms the caches and is not counted."""
    taken: list[list[StageTimes]] = [[] for _ in segmenters]
    for _ in range(count_blocks(runs)):
        for segmenter, times in zip(segmenters, taken, strict=True):
            frame = make_frame(segmenter.card.input.in_colour)
            times += [segmenter.segment(frame).times for _ in range(BLOCK + 1)][1:]
        on_block("")
    return [{stage: summarise_times([getattr(t, stage) for t in times[:runs]]) for stage in STAGES} for times in taken]


def count_blocks(runs: int) -> int:
    """Count the blocks that hold so many runs."""
    return -(-runs // BLOCK)


@lru_cache(maxsize=2)
def make_frame(colour: bool) -> NDArray[np.uint8]:
    """Make a frame of a camera's size."""
    return to_channels(render_case(seed=0, size=FRAME_SIZE).image, colour)


def describe_host(runtime: str) -> dict[str, Any]:
    """Describe this machine as far as it matters for speed; no name, no address."""
    return {
        "machine": platform.machine(),
        "cpu": _read_cpu_model(),
        "python": platform.python_version(),
        "edgeseg": edgeseg.__version__,
        "runtime": runtime,
    }


def _read_cpu_model() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith(("model name", "Model"))]
    return names[0] if names else "unknown"
