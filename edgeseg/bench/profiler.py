"""Run LiteRT's profiler through its C API, in a process of its own: the API is not stable and may crash.

    python -m edgeseg.bench.profiler THREADS ROUNDS < FLATBUFFER

prints LiteRT's summary of every round. Small objects are not freed: the process ends soon.
"""

from __future__ import annotations

import ctypes
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

LIBRARIES = ("libLiteRt.so", "libLiteRt.dylib", "libLiteRt.dll")
WARM_UP, RUNS = 3, 10
BETWEEN_ROUNDS = "\f"
_ON_CPU = ctypes.c_int(1)
_FIRST, _ONE = ctypes.c_size_t(0), ctypes.c_size_t(1)
_TENSOR_TYPE_BYTES = 1024
"""More than the size of LiteRtRankedTensorType, which is opaque here."""
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
    """Profile a network of one input and one output on the CPU; returns LiteRT's summary of every round.

    Every round loads the network again: a profiler's summary includes earlier runs, even after a reset.
    """
    environment = litert.make("LiteRtCreateEnvironment", 0, None)
    model = litert.make("LiteRtCreateModelFromBuffer", environment, network, ctypes.c_size_t(len(network)))
    return [_profile_round(litert, environment, model, threads) for _ in range(rounds)]


def _profile_round(litert: LiteRt, environment: Any, model: Any, threads: int) -> str:
    compiled = _compile(litert, environment, model, threads)
    ends = [_make_buffer(litert, environment, model, compiled, end) for end in ("Input", "Output")]
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
    # options are passed as TOML text
    texts = {b"runtime_options_string": b"enable_profiling = true", b"xnnpack": b"num_threads = %d" % threads}
    for kind, text in texts.items():
        litert.call(
            "LiteRtAddOpaqueOptions", options, litert.make("LiteRtCreateOpaqueOptions", kind, text, _NO_DELETER)
        )
    return litert.make("LiteRtCreateCompiledModel", environment, model, options)


def _make_buffer(litert: LiteRt, environment: Any, model: Any, compiled: Any, end: str) -> Any:
    signature = litert.make("LiteRtGetModelSignature", model, _FIRST)
    tensor = litert.make(f"LiteRtGetSignature{end}TensorByIndex", signature, _FIRST)
    described = ctypes.create_string_buffer(_TENSOR_TYPE_BYTES)
    litert.call("LiteRtGetRankedTensorType", tensor, described)
    needed = litert.make(f"LiteRtGetCompiledModel{end}BufferRequirements", compiled, _FIRST, _FIRST)
    return litert.make("LiteRtCreateManagedTensorBufferFromRequirements", environment, described, needed)


def _run(litert: LiteRt, compiled: Any, ends: list[Any], times: int) -> None:
    source, sink = ((ctypes.c_void_p * 1)(end) for end in ends)
    for _ in range(times):
        litert.call("LiteRtRunCompiledModel", compiled, _FIRST, _ONE, source, _ONE, sink)


def main() -> None:
    """Profile the network on stdin; the summaries go to stdout, LiteRT's log to stderr."""
    threads, rounds = map(int, sys.argv[1:])
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answer:
        # LiteRT logs to stdout
        os.dup2(2, 1)
        summaries = profile_network(LiteRt(find_library()), sys.stdin.buffer.read(), threads, rounds)
        answer.write(BETWEEN_ROUNDS.join(summaries))


if __name__ == "__main__":
    main()
