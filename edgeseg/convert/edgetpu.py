"""Compile a model file with the Edge TPU compiler, explain what it prints, and write the result with its card.

Not verified with the compiler itself, which only its vendor publishes. This needs no TensorFlow.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from edgeseg.backends.cpu import find_runtime
from edgeseg.core.card import Card
from edgeseg.core.errors import ExportError
from edgeseg.core.modelfile import ModelFile, write_model
from edgeseg.core.process import quiet_native_output, run_limited
from edgeseg.graph.lint import lint_graph
from edgeseg.graph.operators import Graph, read_graph

UNITS = {"": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
MAPPED = "Mapped to Edge TPU"
# For each status of an operator in the compiler's words: what it means, and what to change.
STATUSES = {
    "More than one subgraph is not supported": (
        "it comes after one that is not mapped, and the chip's part cannot begin again",
        "cure the first operator that is not mapped",
    ),
    "Operation is otherwise supported, but not mapped due to some unspecified limitation": (
        "the compiler gives no reason; large resizes and the first QUANTIZE of a float image are known ones",
        "train with a smaller --size or --stem quarter, and use an int8 recipe",
    ),
    "Operation version not supported": (
        "the file is of a newer TensorFlow than the compiler knows",
        "write the file again with edgeseg compress, or leave the operator out of the network",
    ),
    "Operation not supported": ("the chip has no such operator", "leave it out of the network"),
    "Operation is working on an unsupported data type": ("it does not compute with 8 bits", "use an int8 recipe"),
    "Tensor has unsupported rank": (
        "more than three dimensions are above 1",
        "build the network for batch 1",
    ),
    "Image-interpolation layer won't run precisely enough on Edge TPU": (
        "the resize is too large for the chip's arithmetic",
        "train with a smaller --size or --stem quarter",
    ),
}
# For each refusal of a file in the compiler's words: what it means, and what to do; the first that matches counts.
REFUSALS = {
    "Didn't find op for builtin opcode": (
        "The file has an operator of a newer version than the compiler knows.",
        "Write it again with edgeseg compress; edgeseg inspect names the operator.",
    ),
    "Model not quantized": ("The model computes with float numbers.", "Use an int8 recipe of edgeseg compress."),
    "Model could not be parsed": ("The compiler cannot read the file.", "Write it again with edgeseg compress."),
    "only supports static-sized tensors": (
        "The file has shapes that are only known when it runs.",
        "Build the network for one input size and batch 1.",
    ),
    "large activation tensors": (
        "The pictures between the layers do not fit on the chip.",
        "Train with a smaller --size, a smaller --model or --stem quarter.",
    ),
    "Internal compiler error": (
        "The compiler broke off without a reason.",
        "Try the same network with a smaller --size, without transposed convolutions and with a recipe without zeros.",
    ),
}
_SUMMARY = {
    "on_chip_bytes": "On-chip memory used for caching model parameters",
    "on_chip_free_bytes": "On-chip memory remaining for caching model parameters",
    "off_chip_bytes": "Off-chip memory used for streaming uncached model parameters",
    "subgraphs": "Number of Edge TPU subgraphs",
    "operators": "Total number of operations",
}
PROGRAM = "edgetpu_compiler"
HOW_TO_GET = (
    "It runs on x86-64 Linux and only its vendor publishes it: see https://coral.ai/docs/edgetpu/compiler/. "
    "Then name it with --compiler PATH, or put it on PATH."
)
# How much later than ours the compiler's own time limit, 180 s by default, is set.
OWN_LIMIT_SECONDS = 60
_INPUT, _OUTPUT, _LOG = "model.tflite", "model_edgetpu.tflite", "model_edgetpu.log"


@dataclass(frozen=True)
class OperatorStatus:
    """The status of operators of one kind."""

    operator: str
    count: int
    status: str
    """In the compiler's words."""
    meaning: str
    cure: str


@dataclass(frozen=True)
class CompilerLog:
    """The compiler's summary of a compiled file."""

    compiler: str
    operators: int
    operators_on_chip: int
    subgraphs: int
    on_chip_bytes: int
    on_chip_free_bytes: int
    off_chip_bytes: int
    statuses: tuple[OperatorStatus, ...]

    @property
    def operators_on_cpu(self) -> int:
        """Operators that are not mapped to the chip."""
        return self.operators - self.operators_on_chip


def parse_log(printed: str, table: str) -> CompilerLog:
    """Read the summary that the compiler printed and the table of its log file.

    The number of operators on the chip is only printed where some are not mapped to it.
    """
    figures = {name: _find_figure(printed, words) for name, words in _SUMMARY.items()}
    on_chip = re.search(r"Number of operations that will run on Edge TPU:\s*(\d+)", printed)
    return CompilerLog(
        compiler=find_version(printed),
        operators_on_chip=int(on_chip[1]) if on_chip else figures["operators"],
        statuses=_parse_statuses(table),
        **figures,
    )


def find_version(printed: str) -> str:
    """Find the compiler's version in its output; "unknown" where it is missing."""
    found = re.search(r"Edge TPU Compiler version (\S+)", printed)
    return found[1] if found else "unknown"


def explain_refusal(printed: str) -> tuple[str, str]:
    """Explain why the compiler wrote no file: the reason and what to do."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    for words, (reason, advice) in REFUSALS.items():
        notable = next((line for line in lines if words in line), None)
        if notable is not None:
            return f'{reason} Its words: "{notable}".', advice
    return f'Its last words: "{lines[-1] if lines else ""}".', "Look its words up, or try a smaller --size or --model."


def _find_figure(printed: str, words: str) -> int:
    """Find a number behind some words, in bytes where it has a unit."""
    found = re.search(rf"{re.escape(words)}: *([\d.]+) *([A-Za-z]*)", printed)
    if found is None or found[2] not in UNITS:
        raise ExportError(
            f'Expected "{words}" in what the Edge TPU compiler says, got: {printed.strip()[-200:] or "nothing"}.',
            "Use version 16.0 of the compiler, whose words are known here.",
        )
    return round(float(found[1]) * UNITS[found[2]])


def _parse_statuses(table: str) -> tuple[OperatorStatus, ...]:
    rows = re.findall(r"^([A-Za-z][\w-]*)\s+(\d+)\s+(\S.*?)\s*$", table, re.MULTILINE)
    return tuple(OperatorStatus(name, int(count), status, *_explain(status)) for name, count, status in rows)


def _explain(status: str) -> tuple[str, str]:
    if status == MAPPED:
        return "", ""
    for words, explanation in STATUSES.items():
        if status.startswith(words):
            return explanation
    return "these words of the compiler are not known here", "look them up, or leave the operator out of the network"


@dataclass(frozen=True)
class Compilation:
    """A compiled model file and the compiler's summary."""

    file: str
    bytes: int
    seconds: float
    log: CompilerLog
    lint: dict[str, str]


def find_compiler(path: Path | None) -> str:
    """Find the compiler at a path, or on PATH."""
    found = shutil.which(PROGRAM if path is None else path.absolute())
    if found is None:
        where = "on PATH" if path is None else f"at {path}"
        raise ExportError(f"Expected the Edge TPU compiler {PROGRAM} {where}, got none that runs.", HOW_TO_GET)
    return found


def compile_model(model: ModelFile, out: Path, compiler: str, seconds: int) -> Compilation:
    """Compile a model and write it with its card and golden pairs, whole or not at all.

    Args:
        model: The model; its file is not changed.
        out: The file to write.
        compiler: The compiler's path.
        seconds: Time limit.
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="edgeseg-") as name:
        folder = Path(name)
        (folder / _INPUT).write_bytes(model.flatbuffer)
        printed = _run_compiler(compiler, folder, seconds)
        flatbuffer = _read_compiled(folder / _OUTPUT, model, printed)
        log = parse_log(printed, _read_table(folder / _LOG, printed))
    lasted = time.monotonic() - started
    _refuse_unmapped(log)
    card = _describe_compiled(model.card, read_graph(flatbuffer), log)
    write_model(out, flatbuffer, card, model.golden)
    return Compilation(out.name, len(flatbuffer), round(lasted, 3), log, card.lint)


def _run_compiler(compiler: str, folder: Path, seconds: int) -> str:
    """Run the compiler and return its output; its failure is explained."""
    # ours ends first, so that it is reported as a time limit and not as a refusal
    limit = str(seconds + OWN_LIMIT_SECONDS)
    command = [compiler, "--show_operations", "--timeout_sec", limit, "--out_dir", str(folder), _INPUT]
    try:
        status, printed = run_limited(command, folder, seconds)
    except OSError as error:
        raise ExportError(f"Expected {compiler} to start, got: {error.strerror or error}.", HOW_TO_GET) from error
    except subprocess.TimeoutExpired as error:
        raise ExportError(
            f"Expected the Edge TPU compiler to end within {seconds} s, got no end.",
            "Give it more with --timeout, or train a smaller --model or --size.",
        ) from error
    if status != 0 or not (folder / _OUTPUT).is_file():
        reason, advice = explain_refusal(printed)
        end = f"signal {-status}" if status < 0 else f"exit status {status}"
        raise ExportError(f"Expected a compiled file, got the Edge TPU compiler's refusal ({end}). {reason}", advice)
    return printed


def _read_compiled(path: Path, model: ModelFile, printed: str) -> bytes:
    """Read the compiled file, and refuse one that is truncated or has other inputs or outputs."""
    data = path.read_bytes()
    _, runtime = find_runtime()
    try:
        with quiet_native_output():
            # parses the file without allocating tensors: that would need the delegate
            runtime.Interpreter(model_content=data)
    except ValueError as error:
        raise ExportError(
            f"Expected a whole file from the Edge TPU compiler {find_version(printed)}, got a damaged one: {error}.",
            "Check that the disk of the temporary folder is not full, and run it again.",
        ) from error
    before, after = (_describe_ends(read_graph(content)) for content in (model.flatbuffer, data))
    if before != after:
        raise ExportError(
            f"Expected a compiled model that takes and gives {before}, got {after}.",
            "Use version 16.0 of the compiler.",
        )
    return data


def _refuse_unmapped(log: CompilerLog) -> None:
    if log.operators_on_chip:
        return
    reasons = "; ".join(f"{status.operator}: {status.meaning}, {status.cure}" for status in log.statuses)
    raise ExportError(
        f"Expected operators on the Edge TPU, got all {log.operators} on the CPU.",
        f"{reasons or 'edgeseg inspect tells which rules they break'}.",
    )


def _describe_ends(graph: Graph) -> str:
    return " and ".join(f"{tensor.dtype} {list(tensor.shape)}" for tensor in (*graph.inputs, *graph.outputs))


def _read_table(path: Path, printed: str) -> str:
    """Read the table of operators from the log file, or from the output where there is no file."""
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else printed


def _describe_compiled(card: Card, compiled: Graph, log: CompilerLog) -> Card:
    """Build the card of the compiled model; parameters, MACs and metrics are those of the original."""
    libraries = card.provenance.libraries | {PROGRAM: log.compiler}
    return dataclasses.replace(
        card,
        name=f"{card.name}-edgetpu",
        provenance=dataclasses.replace(card.provenance, libraries=libraries),
        lint=lint_graph(compiled),
    )
