"""Near-duplicates: images that look nearly the same, found by an index instead of by comparing all pairs.

Thumbnails are vectors of length 1, whose product is their correlation. Projected onto a few axes, two of them have a
product of at most P.Q + |p||q| (P and Q are the projections, p and q what the axes leave of them; Cauchy-Schwarz), so
that only pairs whose bound exceeds the threshold are compared in full. A k-d tree over the projections leaves out what
is too far away before that. No pair is lost: the result is the same as that of comparing all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.data.reading import Case

# Side of a thumbnail in pixels.
SIDE = 32
# Correlation above which two thumbnails are near-duplicates: a suspicion, as frames of an empty field look alike, too.
THRESHOLD = 0.95
# Thumbnails that are compared with others at once; fewer altogether need no index.
BLOCK = 1024
# Pairs that are listed, of those that may leak and of the others; the rest is counted.
MOST_PAIRS = 100_000
# Axes of the index, and the thumbnails that they are found in.
_AXES, _SAMPLE = 32, 512
# Columns whose bounds are in memory at once, and pairs that are compared in full at once.
_COLUMNS, _COMPARED = 8192, 4096
# Thumbnails in a leaf of the index.
_LEAF = 256
# Of sums of single precision.
_ROUNDING = 1e-4
# Vectors of length 1 with a product above the threshold are no farther apart; squared.
_FARTHEST = 2.0 - 2.0 * THRESHOLD + _ROUNDING

Name = TypeVar("Name", str, int)
_Numbers = NDArray[np.int64]
_Reals = NDArray[np.float32]


class Thumbnails(Protocol):
    """Rows of numbers in memory or on disk."""

    def __len__(self) -> int:
        """Count the rows."""

    def __getitem__(self, key: Any) -> Any:
        """Read some rows."""


@dataclass(frozen=True)
class DuplicatePair:
    """Two cases that look nearly the same; correlation 1: equal up to brightness and contrast."""

    first: Case
    second: Case
    correlation: float

    @property
    def leaks(self) -> bool:
        """Say whether one may be in the training and the other in the test part."""
        if self.first.part:
            return self.first.part != self.second.part
        return self.first.group != self.second.group

    def to_json(self) -> dict[str, Any]:
        """Convert the pair to a JSON table."""
        return {
            "cases": [self.first.stem, self.second.stem],
            "correlation": round(self.correlation, 4),
            "across": self.leaks,
        }


@dataclass(frozen=True)
class Duplicates:
    """The near-duplicates among cases; of very many only the most alike are listed."""

    pairs: tuple[DuplicatePair, ...] = ()
    """The most alike first."""
    within: int = 0
    across: int = 0
    """How many may leak from test into training."""
    bridges: tuple[DuplicatePair, ...] = ()
    """Pairs that connect all groups that near-duplicates connect, listed or not."""


def make_thumbnail(frame: NDArray[Any]) -> _Reals:
    """Shrink a frame to 32x32 numbers per channel, of mean 0 and norm 1; a uniform frame gives zeros."""
    small = cv2.resize(frame.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA).ravel()
    centred = small - small.mean()
    length = float(np.linalg.norm(centred))
    return np.asarray(centred / length if length > 1e-3 else centred * 0, dtype=np.float32)


def search_duplicates(cases: Sequence[Case], thumbnails: Thumbnails, most: int = MOST_PAIRS) -> Duplicates:
    """Find and count the pairs whose thumbnails correlate above the threshold.

    Args:
        cases: The cases.
        thumbnails: Theirs, in the same order.
        most: How many pairs are listed at most, of those that leak and of the others.
    """
    groups = _number(case.group for case in cases)
    parts = _number(case.part for case in cases) if any(case.part for case in cases) else groups
    across, within, joined = _Closest(most), _Closest(most), _Joined(int(groups.max(initial=-1)) + 1)
    for pairs in _list_alike(thumbnails):
        leaking = parts[pairs.first] != parts[pairs.second]
        across.add(pairs.select(leaking))
        within.add(pairs.select(~leaking))
        joined.add(pairs, groups)
    listed = _join([across.pairs, within.pairs]).sort()
    return Duplicates(
        tuple(_name_pairs(cases, listed)), within.count, across.count, tuple(_name_pairs(cases, joined.pairs))
    )


def join_groups(cases: Sequence[Case], pairs: Iterable[DuplicatePair]) -> tuple[Case, ...]:
    """Merge groups that near-duplicates connect; the first group's name stays."""
    sets = _DisjointSets({case.group for case in cases})
    for pair in pairs:
        sets.unite(pair.first.group, pair.second.group)
    return tuple(dataclasses.replace(case, group=sets.find(case.group)) for case in cases)


class _DisjointSets(Generic[Name]):
    """Sets that are united (union-find); the smallest of its names stands for a set."""

    def __init__(self, names: Iterable[Name]) -> None:
        self._leader: dict[Name, Name] = {name: name for name in names}

    def find(self, name: Name) -> Name:
        leader = self._leader
        while leader[name] != name:
            leader[name] = name = leader[leader[name]]
        return name

    def unite(self, one: Name, other: Name) -> bool:
        """Unite the sets of two names; say whether they were apart."""
        first, second = sorted((self.find(one), self.find(other)))
        self._leader[second] = first
        return first != second


@dataclass(frozen=True)
class _Pairs:
    """Numbers of two images, the smaller first, and their correlation."""

    first: _Numbers
    second: _Numbers
    correlation: _Reals

    def select(self, chosen: NDArray[Any]) -> _Pairs:
        return _Pairs(self.first[chosen], self.second[chosen], self.correlation[chosen])

    def sort(self) -> _Pairs:
        """Sort: the most alike first, then by number."""
        return self.select(np.lexsort((self.second, self.first, -self.correlation)))


_NO_NUMBERS = np.zeros(0, np.int64)
_NO_PAIRS = _Pairs(_NO_NUMBERS, _NO_NUMBERS, np.zeros(0, np.float32))


def _join(several: Sequence[_Pairs]) -> _Pairs:
    return _Pairs(
        np.concatenate([one.first for one in several]),
        np.concatenate([one.second for one in several]),
        np.concatenate([one.correlation for one in several]),
    )


class _Closest:
    """Counts pairs, and keeps the most alike of them."""

    def __init__(self, most: int) -> None:
        self._most, self.count, self.pairs = most, 0, _NO_PAIRS

    def add(self, pairs: _Pairs) -> None:
        self.count += len(pairs.first)
        self.pairs = _join([self.pairs, pairs])
        if len(self.pairs.first) > self._most:
            self.pairs = self.pairs.sort().select(np.arange(self._most))


class _Joined:
    """Joins groups that pairs connect, and keeps one pair for every two that were joined: fewer than groups."""

    def __init__(self, groups: int) -> None:
        self._groups, self._sets, self.pairs = groups, _DisjointSets(range(groups)), _NO_PAIRS

    def add(self, pairs: _Pairs, groups: _Numbers) -> None:
        ends = np.sort(np.stack([groups[pairs.first], groups[pairs.second]]), axis=0)
        _, chosen = np.unique(ends[0] * self._groups + ends[1], return_index=True)
        joining = [number for number in np.sort(chosen) if self._sets.unite(*map(int, ends[:, number]))]
        self.pairs = _join([self.pairs, pairs.select(np.array(joining, np.int64))])


def _number(names: Iterable[str]) -> _Numbers:
    """Number names, equal ones alike."""
    known: dict[str, int] = {}
    return np.array([known.setdefault(name, len(known)) for name in names], np.int64)


def _name_pairs(cases: Sequence[Case], pairs: _Pairs) -> Iterator[DuplicatePair]:
    for first, second, correlation in zip(pairs.first, pairs.second, pairs.correlation, strict=True):
        yield DuplicatePair(cases[first], cases[second], float(min(correlation, 1.0)))


def _list_alike(thumbnails: Thumbnails) -> Iterator[_Pairs]:
    """List the pairs above the threshold, part by part."""
    if len(thumbnails) <= BLOCK:
        if len(thumbnails) > 1:
            rows = thumbnails[:]
            correlations = np.triu(rows @ rows.T, 1)
            first, second = np.nonzero(correlations > THRESHOLD)
            yield _Pairs(first, second, correlations[first, second])
        return
    index = _Index(thumbnails)
    for leaf in range(len(index.ends)):
        yield from index.compare(leaf)


class _Index:
    """Thumbnails in the leaves of a k-d tree, with the numbers that bound their products.

    `order` lists them leaf by leaf; leaf k ends before `ends[k]`. Leaves whose boxes are too far apart hold no pair.
    """

    def __init__(self, thumbnails: Thumbnails) -> None:
        self._thumbnails = thumbnails
        axes = _find_axes(thumbnails)
        described = np.concatenate(
            [_project(thumbnails[start : start + BLOCK], axes) for start in range(0, len(thumbnails), BLOCK)]
        )
        # uniform frames are like nothing
        leaves = list(_divide(described, np.flatnonzero(np.abs(described).sum(axis=1) > 0)))
        self.order = np.concatenate([_NO_NUMBERS, *leaves])
        self.ends = np.cumsum([len(leaf) for leaf in leaves])
        self._low = np.array([described[leaf].min(axis=0) for leaf in leaves])
        self._high = np.array([described[leaf].max(axis=0) for leaf in leaves])
        self._described = np.ascontiguousarray(described[self.order])

    def compare(self, leaf: int) -> Iterator[_Pairs]:
        """Compare the thumbnails of a leaf with each other and with those of later leaves nearby."""
        start, end = int(self.ends[leaf - 1]) if leaf else 0, int(self.ends[leaf])
        block, near = self._described[start:end], self._find_near(leaf)
        for begin in range(0, len(near), _COLUMNS):
            columns = near[begin : begin + _COLUMNS]
            bounds = block @ self._described[columns].T
            flat = np.flatnonzero(bounds.ravel() > THRESHOLD - _ROUNDING)
            row, column = start + flat // len(columns), columns[flat % len(columns)]
            later = column > row
            yield from self._compare_fully(self.order[row[later]], self.order[column[later]])

    def _find_near(self, leaf: int) -> _Numbers:
        """List the places in the order of this leaf's thumbnails and of those in later leaves nearby."""
        low, high = self._low[leaf:], self._high[leaf:]
        gaps = np.maximum(np.maximum(low - high[0], low[0] - high), 0.0)
        near = leaf + np.flatnonzero(np.sum(np.square(gaps), axis=1) <= _FARTHEST)
        starts = np.concatenate([[0], self.ends[:-1]])
        return np.concatenate([np.arange(starts[one], self.ends[one]) for one in near])

    def _compare_fully(self, row: _Numbers, column: _Numbers) -> Iterator[_Pairs]:
        for start in range(0, len(row), _COMPARED):
            ends = [side[start : start + _COMPARED] for side in (row, column)]
            # each thumbnail is read once, however many pairs it is part of
            one, other = (self._read(side) for side in ends)
            correlation = np.einsum("ij,ij->i", one, other)
            pairs = _Pairs(np.minimum(*ends), np.maximum(*ends), correlation)
            yield pairs.select(correlation > THRESHOLD)

    def _read(self, numbers: _Numbers) -> _Reals:
        needed, places = np.unique(numbers, return_inverse=True)
        return np.asarray(self._thumbnails[needed], np.float32)[places]


def _divide(described: _Reals, numbers: _Numbers) -> Iterator[_Numbers]:
    """Divide thumbnails in halves, each time along the axis of their greatest extent."""
    if len(numbers) <= _LEAF:
        if len(numbers):
            yield numbers
        return
    axis = int(np.ptp(described[numbers], axis=0).argmax())
    numbers = numbers[np.argsort(described[numbers, axis], kind="stable")]
    for half in np.array_split(numbers, 2):
        yield from _divide(described, half)


def _find_axes(thumbnails: Thumbnails) -> _Reals:
    """Find orthogonal axes: those along which a sample of the thumbnails differs most, and their mean."""
    sample = np.asarray(thumbnails[np.linspace(0, len(thumbnails) - 1, _SAMPLE).astype(int)], np.float32)
    mean = sample.mean(axis=0)
    # the mean is common to all: it bounds products, but nothing can be sorted along it
    main = np.linalg.svd(sample - mean, full_matrices=False)[2][: _AXES - 1]
    return np.asarray(np.linalg.qr(np.concatenate([main, mean[np.newaxis]]).T)[0], np.float32)


def _project(rows: _Reals, axes: _Reals) -> _Reals:
    """Project thumbnails onto the axes; the last number is the length of what is left."""
    projected = np.asarray(rows, np.float32) @ axes
    left = np.maximum(np.sum(np.square(rows), axis=1) - np.sum(np.square(projected), axis=1), 0.0)
    return np.concatenate([projected, np.sqrt(left)[:, np.newaxis]], axis=1, dtype=np.float32)
