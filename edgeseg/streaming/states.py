"""The states of the classes in a stream: held from frame to frame, summed up for the report, written as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeseg.core.decision import NOTHING
from edgeseg.core.spec import ClassSpec
from edgeseg.inference.confidence import ClassFinding, deny_findings
from edgeseg.inference.following import ClassCount, FollowQueue
from edgeseg.inference.instances import describe_instance, scale_instances
from edgeseg.inference.masks import count_pixels
from edgeseg.inference.segmenter import Segmentation, is_unlike
from edgeseg.inference.steadiness import LONGEST_PAUSE_S, ClassSteadiness, SteadinessRecorder, SteadyStates

# Digits of confidences and probabilities in JSON; they come from scores of 8 bits.
_DIGITS = 4


@dataclass(frozen=True)
class StateReport:
    """What a stream showed."""

    classes: tuple[ClassSteadiness, ...]
    out_of_distribution: int
    """Frames that are none of those the model was trained on; no class counts as found in them."""
    operating_points: dict[str, float]
    """Thresholds of the classes that have one; every mask of the others counts as found."""
    counts: tuple[ClassCount, ...] = ()
    """How many single findings were followed; empty where every frame is decided by itself."""


class StateKeeper:
    """Takes every segmentation of a stream in turn, and gives it with the states that the stream shows."""

    def __init__(self, classes: Sequence[ClassSpec], is_steady: bool = True, together: int = 1) -> None:
        """Begin a stream.

        Args:
            classes: Of the card.
            is_steady: Whether states hold over frames; otherwise every frame is decided by itself.
            together: Of how many frames in a row the single findings are followed at a time, if nobody asks for them.
        """
        self._steady = SteadyStates() if is_steady else None
        self._following, self._together = FollowQueue(), together
        self._last_at: float | None = None
        self._recorders = [SteadinessRecorder(spec.name) for spec in classes]
        self._out_of_distribution = 0
        self._thresholds: dict[str, float] = {}

    def take(self, segmentation: Segmentation, captured_at: float) -> Segmentation:
        """Take the segmentation of a frame that was captured at a time in seconds."""
        distance, findings = segmentation.distance, segmentation.findings
        if self._steady is not None:
            self._forget_after_pause(captured_at)
            # a frame that is out by itself holds nothing up, and one that is back counts before the median says so
            findings = self._steady.hold(
                deny_findings(findings) if segmentation.out_of_distribution else findings, captured_at
            )
            distance = self._steady.hold_distance(distance)
        is_out = is_unlike(distance)
        if is_out:
            findings = deny_findings(findings)
        self._record(segmentation, findings, captured_at)
        self._out_of_distribution += is_out
        if findings != segmentation.findings or distance != segmentation.distance:
            segmentation = segmentation.change(findings=findings, distance=distance)
        if self._steady is None:
            return segmentation
        # of the last frames, so that no more than these ever wait
        self._following.catch_up(self._together)
        followed = self._following.add(lambda: segmentation.instance_list, captured_at, segmentation.size, findings)
        has_any = bool(segmentation.classes) and segmentation.patch.labels.size > 0
        return segmentation.change(followed=followed) if has_any else segmentation

    def settle(self) -> None:
        """Follow the single findings of the newest frames if nobody has asked for them, while there is time."""
        self._following.catch_up(self._together)

    def report(self) -> StateReport:
        """Summarise the stream so far."""
        classes = tuple(recorder.report() for recorder in self._recorders)
        return StateReport(classes, self._out_of_distribution, dict(self._thresholds), self._following.report())

    def forget(self) -> None:
        """Begin anew with the next frame, which is of another source."""
        if self._steady is not None:
            self._steady = SteadyStates()
        self._following.forget()
        self._last_at = None
        for recorder in self._recorders:
            recorder.forget()

    def _forget_after_pause(self, captured_at: float) -> None:
        """Begin anew where the source was lost: what was found before it says nothing of the picture now."""
        if self._last_at is not None and is_pause(captured_at - self._last_at):
            self._steady = SteadyStates()
        self._last_at = captured_at

    def _record(self, segmentation: Segmentation, findings: Sequence[ClassFinding], captured_at: float) -> None:
        areas = _count_pixels(segmentation.patch.labels, len(self._recorders))
        for recorder, finding, area in zip(self._recorders, findings, areas, strict=False):
            recorder.record(captured_at, finding.state, 0 if finding.state == NOTHING else area)
            if finding.threshold is not None:
                self._thresholds[finding.name] = finding.threshold


def is_pause(seconds: float) -> bool:
    """Say whether so much time between two frames means that they belong to different scenes."""
    return not 0.0 <= seconds <= LONGEST_PAUSE_S


def _count_pixels(labels: NDArray[np.uint8], classes: int) -> list[int]:
    # a segmenter's labels of one class are 0 and 1, so their sum is the area, in a quarter of the time
    return [int(cv2.sumElems(labels)[0])] if classes == 1 else count_pixels(labels, classes)


def describe_states(segmentation: Segmentation) -> dict[str, Any]:
    """Describe findings, frame classes and distance for JSON."""
    return {
        "findings": [describe_finding(finding) for finding in segmentation.findings],
        "frame_classes": {name: round(value, _DIGITS) for name, value in segmentation.frame_classes.items()},
        "out_of_distribution": segmentation.out_of_distribution,
    }


def describe_instances(segmentation: Segmentation, mm_per_px: float | None) -> dict[str, Any]:
    """Describe the instances for JSON, and say how many regions were left out."""
    found = scale_instances(segmentation.instance_list, mm_per_px)
    return {
        "instances": [describe_instance(one) for one in found.instances],
        "instances_left_out": found.left_out,
    }


def describe_finding(finding: ClassFinding) -> dict[str, Any]:
    """Describe a finding for JSON; its threshold is null where the file has no operating point."""
    return {
        "class": finding.name,
        "state": finding.state,
        "confidence": _round(finding.confidence),
        "probability": _round(finding.probability),
        "threshold": _round(finding.threshold),
    }


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)
