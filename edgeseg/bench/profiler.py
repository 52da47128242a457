"""Let LiteRT time its own operators, in a process of its own: only its C interface tells, and that may change.

    python -m edgeseg.bench.profiler THREADS ROUNDS < FLATBUFFER

prints LiteRT's summary of every round. What is small is kept until the process ends.
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
"""More than LiteRT's description of a tensor takes, which is only handed through."""
_KEEP = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: None)


class LiteRt:
    """LiteRT's C interface, as far as it is needed here."""

    def __init__(self, library: Path) -> None:
        self._functions = ctypes.CDLL(str(library))

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function that tells by its status whether it went well."""
        status = getattr(self._functions, name)(*arguments)
        if status:
            raise RuntimeError(f"{name} gave the status {status}")

    def drop(self, name: str, handle: ctypes.c_void_p) -> None:
        """Give something back."""
        getattr(self._functions, name)(handle)

    def make(self, name: str, *arguments: Any) -> ctypes.c_void_p:
        """Call a function that gives something through its last argument."""
        made = ctypes.c_void_p()
        self.call(name, *arguments, ctypes.byref(made))
        return made


def find_library() -> Path:
    """Find the library of the installed LiteRT."""
    spec = find_spec("ai_edge_litert")
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    found = [folder / name for folder in folders for name in LIBRARIES if (folder / name).is_file()]
    if not found:
        raise RuntimeError(f"{LIBRARIES[0]} is not installed")
    return found[0]


def profile_network(litert: LiteRt, network: bytes, threads: int, rounds: int) -> list[str]:
    """Run a network of one input and one output on the CPU, and give LiteRT's summary of every round.

    Every round loads the network anew: a summary counts what came before it, too, even after a reset.
    """
    place = litert.make("LiteRtCreateEnvironment", 0, None)
    model = litert.make("LiteRtCreateModelFromBuffer", place, network, ctypes.c_size_t(len(network)))
    return [_profile_round(litert, place, model, threads) for _ in range(rounds)]


def _profile_round(litert: LiteRt, place: Any, model: Any, threads: int) -> str:
    compiled = _compile(litert, place, model, threads)
    ends = [_make_buffer(litert, place, model, compiled, end) for end in ("Input", "Output")]
    profiler = litert.make("LiteRtCompiledModelGetProfiler", compiled)
    _run(litert, compiled, ends, WARM_UP)
    litert.call("LiteRtStartProfiler", profiler)
    _run(litert, compiled, ends, RUNS)
    litert.call("LiteRtStopProfiler", profiler)
    summary = ctypes.string_at(litert.make("LiteRtGetProfileSummary", profiler, compiled)).decode("utf-8", "replace")
    litert.drop("LiteRtDestroyCompiledModel", compiled)
    return summary


def _compile(litert: LiteRt, place: Any, model: Any, threads: int) -> Any:
    options = litert.make("LiteRtCreateOptions")
    litert.call("LiteRtSetOptionsHardwareAccelerators", options, _ON_CPU)
    texts = {b"runtime_options_string": b"enable_profiling = true", b"xnnpack": b"num_threads = %d" % threads}
    for kind, text in texts.items():
        litert.call("LiteRtAddOpaqueOptions", options, litert.make("LiteRtCreateOpaqueOptions", kind, text, _KEEP))
    return litert.make("LiteRtCreateCompiledModel", place, model, options)


def _make_buffer(litert: LiteRt, place: Any, model: Any, compiled: Any, end: str) -> Any:
    signature = litert.make("LiteRtGetModelSignature", model, _FIRST)
    tensor = litert.make(f"LiteRtGetSignature{end}TensorByIndex", signature, _FIRST)
    described = ctypes.create_string_buffer(_TENSOR_TYPE_BYTES)
    litert.call("LiteRtGetRankedTensorType", tensor, described)
    needed = litert.make(f"LiteRtGetCompiledModel{end}BufferRequirements", compiled, _FIRST, _FIRST)
    return litert.make("LiteRtCreateManagedTensorBufferFromRequirements", place, described, needed)


def _run(litert: LiteRt, compiled: Any, ends: list[Any], times: int) -> None:
    source, sink = ((ctypes.c_void_p * 1)(end) for end in ends)
    for _ in range(times):
        litert.call("LiteRtRunCompiledModel", compiled, _FIRST, _ONE, source, _ONE, sink)


def main() -> None:
    """Profile the network on stdin; the summaries go to stdout, what LiteRT says beside them to stderr."""
    threads, rounds = map(int, sys.argv[1:])
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answer:
        os.dup2(2, 1)
        summaries = profile_network(LiteRt(find_library()), sys.stdin.buffer.read(), threads, rounds)
        answer.write(BETWEEN_ROUNDS.join(summaries))


if __name__ == "__main__":
    main()
