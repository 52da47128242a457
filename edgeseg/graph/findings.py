"""What is said of each operator for a target, and of a whole file in one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgeseg.core.card import MAPPED, OK, UNCERTAIN, UNMAPPED
from edgeseg.core.spec import check_choice


@dataclass(frozen=True)
class Objection:
    """What speaks against an operator, and what cures it."""

    verdict: str
    rule: str
    """What the operator does, so that its name and this make a sentence."""
    cure: str
    """What to change in the recipe or the network."""

    def __post_init__(self) -> None:
        """Refuse an objection that says nothing."""
        check_choice("verdict", self.verdict, (UNCERTAIN, UNMAPPED))
        if not self.rule or not self.cure:
            raise ValueError(f"expected a rule and a cure, got {self.rule!r} and {self.cure!r}")


@dataclass(frozen=True)
class Finding:
    """What a target makes of one operator."""

    operator: str
    index: int
    """Its place in the order they run, from 0."""
    verdict: str
    rule: str = ""
    cure: str = ""


@dataclass(frozen=True)
class FindingGroup:
    """Operators against which the same is said."""

    operators: str
    verdict: str
    rule: str
    cure: str


def make_finding(operator: str, index: int, objection: Objection | None) -> Finding:
    """Write down what speaks against an operator; nothing means that it is mapped."""
    if objection is None:
        return Finding(operator, index, MAPPED)
    return Finding(operator, index, objection.verdict, objection.rule, objection.cure)


def summarise_findings(findings: Sequence[Finding]) -> str:
    """Sum up in one line: "ok", or the first reason against the file and its cure; doubts count after reasons."""
    for verdict, prefix in ((UNMAPPED, ""), (UNCERTAIN, f"{UNCERTAIN}: ")):
        for finding in findings:
            if finding.verdict == verdict:
                return f"{prefix}{finding.operator} {finding.rule}: {finding.cure}"
    return OK


def group_findings(findings: Iterable[Finding]) -> tuple[FindingGroup, ...]:
    """Put together the operators against which the same is said, in the order they run; mapped ones are left out."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for finding in findings:
        if finding.verdict != MAPPED:
            groups.setdefault((finding.verdict, finding.rule, finding.cure), []).append(finding.operator)
    return tuple(FindingGroup(_count_names(names), *said) for said, names in groups.items())


def _count_names(names: Sequence[str]) -> str:
    return ", ".join(name if count == 1 else f"{count} {name}" for name, count in Counter(names).items())
