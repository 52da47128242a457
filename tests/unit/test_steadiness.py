"""States that hold over frames: no flicker from one frame, no finding delayed by more than two."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest

from edgeseg.core.decision import DOUBTFUL, FOUND, NOTHING
from edgeseg.inference.confidence import ClassFinding
from edgeseg.inference.steadiness import FALLING_FRAMES, ClassSteadiness, SteadinessRecorder, SteadyStates

THRESHOLD = 0.6
LETTERS = {"f": FOUND, "d": DOUBTFUL, "n": NOTHING}


def measure_steadiness(
    name: str, seconds: Sequence[float], states: Sequence[str], areas: Sequence[int]
) -> ClassSteadiness:
    recorder = SteadinessRecorder(name)
    for time, state, area in zip(seconds, states, areas, strict=True):
        recorder.record(time, state, area)
    return recorder.report()


def finding_of(confidence: float | None) -> ClassFinding:
    """Decide one frame by itself."""
    if confidence is None:
        return ClassFinding("lesion", NOTHING, None, None, THRESHOLD)
    return ClassFinding("lesion", FOUND if confidence >= THRESHOLD else DOUBTFUL, confidence, None, THRESHOLD)


def hold(confidences: list[float | None], rate: float = 30.0) -> str:
    """Give the first letter of the state of every frame."""
    steady = SteadyStates()
    findings = enumerate(map(finding_of, confidences))
    return "".join(steady.hold((one,), number / rate)[0].state[0] for number, one in findings)


def test_one_frame_alone_keeps_its_state() -> None:
    assert [hold([one]) for one in (None, 0.3, 0.9)] == ["n", "d", "f"]


def test_a_finding_comes_one_frame_late_and_two_when_it_stutters() -> None:
    assert hold([None, None, None, 0.9, 0.9, 0.9]) == "nnnnff"
    assert hold([None, None, None, 0.9, None, 0.9]) == "nnnnnf"


def test_one_false_frame_changes_nothing() -> None:
    assert hold([None, None, 0.9, None, None, None]) == "nnnnnn"
    assert hold([0.9, 0.9, None, 0.3, 0.9, 0.9]) == "ffffff"


def test_it_falls_after_some_lower_frames_in_a_row() -> None:
    assert hold([0.9, *FALLING_FRAMES * [None], None]) == "f" * FALLING_FRAMES + "nn"
    assert hold([0.9, *FALLING_FRAMES * [0.2]])[-1] == "d"


def test_a_found_class_is_held_below_the_threshold_and_a_doubtful_one_is_not() -> None:
    assert set(hold([0.9, *20 * [0.58]])) == {"f"}
    assert set(hold([0.5, *20 * [0.58]])) == {"d"}


def test_confidence_around_the_threshold_does_not_flicker() -> None:
    wavering = [0.62 if number % 2 else 0.58 for number in range(60)]
    alone = "".join(finding_of(one).state[0] for one in wavering)
    held = hold(list(wavering))
    assert sum(a != b for a, b in pairwise(alone)) == 59
    assert sum(a != b for a, b in pairwise(held)) <= 1


def test_distance_is_a_median_that_ignores_one_frame() -> None:
    steady = SteadyStates()
    assert [steady.hold_distance(one) for one in (0.4, 0.4, 1.9, 0.4, 0.5)] == 5 * [0.4]
    assert steady.hold_distance(None) is None


def test_the_second_frame_of_a_stream_is_not_judged_by_itself() -> None:
    steady = SteadyStates()
    assert [steady.hold_distance(one) for one in (0.5, 1.3, 0.6)] == [0.5, 0.5, 0.6]


def test_a_far_frame_is_told_at_once_and_forgotten() -> None:
    steady = SteadyStates()
    assert [steady.hold_distance(one) for one in (0.4, 0.4, 9.0, 0.4)] == [0.4, 0.4, 9.0, 0.4]


def test_a_slow_stream_does_not_hold_for_seconds() -> None:
    assert hold([0.9, 0.9, 0.9, None, None, None], rate=1.0) == "ffffnn"
    assert hold([None, None, 0.9, 0.9], rate=1.0) == "nnnf"


def test_flicker_and_jitter_of_a_clip() -> None:
    states = [LETTERS[letter] for letter in "nnffdf"]
    measured = measure_steadiness("lesion", [0, 1, 2, 3, 4, 5], states, [0, 0, 100, 110, 100, 0])
    assert measured.seconds == {FOUND: 2.0, DOUBTFUL: 1.0, NOTHING: 2.0}
    assert measured.changes == 3
    assert measured.flicker_per_minute == pytest.approx(36.0)
    assert measured.area_jitter == pytest.approx(20 / 210, abs=1e-4)


def test_a_clip_of_one_frame_has_no_rates() -> None:
    measured = measure_steadiness("lesion", [0.0], [FOUND], [10])
    assert (measured.flicker_per_minute, measured.area_jitter, measured.changes) == (None, None, 0)


def test_a_lost_source_counts_for_no_state() -> None:
    assert measure_steadiness("lesion", [0.0, 1.0, 90.0, 91.0], 4 * [FOUND], 4 * [5]).seconds[FOUND] == 2.0
