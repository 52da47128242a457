"""Whether a board can run a file at all, told from its profile and the card before anything is sent there."""

from __future__ import annotations

from edgeseg.backends.cpu import CpuBackend
from edgeseg.backends.edgetpu import EdgeTpuBackend
from edgeseg.backends.select import is_compiled
from edgeseg.core.board import Board
from edgeseg.core.errors import DeployError
from edgeseg.core.modelfile import ModelFile
from edgeseg.core.verdict import OK, UNMAPPED, read_verdict


def find_backend(file: ModelFile, name: str, board: Board) -> str:
    """Name the first of the board's backends that takes a file; a board where none does is refused."""
    if file.is_onnx:
        raise DeployError(
            f"Expected a .tflite file, got the ONNX file {file.path}.",
            "Give the .tflite that it was exported from; docs/how-to/jetson-onnx.md tells how ONNX gets to a board.",
        )
    backends = tuple(dict.fromkeys((*board.recommended.backends, CpuBackend.name)))
    refusals = {backend: _find_refusal(file, backend.partition(":")[0]) for backend in backends}
    taking = [backend for backend, refusal in refusals.items() if not refusal]
    if not taking:
        reasons = "; ".join(f"{backend}: {refusal}" for backend, refusal in refusals.items())
        raise DeployError(
            f"Expected a file that the board {name} can run, got {file.path}, which it cannot ({reasons}).",
            "Give another file, or another --device: edgeseg devices lists them.",
        )
    return taking[0]


def _find_refusal(file: ModelFile, target: str) -> str:
    if is_compiled(file) != (target == EdgeTpuBackend.name):
        return "the file is compiled for the Edge TPU" if is_compiled(file) else "the file is not compiled for it"
    line = file.card.lint.get(target, OK)
    return line if read_verdict(line) == UNMAPPED and not is_compiled(file) else ""
