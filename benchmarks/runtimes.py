"""The same network in several runtimes, one and two threads: medians, and ratios to edgeseg's own.

    python benchmarks/runtimes.py INT8.tflite FLOAT32.tflite OUT [--runs N]

All rows of one number of threads are timed in turn in one process, in blocks, so that a drifting machine hits all of
them alike. Between rounds of them LiteRT's own benchmark tool runs by itself, and so does edgeseg for comparison with
it: other runtimes' threads keep a core busy for a while. Writes OUT/runtimes.md and .json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from time import perf_counter

import numpy as np
from trained import write_results

from edgeseg.backends.cpu import CpuBackend
from edgeseg.backends.onnx import OnnxBackend
from edgeseg.convert.onnx.export import export_onnx
from edgeseg.convert.onnx.scheme import Scheme
from edgeseg.core.modelfile import ModelFile, read_model
from edgeseg.frame.preprocess import pixels_to_tensor

BLOCK, ROUNDS, THREADS = 10, 4, (1, 2)
HEADER = ("runtime", "threads", "ms p50", "ratio to edgeseg int8", "promise")
FIRST, OPENVINO, TOOL = "edgeseg int8 (LiteRT)", "OpenVINO int8, reads the .tflite", "litert-benchmark int8"
ALONE = "edgeseg int8 (LiteRT), by itself"
ONNX_INT8, ONNX_FLOAT = "onnxruntime int8", "onnxruntime float32"
NEAR = 0.05
"""How far edgeseg's time may be from that of LiteRT's own tool."""
Runs = dict[str, Callable[[], object]]


def prepare_runs(int8: ModelFile, float32: ModelFile, threads: int) -> Runs:
    """Load the network in every runtime that is installed; each entry runs it once."""
    spec = int8.card.input
    pixels = np.random.default_rng(0).integers(0, 256, (spec.height, spec.width, spec.channels), np.uint8)
    tensor, real = (pixels_to_tensor(pixels, model.card.input_quantisation) for model in (int8, float32))
    own, parent = (CpuBackend(model.flatbuffer, threads) for model in (int8, float32))
    runs: Runs = {FIRST: lambda: own.invoke(tensor), "edgeseg float32 (LiteRT)": lambda: parent.invoke(real)}
    for name, model, scheme in (
        (ONNX_INT8, int8, Scheme("int8")),
        ("onnxruntime int8, as for TensorRT", int8, Scheme("int8", "tensorrt")),
        (ONNX_FLOAT, float32, Scheme()),
    ):
        backend = OnnxBackend(export_onnx(model, scheme).data, threads)
        runs[name] = partial(backend.invoke, real)
    if find_spec("openvino") is not None:
        runs[OPENVINO] = prepare_openvino(int8, tensor, threads)
    return runs


def prepare_openvino(model: ModelFile, tensor: np.ndarray, threads: int) -> Callable[[], object]:
    """Load a .tflite in OpenVINO."""
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / "model.tflite"
        bare.write_bytes(model.flatbuffer)
        settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        request = openvino.Core().compile_model(str(bare), "CPU", settings).create_infer_request()
    return lambda: request.infer([tensor])


def time_runs(runs: Mapping[str, Callable[[], object]], count: int) -> dict[str, list[float]]:
    """Time the runtimes in turn, in blocks whose first run is not counted; milliseconds."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(-(-count // BLOCK)):
        for name, run in runs.items():
            run()
            for _ in range(BLOCK):
                start = perf_counter()
                run()
                taken[name].append(1e3 * (perf_counter() - start))
    return taken


def ask_litert_benchmark(path: Path, threads: int, count: int) -> float | None:
    """Let LiteRT's own tool time the file: its median in milliseconds, or None where it is not installed."""
    tool = which("litert-benchmark", path=str(Path(sys.executable).parent)) or which("litert-benchmark")
    if tool is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        options = ["--num_runs", str(count), "--num_threads", str(threads), "--result_json", str(result)]
        subprocess.run([tool, "--model", str(path), *options], check=True, capture_output=True)
        return float(json.loads(result.read_text(encoding="utf-8"))["latency"]["median_ms"])


def measure(int8: ModelFile, float32: ModelFile, threads: int, count: int) -> dict[str, float]:
    """Time everything with so many threads: medians, without what is not installed."""
    runs, share = prepare_runs(int8, float32, threads), -(-count // ROUNDS)
    taken: dict[str, list[float]] = {name: [] for name in runs}
    asked, alone = [], []
    for _ in range(ROUNDS):
        for name, times in time_runs(runs, share).items():
            taken[name] += times
        asked.append(ask_litert_benchmark(int8.path, threads, share))
        alone += time_runs({ALONE: runs[FIRST]}, share)[ALONE]
    taken |= {ALONE: alone, TOOL: [time for time in asked if time is not None]}
    return {name: statistics.median(times) for name, times in taken.items() if times}


def judge(name: str, times: Mapping[str, float]) -> str:
    """Say whether what is promised of a row holds."""
    if name == ONNX_INT8:
        return f"faster than {ONNX_FLOAT}: {'held' if times[name] < times[ONNX_FLOAT] else 'missed'}"
    if name == TOOL:
        away = times[ALONE] / times[name] - 1
        return f"edgeseg within {NEAR:.0%} of it: {'held' if abs(away) <= NEAR else 'missed'} ({away:+.1%})"
    return ""


def make_rows(times: Mapping[str, float], threads: int) -> list[list[str]]:
    """Put the times of one number of threads into cells."""
    rows = [
        [name, str(threads), f"{time:.3f}", f"{time / times[FIRST]:.2f}", judge(name, times)]
        for name, time in times.items()
    ]
    return rows + [[name, str(threads), "not installed", "", ""] for name in (OPENVINO, TOOL) if name not in times]


def main() -> None:
    """Time the runtimes and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("int8", "float32", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--runs", type=int, default=200)
    chosen = parser.parse_args()
    int8, float32 = read_model(chosen.int8), read_model(chosen.float32)
    rows = [row for threads in THREADS for row in make_rows(measure(int8, float32, threads, chosen.runs), threads)]
    spec = int8.card.input
    notes = (
        "# The same network in several runtimes",
        "",
        "    python benchmarks/runtimes.py INT8.tflite FLOAT32.tflite OUT",
        "",
        f"{int8.card.name}, {spec.width}x{spec.height}, {int8.card.macs / 1e6:.0f} million MACs, {chosen.runs} runs.",
        "Tensor in, tensor out. The ONNX files take and give real numbers, the .tflite int8. A GPU of NVIDIA is not",
        "measured.",
    )
    chosen.out.mkdir(parents=True, exist_ok=True)
    write_results(chosen.out, "runtimes", notes, HEADER, rows)


if __name__ == "__main__":
    main()
