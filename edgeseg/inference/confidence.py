"""How sure a mask is, and whether its class is found: confidence, finding probabilities and states of one frame.

Training chooses operating points, evaluation measures them and the device applies them with this file, so they agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.card import Card
from edgeseg.core.decision import DOUBTFUL, FOUND, NOTHING, ClassDecision, Decision
from edgeseg.core.spec import ClassSpec, OutputSpec, Quantisation
from edgeseg.frame.postprocess import SCORE_ONE, calibrate, decide_labels, dequantise, draw_ellipses
from edgeseg.frame.preprocess import Pixels

T = TypeVar("T")


def change(one: T, **values: Any) -> T:
    """Copy a frozen dataclass with other values, in a tenth of the time of `dataclasses.replace`; streams do it often.

    Values are not checked.
    """
    copy = object.__new__(type(one))
    copy.__dict__.update(one.__dict__, **values)
    return copy


@dataclass(frozen=True)
class ClassFinding:
    """What one frame shows of one class, and how sure that is."""

    name: str
    state: str
    """found, doubtful (below the operating point) or nothing; without an operating point every mask is found."""
    confidence: float | None = None
    """Of the mask, 0 to 1, with the finding probability where the card combines them; None where nothing is marked."""
    probability: float | None = None
    """Of the class's presence in the frame; None without a finding output."""
    threshold: float | None = None
    """Of the operating point; None where the card has none for the class."""
    weight: float = 0.0
    """Of the finding probability in the confidence."""


def measure_confidences(scores: Pixels, spec: OutputSpec) -> tuple[float | None, ...]:
    """Measure the confidence of every class's mask: the soft Dice of its scores with their own decision.

    2 * sum(s inside the mask) / (sum(s) + area of the mask), after Borges et al., "Soft Dice confidence", 2024.

    Args:
        scores: Calibrated, on the network's grid, without padding and small regions (`clean_scores`).
        spec: Classes, threshold and shape.

    Returns:
        For every class 0 to 1; None where it has no mask.
    """
    labels = decide_labels(scores, spec)
    if spec.shape == "ellipse":
        labels = draw_ellipses(labels, len(spec.classes))
    if len(spec.classes) == 1 and not spec.draws_background:
        return (_measure_soft_dice(scores[:, :, 0], labels),)
    planes = cv2.split(scores)[spec.draws_background :]
    if len(planes) == 1:
        return (_measure_soft_dice(planes[0], labels),)
    masks = (cv2.inRange(labels, number, number) for number in range(1, len(planes) + 1))
    return tuple(map(_measure_soft_dice, planes, masks))


def _measure_soft_dice(plane: Any, mask: Any) -> float | None:
    area = cv2.countNonZero(mask)
    if not area:
        return None
    # the L1 norm is the sum of what is not negative, and the fastest sum with a mask
    inside = cv2.norm(plane, cv2.NORM_L1, mask)
    return float(2.0 * inside / (cv2.sumElems(plane)[0] + SCORE_ONE * area))


def read_finding(
    tensor: NDArray[np.generic], quantisation: Quantisation, temperatures: tuple[float, ...] = ()
) -> tuple[float, ...]:
    """Dequantise and calibrate the finding output (1, 1, 1, channels) into one probability per channel."""
    channels = tensor.ravel()
    if quantisation.dtype not in ("int8", "uint8"):
        # no number is no finding
        real = np.nan_to_num(dequantise(channels, quantisation), nan=0.0)
        return tuple(calibrate(real, np.array(temperatures or 1.0)).tolist())
    table = _probability_table(quantisation, temperatures or len(channels) * (1.0,))
    return tuple(row[number] for row, number in zip(table, channels.view(np.uint8).tolist(), strict=True))


@lru_cache(maxsize=16)
def _probability_table(quantisation: Quantisation, temperatures: tuple[float, ...]) -> tuple[tuple[float, ...], ...]:
    """Build a row per channel: from each 8-bit number, its bits read as an unsigned byte, to its probability."""
    real = dequantise(np.arange(256, dtype=np.uint8).view(quantisation.dtype), quantisation)
    return tuple(tuple(calibrate(real, value).tolist()) for value in temperatures)


def decide_findings(
    confidences: Sequence[float | None],
    probabilities: Sequence[float],
    classes: Sequence[ClassSpec],
    decision: Decision | None,
) -> tuple[ClassFinding, ...]:
    """Decide the state of every class.

    Args:
        confidences: Of the masks, as `measure_confidences` gives them.
        probabilities: Of the classes' presence first, as `read_finding` gives them; empty without a finding output.
        classes: Of the card.
        decision: Of the card; None in files of older versions.
    """
    rules = {rule.name: rule for rule in decision.classes} if decision is not None else {}
    known = probabilities[: len(classes)] or len(classes) * (None,)
    return tuple(
        [
            _decide(spec.name, confidence, probability, rules.get(spec.name))
            for spec, confidence, probability in zip(classes, confidences, known, strict=True)
        ]
    )


def _decide(name: str, confidence: float | None, probability: float | None, rule: ClassDecision | None) -> ClassFinding:
    point = None if rule is None else rule.operating_point
    threshold = None if point is None else point.threshold
    weight = 0.0 if rule is None else rule.finding_weight
    if confidence is None:
        return ClassFinding(name, NOTHING, None, probability, threshold, weight)
    confidence = combine(confidence, probability, weight)
    is_found = threshold is None or confidence >= threshold
    return ClassFinding(name, FOUND if is_found else DOUBTFUL, confidence, probability, threshold, weight)


def deny_findings(findings: Sequence[ClassFinding]) -> tuple[ClassFinding, ...]:
    """Say nothing of every class: masks on a frame of another kind mean nothing, however sure the network is."""
    return tuple(finding if finding.state == NOTHING else change(finding, state=NOTHING) for finding in findings)


def combine(confidence: float, probability: float | None, weight: float) -> float:
    """Combine a mask's confidence with the finding probability; their geometric mean, weighted."""
    if probability is None or weight == 0.0:
        return confidence
    return float(confidence ** (1.0 - weight) * probability**weight)


def name_frame_classes(probabilities: Sequence[float], card: Card) -> dict[str, float]:
    """Name the probabilities of the frame classes, which follow those of the masks' classes."""
    if card.finding is None:
        return {}
    return dict(zip(card.finding.frame_classes, probabilities[len(card.output.classes) :], strict=False))
