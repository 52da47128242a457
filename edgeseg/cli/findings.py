"""How the linter's findings are printed: what is mapped in a line, what is not with its rule and its cure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeseg.graph.finding import Finding


def print_findings(target: str, findings: Sequence[Finding]) -> None:
    """Print what the rules of a target say of a file's operators."""
    from edgeseg.core.verdict import MAPPED
    from edgeseg.graph.finding import group_findings

    mapped = sum(finding.verdict == MAPPED for finding in findings)
    print(f"{target}, by its rules: {mapped} of {len(findings)} operators mapped")
    for group in group_findings(findings):
        print(f"  {group.operators} ({group.verdict}): {group.rule}\n    {group.cure}")
