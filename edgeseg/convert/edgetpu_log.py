"""Read what the Edge TPU compiler says: how much runs on the chip, what stays off it, and why it refuses.

Built from the words of its version 16.0 as they are documented and reported; not verified with the compiler itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgeseg.core.errors import ExportError

UNITS = {"": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
MAPPED = "Mapped to Edge TPU"
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
"""What each word about an operator means, and what cures it."""
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
"""What each word about a whole file means, and what to do; the first one found counts."""
_SUMMARY = {
    "on_chip_bytes": "On-chip memory used for caching model parameters",
    "on_chip_free_bytes": "On-chip memory remaining for caching model parameters",
    "off_chip_bytes": "Off-chip memory used for streaming uncached model parameters",
    "subgraphs": "Number of Edge TPU subgraphs",
    "operators": "Total number of operations",
}


@dataclass(frozen=True)
class OperatorStatus:
    """What became of operators of one kind."""

    operator: str
    count: int
    status: str
    """In the compiler's words."""
    meaning: str
    cure: str


@dataclass(frozen=True)
class CompilerLog:
    """What the compiler said of a file that it compiled."""

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
        """Count what stayed off the chip."""
        return self.operators - self.operators_on_chip


def parse_log(said: str, table: str) -> CompilerLog:
    """Read the summary that the compiler printed and the table of its log file.

    The number of operators on the chip is only said where some stayed off it.
    """
    figures = {name: _find_figure(said, words) for name, words in _SUMMARY.items()}
    on_chip = re.search(r"Number of operations that will run on Edge TPU:\s*(\d+)", said)
    return CompilerLog(
        compiler=find_version(said),
        operators_on_chip=int(on_chip[1]) if on_chip else figures["operators"],
        statuses=_parse_statuses(table),
        **figures,
    )


def find_version(said: str) -> str:
    """Find the compiler's version in its first line; "unknown" where it does not say."""
    found = re.search(r"Edge TPU Compiler version (\S+)", said)
    return found[1] if found else "unknown"


def explain_refusal(said: str) -> tuple[str, str]:
    """Explain why the compiler gave no file: the reason and what to do."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    for words, (reason, advice) in REFUSALS.items():
        telling = next((line for line in lines if words in line), None)
        if telling is not None:
            return f'{reason} Its words: "{telling}".', advice
    return f'Its last words: "{lines[-1] if lines else ""}".', "Look its words up, or try a smaller --size or --model."


def _find_figure(said: str, words: str) -> int:
    """Find a number, in bytes where it has a unit."""
    found = re.search(rf"{re.escape(words)}: *([\d.]+) *([A-Za-z]*)", said)
    if found is None or found[2] not in UNITS:
        raise ExportError(
            f'Expected "{words}" in what the Edge TPU compiler says, got: {said.strip()[-200:] or "nothing"}.',
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
