"""Compile a model file for the Edge TPU with its vendor's compiler, and put card and golden pairs back into the result.

Not verified with the compiler itself, which only its vendor publishes. No TensorFlow is needed here.
"""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from edgeseg.backends.interpreter import find_runtime
from edgeseg.convert.edgetpu_log import CompilerLog, explain_refusal, find_version, parse_log
from edgeseg.core.card import Card
from edgeseg.core.errors import ExportError
from edgeseg.core.modelfile import ModelFile, write_model
from edgeseg.core.process import run_limited
from edgeseg.core.quiet import quiet_native_output
from edgeseg.graph.lint import lint_graph
from edgeseg.graph.operators import Graph, read_graph

PROGRAM = "edgetpu_compiler"
HOW_TO_GET = (
    "It runs on x86-64 Linux and only its vendor publishes it: see https://coral.ai/docs/edgetpu/compiler/. "
    "Then name it with --compiler PATH, or put it on PATH."
)
OWN_LIMIT_SECONDS = 60
"""How much later than ours the compiler's own time limit, 180 s if nothing is said, comes."""
_INPUT, _OUTPUT, _LOG = "model.tflite", "model_edgetpu.tflite", "model_edgetpu.log"


@dataclass(frozen=True)
class Compilation:
    """A compiled model that is written, and what the compiler said of it."""

    file: str
    bytes: int
    seconds: float
    log: CompilerLog
    lint: dict[str, str]


def find_compiler(path: Path | None) -> str:
    """Find the compiler at a path, else on PATH."""
    found = shutil.which(PROGRAM if path is None else path.absolute())
    if found is None:
        where = "on PATH" if path is None else f"at {path}"
        raise ExportError(f"Expected the Edge TPU compiler {PROGRAM} {where}, got none that runs.", HOW_TO_GET)
    return found


def compile_model(model: ModelFile, out: Path, compiler: str, seconds: int) -> Compilation:
    """Compile a model and write it with its card and golden pairs, whole or not at all.

    Args:
        model: The model; what stands in its file is not changed.
        out: The file to write.
        compiler: The compiler's path.
        seconds: How long it may take.
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="edgeseg-") as name:
        folder = Path(name)
        (folder / _INPUT).write_bytes(model.flatbuffer)
        said = _run_compiler(compiler, folder, seconds)
        flatbuffer = _read_compiled(folder / _OUTPUT, model, said)
        log = parse_log(said, _read_table(folder / _LOG, said))
    lasted = time.monotonic() - started
    _refuse_idle_chip(log)
    card = _describe_compiled(model.card, read_graph(flatbuffer), log)
    write_model(out, flatbuffer, card, model.golden)
    return Compilation(out.name, len(flatbuffer), round(lasted, 3), log, card.lint)


def _run_compiler(compiler: str, folder: Path, seconds: int) -> str:
    """Run the compiler and give what it said; its failure is explained."""
    limit = str(seconds + OWN_LIMIT_SECONDS)
    command = [compiler, "--show_operations", "--timeout_sec", limit, "--out_dir", str(folder), _INPUT]
    try:
        status, said = run_limited(command, folder, seconds)
    except OSError as error:
        raise ExportError(f"Expected {compiler} to start, got: {error.strerror or error}.", HOW_TO_GET) from error
    except subprocess.TimeoutExpired as error:
        raise ExportError(
            f"Expected the Edge TPU compiler to end within {seconds} s, got no end.",
            "Give it more with --timeout, or train a smaller --model or --size.",
        ) from error
    if status != 0 or not (folder / _OUTPUT).is_file():
        reason, advice = explain_refusal(said)
        end = f"signal {-status}" if status < 0 else f"exit status {status}"
        raise ExportError(f"Expected a compiled file, got the Edge TPU compiler's refusal ({end}). {reason}", advice)
    return said


def _read_compiled(path: Path, model: ModelFile, said: str) -> bytes:
    """Read the compiled file, and refuse one that is cut short or takes and gives other tensors."""
    data = path.read_bytes()
    _, runtime = find_runtime()
    try:
        with quiet_native_output():
            runtime.Interpreter(model_content=data)
    except ValueError as error:
        raise ExportError(
            f"Expected a whole file from the Edge TPU compiler {find_version(said)}, got a damaged one: {error}.",
            "Check the room on the disk of the temporary folder, and run it again.",
        ) from error
    before, after = (_describe_ends(read_graph(content)) for content in (model.flatbuffer, data))
    if before != after:
        raise ExportError(
            f"Expected a compiled model that takes and gives {before}, got {after}.",
            "Use version 16.0 of the compiler.",
        )
    return data


def _refuse_idle_chip(log: CompilerLog) -> None:
    if log.operators_on_chip:
        return
    reasons = "; ".join(f"{status.operator}: {status.meaning}, {status.cure}" for status in log.statuses)
    raise ExportError(
        f"Expected operators on the Edge TPU, got all {log.operators} on the CPU.",
        f"{reasons or 'edgeseg inspect tells which rules they break'}.",
    )


def _describe_ends(graph: Graph) -> str:
    return " and ".join(f"{tensor.dtype} {list(tensor.shape)}" for tensor in (*graph.inputs, *graph.outputs))


def _read_table(path: Path, said: str) -> str:
    """Read the table of operators from the log file; a compiler that leaves none prints it."""
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else said


def _describe_compiled(card: Card, compiled: Graph, log: CompilerLog) -> Card:
    """Describe the compiled model: parameters, MACs and figures are those of the model it was made from."""
    libraries = card.provenance.libraries | {PROGRAM: log.compiler}
    return dataclasses.replace(
        card,
        name=f"{card.name}-edgetpu",
        provenance=dataclasses.replace(card.provenance, libraries=libraries),
        lint=lint_graph(compiled),
    )
