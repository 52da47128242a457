"""Findings of the linter: for each operator and target, and summed up in one line for the card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgeseg.core.card import MAPPED, OK, UNCERTAIN, UNMAPPED
from edgeseg.core.spec import check_choice


@dataclass(frozen=True)
class Objection:
    """The reason why an operator does not or may not run on a target, and the cure."""

    verdict: str
    rule: str
    """The predicate of a sentence whose subject is the operator's name."""
    cure: str
    """What to change in the recipe or the network."""

    def __post_init__(self) -> None:
        """Check the verdict and that rule and cure are given."""
        check_choice("verdict", self.verdict, (UNCERTAIN, UNMAPPED))
        if not self.rule or not self.cure:
            raise ValueError(f"expected a rule and a cure, got {self.rule!r} and {self.cure!r}")


@dataclass(frozen=True)
class Finding:
    """The verdict for one operator on a target."""

    operator: str
    index: int
    """Its position in the execution order, from 0."""
    verdict: str
    rule: str = ""
    cure: str = ""


@dataclass(frozen=True)
class FindingGroup:
    """Operators with the same finding."""

    operators: str
    verdict: str
    rule: str
    cure: str


def make_finding(operator: str, index: int, objection: Objection | None) -> Finding:
    """Build the finding of an operator; without an objection it is mapped."""
    if objection is None:
        return Finding(operator, index, MAPPED)
    return Finding(operator, index, objection.verdict, objection.rule, objection.cure)


def summarise_findings(findings: Sequence[Finding]) -> str:
    """Sum up in one line: "ok", or the first operator that is not mapped, else the first uncertain one."""
    for verdict, prefix in ((UNMAPPED, ""), (UNCERTAIN, f"{UNCERTAIN}: ")):
        for finding in findings:
            if finding.verdict == verdict:
                return f"{prefix}{finding.operator} {finding.rule}: {finding.cure}"
    return OK


def group_findings(findings: Iterable[Finding]) -> tuple[FindingGroup, ...]:
    """Group operators with the same finding, in execution order; mapped ones are left out."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for finding in findings:
        if finding.verdict != MAPPED:
            groups.setdefault((finding.verdict, finding.rule, finding.cure), []).append(finding.operator)
    return tuple(FindingGroup(_count_names(names), *finding) for finding, names in groups.items())


def _count_names(names: Sequence[str]) -> str:
    return ", ".join(name if count == 1 else f"{count} {name}" for name, count in Counter(names).items())
