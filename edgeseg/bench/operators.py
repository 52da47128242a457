"""Time per operator, from LiteRT's own profiler in a child process, matched to the layers of the graph."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from edgeseg.core.errors import BackendError
from edgeseg.core.flatbuffer import read_network
from edgeseg.core.process import describe_end, run_module_limited
from edgeseg.core.redact import to_one_line
from edgeseg.graph.summary import Layer

LIBRARIES = ("libLiteRt.so", "libLiteRt.dylib", "libLiteRt.dll")
WARM_UP, RUNS = 3, 10
BETWEEN_ROUNDS = "\f"
# More than the size of LiteRtRankedTensorType, which is opaque here.
_TENSOR_TYPE_BYTES = 1024
ROUNDS = 10
LIMIT_S = 120.0
# The operators of a file, and the prefixes of XNNPACK's names for them.
KINDS = {
    "ADD": ("Add",),
    "CONCATENATION": ("Concatenate", "Copy"),
    "CONV_2D": ("Convolution", "Fully Connected"),
    "DEPTHWISE_CONV_2D": ("Convolution",),
    "DEPTH_TO_SPACE": ("Depth To Space",),
    "LOGISTIC": ("Sigmoid",),
    "MAX_POOL_2D": ("Max Pooling",),
    "MEAN": ("Mean",),
    "RESIZE_BILINEAR": ("Resize Bilinear",),
    "SOFTMAX": ("Softmax",),
    "SPACE_TO_DEPTH": ("Space To Depth",),
    "STRIDED_SLICE": ("Slice",),
    "TRANSPOSE_CONV": ("Deconvolution",),
}

_ON_CPU = ctypes.c_int(1)
_FIRST, _ONE = ctypes.c_size_t(0), ctypes.c_size_t(1)
_NO_DELETER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: None)


class LiteRt:
    """The part of LiteRT's C API that the profiler needs."""

    def __init__(self, library: Path) -> None:
        self._functions = ctypes.CDLL(str(library))

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function and check its status."""
        status = getattr(self._functions, name)(*arguments)
        if status:
            raise RuntimeError(f"{name} returned the status {status}")

    def destroy(self, name: str, handle: ctypes.c_void_p) -> None:
        """Call a destructor, which returns no status."""
        getattr(self._functions, name)(handle)

    def make(self, name: str, *arguments: Any) -> ctypes.c_void_p:
        """Call a function that returns a handle through its last argument."""
        made = ctypes.c_void_p()
        self.call(name, *arguments, ctypes.byref(made))
        return made


def find_library() -> Path:
    """Find the shared library of the installed LiteRT."""
    spec = find_spec("ai_edge_litert")
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    found = [folder / name for folder in folders for name in LIBRARIES if (folder / name).is_file()]
    if not found:
        raise RuntimeError(f"{LIBRARIES[0]} is not installed")
    return found[0]


def profile_network(litert: LiteRt, network: bytes, threads: int, rounds: int) -> list[str]:
    """Profile a network of one input on the CPU; returns LiteRT's summary of every round.

    Every round loads the network again: a profiler's summary includes earlier runs, even after a reset.
    """
    environment = litert.make("LiteRtCreateEnvironment", 0, None)
    model = litert.make("LiteRtCreateModelFromBuffer", environment, network, ctypes.c_size_t(len(network)))
    outputs = len(read_network(network).outputs)
    return [_profile_round(litert, environment, model, threads, outputs) for _ in range(rounds)]


def _profile_round(litert: LiteRt, environment: Any, model: Any, threads: int, outputs: int) -> str:
    compiled = _compile(litert, environment, model, threads)
    source = _make_buffer(litert, environment, model, compiled, "Input", 0)
    sinks = [_make_buffer(litert, environment, model, compiled, "Output", number) for number in range(outputs)]
    ends = (source, sinks)
    # the warm-up runs before the profiler starts, so its average holds none of it
    profiler = litert.make("LiteRtCompiledModelGetProfiler", compiled)
    _run(litert, compiled, ends, WARM_UP)
    litert.call("LiteRtStartProfiler", profiler)
    _run(litert, compiled, ends, RUNS)
    litert.call("LiteRtStopProfiler", profiler)
    summary = ctypes.string_at(litert.make("LiteRtGetProfileSummary", profiler, compiled)).decode("utf-8", "replace")
    litert.destroy("LiteRtDestroyCompiledModel", compiled)
    return summary


def _compile(litert: LiteRt, environment: Any, model: Any, threads: int) -> Any:
    options = litert.make("LiteRtCreateOptions")
    litert.call("LiteRtSetOptionsHardwareAccelerators", options, _ON_CPU)
    texts = {b"runtime_options_string": b"enable_profiling = true", b"xnnpack": b"num_threads = %d" % threads}
    for kind, text in texts.items():
        litert.call(
            "LiteRtAddOpaqueOptions", options, litert.make("LiteRtCreateOpaqueOptions", kind, text, _NO_DELETER)
        )
    return litert.make("LiteRtCreateCompiledModel", environment, model, options)


def _make_buffer(litert: LiteRt, environment: Any, model: Any, compiled: Any, end: str, number: int) -> Any:
    signature, place = litert.make("LiteRtGetModelSignature", model, _FIRST), ctypes.c_size_t(number)
    tensor = litert.make(f"LiteRtGetSignature{end}TensorByIndex", signature, place)
    described = ctypes.create_string_buffer(_TENSOR_TYPE_BYTES)
    litert.call("LiteRtGetRankedTensorType", tensor, described)
    needed = litert.make(f"LiteRtGetCompiledModel{end}BufferRequirements", compiled, _FIRST, place)
    return litert.make("LiteRtCreateManagedTensorBufferFromRequirements", environment, described, needed)


def _run(litert: LiteRt, compiled: Any, ends: tuple[Any, list[Any]], times: int) -> None:
    source, sinks = (ctypes.c_void_p * 1)(ends[0]), (ctypes.c_void_p * len(ends[1]))(*ends[1])
    count = ctypes.c_size_t(len(ends[1]))
    for _ in range(times):
        litert.call("LiteRtRunCompiledModel", compiled, _FIRST, _ONE, source, count, sinks)


def main() -> None:
    """Profile the network on stdin; the summaries go to stdout, LiteRT's log to stderr."""
    threads, rounds = map(int, sys.argv[1:])
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answer:
        # LiteRT logs to stdout
        os.dup2(2, 1)
        summaries = profile_network(LiteRt(find_library()), sys.stdin.buffer.read(), threads, rounds)
        answer.write(BETWEEN_ROUNDS.join(summaries))


# columns: the operator, two times that are not used, the average in ms, its share, the cumulated share
_ROW = re.compile(r"^ *(?:Delegate/)?(\S.*?)(?: +[\d.]+){2} +([\d.]+) +[\d.]+% +[\d.]+%", re.MULTILINE)


@dataclass(frozen=True)
class OperatorTime:
    """The time of one operator, in the profiler's resolution of a microsecond."""

    operator: str
    """The runtime's name; XNNPACK has names of its own and may fuse two operators."""
    ms: float


def time_operators(network: bytes, threads: int = 1, rounds: int = ROUNDS) -> tuple[OperatorTime, ...]:
    """Profile a network on the CPU; returns its operators in the order they run, with the median of the rounds."""
    try:
        done = run_module_limited("edgeseg.bench.operators", [str(threads), str(rounds)], network, LIMIT_S)
    except subprocess.TimeoutExpired as error:
        raise _explain(f"got no answer within {LIMIT_S:g} s") from error
    if done.returncode:
        raise _explain(to_one_line(describe_end(done)))
    times = join_rounds(done.stdout.decode("utf-8", "replace").split(BETWEEN_ROUNDS))
    if not times:
        raise _explain("got a summary that names none")
    return times


def join_rounds(summaries: Sequence[str]) -> tuple[OperatorTime, ...]:
    """Take the median of every operator over the rounds, which is robust against a busy moment."""
    rounds = [parse_summary(summary) for summary in summaries]
    return tuple(OperatorTime(same[0].operator, median(time.ms for time in same)) for same in zip(*rounds, strict=True))


def parse_summary(summary: str) -> tuple[OperatorTime, ...]:
    """Parse the operators, in the order they run, from LiteRT's summary."""
    # a second table lists the slowest operators again
    in_order = summary.partition("Top by Computation Time")[0]
    return tuple(OperatorTime(name, float(mean)) for name, mean in _ROW.findall(in_order))


def match_layers(layers: Sequence[Layer], times: Sequence[OperatorTime]) -> tuple[float, ...] | None:
    """Assign milliseconds to each layer; None where the runtime's operators do not match the layers one to one.

    DEQUANTIZE of constant weights, in a float16 file, runs once when the file is loaded: it takes no time here.
    """
    running = [layer for layer in layers if not _unpacks_weights(layer)]
    if len(running) != len(times) or not all(map(_is_same, running, times)):
        return None
    left = iter(times)
    return tuple(0.0 if _unpacks_weights(layer) else next(left).ms for layer in layers)


def _unpacks_weights(layer: Layer) -> bool:
    return layer.operator == "DEQUANTIZE" and layer.parameters > 0


def _is_same(layer: Layer, time: OperatorTime) -> bool:
    return time.operator.startswith((layer.operator, *KINDS.get(layer.operator, ())))


def _explain(end: str) -> BackendError:
    return BackendError(
        f"Expected times of operators from LiteRT's profiler, {end}.",
        "Use --times with ai-edge-litert 2.3 or later, or omit it.",
    )


if __name__ == "__main__":
    main()
