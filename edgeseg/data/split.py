"""Split cases into training, validation and test, or into folds (group k-fold); a group is never divided.

Both are stratified: every part has about the same share of cases without a marked pixel.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeseg.core.card import SplitSpec
from edgeseg.core.errors import DataError
from edgeseg.core.spec import MASKS
from edgeseg.data.defects import empty_part, parted_groups, too_few_groups, too_few_marked
from edgeseg.data.reading import GIVEN_PARTS, Case

PARTS = (*GIVEN_PARTS, "all")
# Hexadecimal digits of a fingerprint.
_DIGITS = 16


@dataclass(frozen=True)
class Split:
    """The three parts, in the order of the cases."""

    train: tuple[Case, ...]
    validation: tuple[Case, ...]
    test: tuple[Case, ...]

    def part(self, name: str) -> tuple[Case, ...]:
        """Return a part by its name; "all" is every case."""
        if name == "all":
            return (*self.train, *self.validation, *self.test)
        parts: dict[str, tuple[Case, ...]] = {"train": self.train, "val": self.validation, "test": self.test}
        return parts[name]

    def to_rows(self) -> list[tuple[str, str, str]]:
        """List each case's name, group and part."""
        return [(case.stem, case.group, part) for part in GIVEN_PARTS for case in self.part(part)]


def divide_cases(cases: Sequence[Case], empty: Mapping[str, bool], spec: SplitSpec) -> Split:
    """Split cases as a spec says: once, or into folds, of which one is the test part."""
    return list_splits(cases, empty, spec)[spec.fold]


def list_splits(cases: Sequence[Case], empty: Mapping[str, bool], spec: SplitSpec) -> tuple[Split, ...]:
    """Compute all splits of a spec: one for each fold, or a single one.

    Groups with boxes, points or scribbles train, since full masks judge; where fewer than three groups with something
    marked have full masks alone, all groups are divided.
    """
    weak = {case.group for case in cases if case.labels != MASKS}
    judging = [case for case in cases if case.group not in weak]
    if not weak or len({case.group for case in judging if not empty[case.stem]}) < len(GIVEN_PARTS):
        return _list_splits(cases, empty, spec)
    splits = _list_splits(judging, empty, spec)
    return tuple(_add_weak(split, cases, weak, given=not spec.folds) for split in splits)


def _add_weak(split: Split, cases: Sequence[Case], weak: Set[str], given: bool) -> Split:
    """Add weakly labelled groups to the training part, or to the part that they were given."""
    parts = {stem: part for stem, _, part in split.to_rows()}
    parts |= {case.stem: (given and case.part) or "train" for case in cases if case.group in weak}
    return Split(*(tuple(case for case in cases if parts[case.stem] == part) for part in GIVEN_PARTS))


def _list_splits(cases: Sequence[Case], empty: Mapping[str, bool], spec: SplitSpec) -> tuple[Split, ...]:
    if spec.folds:
        return fold_cases(cases, empty, spec.folds, spec.seed)
    return (split_cases(cases, empty, spec),)


def split_cases(cases: Sequence[Case], empty: Mapping[str, bool], spec: SplitSpec) -> Split:
    """Split cases by group, stratified by empty cases; given parts are kept.

    Every part has marked pixels: a validation or test without any would measure nothing.

    Args:
        cases: The cases.
        empty: For each stem, whether all its masks are empty.
        spec: The seed and the shares.
    """
    _check_given(cases)
    given = {case.part for case in cases} - {""}
    # a part that is not given is taken out of the given training part
    kept = given if given == set(GIVEN_PARTS) else given - {"train"}
    wanted = [part for part in GIVEN_PARTS if part not in kept]
    _check_kept(cases, empty, kept)
    free = [case for case in cases if case.part not in kept]
    members = _gather_groups(free, empty, len(wanted), ", ".join(wanted))
    part_of = _assign_groups(members, empty, spec, wanted)
    parts = {case.stem: case.part if case.part in kept else part_of[case.group] for case in cases}
    return Split(*(tuple(case for case in cases if parts[case.stem] == part) for part in GIVEN_PARTS))


def fold_cases(cases: Sequence[Case], empty: Mapping[str, bool], folds: int, seed: int) -> tuple[Split, ...]:
    """Split cases into folds by group (group k-fold), stratified by empty cases; given parts are ignored.

    In the k-th split the k-th fold is the test part, the next one the validation part, and the others train.

    Args:
        cases: The cases.
        empty: For each stem, whether all its masks are empty.
        folds: Number of folds.
        seed: Of the shuffle.
    """
    if folds < 3:
        raise ValueError(f"expected at least 3 folds, one each to train, validate and test, got {folds}")
    fold_of = _assign_folds(_gather_groups(cases, empty, folds, f"{folds} folds"), empty, folds, seed)
    return tuple(
        Split(
            train=tuple(c for c in cases if fold_of[c.group] not in (number, (number + 1) % folds)),
            validation=tuple(c for c in cases if fold_of[c.group] == (number + 1) % folds),
            test=tuple(c for c in cases if fold_of[c.group] == number),
        )
        for number in range(folds)
    )


def fingerprint_split(split: Split) -> str:
    """Hash which case of which group is in which part, to notice changed groups."""
    return hashlib.sha256(json.dumps(sorted(split.to_rows())).encode("utf-8")).hexdigest()[:_DIGITS]


def refuse_other_split(root: Path, split: Split, trained: str) -> None:
    """Refuse data that are split otherwise than for the training: test cases may have been trained on.

    Args:
        root: The data folder, for the message.
        split: Its parts now.
        trained: The fingerprint of the training's parts; empty in old runs, which are not checked.
    """
    if trained and fingerprint_split(split) != trained:
        raise DataError(
            f"Expected {root} to be split as for the training, got other groups or parts: "
            "test cases may have been trained on.",
            "Restore groups.csv (split.csv in the run folder lists the groups), or train again.",
        )


def _check_given(cases: Sequence[Case]) -> None:
    parts: dict[str, set[str]] = {}
    for case in cases:
        parts.setdefault(case.group, set()).add(case.part)
    parted = sorted(group for group, found in parts.items() if len(found) > 1)
    if parted:
        raise parted_groups(parted)


def _check_kept(cases: Sequence[Case], empty: Mapping[str, bool], kept: Set[str]) -> None:
    showing = {case.part for case in cases if not empty[case.stem]}
    for part in sorted(kept - showing):
        raise empty_part(part)


def _gather_groups(
    cases: Sequence[Case], empty: Mapping[str, bool], needed: int, purpose: str
) -> dict[str, list[Case]]:
    members: dict[str, list[Case]] = {}
    for case in cases:
        members.setdefault(case.group, []).append(case)
    if len(members) < needed:
        raise too_few_groups(needed, purpose, len(members))
    showing = {case.group for case in cases if not empty[case.stem]}
    if len(showing) < needed:
        raise too_few_marked(needed, purpose, len(showing))
    return members


def _shuffle_groups(members: Mapping[str, list[Case]], empty: Mapping[str, bool], seed: int) -> Iterator[list[str]]:
    """Shuffle the groups without a marked pixel, then the others: the two strata."""
    rng = np.random.default_rng(seed)
    for wanted in (True, False):
        # sorted before the shuffle: the result must not depend on the order of files on disk
        groups = sorted(g for g, cases in members.items() if all(empty[c.stem] for c in cases) is wanted)
        yield [groups[i] for i in rng.permutation(len(groups))]


def _assign_groups(
    members: Mapping[str, list[Case]], empty: Mapping[str, bool], spec: SplitSpec, wanted: Sequence[str]
) -> dict[str, str]:
    shares = {"val": spec.validation, "test": spec.test}
    test, validation = (shares[part] if part in wanted else 0.0 for part in ("test", "val"))
    empty_groups, marked_groups = (
        dict(zip(groups, _fill_parts([len(members[group]) for group in groups], test, validation), strict=True))
        for groups in _shuffle_groups(members, empty, spec.seed)
    )
    for part in reversed(wanted):
        if part not in marked_groups.values():
            _give_one(marked_groups, part, wanted)
    return empty_groups | marked_groups


def _assign_folds(
    members: Mapping[str, list[Case]], empty: Mapping[str, bool], folds: int, seed: int
) -> dict[str, int]:
    """Assign the largest groups first, each to the fold with the fewest cases of its stratum (greedy bin packing)."""
    fold_of: dict[str, int] = {}
    total = [0] * folds
    for groups in _shuffle_groups(members, empty, seed):
        taken = [0] * folds
        for group in sorted(groups, key=lambda group: -len(members[group])):
            fold = min(range(folds), key=lambda number: (taken[number], total[number]))
            fold_of[group] = fold
            taken[fold] += len(members[group])
            total[fold] += len(members[group])
    return fold_of


def _fill_parts(sizes: list[int], test: float, validation: float) -> list[str]:
    total, taken, parts = sum(sizes), 0, []
    for size in sizes:
        # by the middle of the group, so that a large group falls to the part that holds most of it
        middle = (taken + size / 2) / total
        parts.append("test" if middle < test else "val" if middle < test + validation else "train")
        taken += size
    return parts


def _give_one(part_of: dict[str, str], part: str, wanted: Sequence[str]) -> None:
    """Move a group from the largest part into an empty one."""
    largest = max(wanted, key=list(part_of.values()).count)
    part_of[min(group for group, p in part_of.items() if p == largest)] = part
