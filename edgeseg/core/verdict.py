"""What a target makes of an operator or a file: the three verdicts, and the line on the card."""

from __future__ import annotations

MAPPED, UNCERTAIN, UNMAPPED = "mapped", "uncertain", "not mapped"
OK = "ok"
INTEGER_TARGETS = ("edgetpu",)
"""Targets that take no operator with float numbers."""
COMPILED = "edgetpu-custom-op"
"""The operator that stands for everything a compiler has put onto an Edge TPU."""


def read_verdict(line: str) -> str:
    """Read the line on a card: mapped, uncertain or not mapped."""
    if line == OK:
        return MAPPED
    return UNCERTAIN if line.startswith(f"{UNCERTAIN}: ") else UNMAPPED
