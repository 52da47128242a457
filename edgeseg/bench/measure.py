"""Benchmark model files on this machine, stage by stage, and compare the masks of backends.

Several models are timed in turn, in short blocks, so that a clock that drifts with heat affects all of them alike.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

import edgeseg
from edgeseg.backends.parity import Parity
from edgeseg.backends.select import AUTO, run_trial_first, select_backend
from edgeseg.bench.memory import FRAME_SIZE, measure_memory
from edgeseg.bench.pairs import Timed, open_timed
from edgeseg.core.errors import BackendError
from edgeseg.core.modelfile import AnyFile, find_members, find_model, is_ensemble, read_any
from edgeseg.core.progress import ignore
from edgeseg.core.stats import Percentiles, summarise_times
from edgeseg.data.reading import to_channels
from edgeseg.inference.segmenter import StageTimes
from edgeseg.machine.thermal import Thermal, describe_heat, read_governors, read_thermal
from edgeseg.phantom import render_case
from edgeseg.streaming.latency import STAGES

# Between the medians of the first and the last third of a steady run.
MAX_DRIFT = 0.1
MIN_RUNS_FOR_DRIFT = 30
# Frames per block.
BLOCK = 10


@dataclass(frozen=True)
class Conditions:
    """The CPU governors and the temperature while models were timed."""

    governors: tuple[str, ...]
    thermal: tuple[Thermal, Thermal]
    """Before and after."""

    def describe(self) -> str:
        """Describe them in a sentence."""
        return f"CPU governor: {', '.join(self.governors) or 'none to choose'}; {describe_heat(*self.thermal)}."


@dataclass(frozen=True)
class Steadiness:
    """Medians of the first and the last third of the inferences."""

    first_ms: float
    last_ms: float
    ratio: float
    steady: bool

    def describe(self) -> str:
        """Describe the drift in a sentence."""
        return (
            f"{self.first_ms:.3f} ms in the first third of the runs, {self.last_ms:.3f} ms in the last "
            f"({self.ratio:.2f} times)"
        )


def judge_steadiness(milliseconds: Sequence[float]) -> Steadiness | None:
    """Compare the last third of the times with the first; None where there are too few."""
    third = len(milliseconds) // 3
    if len(milliseconds) < MIN_RUNS_FOR_DRIFT:
        return None
    first, last = median(milliseconds[:third]), median(milliseconds[-third:])
    ratio = last / first
    return Steadiness(round(first, 4), round(last, 4), round(ratio, 3), abs(ratio - 1.0) <= MAX_DRIFT)


@dataclass(frozen=True)
class BenchResult:
    """The benchmark of one model file on one backend with one number of threads."""

    model: str
    backend: str
    threads: int
    runs: int
    latency_ms: dict[str, Percentiles]
    load_ms: float
    first_inference_ms: float
    peak_rss_mb: float
    """Of a process with this model alone, Python and libraries included."""
    host: dict[str, Any]
    requested: str
    fallback_reason: str | None
    parity: Parity | None
    sha256: str
    steadiness: Steadiness | None
    conditions: Conditions

    @property
    def ran_as(self) -> str:
        """The backend with its variant."""
        return name_backend(self.backend, self.requested)


@dataclass(frozen=True)
class LoadedModel:
    """A model file ready for timing, with its load times."""

    path: Path
    threads: int
    segmenter: Timed
    load_ms: float
    first_inference_ms: float


def load_models(
    paths: Sequence[Path], requested: str, threads: Sequence[int], enforce_parity: bool = True
) -> list[LoadedModel]:
    """Load model files for timing.

    Args:
        paths: The files.
        requested: "auto" or backends, separated by commas: every file is loaded on each of them.
        threads: Numbers of CPU threads: every file is loaded with each of them.
        enforce_parity: Whether to refuse a backend whose masks differ from the golden pairs.
    """
    wanted = product(paths, requested.split(","), threads)
    return [_load(path, name, number, enforce_parity) for path, name, number in wanted]


def _load(path: Path, requested: str, threads: int, enforce_parity: bool) -> LoadedModel:
    # before the clock starts: a new file is first tried in a child process, which is no load time
    path = path if is_ensemble(path) else find_model(path)
    for member in find_members(path) if is_ensemble(path) else (path,):
        run_trial_first(read_any(member), requested)
    start = perf_counter()
    segmenter = open_timed(path, requested, threads, enforce_parity)
    load_ms = 1e3 * (perf_counter() - start)
    return LoadedModel(path, threads, segmenter, round(load_ms, 3), round(segmenter.warm_up(), 3))


def bench_models(
    models: Sequence[LoadedModel], runs: int, on_block: Callable[[str], None] = ignore
) -> list[BenchResult]:
    """Time several models in one run, then measure the memory of each.

    Args:
        models: The models, loaded.
        runs: Frames per model.
        on_block: Called after each block, for a progress bar.
    """
    before = read_thermal()
    taken = take_times([model.segmenter for model in models], runs, on_block)
    conditions = Conditions(read_governors(), (before, read_thermal()))
    return [_make_result(model, times, conditions) for model, times in zip(models, taken, strict=True)]


def _make_result(model: LoadedModel, times: Sequence[StageTimes], conditions: Conditions) -> BenchResult:
    ran_on = model.segmenter.selection.report()
    backend = name_backend(ran_on.name, ran_on.requested)
    return BenchResult(
        model=model.path.name,
        backend=ran_on.name,
        threads=model.threads,
        runs=len(times),
        latency_ms=summarise_stages(times),
        load_ms=model.load_ms,
        first_inference_ms=model.first_inference_ms,
        peak_rss_mb=measure_memory(model.path, backend, model.threads, model.segmenter.card.sha256),
        host=describe_host(ran_on.detail),
        requested=ran_on.requested,
        fallback_reason=ran_on.fallback_reason,
        parity=ran_on.parity,
        sha256=model.segmenter.card.sha256,
        steadiness=judge_steadiness([time.invoke for time in times]),
        conditions=conditions,
    )


def name_backend(name: str, requested: str) -> str:
    """The name of the backend that was used, with its variant where one was requested."""
    return name if requested == AUTO else requested


def time_segmenters(
    segmenters: Sequence[Timed], runs: int, on_block: Callable[[str], None] = ignore
) -> list[dict[str, Percentiles]]:
    """Time segmenters in turn and return each one's percentiles."""
    return [summarise_stages(times) for times in take_times(segmenters, runs, on_block)]


def take_times(
    segmenters: Sequence[Timed], runs: int, on_block: Callable[[str], None] = ignore
) -> list[list[StageTimes]]:
    """Time segmenters in turn, in blocks of frames."""
    taken: list[list[StageTimes]] = [[] for _ in segmenters]
    for _ in range(count_blocks(runs)):
        for segmenter, times in zip(segmenters, taken, strict=True):
            spec = segmenter.card.input
            frame = make_frame(spec.in_colour)
            frame = np.stack([frame] * spec.channels, axis=-1) if spec.is_stack else frame
            # the first frame of a block reloads the caches that the other models have evicted
            times += [segmenter.segment(frame).times for _ in range(BLOCK + 1)][1:]
        on_block("")
    return [times[:runs] for times in taken]


def summarise_stages(times: Sequence[StageTimes]) -> dict[str, Percentiles]:
    """Compute the percentiles of every stage."""
    return {stage: summarise_times([getattr(time, stage) for time in times]) for stage in STAGES}


def count_blocks(runs: int) -> int:
    """Number of blocks for so many runs."""
    return -(-runs // BLOCK)


@lru_cache(maxsize=2)
def make_frame(colour: bool) -> NDArray[np.uint8]:
    """Render a frame of a camera's size."""
    return to_channels(render_case(seed=0, size=FRAME_SIZE).image, colour)


def describe_host(runtime: str) -> dict[str, Any]:
    """Describe this machine as far as it matters for speed, without host name and address."""
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


@dataclass(frozen=True)
class ParityRow:
    """One file on one backend; without a parity, `reason` says why."""

    model: str
    backend: str
    detail: str
    parity: Parity | None
    reason: str

    @property
    def held(self) -> bool:
        """Whether the backend's masks are those of the golden pairs."""
        return self.parity is not None and self.parity.held


def compare_backends(paths: Sequence[Path], requested: str, threads: int) -> list[ParityRow]:
    """Run the golden pairs of each file on each backend.

    Args:
        paths: The files.
        requested: "auto" or backends, separated by commas.
        threads: CPU threads a backend may use.
    """
    return [_compare(read_any(path), name, threads) for path in paths for name in requested.split(",")]


def _compare(model: AnyFile, requested: str, threads: int) -> ParityRow:
    try:
        found = select_backend(model, requested, threads, enforce_parity=False).report()
    except BackendError as error:
        return ParityRow(model.path.name, requested, "", None, f"{error.message} {error.hint}")
    reason = "" if found.parity else "the file holds no golden pairs"
    name = found.name if requested == AUTO else requested
    return ParityRow(model.path.name, name, found.detail, found.parity, reason)
