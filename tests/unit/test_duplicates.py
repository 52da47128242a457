"""The index of near-duplicates finds what comparing all pairs finds, and lists no more than it may."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeseg.data import duplicates
from edgeseg.data.duplicates import Duplicates, join_groups, search_duplicates
from edgeseg.data.reading import Case

FRAMES, CLIP = 90, 6


@pytest.fixture
def thumbnails(monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Frames of clips: those of one clip are alike, and one is uniform."""
    monkeypatch.setattr(duplicates, "BLOCK", 16)
    monkeypatch.setattr(duplicates, "_LEAF", 8)
    monkeypatch.setattr(duplicates, "_COMPARED", 5)
    monkeypatch.setattr(duplicates, "_COLUMNS", 20)
    random = np.random.default_rng(0)
    clips = random.normal(size=(FRAMES // CLIP, 1, 64))
    rows = (clips + 0.25 * random.normal(size=(FRAMES // CLIP, CLIP, 64))).reshape(FRAMES, 64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows[7] = 0.0
    return random.permutation(rows).astype(np.float32)


def make_cases(groups: int = FRAMES) -> list[Case]:
    return [Case(f"c{n:03}", Path("i"), (), f"g{n % groups:03}") for n in range(FRAMES)]


def list_numbers(found: Duplicates) -> set[tuple[int, int]]:
    return {(int(pair.first.stem[1:]), int(pair.second.stem[1:])) for pair in found.pairs}


def test_the_index_finds_what_all_pairs_show(thumbnails: np.ndarray) -> None:
    correlations = np.triu(thumbnails @ thumbnails.T, 1)
    found = search_duplicates(make_cases(), thumbnails)
    assert list_numbers(found) == {(int(i), int(j)) for i, j in np.argwhere(correlations > duplicates.THRESHOLD)}
    assert found.across == len(found.pairs) > 20
    shown = [pair.correlation for pair in found.pairs]
    assert shown == sorted(shown, reverse=True)


def test_many_pairs_are_counted_and_the_most_alike_listed(thumbnails: np.ndarray) -> None:
    cases = make_cases()
    whole, few = search_duplicates(cases, thumbnails), search_duplicates(cases, thumbnails, most=7)
    assert (few.within, few.across) == (whole.within, whole.across)
    assert few.pairs == whole.pairs[:7]


def test_groups_are_joined_by_pairs_that_are_not_listed(thumbnails: np.ndarray) -> None:
    cases = make_cases()
    whole, few = search_duplicates(cases, thumbnails), search_duplicates(cases, thumbnails, most=1)
    assert join_groups(cases, few.bridges) == join_groups(cases, whole.pairs)
    assert len(few.bridges) < len(cases)


def test_pairs_of_one_group_are_no_leaks(thumbnails: np.ndarray) -> None:
    found = search_duplicates(make_cases(groups=1), thumbnails)
    assert (found.across, found.bridges) == (0, ())
    assert found.within == len(found.pairs)


def test_no_thumbnails_have_no_pairs() -> None:
    assert search_duplicates([], np.zeros((0, 64), np.float32)) == Duplicates()
