"""Score a model file on labelled cases, through the same runtime as on the device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.files import write_text
from edgeseg.core.spec import ClassSpec
from edgeseg.core.stats import Estimate, estimate_mean
from edgeseg.data.dataset import Case, LabelledImage
from edgeseg.evaluate.head import measure_circumference
from edgeseg.evaluate.metrics import CaseScore, score_mask
from edgeseg.runtime.segmenter import Segmenter

MEASURES = ("dice", "iou", "precision", "recall", "hd95_px")


@dataclass(frozen=True)
class ScoredCase:
    """One case: a score for each class that is there, and which of the absent classes were seen all the same."""

    stem: str
    group: str
    scores: dict[str, CaseScore]
    false_positives: tuple[str, ...]
    empty: bool
    pixel_size_mm: float | None = None
    circumference_error_mm: float | None = None
    """How far the circumference of the predicted head is from the one measured by hand, where there is one."""

    def mean(self, measure: str) -> float:
        """Average a measure over the classes that are there."""
        return float(np.mean([getattr(score, measure) for score in self.scores.values()]))


@dataclass(frozen=True)
class EmptyCases:
    """Cases with nothing to find, and the share of them in which something was found."""

    cases: int
    false_positive_rate: float


@dataclass(frozen=True)
class Evaluation:
    """How good a model's masks are over cases whose truth is not empty; the others stand under `empty`."""

    cases: int
    dice: Estimate
    iou: Estimate
    precision: Estimate
    recall: Estimate
    hd95_px: Estimate
    per_class: dict[str, dict[str, Estimate]]
    empty: EmptyCases
    hd95_mm: Estimate | None = None
    """Over the cases whose pixel size is known."""
    circumference_error_mm: Estimate | None = None
    """Over the cases whose head circumference was measured by hand."""


def score_cases(segmenter: Segmenter, images: Iterable[LabelledImage]) -> list[ScoredCase]:
    """Segment each image and compare the mask with the true one, at the image's own size."""
    classes = segmenter.card.output.classes
    return [score_labels(segmenter.segment(image.frame).labels, image, classes) for image in images]


def score_labels(labels: NDArray[np.uint8], image: LabelledImage, classes: Sequence[ClassSpec]) -> ScoredCase:
    """Compare a label map with a case's true masks."""
    scores: dict[str, CaseScore] = {}
    false_positives: list[str] = []
    for number, (spec, truth) in enumerate(zip(classes, image.masks, strict=True), start=1):
        predicted = (labels == number).astype(np.uint8)
        if truth.any():
            scores[spec.name] = score_mask(predicted, truth)
        elif predicted.any():
            false_positives.append(spec.name)
    return ScoredCase(
        stem=image.case.stem,
        group=image.case.group,
        scores=scores,
        false_positives=tuple(false_positives),
        empty=not scores,
        pixel_size_mm=image.case.pixel_size_mm,
        circumference_error_mm=_compare_heads(labels, image.case),
    )


def _compare_heads(labels: NDArray[np.uint8], case: Case) -> float | None:
    if case.head_circumference_mm is None or case.pixel_size_mm is None:
        return None
    found = measure_circumference((labels == 1).astype(np.uint8), case.pixel_size_mm)
    return abs(found - case.head_circumference_mm)


def summarise_cases(scored: Sequence[ScoredCase], classes: Sequence[ClassSpec]) -> Evaluation:
    """Average over the cases, with bootstrap intervals over groups."""
    filled = [case for case in scored if not case.empty]
    empty = [case for case in scored if case.empty]
    wrong = sum(bool(case.false_positives) for case in empty)
    groups = [case.group for case in filled]
    overall = {m: estimate_mean([case.mean(m) for case in filled], groups) for m in MEASURES}
    return Evaluation(
        cases=len(filled),
        **overall,
        per_class={spec.name: _summarise_class(filled, spec.name) for spec in classes},
        empty=EmptyCases(len(empty), round(wrong / len(empty), 5) if empty else 0.0),
        hd95_mm=_estimate_known(
            filled, [None if c.pixel_size_mm is None else c.mean("hd95_px") * c.pixel_size_mm for c in filled]
        ),
        circumference_error_mm=_estimate_known(filled, [case.circumference_error_mm for case in filled]),
    )


def _estimate_known(cases: Sequence[ScoredCase], values: Sequence[float | None]) -> Estimate | None:
    known = [(value, case.group) for case, value in zip(cases, values, strict=True) if value is not None]
    return estimate_mean([value for value, _ in known], [group for _, group in known]) if known else None


def _summarise_class(filled: Sequence[ScoredCase], name: str) -> dict[str, Estimate]:
    having = [case for case in filled if name in case.scores]
    groups = [case.group for case in having]
    return {m: estimate_mean([getattr(case.scores[name], m) for case in having], groups) for m in MEASURES}


def estimate_drop(parent: Sequence[ScoredCase], child: Sequence[ScoredCase]) -> Estimate:
    """Estimate how much Dice a file loses against its parent on the same cases (paired; above zero is a loss)."""
    pairs = [(p, c) for p, c in zip(parent, child, strict=True) if not p.empty]
    return estimate_mean([p.mean("dice") - c.mean("dice") for p, c in pairs], [p.group for p, _ in pairs])


def write_cases(path: Path, scored: Sequence[ScoredCase]) -> None:
    """Write one line per case and class; the worst cases are found by sorting it."""
    lines = [",".join(("stem", "group", "class", *MEASURES))]
    for case in scored:
        for name, score in case.scores.items():
            values = (f"{getattr(score, measure):.5f}" for measure in MEASURES)
            lines.append(",".join((case.stem, case.group, name, *values)))
        lines += [",".join((case.stem, case.group, f"{name} (not there)")) for name in case.false_positives]
    write_text(path, "\n".join(lines) + "\n")
