"""Which frames are selected for labelling: doubtful ones, no two alike, from all groups; in bounded memory."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeseg.core.modelfile import read_model
from edgeseg.core.spec import ClassSpec, OutputSpec
from edgeseg.data.duplicates import THRESHOLD
from edgeseg.inference.ensemble import open_segmenter
from edgeseg.inference.segmenter import Segmenter
from edgeseg.prediction import selection
from edgeseg.prediction.selection import (
    Candidate,
    FrameLook,
    FramePool,
    is_blank,
    look_at,
    measure_disagreement,
    measure_doubt,
    rank_frames,
)
from tests.ensembles import change_member, make_decision, make_folds
from tests.tinymodels import SIZE, write_bright_model

RANDOM = np.random.default_rng(7)


def make_look(like: FrameLook | None = None, noise: float = 0.05) -> FrameLook:
    """Make a look of its own, or one that is nearly the same as another."""
    if like is None:
        thumbnail, features = RANDOM.normal(size=1024), RANDOM.normal(size=28).astype(np.float32)
    else:
        length = np.linalg.norm(like.thumbnail.astype(float)) / 32
        thumbnail = like.thumbnail.astype(float) + noise * length * RANDOM.normal(size=1024)
        features = (like.features + noise * RANDOM.normal(size=28)).astype(np.float32)
    thumbnail = thumbnail - thumbnail.mean()
    scaled = np.rint(127 * thumbnail / np.linalg.norm(thumbnail)).astype(np.int8)
    return FrameLook(scaled, features)


def make_candidate(number: int, doubt: float, group: str = "", look: FrameLook | None = None) -> Candidate:
    return Candidate(f"{number:03}.png", 0, group or f"g{number}", doubt, look or make_look())


def correlate(one: Candidate, other: Candidate) -> float:
    first, second = (look.thumbnail.astype(float) for look in (one.look, other.look))
    return float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))


def test_no_two_near_duplicates_are_selected() -> None:
    looks = [make_look() for _ in range(6)]
    crowd = [make_candidate(n, 0.9 - 0.001 * n, look=make_look(looks[n % 6])) for n in range(60)]
    assert correlate(crowd[0], crowd[6]) > THRESHOLD
    ranked = rank_frames(crowd, 20)
    assert len(ranked) == 6
    assert sorted(int(one.name[:3]) % 6 for one in ranked) == list(range(6))


def test_what_looks_like_a_labelled_image_is_not_selected() -> None:
    crowd = [make_candidate(n, 0.9 if n < 3 else 0.2) for n in range(6)]
    labelled = [make_look(one.look) for one in crowd[:3]]
    assert {one.name for one in rank_frames(crowd, 6, labelled)} == {one.name for one in crowd[3:]}
    assert not rank_frames(crowd, 6, [one.look for one in crowd])


def test_doubtful_frames_are_selected_before_certain_ones() -> None:
    crowd = [make_candidate(n, 0.8 if n % 10 == 0 else 0.05) for n in range(100)]
    assert {one.doubt for one in rank_frames(crowd, 10)} == {0.8}


def test_a_frame_that_speaks_for_many_comes_before_one_of_its_own_kind() -> None:
    middle = make_look()
    kin = [make_candidate(n, 0.5, look=make_look(middle, noise=0.5)) for n in range(8)]
    lonely = [make_candidate(50 + n, 0.5) for n in range(2)]
    assert max(correlate(kin[0], one) for one in kin[1:]) < THRESHOLD
    assert rank_frames([*lonely, *kin], 1)[0] in kin
    # and once one of them is labelled, the others bring less that is new
    assert rank_frames([*lonely, *kin], 1, [make_look(middle, noise=0.2)])[0] in lonely


@pytest.mark.parametrize("count", [5, 12])
def test_groups_have_their_share(count: int) -> None:
    crowd = [make_candidate(n, 0.9, "long clip") for n in range(200)]
    crowd += [make_candidate(200 + n, 0.3, f"clip {n % 5}") for n in range(50)]
    ranked = rank_frames(crowd, count)
    given = [sum(one.group == group for one in ranked) for group in {one.group for one in crowd}]
    assert sum(given) == count
    assert max(given) <= math.ceil(1.5 * count / 6)


def test_a_group_gives_more_where_others_have_nothing_left() -> None:
    crowd = [make_candidate(n, 0.9, "one") for n in range(30)] + [make_candidate(40, 0.1, "two")]
    ranked = rank_frames(crowd, 25)
    assert len(ranked) == 25
    assert {one.group for one in ranked} == {"one", "two"}


def test_frames_of_another_kind_come_last() -> None:
    crowd = [make_candidate(n, 0.2) for n in range(4)]
    strange = [dataclasses.replace(make_candidate(10 + n, 0.9), distance=1.5) for n in range(4)]
    ranked = rank_frames([*strange, *crowd], 6)
    assert [one.unlike for one in ranked] == [False] * 4 + [True] * 2
    assert not any(one.unlike for one in rank_frames([*strange, *crowd], 4))
    # even where all of the known kind are from one clip
    clip = [make_candidate(n, 0.1, "clip") for n in range(60)]
    strange = [dataclasses.replace(make_candidate(100 + n, 0.9), distance=2.0) for n in range(150)]
    assert not any(one.unlike for one in rank_frames([*strange, *clip], 60))


def test_the_order_of_the_files_changes_nothing() -> None:
    crowd = [make_candidate(n, float(RANDOM.random()), f"g{n % 7}") for n in range(80)]
    shuffled = [crowd[number] for number in RANDOM.permutation(80)]
    assert [one.name for one in rank_frames(crowd, 15)] == [one.name for one in rank_frames(shuffled, 15)]


def test_frames_without_any_doubt_are_ranked_too() -> None:
    assert len(rank_frames([make_candidate(n, 0.0) for n in range(9)], 5)) == 5
    assert rank_frames([], 5) == []
    same = FrameLook(make_look().thumbnail, np.zeros(28, np.float32))
    assert len(rank_frames([make_candidate(0, 0.1, look=same)], 5)) == 1


@pytest.mark.parametrize("count", [0, -1, 5001])
def test_an_impossible_number_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match="expected 1 to"):
        rank_frames([], count)


def test_the_lazy_search_finds_what_the_plain_one_finds() -> None:
    crowd = [make_candidate(n, float(RANDOM.random())) for n in range(40)]
    ranked = selection._spread(crowd, 8, 8, ())
    alike, best = selection._compare([one.look for one in crowd], ())
    weights = np.array([one.doubt for one in crowd])
    for one in ranked:
        gains = np.maximum(alike - best, 0.0) @ weights
        assert crowd.index(one) in np.flatnonzero(gains >= gains.max() - 1e-4)
        best = np.maximum(best, alike[crowd.index(one)])


def test_a_long_clip_stays_small_and_keeps_its_most_doubtful_looks() -> None:
    looks = [make_look() for _ in range(30)]
    pool = FramePool(of_file=10, of_all=50)
    for number in range(1000):
        doubt = 0.01 * (number % 30) + 1e-5 * number
        pool.add(Candidate("clip.mp4", number, "clip", doubt, make_look(looks[number % 30])))
    kept = pool.list_candidates()
    assert pool.seen == 1000
    # of the ten looks with the highest doubt, the last and most doubtful frame each
    assert sorted(one.frame for one in kept) == list(range(980, 990))


def test_of_many_files_the_most_doubtful_frames_stay() -> None:
    pool = FramePool(of_all=20)
    for number in range(100):
        pool.add(make_candidate(number, number / 100))
    assert [one.name for one in pool.list_candidates()] == [f"{number:03}.png" for number in range(99, 79, -1)]


def make_frame(level: int) -> NDArray[np.uint8]:
    frame = np.zeros((SIZE, SIZE), np.uint8)
    frame[16:48, 16:48] = level
    return frame


def test_the_nearer_a_score_is_to_the_threshold_the_more_doubt(tmp_path: Path) -> None:
    model = read_model(write_bright_model(tmp_path / "m.tflite"))
    segmenter = Segmenter(model)
    doubts = [measure_doubt(segmenter, segmenter.segment(make_frame(level))) for level in (0, 60, 200, 255)]
    marked = [bool(segmenter.segment(make_frame(level)).labels.any()) for level in (0, 60, 200, 255)]
    assert marked == [False, False, True, True]
    assert doubts[0] <= doubts[1]
    assert doubts[3] <= doubts[2]
    assert all(0.0 <= doubt <= 1.0 for doubt in doubts)


def test_networks_that_disagree_are_in_doubt(tmp_path: Path) -> None:
    folds = make_folds(tmp_path / "folds")
    agreeing = open_segmenter(folds)
    frame = make_frame(200)
    alone = measure_doubt(agreeing, agreeing.segment(frame))
    # one of the networks is sure of the contrary where the others are near their threshold
    change_member(folds, 1, decision=make_decision(0.5, temperature=4.0))
    differing = open_segmenter(folds)
    assert measure_doubt(differing, differing.segment(frame)) > alone


def test_disagreement_is_what_the_masks_do_not_share() -> None:
    spec = OutputSpec((ClassSpec("lesion"),), threshold=0.5)
    left, right, none = (np.zeros((8, 8, 1), np.float32) for _ in range(3))
    left[:, :4], right[:, 4:] = 1.0, 1.0
    assert measure_disagreement([left, left, left], spec) == 0.0
    assert measure_disagreement([left, right], spec) == 1.0
    assert measure_disagreement([none, none], spec) == 0.0
    assert measure_disagreement([left, none], spec) == 1.0
    assert measure_disagreement([left, left, right], spec) == pytest.approx(2 / 3)
    assert measure_disagreement([left], spec) == 0.0


def test_a_frame_of_one_brightness_is_blank(tmp_path: Path) -> None:
    card = read_model(write_bright_model(tmp_path / "m.tflite")).card
    assert is_blank(look_at(np.full((40, 50), 90, np.uint8), card))
    assert not is_blank(look_at(make_frame(90), card))
