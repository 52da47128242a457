"""A fold's cases as a folder of its own, with a share of the training labels; used by folds.py and by experiments.

The folder holds links to the images and masks of a fold's training, validation and test cases, and a groups.csv whose
column `part` keeps them in their parts. Of the training groups only a share keeps its labels; the images of the others
lie in a second folder, without masks. Test and validation cases are the same for every share, and a smaller share of a
seed is part of every larger one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeseg.core.errors import DataError
from edgeseg.core.files import staged_folder, write_rows
from edgeseg.data.dataset import Dataset, open_dataset, view_case
from edgeseg.data.groups import GROUPS, read_table
from edgeseg.data.reading import Case
from edgeseg.data.split import Split, fold_cases

LABELS = "labels.csv"
# Columns of groups.csv that are written anew.
_OWN = ("stem", "group", "part")


@dataclass(frozen=True)
class Subset:
    """The folders of one fold."""

    labelled: Path
    """A data folder with given parts: a share of the training cases, all validation and all test cases."""
    rest: Path
    """The images of the training cases that lost their labels; empty where all are labelled."""
    frames: Path
    """The images of all training cases."""


def find_folds(root: Path, folds: int, seed: int = 0) -> tuple[Split, ...]:
    """Divide a data folder as `edgeseg train --folds` does with that seed."""
    dataset = open_dataset(root)
    empty = {case.stem: not view_case(case).labels.any() for case in dataset.cases}
    return fold_cases(dataset.cases, empty, folds, seed)


def choose_labelled(train: Sequence[Case], empty: Mapping[str, bool], share: float, seed: int) -> frozenset[str]:
    """Choose the groups that keep their labels, among those that show something and those that do not alike."""
    if not 0.0 < share <= 1.0:
        raise ValueError(f"expected a share above 0 and at most 1, got {share}")
    showing = {case.group for case in train if not empty[case.stem]}
    strata = sorted(showing), sorted({case.group for case in train} - showing)
    random = np.random.default_rng(seed)
    kept: set[str] = set()
    for groups in strata:
        order = random.permutation(len(groups))
        kept |= {groups[number] for number in order[: math.ceil(share * len(groups))]}
    return frozenset(kept)


def make_subset(root: Path, out: Path, split: Split, share: float = 1.0, seed: int = 0) -> Subset:
    """Make the folders of one fold, or take those that stand there.

    Args:
        root: The data folder.
        out: The folder to make.
        split: The fold, of `find_folds`.
        share: Of the training groups that keep their labels.
        seed: Of the choice.
    """
    subset = Subset(out / "labelled", out / "rest", out / "frames")
    if out.is_dir():
        return subset
    dataset = open_dataset(root)
    empty = {case.stem: not view_case(case).labels.any() for case in split.train}
    kept = choose_labelled(split.train, empty, share, seed)
    unlabelled = [case for case in split.train if case.group not in kept]
    with staged_folder(out) as folder:
        link_labelled(dataset, folder / subset.labelled.name, split, {case.stem for case in unlabelled})
        _link_images(folder / subset.rest.name, unlabelled)
        _link_images(folder / subset.frames.name, split.train)
    return subset


def link_labelled(dataset: Dataset, folder: Path, split: Split, without: Set[str] = frozenset()) -> None:
    """Link images and masks into a data folder with given parts, without some of them."""
    parts = {stem: part for stem, _, part in split.to_rows() if stem not in without}
    cases = [case for case in dataset.cases if case.stem in parts]
    files = [path for case in cases for path in case.files]
    if len(set(files)) < len(files):
        raise DataError(
            f"Expected a file of its own for every image of {dataset.root}, got several in one.",
            "Give the images as files: edgeseg data import DATA --out NEW.",
        )
    for path in files:
        _link(path, folder / path.relative_to(dataset.root))
    known = _read_rows(dataset.root / GROUPS)
    columns = [name for name in next(iter(known.values()), {}) if name not in _OWN]
    rows = [
        (case.stem, case.group, parts[case.stem], *(known.get(case.stem, {}).get(name, "") for name in columns))
        for case in cases
    ]
    write_rows(folder / GROUPS, (*_OWN, *columns), rows)
    labels = {stem: row for stem, row in _read_rows(dataset.root / LABELS).items() if stem in parts}
    if labels:
        columns = list(next(iter(labels.values())))
        write_rows(folder / LABELS, columns, [[row.get(name, "") for name in columns] for row in labels.values()])


def _read_rows(path: Path) -> dict[str, Mapping[str, str]]:
    return {row["stem"]: row.cells for row in read_table(path, ("stem",))} if path.is_file() else {}


def _link_images(folder: Path, cases: Iterable[Case]) -> None:
    folder.mkdir(parents=True)
    for case in cases:
        _link(case.image, folder / f"{case.stem}{case.image.suffix}")


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(source.resolve())
