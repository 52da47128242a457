"""Which unlabelled frames are worth a person's time: those that the model doubts, no two of one look, from all groups.

Filtered active submodular selection (Wei, Iyer and Bilmes, ICML 2015): the most doubtful frames are shortlisted, and of
these the ones are taken, one after the other, that represent the doubt best beside what is labelled already (facility
location).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.card import Card
from edgeseg.core.spec import OutputSpec, Region
from edgeseg.data.duplicates import THRESHOLD, make_thumbnail
from edgeseg.data.reading import crop
from edgeseg.frame.features import describe_pixels
from edgeseg.frame.images import to_grey
from edgeseg.frame.postprocess import SCORE_ONE, decide_labels
from edgeseg.frame.preprocess import frame_to_pixels, place_frame, use_region
from edgeseg.inference.confidence import combine
from edgeseg.inference.ensemble import EnsembleBackend
from edgeseg.inference.segmenter import Segmentation, Segmenter

# Shortlisted for every frame that is wanted: the most doubtful of all, among which the spread decides.
SHORTLISTED = 4
SHORTEST = 100
# The longest shortlist: its similarities take 144 MB.
MOST_SHORTLISTED = 6_000
# Most frames that one selection gives.
MOST_WANTED = 5_000
# Different looks kept of one file, and frames kept of all: the most doubtful ones.
KEPT_OF_FILE = 200
KEPT_OF_ALL = 20_000
# A group may give so many times its even share, until others have no frame left.
_SHARES = 1.5
# Beside a frame without any doubt others count for more, but it counts.
_LEAST_WEIGHT = 1e-3
# Numbers of a stored thumbnail: of norm 1 and centred, none exceeds 1.
_STEPS = 127
Numbers = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class FrameLook:
    """How a frame looks, to tell whether two are alike."""

    thumbnail: NDArray[np.int8]
    features: Numbers


@dataclass(frozen=True, eq=False)
class Candidate:
    """An unlabelled frame."""

    name: str
    """Its file's name, relative to what was searched."""
    frame: int
    """Its number in the file, counted from 0."""
    group: str
    doubt: float
    """0 to 1."""
    look: FrameLook
    distance: float | None = None
    """From the training frames, 1 at the card's threshold; None where the card does not describe them."""

    @property
    def unlike(self) -> bool:
        """Say whether it is none that the model was trained on, so that its doubt means nothing."""
        return self.distance is not None and self.distance > 1.0


def look_at(frame: NDArray[Any], card: Card, region: Region | None = None) -> FrameLook:
    """Describe how a frame looks to a model.

    Args:
        frame: Grey or BGR, 8 or 16 bit.
        card: Of the model.
        region: The part of the frame that shows the ultrasound image; None takes what the card says.
    """
    spec = use_region(card.input, region)
    features = describe_pixels(frame_to_pixels(frame, spec), place_frame(spec, *frame.shape[:2]))
    thumbnail = make_thumbnail(to_grey(crop(frame, region)))
    return FrameLook(np.rint(thumbnail * _STEPS).astype(np.int8), features.astype(np.float32))


def is_blank(look: FrameLook) -> bool:
    """Say whether a frame is of one brightness, and shows nothing."""
    return not look.thumbnail.any()


def measure_doubt(segmenter: Segmenter, result: Segmentation) -> float:
    """Measure how little sure a model is of a frame, 0 to 1, by its least sure class.

    A mask: 1 minus its confidence. No mask: how near a mask was, by the highest score and the finding probability. The
    networks of a cross-validation: half of it is how much their masks disagree.

    Args:
        segmenter: The model, which has just segmented the frame.
        result: What it gave.
    """
    card, backend = segmenter.card, segmenter.selection.backend
    doubt = max(_doubt_classes(result, card))
    if not isinstance(backend, EnsembleBackend):
        return doubt
    return (doubt + measure_disagreement(backend.member_scores, card.output)) / 2


def _doubt_classes(result: Segmentation, card: Card) -> list[float]:
    rules = {} if card.decision is None else {rule.name: rule.finding_weight for rule in card.decision.classes}
    first = int(card.output.draws_background)
    doubts = []
    for number, finding in enumerate(result.findings, start=first):
        if finding.confidence is not None:
            doubts.append(1.0 - finding.confidence)
        else:
            peak = float(result.grid[:, :, number].max()) / SCORE_ONE
            doubts.append(combine(peak, finding.probability, rules.get(finding.name, 0.0)))
    return doubts


def measure_disagreement(member_scores: Sequence[NDArray[Any]], spec: OutputSpec) -> float:
    """Measure how much the masks of several networks differ: 1 minus their mean pairwise Dice, of the worst class.

    This is query by committee (Seung, Opper and Sompolinsky, COLT 1992) with the Dice as its vote.

    Args:
        member_scores: What each network gave, 0 to 1.
        spec: Classes and threshold.
    """
    scores = (np.clip(np.rint(one * SCORE_ONE), 0, SCORE_ONE - 1).astype(np.uint8) for one in member_scores)
    labels = [decide_labels(one, spec) for one in scores]
    numbers = range(1, len(spec.classes) + 1)
    return max(_disagree([one == number for one in labels]) for number in numbers)


def _disagree(masks: Sequence[NDArray[np.bool_]]) -> float:
    sizes = [int(np.count_nonzero(mask)) for mask in masks]
    dice = [
        2.0 * np.count_nonzero(masks[one] & masks[other]) / (sizes[one] + sizes[other])
        if sizes[one] + sizes[other]
        else 1.0
        for one, other in combinations(range(len(masks)), 2)
    ]
    return 1.0 - float(np.mean(dice)) if dice else 0.0


class FramePool:
    """Candidates in bounded memory, however long the clips are: of each file and of all, the most doubtful looks."""

    def __init__(self, of_file: int = KEPT_OF_FILE, of_all: int = KEPT_OF_ALL) -> None:
        """Start empty.

        Args:
            of_file: Most frames that are kept of one file.
            of_all: Most frames that are kept.
        """
        self._of_file, self._of_all = of_file, of_all
        self._kept: list[Candidate] = []
        self._file: list[Candidate] = []
        self._thumbnails = np.zeros((0, 0), np.float32)
        self.seen = 0

    def add(self, candidate: Candidate) -> None:
        """Take a frame; those of one file come one after the other."""
        self.seen += 1
        if self._file and self._file[0].name != candidate.name:
            self._end_file()
        thumbnail = _scale([candidate.look])
        alike = np.flatnonzero(self._thumbnails @ thumbnail[0] > THRESHOLD) if self._file else ()
        if any(self._file[number].doubt >= candidate.doubt for number in alike):
            return
        self._drop(set(map(int, alike)))
        if len(self._file) >= self._of_file:
            least = min(range(len(self._file)), key=lambda number: self._file[number].doubt)
            if self._file[least].doubt >= candidate.doubt:
                return
            self._drop({least})
        self._file.append(candidate)
        self._thumbnails = np.concatenate([self._thumbnails.reshape(-1, thumbnail.shape[1]), thumbnail])

    def _drop(self, numbers: set[int]) -> None:
        if numbers:
            stay = [number for number in range(len(self._file)) if number not in numbers]
            self._file = [self._file[number] for number in stay]
            self._thumbnails = self._thumbnails[stay]

    def _end_file(self) -> None:
        self._kept += self._file
        self._file, self._thumbnails = [], np.zeros((0, 0), np.float32)
        if len(self._kept) > 2 * self._of_all:
            self._kept = sorted(self._kept, key=_by_doubt)[: self._of_all]

    def list_candidates(self) -> list[Candidate]:
        """List what is kept, the most doubtful first and frames of another kind last."""
        self._end_file()
        self._kept = sorted(self._kept, key=_by_doubt)[: self._of_all]
        return self._kept


def _by_doubt(candidate: Candidate) -> tuple[bool, float, str, int]:
    return candidate.unlike, -candidate.doubt, candidate.name, candidate.frame


def rank_frames(candidates: Iterable[Candidate], count: int, labelled: Sequence[FrameLook] = ()) -> list[Candidate]:
    """Rank the frames that are worth labelling; no two are near-duplicates, nor is one of a labelled image.

    Frames that are unlike those of the training come last: only where others are too few.

    Args:
        candidates: Unlabelled frames.
        count: How many are wanted.
        labelled: How the labelled images look.

    Returns:
        At most so many, the first to be labelled first.
    """
    if not 0 < count <= MOST_WANTED:
        raise ValueError(f"expected 1 to {MOST_WANTED} frames, got {count}")
    ordered = sorted(candidates, key=_by_doubt)
    ranked: list[Candidate] = []
    for unlike in (False, True):
        kin = [one for one in ordered if one.unlike is unlike]
        if kin and len(ranked) < count:
            ranked += _select(kin, count - len(ranked), [*labelled, *(one.look for one in ranked)])
    return ranked


def _select(ordered: Sequence[Candidate], count: int, labelled: Sequence[FrameLook]) -> list[Candidate]:
    share = math.ceil(_SHARES * count / len({one.group for one in ordered}))
    length = min(max(SHORTLISTED * count, SHORTEST), MOST_SHORTLISTED)
    return _spread(_shortlist(ordered, length, SHORTLISTED * share, labelled), count, share, labelled)


def _shortlist(
    ordered: Sequence[Candidate], length: int, of_group: int, labelled: Sequence[FrameLook]
) -> list[Candidate]:
    """Take the first ones that are no near-duplicates, at most so many of a group as long as there are others."""
    known = _scale(labelled)
    taken: list[Candidate] = []
    kept = np.zeros((length, ordered[0].look.thumbnail.size), np.float32)
    groups: Counter[str] = Counter()
    waiting: list[Candidate] = []

    def offer(candidate: Candidate) -> None:
        thumbnail = _scale([candidate.look])[0]
        alike = kept[: len(taken)] @ thumbnail
        if (alike > THRESHOLD).any() or (known.size and (known @ thumbnail > THRESHOLD).any()):
            return
        kept[len(taken)] = thumbnail
        taken.append(candidate)
        groups[candidate.group] += 1

    for candidate in ordered:
        if len(taken) == length:
            return taken
        if groups[candidate.group] >= of_group:
            waiting.append(candidate)
        else:
            offer(candidate)
    for candidate in waiting:
        if len(taken) == length:
            break
        offer(candidate)
    return taken


def _spread(candidates: Sequence[Candidate], count: int, share: int, labelled: Sequence[FrameLook]) -> list[Candidate]:
    """Take the frames that represent the doubt of all best (facility location, greedily).

    Args:
        candidates: Frames of which no two are near-duplicates.
        count: How many are wanted.
        share: What a group may give before all others have given as many.
        labelled: What represents some of them already.
    """
    if not candidates:
        return []
    alike, best = _compare([one.look for one in candidates], labelled)
    weights = np.array([max(one.doubt, _LEAST_WEIGHT) for one in candidates], np.float32)
    numbers = {name: number for number, name in enumerate(dict.fromkeys(one.group for one in candidates))}
    groups = np.array([numbers[one.group] for one in candidates])
    given = np.zeros(len(numbers), np.int64)
    free = np.ones(len(candidates), np.bool_)
    bounds = np.full(len(candidates), np.inf, np.float64)
    ranked: list[int] = []
    while len(ranked) < min(count, len(candidates)):
        turn = given[groups] // share
        allowed = free & (turn == turn[free].min())
        chosen = _take_best(bounds, allowed, alike, best, weights)
        ranked.append(chosen)
        free[chosen] = False
        given[groups[chosen]] += 1
        best = np.maximum(best, alike[chosen])
    return [candidates[number] for number in ranked]


def _take_best(
    bounds: NDArray[np.float64], allowed: NDArray[np.bool_], alike: Numbers, best: Numbers, weights: Numbers
) -> int:
    """Find the frame that adds most. Gains only fall, so that old ones are bounds (Minoux' lazy greedy, 1978)."""
    while True:
        number = int(np.argmax(np.where(allowed, bounds, -np.inf)))
        gain = float(weights @ np.maximum(alike[number] - best, 0.0))
        bounds[number] = gain
        if gain >= np.where(allowed, bounds, -np.inf).max():
            return number


def _compare(looks: Sequence[FrameLook], labelled: Sequence[FrameLook]) -> tuple[Numbers, Numbers]:
    """Compute how alike frames are, 0 to 1, and each one's likeness to the most alike labelled image."""
    features = np.stack([look.features for look in (*looks, *labelled)])
    spread = features.std(axis=0)
    # a feature that is the same in all frames tells none apart
    features = (features - features.mean(axis=0)) / np.where(spread > 1e-6, spread, np.inf)
    described = np.concatenate([features / math.sqrt(features.shape[1]), _scale((*looks, *labelled))], axis=1)
    ours, theirs = described[: len(looks)], described[len(looks) :]
    apart = _square_distances(ours, ours)
    middle = float(np.median(apart)) or 1.0
    best = np.zeros(len(looks), np.float32)
    if len(theirs):
        best = np.exp(-_square_distances(ours, theirs).min(axis=1) / middle)
    np.exp(np.multiply(apart, -1.0 / middle, out=apart), out=apart)
    return apart, best


def _square_distances(ones: Numbers, others: Numbers) -> Numbers:
    lengths = (ones**2).sum(axis=1)[:, None] + (others**2).sum(axis=1)
    return np.asarray(np.maximum(lengths - 2.0 * ones @ others.T, 0.0), np.float32)


def _scale(looks: Sequence[FrameLook]) -> Numbers:
    """Scale thumbnails to norm 1 again; those of uniform frames are zeros and stay so."""
    real = np.array([look.thumbnail for look in looks], np.float32)
    return np.asarray(real / np.maximum(np.linalg.norm(real, axis=-1, keepdims=True), 1.0), np.float32)
