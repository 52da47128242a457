"""Checks of a machine: is it ready to run models, and which command mends what is not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "problem"]
Verdict = Literal["ok", "warnings", "problems"]


@dataclass(frozen=True)
class Check:
    """The result of a check: a state, a sentence, and the command or step that mends it (empty when ok)."""

    name: str
    state: State
    detail: str
    fix: str = ""


def judge_checks(checks: Iterable[Check]) -> Verdict:
    """Return the worst state."""
    states = {check.state for check in checks}
    if "problem" in states:
        return "problems"
    return "warnings" if "warning" in states else "ok"
