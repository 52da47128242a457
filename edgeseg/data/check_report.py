"""What `data check` found out: figures, defects, near-duplicates and a verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.images import choose_white
from edgeseg.core.schema import to_plain
from edgeseg.data.case import Case
from edgeseg.data.dataset import Dataset
from edgeseg.data.defects import DataWarning, DefectError
from edgeseg.data.duplicates import DuplicatePair
from edgeseg.data.plausibility import Marks

READY, DEFECTS, LEAK = "ready", "defects", "leak"
DEEP = 16


@dataclass(frozen=True)
class CaseFacts:
    """What one readable case looks like; `marked` counts the pixels of each class."""

    case: Case
    height: int
    width: int
    bits: int
    low: int
    high: int
    marked: tuple[int, ...]
    values: tuple[int, ...]
    """What stands in its mask files, or in its label map where these are no pictures."""
    thumbnail: NDArray[np.float32]
    marks: Marks
    overlapping: bool = False
    """Whether a pixel is marked as several classes."""
    outside: bool = False
    """Whether something is marked outside the region that a header names."""


@dataclass(frozen=True)
class ClassBalance:
    """How much of the data shows a class."""

    name: str
    cases: int
    case_share: float
    pixel_share: float


@dataclass(frozen=True)
class CheckReport:
    """A data folder after every file was read once."""

    dataset: Dataset
    facts: tuple[CaseFacts, ...]
    defects: tuple[DefectError, ...]
    pairs: tuple[DuplicatePair, ...]
    warnings: tuple[DataWarning, ...] = ()

    @property
    def leaks(self) -> list[DuplicatePair]:
        """List the near-duplicates that training and test may share."""
        return [pair for pair in self.pairs if pair.leaks]

    @property
    def verdict(self) -> str:
        """Name the verdict: ready, defects or leak."""
        return DEFECTS if self.defects else LEAK if self.leaks else READY

    @property
    def balance(self) -> list[ClassBalance]:
        """Tell for each class how many cases and how many pixels show it."""
        pixels = sum(facts.height * facts.width for facts in self.facts)
        names = [spec.name for spec in self.dataset.classes]
        return [self._weigh(name, number, max(pixels, 1)) for number, name in enumerate(names)]

    @property
    def white(self) -> int | None:
        """Give the value that is white to a training on all images of 16 bits; None where there are none."""
        brightest = [facts.high for facts in self.facts if facts.bits == DEEP]
        return choose_white(brightest) if brightest else None

    def _weigh(self, name: str, number: int, pixels: int) -> ClassBalance:
        marked = [facts.marked[number] for facts in self.facts]
        cases = sum(count > 0 for count in marked)
        return ClassBalance(name, cases, round(cases / max(len(marked), 1), 5), round(sum(marked) / pixels, 6))

    def to_json(self) -> dict[str, Any]:
        """Give the report as a JSON table."""
        facts = self.facts
        sizes = [fact.case.pixel_size_mm for fact in facts if fact.case.pixel_size_mm is not None]
        return {
            "layout": self.dataset.layout,
            "verdict": self.verdict,
            "sentence": describe_verdict(self),
            "cases": len(facts),
            "groups": len({fact.case.group for fact in facts}),
            "parts": count_values(fact.case.part for fact in facts if fact.case.part),
            "empty": sum(not any(fact.marked) for fact in facts),
            "overlapping": sum(fact.overlapping for fact in facts),
            "sizes": count_values(f"{fact.width}x{fact.height}" for fact in facts),
            "bits": count_values(str(fact.bits) for fact in facts),
            "white": self.white,
            "header_regions": sum(fact.case.region is not None for fact in facts),
            "label_values": count_values(str(value) for fact in facts for value in fact.values),
            "darkest": span([fact.low for fact in facts]),
            "brightest": span([fact.high for fact in facts]),
            "pixel_size_mm": {"known": len(sizes), **(span(sizes) or {})},
            "classes": to_plain(self.balance),
            "near_duplicates": {
                "within": len(self.pairs) - len(self.leaks),
                "across": len(self.leaks),
                "pairs": [pair.to_json() for pair in self.pairs],
            },
            "defects": [defect.to_json() for defect in self.defects],
            "warnings": to_plain(self.warnings),
        }


def describe_verdict(report: CheckReport) -> str:
    """Say in one line whether to train on the data, and what to do if not."""
    if report.verdict == LEAK:
        return describe_leak(len(report.leaks), any(fact.case.part for fact in report.facts))
    if report.verdict == DEFECTS:
        return f"Not to train on: {len(report.defects)} defects, each of which stops a training."
    if report.warnings:
        kinds = ", ".join(dict.fromkeys(warning.kind for warning in report.warnings))
        return f"Ready to train on, but look at the warnings first: {kinds}."
    return "Ready to train on."


def describe_leak(pairs: int, given_parts: bool) -> str:
    """Say that training and test may share images, and what to do.

    Args:
        pairs: How many pairs of near-duplicates are parted.
        given_parts: Whether the data's makers divided them.
    """
    if given_parts:
        return (
            f"Not to train on yet: {pairs} pairs of near-duplicates stand in different given parts. Import the data "
            "and remove the column part from groups.csv, so that they are divided by group."
        )
    return (
        f"Not to train on yet: {pairs} pairs of near-duplicates stand in different groups, which lets training "
        "and test share them. Write groups that hold them together with --write-groups F.csv, and put the file into "
        "the data folder as groups.csv."
    )


def count_values(values: Iterable[str]) -> dict[str, int]:
    """Count values, the most frequent first."""
    return dict(Counter(values).most_common())


def span(values: list[int] | list[float]) -> dict[str, float] | None:
    """Give the lowest, the median and the highest of some values."""
    if not values:
        return None
    low, median, high = (round(float(value), 6) for value in np.percentile(values, [0, 50, 100]))
    return {"low": low, "median": median, "high": high}
