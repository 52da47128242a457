"""Score a model file on labelled cases with the same `Segmenter` as on the device, and summarise the scores."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.card import Card
from edgeseg.core.decision import NOTHING
from edgeseg.core.errors import DataError, UnknownNameError
from edgeseg.core.files import write_rows
from edgeseg.core.modelfile import ModelFile
from edgeseg.core.progress import Advance, ignore
from edgeseg.core.spec import MASKS, ClassSpec
from edgeseg.core.stats import FEWEST_GROUPS, Estimate, estimate_any, estimate_mean
from edgeseg.data.dataset import Case, LabelledImage, fingerprint_dataset, open_dataset, read_cases, view_case
from edgeseg.data.split import PARTS, divide_cases, refuse_other_split
from edgeseg.evaluation.calibration import (
    Bins,
    CalibrationFigures,
    align_scores,
    bin_findings,
    bin_scores,
    measure_calibration,
)
from edgeseg.evaluation.classes import Renaming, arrange_dataset
from edgeseg.evaluation.detection import ClassMatches, DetectionFigures, match_case, measure_detection
from edgeseg.evaluation.metrics import (
    Baseline,
    CaseScore,
    Thumbnail,
    explain_useless,
    measure_baseline,
    measure_circumference,
    score_mask,
    shrink_truth,
)
from edgeseg.evaluation.operating import (
    ConfidenceFigures,
    FindingFigures,
    Outcome,
    PointFigures,
    measure_confidence,
    measure_finding,
    measure_point,
)
from edgeseg.inference.confidence import measure_confidences
from edgeseg.inference.segmenter import Segmentation, Segmenter

_LOG = logging.getLogger(__name__)
MEASURES = ("dice", "iou", "precision", "recall", "hd95_px")
# Share of marked pixels above which nearly the whole image is marked: no organ fills so much of a frame.
FLOODED = 0.9
LENGTHS = ("hd95_mm", "circumference_error_mm")
DECIDED = ("state", "confidence", "probability")
CASE_COLUMNS = ("stem", "group", "class", "outcome", *MEASURES, *LENGTHS, *DECIDED, "frame_class", "told_class")
# The threshold of every class that has an operating point; None where it differs between cases.
Thresholds = Mapping[str, "float | None"]


@dataclass(frozen=True)
class ScoredCase:
    """The scores of one case, for each class that is in its truth, and its false positives."""

    stem: str
    group: str
    scores: dict[str, CaseScore]
    false_positives: tuple[str, ...]
    empty: bool
    pixel_size_mm: float | None = None
    circumference_error_mm: float | None = None
    """Absolute difference from the head circumference measured by hand, where there is one."""
    marked_share: float = 0.0
    """Share of the image's pixels that were marked, as any class."""
    truth: Mapping[str, Thumbnail] = field(default_factory=dict, compare=False, repr=False)
    """Each class of the truth as a thumbnail, for `measure_baseline`."""
    outcomes: tuple[Outcome, ...] = field(default=(), compare=False)
    """How the device decides every class; empty where a label map was scored without a network."""
    frame_class: str = ""
    """What the frame is labelled as; empty without a label."""
    frame_classes: Mapping[str, float] = field(default_factory=dict, compare=False)
    """The probability of every frame class."""
    out_of_distribution: bool | None = field(default=None, compare=False)
    """Whether the frame is none that the model was trained on; None where its card does not describe those."""
    detections: Mapping[str, ClassMatches] = field(default_factory=dict, compare=False, repr=False)
    """The single findings against the truth, by class."""
    pixels: Bins | None = field(default=None, compare=False, repr=False)
    """The scores of all pixels against the truth, for `measure_calibration`."""

    def shows(self, name: str) -> bool:
        """Say whether a class is marked and counts as found; without a network's decision every mask does."""
        if self.outcomes:
            return any(one.found for one in self.outcomes if one.name == name)
        return name in self.false_positives or (name in self.scores and self.scores[name].dice > 0)

    def mean(self, measure: str) -> float:
        """Average a measure over the classes of the truth."""
        return float(np.mean([getattr(score, measure) for score in self.scores.values()]))

    def to_mm(self, pixels: float) -> float | None:
        """Convert a length to millimetres, where the pixel size is known."""
        return None if self.pixel_size_mm is None else pixels * self.pixel_size_mm


@dataclass(frozen=True)
class EmptyCases:
    """Cases with nothing to find, and the share of them with a false positive, with its confidence interval."""

    cases: int
    false_positive_rate: float | None = None
    """None where there is no such case."""
    ci95: tuple[float, float] | None = None


@dataclass(frozen=True)
class Evaluation:
    """A model's metrics over the cases whose truth is not empty; `empty` has the others.

    An estimate is None where no case has it, such as the Dice of a class that no case shows.
    """

    cases: int
    dice: Estimate | None
    iou: Estimate | None
    precision: Estimate | None
    recall: Estimate | None
    hd95_px: Estimate | None
    per_class: dict[str, dict[str, Estimate | None]]
    empty: EmptyCases
    absent: dict[str, EmptyCases]
    """For each class the cases whose truth does not have it."""
    hd95_mm: Estimate | None = None
    """Over the cases whose pixel size is known."""
    circumference_error_mm: Estimate | None = None
    """Over the cases whose head circumference was measured by hand."""
    baseline: Baseline | None = None
    """What predictions without a network reach on the same cases."""
    useless: bool = False
    """Whether the Dice is no better than the baseline, or below `LEAST_DICE`."""
    notices: tuple[str, ...] = ()
    """Warnings to read before the figures."""
    dice_all: Estimate | None = None
    """Dice of what is found, over all cases and classes: nothing found scores 1 where nothing is there, else 0."""
    operating_point: PointFigures | None = None
    """None where the model has no operating point."""
    confidence: ConfidenceFigures | None = None
    finding: FindingFigures | None = None
    """None where the model has no finding output."""
    calibration: CalibrationFigures | None = None
    detection: DetectionFigures | None = None
    """Of single findings; None where label maps were scored without a network."""
    out_of_distribution: Estimate | None = None
    """Share of the cases that are called none of those the model was trained on; None where its card knows none."""


def score_cases(segmenter: Segmenter, images: Iterable[LabelledImage], on_case: Advance = ignore) -> list[ScoredCase]:
    """Segment each image and compare the mask with the truth, at the image's own size.

    Args:
        segmenter: The model.
        images: The cases.
        on_case: Called with each case's name, for a progress bar.
    """
    scored = []
    for image in images:
        judge = segmenter.for_case(image.case.stem)
        scored.append(score_segmentation(judge.segment(image.frame), image, judge.card))
        on_case(image.case.stem)
    return scored


def score_segmentation(result: Segmentation, image: LabelledImage, card: Card) -> ScoredCase:
    """Score what a model says of a case: its masks, how sure it is of them, and its probabilities."""
    scored = score_labels(result.labels, image, card.output.classes)
    scores, truth = align_scores(result.scores, image, card)
    confidences = measure_confidences(scores, card.output)
    outcomes = tuple(
        Outcome(
            name=finding.name,
            group=scored.group,
            dice=scored.scores[finding.name].dice if finding.name in scored.scores else None,
            # as a stream shows it: masks of a frame of another kind mean nothing
            state=NOTHING if result.out_of_distribution else finding.state,
            confidence=finding.confidence or 0.0,
            mask_confidence=confidence or 0.0,
            probability=finding.probability,
        )
        for finding, confidence in zip(result.findings, confidences, strict=True)
    )
    return dataclasses.replace(
        scored,
        outcomes=outcomes,
        detections=match_case([] if result.out_of_distribution else result.instances, image.masks, card.output.classes),
        frame_class=image.case.label,
        frame_classes=result.frame_classes,
        out_of_distribution=None if result.distance is None else result.out_of_distribution,
        pixels=bin_scores(scores[:, :, card.output.draws_background :], truth[:, :, card.output.draws_background :]),
    )


def score_labels(labels: NDArray[np.uint8], image: LabelledImage, classes: Sequence[ClassSpec]) -> ScoredCase:
    """Score a label map against a case's true masks."""
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
        marked_share=np.count_nonzero(labels) / labels.size,
        truth={spec.name: shrink_truth(mask) for spec, mask in zip(classes, image.masks, strict=True) if mask.any()},
    )


def _compare_heads(labels: NDArray[np.uint8], case: Case) -> float | None:
    if case.head_circumference_mm is None or case.pixel_size_mm is None:
        return None
    found = measure_circumference((labels == 1).astype(np.uint8), case.pixel_size_mm)
    return abs(found - case.head_circumference_mm)


def list_thresholds(card: Card) -> Thresholds:
    """List the operating points of a model by class; none in files of older versions."""
    rules = card.decision.classes if card.decision is not None else ()
    return {rule.name: rule.operating_point.threshold for rule in rules if rule.operating_point is not None}


def summarise_cases(
    scored: Sequence[ScoredCase], classes: Sequence[ClassSpec], thresholds: Thresholds | None = None
) -> Evaluation:
    """Summarise cases: means with bootstrap confidence intervals.

    Groups are resampled, not cases: images of one patient are not independent.

    Args:
        scored: The cases.
        classes: Of the model.
        thresholds: Its operating points, by which the cases were decided (`list_thresholds`).
    """
    filled = [case for case in scored if not case.empty]
    groups = [case.group for case in filled]
    overall = {m: estimate_any([case.mean(m) for case in filled], groups) for m in MEASURES}
    baseline = measure_baseline([case.truth for case in filled], groups)
    doubt = explain_useless(overall["dice"], baseline)
    outcomes = [one for case in scored for one in case.outcomes]
    return Evaluation(
        cases=len(filled),
        **overall,
        per_class={spec.name: _summarise_class(filled, spec.name) for spec in classes},
        empty=_count_false([(case, bool(case.false_positives)) for case in scored if case.empty]),
        absent={
            spec.name: _count_false([(c, spec.name in c.false_positives) for c in scored if spec.name not in c.scores])
            for spec in classes
        },
        hd95_mm=_estimate_known(filled, [case.to_mm(case.mean("hd95_px")) for case in filled]),
        circumference_error_mm=_estimate_known(filled, [case.circumference_error_mm for case in filled]),
        baseline=baseline,
        dice_all=estimate_any([_score_all(case, classes) for case in scored], [case.group for case in scored]),
        operating_point=measure_point(outcomes, thresholds or {}),
        confidence=measure_confidence(outcomes),
        finding=measure_finding(outcomes, [(c.frame_class, c.frame_classes, c.group) for c in scored]),
        calibration=_calibrate(scored),
        detection=measure_detection([case.detections for case in scored], [case.group for case in scored]),
        out_of_distribution=_estimate_known(
            scored, [None if c.out_of_distribution is None else float(c.out_of_distribution) for c in scored]
        ),
        useless=bool(doubt),
        notices=(*([doubt] if doubt else []), *list_notices(scored, classes)),
    )


def _score_all(case: ScoredCase, classes: Sequence[ClassSpec]) -> float:
    """Score what is found in a case: an empty truth counts 1 where nothing is found, and 0 where something is."""
    found = {spec.name: case.shows(spec.name) for spec in classes}
    return float(
        np.mean([case.scores[n].dice * found[n] if n in case.scores else not found[n] for n in found]) if found else 0.0
    )


def _calibrate(scored: Sequence[ScoredCase]) -> CalibrationFigures | None:
    known = [(case, case.pixels) for case in scored if case.pixels is not None]
    findings = [_bin_presence(case) for case, _ in known]
    return measure_calibration([bins for _, bins in known], findings, [case.group for case, _ in known])


def _bin_presence(case: ScoredCase) -> Bins | None:
    pairs = [(one.probability, one.present) for one in case.outcomes if one.probability is not None]
    return bin_findings([given for given, _ in pairs], [present for _, present in pairs]) if pairs else None


def _count_false(marked: Sequence[tuple[ScoredCase, bool]]) -> EmptyCases:
    if not marked:
        return EmptyCases(0)
    rate = estimate_mean([float(wrong) for _, wrong in marked], [case.group for case, _ in marked])
    return EmptyCases(len(marked), rate.mean, rate.ci95)


def _estimate_known(cases: Sequence[ScoredCase], values: Sequence[float | None]) -> Estimate | None:
    known = [(value, case.group) for case, value in zip(cases, values, strict=True) if value is not None]
    return estimate_any([value for value, _ in known], [group for _, group in known])


def _summarise_class(filled: Sequence[ScoredCase], name: str) -> dict[str, Estimate | None]:
    having = [case for case in filled if name in case.scores]
    groups = [case.group for case in having]
    found = {m: estimate_any([getattr(case.scores[name], m) for case in having], groups) for m in MEASURES}
    hd95_mm = _estimate_known(having, [case.to_mm(case.scores[name].hd95_px) for case in having])
    return found | ({} if hd95_mm is None else {"hd95_mm": hd95_mm})


def list_notices(scored: Sequence[ScoredCase], classes: Sequence[ClassSpec]) -> list[str]:
    """Warn of what the mean Dice hides: empty masks, masks of the whole image, a class never found, few groups."""
    if not scored:
        return []
    filled, notices = [case for case in scored if not case.empty], []
    flooded = sum(case.marked_share > FLOODED for case in scored)
    if flooded > len(scored) / 2:
        notices.append(f"Nearly the whole image is marked in {flooded} of {len(scored)} cases.")
    if filled and not any(case.marked_share for case in filled):
        notices.append(f"Nothing is marked in any of the {len(filled)} cases that show something.")
    else:
        notices += [said for spec in classes if (said := _explain_class(filled, spec.name))]
    groups = len({case.group for case in filled})
    # a bootstrap over few groups gives intervals that are far too narrow
    if 0 < groups < FEWEST_GROUPS:
        notices.append(f"Too few groups for an interval: {groups}, where {FEWEST_GROUPS} are needed.")
    return notices


def _explain_class(filled: Sequence[ScoredCase], name: str) -> str:
    having = [case.scores[name] for case in filled if name in case.scores]
    if not having:
        return f"No case shows the class {name}: nothing is known of it." if filled else ""
    if all(score.dice == 0 for score in having):
        return f"The class {name} is found in none of the {len(having)} cases that show it."
    return ""


def estimate_drop(parent: Sequence[ScoredCase], child: Sequence[ScoredCase]) -> Estimate:
    """Estimate the drop of Dice of a compressed file against its parent, paired by case; above 0 is a loss.

    At least one case must not be empty.
    """
    pairs = [(p, c) for p, c in zip(parent, child, strict=True) if not p.empty]
    return estimate_mean([p.mean("dice") - c.mean("dice") for p, c in pairs], [p.group for p, _ in pairs])


def write_cases(path: Path, scored: Sequence[ScoredCase], classes: Sequence[ClassSpec]) -> None:
    """Write a CSV with one row per case and class."""
    write_rows(path, CASE_COLUMNS, [_list_case(case, spec.name) for case in scored for spec in classes])


def _list_case(case: ScoredCase, name: str) -> tuple[str, ...]:
    score, decided = case.scores.get(name), next((one for one in case.outcomes if one.name == name), None)
    values: tuple[float | None, ...] = (None,) * (len(MEASURES) + len(LENGTHS))
    if score is None:
        outcome = "false positive" if name in case.false_positives else "nothing there"
    else:
        outcome = "found" if score.dice > 0 else "missed"
        lengths = case.to_mm(score.hd95_px), case.circumference_error_mm
        values = (*(getattr(score, measure) for measure in MEASURES), *lengths)
    confidence = decided.confidence if decided is not None and decided.state != NOTHING else None
    probability = decided.probability if decided is not None else None
    told = max(case.frame_classes, key=lambda one: case.frame_classes[one], default="")
    state = decided.state if decided is not None else ""
    figures = [*map(_show, values), state, _show(confidence), _show(probability)]
    return (case.stem, case.group, name, outcome, *figures, case.frame_class, told)


def _show(value: float | None) -> str:
    return "" if value is None else f"{value:.5f}"


@dataclass(frozen=True)
class PickedCases:
    """Cases to evaluate on, and the name of their part of the split."""

    part: str
    cases: tuple[Case, ...]
    known: frozenset[str] = frozenset()
    """The names of all cases of the data, in any part."""


def pick_cases(
    card: Card,
    root: Path,
    part: str | None,
    layout: str | None = None,
    group_pattern: str | None = None,
    own_part: str = "test",
    renamed: Renaming | None = None,
) -> PickedCases:
    """Pick cases: the test part of the model's training data, or all cases of any other data.

    Args:
        card: The model's card, which has the fingerprint and the split of its training data.
        root: The data folder.
        part: train, val, test or all; None chooses.
        layout: The layout of the folder; None detects it.
        group_pattern: Finds the group in each name; on the model's training data the card's pattern is used.
        own_part: The part of the model's training data to use where `part` is None.
        renamed: Classes with another name in the data.
    """
    if part is not None and part not in PARTS:
        raise UnknownNameError("part", part, PARTS)
    dataset = open_dataset(root, layout, group_pattern)
    # the fingerprint recognises the training data in any folder
    own = fingerprint_dataset(dataset) == card.provenance.data_fingerprint
    if own and group_pattern != card.provenance.split.group_pattern:
        dataset = open_dataset(root, layout, card.provenance.split.group_pattern)
    dataset = arrange_dataset(dataset, card.output.classes, renamed)
    chosen, known = part or (own_part if own else "all"), frozenset(case.stem for case in dataset.cases)
    if chosen == "all":
        return PickedCases("all", keep_full(dataset.cases, root), known)
    if not own:
        raise DataError(
            f"Expected the model's training data for the part {chosen}, got other data in {root}.",
            "Evaluate on all cases: --split all",
        )
    # the split is stratified by empty cases, so it can be repeated only with all masks read
    empty = {case.stem: not view_case(case).labels.any() for case in dataset.cases}
    split = divide_cases(dataset.cases, empty, card.provenance.split)
    # the same data and seed can still give another split in another version
    refuse_other_split(root, split, card.provenance.split_fingerprint)
    return PickedCases(chosen, keep_full(split.part(chosen), root), known)


def keep_full(cases: Sequence[Case], root: Path) -> tuple[Case, ...]:
    """Leave out cases with boxes, points or scribbles: a Dice against them would say nothing of outlines."""
    full = tuple(case for case in cases if case.labels == MASKS)
    if not full and cases:
        raise DataError(
            f"Expected images with full masks to judge by in {root}, got {cases[0].labels} and the like in all "
            f"{len(cases)}.",
            "Draw full outlines on some images: boxes, points and scribbles are learned from only.",
        )
    if len(full) < len(cases):
        _LOG.warning("%d of %d images have no full masks, and are not judged.", len(cases) - len(full), len(cases))
    return full


def score_part(model: ModelFile, root: Path, part: str, layout: str | None = None) -> list[ScoredCase]:
    """Score a model on a part of its training data's split."""
    cases = pick_cases(model.card, root, part, layout).cases
    return score_cases(Segmenter(model), read_cases(cases, model.card.input))
