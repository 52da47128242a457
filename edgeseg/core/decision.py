"""How a device decides what a frame shows: confidence of masks, operating points, calibration and known frames.

All of it is chosen on a workstation from validation cases, travels on the card, and costs the device microseconds.
Files without it still draw masks, and say that they have no operating point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeseg.core.limits import CASES, FEATURES
from edgeseg.core.spec import check_choice
from edgeseg.core.stats import Estimate

# What a frame shows of a class: a mask to rely on, a mask below the operating point, no mask.
FOUND, DOUBTFUL, NOTHING = "found", "doubtful", "nothing"
STATES = (FOUND, DOUBTFUL, NOTHING)
SENSITIVITY, COVERAGE = "sensitivity", "coverage"
# Cases that a threshold was chosen on: validation cases of one run, or every case by the fold that had not seen it.
VALIDATION, OUT_OF_FOLD = "validation", "out-of-fold"
# Temperatures beyond these make every score 0, 1/2 or 1.
_COOLEST, _HOTTEST = 0.05, 20.0
# Of the numbers that describe known frames: features are logarithms and shares.
_LARGEST = 1e9


@dataclass(frozen=True)
class OperatingPoint:
    """The confidence from which a class's mask counts as found, and what that gave on the cases it was chosen on."""

    threshold: float
    target: str
    """What was asked for: a sensitivity or a coverage."""
    wanted: float
    chosen_on: str
    cases: int
    """Cases that show the class."""
    empty_cases: int
    """Cases that do not."""
    sensitivity: Estimate
    """Share of the cases that show the class in which it is found, at least in part at its true place."""
    coverage: Estimate
    """Share of those cases in which a mask is found, wherever."""
    false_alarm_rate: Estimate | None = None
    """Share of the cases without the class in which it is found; None where there are no such cases."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.threshold <= 1.0:
            raise ValueError(f"expected the threshold of an operating point from 0 to 1, got {self.threshold}")
        if not 0.0 < self.wanted <= 1.0:
            raise ValueError(f"expected a {self.target} above 0 and at most 1, got {self.wanted}")
        check_choice("the target of an operating point", self.target, (SENSITIVITY, COVERAGE))
        check_choice("the cases of an operating point", self.chosen_on, (VALIDATION, OUT_OF_FOLD))
        if not 0 <= self.cases <= CASES or not 0 <= self.empty_cases <= CASES:
            raise ValueError(f"expected 0 to {CASES} cases of an operating point, got {self.cases}, {self.empty_cases}")
        for name in (SENSITIVITY, COVERAGE, "false_alarm_rate"):
            _check_share(name, getattr(self, name))


def _check_share(name: str, share: Estimate | None) -> None:
    if share is None:
        return
    for value in (share.mean, share.median, *(share.ci95 or ())):
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"expected a {name} from 0 to 1 at an operating point, got {value:g}")


@dataclass(frozen=True)
class ClassDecision:
    """How one class is decided."""

    name: str
    operating_point: OperatingPoint | None = None
    """None where the cases were too few to choose one: every mask then counts as found."""
    finding_weight: float = 0.0
    """Weight w of the finding probability p beside the mask's confidence c: confidence = c^(1-w) * p^w."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.finding_weight <= 1.0:
            raise ValueError(f"expected the weight of a finding from 0 to 1, got {self.finding_weight}")


@dataclass(frozen=True)
class KnownFrames:
    """The distribution of the training frames' features, and the distance from which a frame is not one of them."""

    mean: tuple[float, ...]
    whitening: tuple[tuple[float, ...], ...]
    """Rows that turn a feature vector minus the mean into uncorrelated components of variance 1.

    A row may leave out its first zeros: its last number belongs to the last feature.
    """
    threshold: float
    """Of the distance: the length of those components, divided by the square root of their number."""
    features: int = 1
    """Version of the features (`frame.features`); another version on the device leaves frames unjudged."""

    def __post_init__(self) -> None:
        if not 0 < len(self.mean) <= FEATURES or not 0 < len(self.whitening) <= FEATURES:
            raise ValueError(f"expected 1 to {FEATURES} features, got {len(self.mean)}, {len(self.whitening)}")
        if any(not 0 < len(row) <= len(self.mean) for row in self.whitening):
            raise ValueError(f"expected 1 to {len(self.mean)} numbers in every row of the whitening")
        numbers = [*self.mean, *(number for row in self.whitening for number in row), self.threshold]
        # within these limits no distance overflows; a comparison with NaN is false
        if not all(abs(number) <= _LARGEST for number in numbers) or not self.threshold >= 1.0 / _LARGEST:
            raise ValueError(f"expected numbers up to {_LARGEST:g} and a threshold above 0 for the known frames")


@dataclass(frozen=True)
class Decision:
    """All that a device needs to say how sure a mask is."""

    classes: tuple[ClassDecision, ...]
    temperatures: tuple[float, ...] = ()
    """Of the mask's channels: a score p becomes sigmoid(logit(p) / T). Empty: scores are not calibrated."""
    finding_temperatures: tuple[float, ...] = ()
    """Of the finding's channels, likewise."""
    known: KnownFrames | None = None

    def __post_init__(self) -> None:
        check_temperatures(self.temperatures)
        check_temperatures(self.finding_temperatures)


def check_temperatures(temperatures: Sequence[float]) -> None:
    """Refuse temperatures that no calibration gives."""
    for value in temperatures:
        if not _COOLEST <= value <= _HOTTEST:
            raise ValueError(f"expected temperatures from {_COOLEST} to {_HOTTEST}, got {value}")
