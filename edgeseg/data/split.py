"""Divide cases into training, validation and test, never parting a group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgeseg.core.card import SplitSpec
from edgeseg.core.errors import DataError
from edgeseg.data.dataset import Case


@dataclass(frozen=True)
class Split:
    """The three parts, in the order of the cases."""

    train: tuple[Case, ...]
    validation: tuple[Case, ...]
    test: tuple[Case, ...]

    def part(self, name: str) -> tuple[Case, ...]:
        """Take a part by its name; "all" is every case."""
        if name == "all":
            return (*self.train, *self.validation, *self.test)
        parts: dict[str, tuple[Case, ...]] = {"train": self.train, "val": self.validation, "test": self.test}
        return parts[name]


PARTS = ("train", "val", "test", "all")


def split_cases(cases: Sequence[Case], empty: Mapping[str, bool], spec: SplitSpec) -> Split:
    """Divide cases by group, with about the same share of empty ones in every part.

    Args:
        cases: The cases.
        empty: For each stem, whether its masks are all empty.
        spec: The seed and the shares.
    """
    members: dict[str, list[Case]] = {}
    for case in cases:
        members.setdefault(case.group, []).append(case)
    if len(members) < 3:
        raise DataError(
            f"Expected at least 3 groups to divide into training, validation and test, got {len(members)}.",
            "Give more patients or clips, or name the groups in groups.csv.",
        )
    part_of = _assign_groups(members, empty, spec)
    return Split(*(tuple(c for c in cases if part_of[c.group] == part) for part in ("train", "val", "test")))


def _assign_groups(members: Mapping[str, list[Case]], empty: Mapping[str, bool], spec: SplitSpec) -> dict[str, str]:
    rng = np.random.default_rng(spec.seed)
    part_of: dict[str, str] = {}
    for wanted in (True, False):
        groups = sorted(g for g, cases in members.items() if all(empty[c.stem] for c in cases) is wanted)
        shuffled = [groups[i] for i in rng.permutation(len(groups))]
        sizes = [len(members[group]) for group in shuffled]
        part_of |= dict(zip(shuffled, _fill_parts(sizes, spec), strict=True))
    for part in ("test", "val", "train"):
        if part not in part_of.values():
            _give_one(part_of, part)
    return part_of


def _fill_parts(sizes: list[int], spec: SplitSpec) -> list[str]:
    total, taken, parts = sum(sizes), 0, []
    for size in sizes:
        middle = (taken + size / 2) / total
        parts.append("test" if middle < spec.test else "val" if middle < spec.test + spec.validation else "train")
        taken += size
    return parts


def _give_one(part_of: dict[str, str], part: str) -> None:
    largest = max(("train", "val", "test"), key=list(part_of.values()).count)
    part_of[min(group for group, p in part_of.items() if p == largest)] = part
