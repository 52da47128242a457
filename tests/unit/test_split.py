"""Folds and given parts: no group is parted, and what the data's makers divided stays divided."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest

from edgeseg.core.card import SplitSpec
from edgeseg.core.errors import DataError
from edgeseg.data.defects import DefectError
from edgeseg.data.reading import GIVEN_PARTS, Case
from edgeseg.data.split import Split, fold_cases, split_cases

SPLIT = SplitSpec(seed=0, validation=0.2, test=0.2)


def make_cases(count: int, per_group: int = 1) -> list[Case]:
    return [Case(f"c{n:03d}", Path("x"), (), f"g{n // per_group}") for n in range(count)]


def mark_empty(cases: Sequence[Case], count: int) -> dict[str, bool]:
    return {case.stem: number < count for number, case in enumerate(cases)}


def groups(cases: Sequence[Case]) -> set[str]:
    return {case.group for case in cases}


def check_parts(split: Split, cases: Sequence[Case]) -> None:
    parts = [split.part(name) for name in ("train", "val", "test")]
    assert all(parts)
    assert sum(len(part) for part in parts) == len(cases)
    assert sum(len(groups(part)) for part in parts) == len(groups(cases))


@pytest.mark.parametrize("folds", [3, 5, 10])
def test_every_case_is_tested_once(folds: int) -> None:
    cases = make_cases(100, per_group=4)
    splits = fold_cases(cases, mark_empty(cases, 30), folds, seed=1)
    for split in splits:
        check_parts(split, cases)
    assert sorted(case.stem for split in splits for case in split.test) == [case.stem for case in cases]
    assert all(splits[k].validation == splits[(k + 1) % folds].test for k in range(folds))


def test_folds_hold_about_as_many_empty_cases() -> None:
    cases = make_cases(200)
    empty = mark_empty(cases, 60)
    for split in fold_cases(cases, empty, 5, seed=0):
        assert sum(empty[case.stem] for case in split.test) == 12
        assert len(split.test) == 40


def test_folds_are_the_same_for_a_seed_and_others_for_another() -> None:
    cases = make_cases(60, per_group=2)
    empty = mark_empty(cases, 0)
    assert fold_cases(cases, empty, 4, 7) == fold_cases(cases, empty, 4, 7)
    assert fold_cases(cases, empty, 4, 7) != fold_cases(cases, empty, 4, 8)


def test_as_many_groups_as_folds() -> None:
    cases = make_cases(40, per_group=8)
    for split in fold_cases(cases, mark_empty(cases, 4), 5, seed=0):
        check_parts(split, cases)


@pytest.mark.parametrize("showing", [3, 4, 5])
@pytest.mark.parametrize("seed", range(5))
def test_every_part_shows_something_where_few_groups_do(showing: int, seed: int) -> None:
    cases = make_cases(40, per_group=2)
    empty = mark_empty(cases, 40 - 2 * showing)
    for split in (split_cases(cases, empty, SplitSpec(seed, 0.12, 0.15)), *fold_cases(cases, empty, showing, seed)):
        check_parts(split, cases)
        assert all(any(not empty[case.stem] for case in split.part(name)) for name in ("train", "val", "test"))


def test_fewer_groups_that_show_something_than_parts() -> None:
    cases = make_cases(40, per_group=2)
    empty = mark_empty(cases, 36)
    with pytest.raises(DefectError, match=r"3 groups.*train, val, test.*\b2\b"):
        split_cases(cases, empty, SPLIT)
    with pytest.raises(DefectError, match=r"5 groups.*5 folds.*\b2\b"):
        fold_cases(cases, empty, 5, seed=0)


@pytest.mark.parametrize("hollow", GIVEN_PARTS)
def test_a_given_part_that_shows_nothing(hollow: str) -> None:
    cases = give_parts(make_cases(9), ["train"] * 5 + ["val"] * 2 + ["test"] * 2)
    with pytest.raises(DefectError, match=rf"part {hollow}\b.*empty masks"):
        split_cases(cases, {case.stem: case.part == hollow for case in cases}, SPLIT)


@pytest.mark.parametrize("per_group", [10, 40])
def test_fewer_groups_than_folds(per_group: int) -> None:
    cases = make_cases(40, per_group)
    with pytest.raises(DataError, match=rf"5 groups.*5 folds.*\b{40 // per_group}\b"):
        fold_cases(cases, mark_empty(cases, 0), 5, seed=0)


def test_two_folds_are_too_few() -> None:
    with pytest.raises(ValueError, match="at least 3 folds"):
        fold_cases(make_cases(10), {}, 2, seed=0)


def give_parts(cases: Sequence[Case], parts: Sequence[str]) -> list[Case]:
    return [dataclasses.replace(case, part=part) for case, part in zip(cases, parts, strict=True)]


def test_given_parts_are_kept() -> None:
    cases = give_parts(make_cases(10), ["val"] * 2 + ["train"] * 3 + ["test"] * 5)
    split = split_cases(cases, mark_empty(cases, 0), SPLIT)
    assert (split.validation, split.train, split.test) == (tuple(cases[:2]), tuple(cases[2:5]), tuple(cases[5:]))


@pytest.mark.parametrize(("given", "taken"), [("test", "val"), ("val", "test")])
def test_a_missing_part_is_taken_from_the_training(given: str, taken: str) -> None:
    cases = give_parts(make_cases(60, per_group=2), [given] * 10 + ["train"] * 50)
    split = split_cases(cases, mark_empty(cases, 0), SPLIT)
    check_parts(split, cases)
    assert split.part(given) == tuple(cases[:10])
    assert len(split.part(taken)) == pytest.approx(10, abs=2)


def test_a_group_in_two_given_parts() -> None:
    cases = give_parts(make_cases(9, per_group=2), ["val"] * 3 + ["train"] * 3 + ["test"] * 3)
    with pytest.raises(DataError, match=r"parts.*g1"):
        split_cases(cases, mark_empty(cases, 0), SPLIT)


def test_only_tests_were_given() -> None:
    cases = give_parts(make_cases(4), ["test", "test", "val", "val"])
    with pytest.raises(DataError, match=r"1 groups.*train"):
        split_cases(cases, mark_empty(cases, 0), SPLIT)
