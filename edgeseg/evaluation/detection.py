"""Single findings against the truth: FROC, average precision, counting error, and numbers that change in a clip.

Findings are matched with the truth as pycocotools does it: the surest first, each with the free true region that it
overlaps most, if the overlap (IoU) is large enough. A true region is a connected region of a class, as a person drew
it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.decision import FOUND
from edgeseg.core.spec import ClassSpec
from edgeseg.core.stats import Estimate, Weights, estimate_any, estimate_statistic
from edgeseg.inference.following import measure_overlap
from edgeseg.inference.instances import Instance, find_instances

# Of the overlap for a hit; and those of COCO's mean.
HIT = 0.5
OVERLAPS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
# Recalls at which COCO reads the precision.
_RECALLS = np.linspace(0.0, 1.0, 101)
# Points of the curve that are kept.
MOST_POINTS = 100


@dataclass(frozen=True)
class ClassMatches:
    """The findings of one class in one case, and how they overlap with the truth."""

    truths: int
    """True regions."""
    scores: tuple[float, ...]
    """Confidence of every finding, falling."""
    found: tuple[bool, ...]
    """Which ones count as found at the operating point."""
    overlaps: tuple[tuple[float, ...], ...]
    """IoU of every finding with every true region."""

    def match(self, least: float) -> tuple[bool, ...]:
        """Say which findings hit a true region that no surer one has hit."""
        free = list(range(self.truths))
        hits = []
        for row in self.overlaps:
            best, chosen = min(least, 1.0 - 1e-10), -1
            for place in free:
                # the last one of equal overlaps, as pycocotools takes it
                if row[place] >= best:
                    best, chosen = row[place], place
            hits.append(chosen >= 0)
            if chosen >= 0:
                free.remove(chosen)
        return tuple(hits)


@dataclass(frozen=True)
class FrocPoint:
    """A point of the free-response curve: with all findings from a confidence on."""

    threshold: float
    false_positives: float
    """Per image."""
    sensitivity: float
    """Share of the true regions that are hit."""


@dataclass(frozen=True)
class ClassDetection:
    """Figures of one class; None where no case shows it."""

    average_precision_50: float | None
    average_precision: float | None
    sensitivity: float | None
    false_positives: float
    count_error: float
    count_exact: float


@dataclass(frozen=True)
class DetectionFigures:
    """How well single findings are detected, counted and bounded."""

    truths: int
    findings: int
    """All that are marked, found or doubtful."""
    average_precision_50: Estimate | None
    """With a hit from IoU 0.5 on; the mean over classes."""
    average_precision: Estimate | None
    """COCO's mean over IoU 0.5 to 0.95."""
    sensitivity: Estimate | None
    """Share of the true regions that are hit by what is found at the operating point."""
    false_positives: Estimate | None
    """Per image, of what is found at the operating point."""
    count_error: Estimate | None
    """Mean absolute difference of what is found and what is there, in numbers per image and class."""
    count_exact: Estimate | None
    """Share of images and classes in which the number is right."""
    froc: tuple[FrocPoint, ...]
    """Falling thresholds, over all classes together."""
    per_class: dict[str, ClassDetection]


def match_case(
    instances: Sequence[Instance], masks: Sequence[NDArray[np.uint8]], classes: Sequence[ClassSpec]
) -> dict[str, ClassMatches]:
    """Compare the instances of a case with its true masks, class by class.

    Args:
        instances: What a model says.
        masks: The truth of every class.
        classes: The classes.
    """
    matches = {}
    for spec, mask in zip(classes, masks, strict=True):
        truth = find_instances(np.asarray(mask > 0, np.uint8), (spec,), splits=False).instances
        own = [one for one in instances if one.name == spec.name]
        matches[spec.name] = match_instances(own, truth)
    return matches


def match_instances(instances: Sequence[Instance], truth: Sequence[Instance]) -> ClassMatches:
    """Compare the instances of one class in one frame with the true ones."""
    ranked = sorted(instances, key=lambda one: -_score(one))
    return ClassMatches(
        len(truth),
        tuple(_score(one) for one in ranked),
        tuple(one.state == FOUND for one in ranked),
        tuple(tuple(measure_overlap(one, other) for other in truth) for one in ranked),
    )


def _score(one: Instance) -> float:
    return 1.0 if one.confidence is None else one.confidence


def measure_detection(cases: Sequence[Mapping[str, ClassMatches]], groups: Sequence[str]) -> DetectionFigures | None:
    """Measure how well findings are detected; None without cases or where only label maps are known.

    Args:
        cases: The matches of every case, by class.
        groups: The group of each case.
    """
    names = list(dict.fromkeys(name for case in cases for name in case))
    if not names:
        return None
    ranked = {name: [_Ranking.of([case.get(name) for case in cases], least) for least in OVERLAPS] for name in names}
    rows = [_Row.of(one, group) for case, group in zip(cases, groups, strict=True) for one in case.values()]
    hits = [(hit, row.group) for row in rows for hit in row.hits]
    extra = [sum(_Row.of(one, "").extra for one in case.values()) for case in cases]
    return DetectionFigures(
        truths=sum(one.truths for case in cases for one in case.values()),
        findings=sum(len(one.scores) for case in cases for one in case.values()),
        average_precision_50=_estimate(partial(_average, [ranked[name][:1] for name in names]), groups),
        average_precision=_estimate(partial(_average, [ranked[name] for name in names]), groups),
        sensitivity=estimate_any([float(hit) for hit, _ in hits], [group for _, group in hits]),
        false_positives=estimate_any([float(count) for count in extra], list(groups)),
        count_error=estimate_any([float(abs(row.difference)) for row in rows], [row.group for row in rows]),
        count_exact=estimate_any([float(row.difference == 0) for row in rows], [row.group for row in rows]),
        froc=draw_froc(cases),
        per_class={
            name: _measure_class(ranked[name], [case[name] for case in cases if name in case]) for name in names
        },
    )


@dataclass(frozen=True)
class _Row:
    """One class in one case at the operating point."""

    group: str
    hits: tuple[bool, ...]
    """For every true region."""
    extra: int
    difference: int

    @classmethod
    def of(cls, one: ClassMatches, group: str) -> _Row:
        matched = one.match(HIT)
        hit = sum(right and found for right, found in zip(matched, one.found, strict=True))
        found = sum(one.found)
        return cls(group, tuple(place < hit for place in range(one.truths)), found - hit, found - one.truths)


def _measure_class(ranked: Sequence[_Ranking], cases: Sequence[ClassMatches]) -> ClassDetection:
    rows = [_Row.of(one, "") for one in cases]
    hits = [hit for row in rows for hit in row.hits]
    flat = np.ones(ranked[0].cases)
    values = [one.average_precision(flat) for one in ranked]
    return ClassDetection(
        _round(values[0]),
        _round(float(np.mean(values))),
        _round(float(np.mean(hits))) if hits else None,
        round(float(np.mean([row.extra for row in rows])), 5),
        round(float(np.mean([abs(row.difference) for row in rows])), 5),
        round(float(np.mean([row.difference == 0 for row in rows])), 5),
    )


def _round(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 5)


@dataclass(frozen=True)
class _Ranking:
    """All findings of one class over all cases, the surest first, and which are hits at one overlap."""

    places: NDArray[np.intp]
    """The case of each finding."""
    hits: NDArray[np.bool_]
    truths: NDArray[np.float64]
    """True regions of each case."""

    @property
    def cases(self) -> int:
        return len(self.truths)

    @classmethod
    def of(cls, cases: Sequence[ClassMatches | None], least: float) -> _Ranking:
        known = [(place, one) for place, one in enumerate(cases) if one is not None]
        scores = np.array([score for _, one in known for score in one.scores])
        places = np.array([place for place, one in known for _ in one.scores], np.intp)
        hits = np.array([hit for _, one in known for hit in one.match(least)], np.bool_)
        order = np.argsort(-scores, kind="stable")
        return cls(places[order], hits[order], np.array([0.0 if one is None else one.truths for one in cases]))

    def average_precision(self, weights: Weights) -> float:
        """Compute COCO's average precision, every case with a weight; nan where there is nothing to find."""
        total = float(weights @ self.truths)
        if total <= 0.0:
            return float("nan")
        own = weights[self.places]
        right, wrong = np.cumsum(own * self.hits), np.cumsum(own * ~self.hits)
        recall = right / total
        precision = right / np.maximum(right + wrong, np.finfo(float).eps)
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        at = np.searchsorted(recall, _RECALLS, side="left")
        return float(np.concatenate([precision, [0.0]])[np.minimum(at, len(precision))].mean())


def _average(rankings: Sequence[Sequence[_Ranking]], weights: Weights) -> float:
    """Average over the overlaps and over the classes that are there."""
    values = [float(np.mean([one.average_precision(weights) for one in own])) for own in rankings]
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def _estimate(statistic: partial[float], groups: Sequence[str]) -> Estimate | None:
    return None if np.isnan(statistic(np.ones(len(groups)))) else estimate_statistic(statistic, groups)


def draw_froc(cases: Sequence[Mapping[str, ClassMatches]]) -> tuple[FrocPoint, ...]:
    """Compute the free-response curve over all classes together; empty where there is nothing to find."""
    every = [one for case in cases for one in case.values()]
    truths = sum(one.truths for one in every)
    if not truths:
        return ()
    pairs = [pair for one in every for pair in zip(one.scores, one.match(HIT), strict=True)]
    pairs.sort(key=lambda pair: -pair[0])
    scores = np.array([score for score, _ in pairs])
    right = np.cumsum([hit for _, hit in pairs])
    wrong = np.arange(1, len(pairs) + 1) - right
    # findings of equal confidence come together
    last = np.flatnonzero(np.diff(scores, append=-1.0))
    if len(last) > MOST_POINTS:
        last = last[np.unique(np.linspace(0, len(last) - 1, MOST_POINTS).astype(int))]
    return tuple(
        FrocPoint(
            round(float(scores[at]), 5), round(float(wrong[at]) / len(cases), 5), round(float(right[at]) / truths, 5)
        )
        for at in last
    )


@dataclass(frozen=True)
class IdentityFigures:
    """How well numbers stay with the true findings of a clip."""

    switches: int
    """How often a true finding goes on under another number."""
    numbers: int
    """Different numbers that were given to true findings."""
    truths: int
    """Different true findings."""
    covered: float | None
    """Share of the true findings' frames in which they have a number; None without any."""


def join_identities(clips: Sequence[IdentityFigures]) -> IdentityFigures | None:
    """Sum up over clips; None without any."""
    if not clips:
        return None
    known = [one.covered for one in clips if one.covered is not None]
    return IdentityFigures(
        sum(one.switches for one in clips),
        sum(one.numbers for one in clips),
        sum(one.truths for one in clips),
        round(float(np.mean(known)), 5) if known else None,
    )


class IdentityJudge:
    """Follows which number each true finding of a clip has."""

    def __init__(self) -> None:
        self._last: dict[int, int] = {}
        self._numbers: set[int] = set()
        self._switches = self._seen = self._covered = 0

    def take(self, truth: NDArray[np.uint8], instances: Iterable[Instance]) -> None:
        """Take a frame.

        Args:
            truth: The number of the true finding of every pixel, 0 where there is none.
            instances: Of the class in this frame, numbered.
        """
        shown = [one for one in instances if one.number]
        for number in np.flatnonzero(np.bincount(truth.ravel())).tolist():
            if number == 0:
                continue
            self._seen += 1
            own = np.asarray(truth == number, np.uint8)
            best = max(shown, key=partial(_cover, own), default=None)
            if best is None or _cover(own, best) < HIT * min(best.area_px, cv2.countNonZero(own)):
                self._last.setdefault(number, 0)
                continue
            self._covered += 1
            before = self._last.get(number, 0)
            self._switches += before not in (0, best.number)
            self._last[number] = best.number
            self._numbers.add(best.number)

    def report(self) -> IdentityFigures:
        """Summarise the clip."""
        covered = round(self._covered / self._seen, 5) if self._seen else None
        return IdentityFigures(self._switches, len(self._numbers), len(self._last), covered)


def _cover(truth: NDArray[np.uint8], one: Instance) -> int:
    x, y, width, height = one.box
    part: Any = truth[y : y + height, x : x + width]
    return cv2.countNonZero(cv2.bitwise_and(part, one.mask))
