"""Time per operator, from LiteRT's profiler, matched to the layers of the graph."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from edgeseg.bench.profiler import BETWEEN_ROUNDS
from edgeseg.core.errors import BackendError
from edgeseg.core.process import describe_end, run_module_limited
from edgeseg.core.redact import to_one_line
from edgeseg.graph.summary import Layer

ROUNDS = 10
LIMIT_S = 120.0
KINDS = {
    "ADD": ("Add",),
    "CONCATENATION": ("Concatenate", "Copy"),
    "CONV_2D": ("Convolution", "Fully Connected"),
    "DEPTHWISE_CONV_2D": ("Convolution",),
    "LOGISTIC": ("Sigmoid",),
    "MAX_POOL_2D": ("Max Pooling",),
    "RESIZE_BILINEAR": ("Resize Bilinear",),
    "SOFTMAX": ("Softmax",),
    "TRANSPOSE_CONV": ("Deconvolution",),
}
"""The operators of a file, and the prefixes of XNNPACK's names for them."""
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
        done = run_module_limited("edgeseg.bench.profiler", [str(threads), str(rounds)], network, LIMIT_S)
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
