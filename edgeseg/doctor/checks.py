"""What one look at the machine found, and what several looks come to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "problem"]
Verdict = Literal["ok", "warnings", "problems"]


@dataclass(frozen=True)
class Check:
    """One finding: a state, a sentence, and the command or step that mends it (empty when ok)."""

    name: str
    state: State
    detail: str
    fix: str = ""


def judge_checks(checks: Iterable[Check]) -> Verdict:
    """Sum up: the worst state decides."""
    states = {check.state for check in checks}
    if "problem" in states:
        return "problems"
    return "warnings" if "warning" in states else "ok"
