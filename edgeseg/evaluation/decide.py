"""Choose how a model file decides, on cases that it was not trained on: temperatures, then operating points.

Test cases only report (docs/decisions/0044), so they are never given to this module. Temperatures come first: the
confidences are measured with calibrated scores.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeseg.core.card import Card
from edgeseg.core.decision import (
    COVERAGE,
    DOUBTFUL,
    FOUND,
    NOTHING,
    SENSITIVITY,
    VALIDATION,
    ClassDecision,
    Decision,
    OperatingPoint,
)
from edgeseg.core.errors import DataError
from edgeseg.core.modelfile import ModelFile
from edgeseg.core.progress import Advance, ignore, progress_bar
from edgeseg.core.spec import ClassSpec
from edgeseg.core.stats import Estimate, area_under_curve, show_interval
from edgeseg.data.dataset import CaseImages, LabelledImage
from edgeseg.evaluation.calibration import (
    align_scores,
    count_scores,
    find_finding_temperature,
    find_temperatures,
)
from edgeseg.evaluation.classes import Renaming
from edgeseg.evaluation.operating import Outcome, measure_class
from edgeseg.evaluation.score import ScoredCase, pick_cases, score_cases
from edgeseg.inference.confidence import combine
from edgeseg.inference.segmenter import Segmentation, Segmenter

VALIDATION_PART = "val"
DEFAULT_SENSITIVITY, DEFAULT_COVERAGE = 0.9, 0.95
# Cases that show a class, of which a threshold takes a share; of fewer than ten, 90% is all.
FEWEST_CASES = 10
# Fewer cases make the figures so uncertain that it is said.
FEW_CASES = 50
# Weight of a finding probability that is combined with the mask's confidence: their geometric mean. One weight for all
# keeps confidences of several networks comparable (docs/decisions/0054).
WEIGHT = 0.5
# Cases with and without a class that a weight needs: fewer say nothing of it.
FEWEST_ABSENT = 10
# Digits of a threshold; scores have 8 bits.
_DIGITS = 4


@dataclass(frozen=True)
class Target:
    """What an operating point is chosen for; None takes the default of the kind that the cases allow."""

    sensitivity: float | None = None
    coverage: float | None = None

    def __post_init__(self) -> None:
        for name, value in ((SENSITIVITY, self.sensitivity), (COVERAGE, self.coverage)):
            if value is not None and not 0.0 < value <= 1.0:
                raise ValueError(f"expected --{name} above 0 and at most 1, got {value}")

    def pick(self, has_absent: bool) -> tuple[str, float]:
        """Pick sensitivity or coverage for a class, and its share.

        Args:
            has_absent: Whether some cases do not show the class: without them no false alarm can be measured, so a
                class that every image shows is given a coverage unless only a sensitivity was asked for.
        """
        kinds = {
            SENSITIVITY: (self.sensitivity, DEFAULT_SENSITIVITY),
            COVERAGE: (self.coverage, DEFAULT_COVERAGE),
        }
        usual, other = (SENSITIVITY, COVERAGE) if has_absent else (COVERAGE, SENSITIVITY)
        for kind in (usual, other):
            if (wanted := kinds[kind][0]) is not None:
                return kind, wanted
        return usual, kinds[usual][1]


DEFAULT_TARGET = Target()


@dataclass(frozen=True)
class Decided:
    """A model's decision, and the cases it was chosen on as they are decided by it."""

    decision: Decision
    scored: tuple[ScoredCase, ...]


def decide_model(
    model: ModelFile,
    images: Iterable[LabelledImage],
    target: Target = DEFAULT_TARGET,
    threads: int = 1,
    on_case: Advance = ignore,
) -> Decided:
    """Choose temperatures and operating points of a model file on its validation cases.

    Args:
        model: The file; what its card says of known frames stays.
        images: The validation cases, which are gone through twice.
        target: The sensitivity or coverage to choose for.
        threads: CPU threads of the inference.
        on_case: Called with each case's name, twice.
    """
    backend = "onnx" if model.is_onnx else "cpu"
    plain = Segmenter(change_decision(model, None), backend, threads)
    calibrated = calibrate_model(plain, images, on_case)
    scored = score_cases(Segmenter(change_decision(model, calibrated), backend, threads), images, on_case)
    chosen = choose_decision(scored, model.card.output.classes, target)
    known = model.card.decision.known if model.card.decision is not None else None
    decision = dataclasses.replace(calibrated, classes=chosen.classes, known=known)
    return Decided(decision, tuple(decide_case(case, decision) for case in scored))


def decide_case(case: ScoredCase, decision: Decision) -> ScoredCase:
    """Decide a scored case again, by other weights and operating points; its scores stay."""
    rules = {rule.name: rule for rule in decision.classes}
    return dataclasses.replace(
        case, outcomes=tuple(_decide_again(one, rules[one.name]) if one.name in rules else one for one in case.outcomes)
    )


def _decide_again(outcome: Outcome, rule: ClassDecision) -> Outcome:
    threshold = rule.operating_point.threshold if rule.operating_point is not None else 0.0
    return decide_outcome(weigh_outcome(outcome, rule.finding_weight), threshold)


def change_decision(model: ModelFile, decision: Decision | None) -> ModelFile:
    """Return a model file with another decision on its card."""
    return dataclasses.replace(model, card=dataclasses.replace(model.card, decision=decision))


def calibrate_model(segmenter: Segmenter, images: Iterable[LabelledImage], on_case: Advance = ignore) -> Decision:
    """Find the temperatures of a model without any; no class has an operating point yet."""
    card, results = segmenter.card, []
    counts = np.zeros((card.output.channels, 256, 2), np.int64)
    for image in images:
        result = segmenter.segment(image.frame)
        counts += count_scores(*align_scores(result.scores, image, card))
        results.append((_list_probabilities(result), _list_truths(image, card)))
        on_case(image.case.stem)
    classes = tuple(ClassDecision(spec.name) for spec in card.output.classes)
    return Decision(classes, find_temperatures(counts, card.output.activation), _calibrate_findings(card, results))


def _list_probabilities(result: Segmentation) -> list[float | None]:
    return [*(finding.probability for finding in result.findings), *result.frame_classes.values()]


def _list_truths(image: LabelledImage, card: Card) -> list[bool | None]:
    """List whether a case shows every class, and which frame class it is; None where nobody said."""
    named = card.finding.frame_classes if card.finding is not None else ()
    label = image.case.label
    return [*map(bool, image.marked), *(label == name if label in named else None for name in named)]


def _calibrate_findings(
    card: Card, results: Sequence[tuple[list[float | None], list[bool | None]]]
) -> tuple[float, ...]:
    if card.finding is None:
        return ()
    temperatures = []
    for channel in range(len(card.output.classes) + len(card.finding.frame_classes)):
        known = [
            (given[channel], truth[channel])
            for given, truth in results
            if channel < len(given) and given[channel] is not None and truth[channel] is not None
        ]
        temperatures.append(find_finding_temperature([float(p or 0.0) for p, _ in known], [bool(t) for _, t in known]))
    return tuple(temperatures)


def choose_decision(
    scored: Sequence[ScoredCase],
    classes: Sequence[ClassSpec],
    target: Target = DEFAULT_TARGET,
    chosen_on: str = VALIDATION,
) -> Decision:
    """Choose the finding weight and the operating point of every class.

    Args:
        scored: Cases that the model was not trained on, with calibrated scores.
        classes: Of the model.
        target: The sensitivity or coverage to choose for.
        chosen_on: Which cases these are.
    """
    by_class = {
        spec.name: [one for case in scored for one in case.outcomes if one.name == spec.name] for spec in classes
    }
    return Decision(tuple(_choose_class(name, outcomes, target, chosen_on) for name, outcomes in by_class.items()))


def _choose_class(name: str, outcomes: Sequence[Outcome], target: Target, chosen_on: str) -> ClassDecision:
    weight = choose_weight(outcomes)
    weighed = [weigh_outcome(one, weight) for one in outcomes]
    return ClassDecision(name, _choose_point(weighed, target, chosen_on), weight)


def weigh_outcome(outcome: Outcome, weight: float) -> Outcome:
    """Combine an outcome's confidence with its finding probability by a weight."""
    if outcome.state == NOTHING:
        return outcome
    confidence = combine(outcome.mask_confidence, outcome.probability, weight)
    return dataclasses.replace(outcome, confidence=confidence)


def choose_weight(outcomes: Sequence[Outcome]) -> float:
    """Choose the weight of the finding probability: 0 unless the combination tells cases with the class better.

    Told by the AUC of the confidence between cases with and without the class.
    """
    present = [one.present for one in outcomes]
    few = min(sum(present), len(present) - sum(present)) < FEWEST_ABSENT
    if few or any(one.probability is None for one in outcomes):
        return 0.0

    def measure(weight: float) -> float:
        confidences = [weigh_outcome(one, weight).confidence for one in outcomes]
        return float(area_under_curve(confidences, present)(np.ones(len(outcomes))))

    return WEIGHT if measure(WEIGHT) > measure(0.0) else 0.0


def _choose_point(outcomes: Sequence[Outcome], target: Target, chosen_on: str) -> OperatingPoint | None:
    shown = [one for one in outcomes if one.present]
    if len(shown) < FEWEST_CASES:
        return None
    kind, wanted = target.pick(has_absent=len(shown) < len(outcomes))
    threshold = choose_threshold(outcomes, kind, wanted)
    figures = measure_class([decide_outcome(one, threshold) for one in outcomes], threshold)
    if figures.sensitivity is None or figures.coverage is None:
        return None
    return OperatingPoint(
        threshold,
        kind,
        wanted,
        chosen_on,
        len(shown),
        len(outcomes) - len(shown),
        figures.sensitivity,
        figures.coverage,
        figures.false_alarm_rate,
    )


def decide_outcome(outcome: Outcome, threshold: float) -> Outcome:
    """Decide an outcome by a threshold, as the device does."""
    if outcome.state == NOTHING:
        return outcome
    return dataclasses.replace(outcome, state=FOUND if outcome.confidence >= threshold else DOUBTFUL)


def choose_threshold(outcomes: Sequence[Outcome], kind: str, wanted: float) -> float:
    """Choose the highest threshold that reaches a sensitivity or coverage; 0 where even the lowest does not.

    Args:
        outcomes: Of one class in all cases.
        kind: Whether a mask must overlap the truth to count (sensitivity) or not (coverage).
        wanted: The share of the cases that show the class.
    """
    shown = [one for one in outcomes if one.present]
    counted = sorted(
        (one.confidence for one in shown if one.state != NOTHING and (kind == COVERAGE or bool(one.dice))), reverse=True
    )
    # the guard keeps 0.9 * 10 from becoming 10 by rounding
    needed = int(np.ceil(wanted * len(shown) - 1e-9))
    if needed > len(counted):
        return 0.0
    last = counted[needed - 1]
    # midway to the next mask below, so that rounding on another machine does not lose the last one
    below = max((one.confidence for one in outcomes if one.confidence < last), default=0.0)
    middle = round((last + below) / 2, _DIGITS)
    return middle if below < middle <= last else last


def decide_by_own_data(
    model: ModelFile,
    root: Path,
    target: Target,
    layout: str | None = None,
    group_pattern: str | None = None,
    renamed: Renaming | None = None,
) -> Decision:
    """Choose another operating point for a model file, on the validation cases of the data it was trained on.

    Args:
        model: The file.
        root: Its training data; others are refused, since their test cases must only report.
        target: The sensitivity or coverage to choose for.
        layout: The layout of the folder; None detects it.
        group_pattern: Finds the group in each name; on the model's training data the card's pattern is used.
        renamed: Classes with another name in the data.
    """
    picked = pick_cases(model.card, root, None, layout, group_pattern, VALIDATION_PART, renamed)
    if picked.part != VALIDATION_PART:
        raise DataError(
            f"Expected the data that the model was trained on, whose validation cases choose an operating point, got "
            f"other data in {root}.",
            "Leave --sensitivity and --coverage out: the operating point of the model's card is used then.",
        )
    images = CaseImages(picked.cases, model.card.input)
    with progress_bar("Choosing the operating point", 2 * len(images)) as advance:
        return decide_model(model, images, target, on_case=advance).decision


def explain_decision(decision: Decision) -> list[str]:
    """Say what must be known of the chosen operating points: none for too few cases, uncertain ones, missed targets."""
    return [said for rule in decision.classes if (said := _explain_rule(rule))]


def _explain_rule(rule: ClassDecision) -> str:
    point = rule.operating_point
    if point is None:
        return (
            f"No operating point for {rule.name}: fewer than {FEWEST_CASES} validation cases show it, so every mask "
            "counts as found."
        )
    reached = point.sensitivity if point.target == SENSITIVITY else point.coverage
    if reached.mean < point.wanted:
        return (
            f"The {point.target} of {point.wanted:.0%} for {rule.name} is out of reach: all masks together reach "
            f"{_show(reached)} of the {point.cases} validation cases that show it, so every mask counts as found."
        )
    if point.cases < FEW_CASES:
        return (
            f"The operating point for {rule.name} is uncertain: {point.cases} validation cases show it, and its "
            f"{point.target} is {_show(reached)}."
        )
    return ""


def _show(estimate: Estimate) -> str:
    return f"{estimate.mean:.0%} ({show_interval(estimate.ci95, '.0%', 'no interval')})"
