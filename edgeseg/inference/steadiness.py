"""States that hold over the frames of a stream, and how steady they are: flicker and area jitter.

A frame by itself says found or doubtful by one threshold, so a confidence near it makes the state flicker. In a stream
a state rises with the median of three frames, which delays a finding by one frame and by two at most, and falls once
several frames in a row were lower. While a class is found, a lower threshold holds. Where frames are far between it
falls sooner, and after a pause nothing is held: what was found then says nothing of the picture now.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from edgeseg.core.decision import DOUBTFUL, FOUND, NOTHING, STATES
from edgeseg.inference.confidence import ClassFinding, change

# A state rises with the median of so many frames.
RISING_FRAMES = 3
# It falls once so many frames in a row were lower: a sixth of a second at 30 frames per second.
FALLING_FRAMES = 5
# Older frames hold no state up: five frames of a slow stream are seconds.
LONGEST_HOLD_S = 0.5
# A found class stays found so far below the operating point's threshold, in logits: confidences crowd near 1.
HOLDING_LOGITS = 0.2
# The distance from the training frames is the median of so many frames.
DISTANCE_FRAMES = 5
# Distance, as a multiple of the threshold, that is believed at once: no probe contact, noise, another screen. Known
# frames stay below 1.2, and what the median of five frames does not show yet would be called found until then.
FAR = 2.0
# A longer pause between two frames counts for no state: the source was lost.
LONGEST_PAUSE_S = 2.0
# From low to high.
_LEVELS = (NOTHING, DOUBTFUL, FOUND)
_HIGHEST = _LEVELS.index(FOUND)


class SteadyStates:
    """The states of all classes of one stream."""

    def __init__(self) -> None:
        self._classes: list[_SteadyClass] = []
        self._distances: deque[float] = deque(maxlen=DISTANCE_FRAMES)

    def hold(self, findings: Sequence[ClassFinding], seconds: float = 0.0) -> tuple[ClassFinding, ...]:
        """Take the findings of the next frame and give those of the stream; only their states may differ.

        Args:
            findings: Of the frame.
            seconds: When it was captured.
        """
        if len(self._classes) != len(findings):
            self._classes = [_SteadyClass() for _ in findings]
        return tuple(steady.hold(finding, seconds) for steady, finding in zip(self._classes, findings, strict=True))

    def hold_distance(self, distance: float | None) -> float | None:
        """Take the next frame's distance from the training frames and give the median of the newest, or a far one."""
        if distance is None:
            return None
        self._distances.append(distance)
        # of an even number the lower one, so that the second frame of a stream is not judged by itself
        median = sorted(self._distances)[(len(self._distances) - 1) // 2]
        return max(distance, median) if distance > FAR else median


class _SteadyClass:
    def __init__(self) -> None:
        self._newest: deque[tuple[float, int]] = deque(maxlen=FALLING_FRAMES)
        self._level = 0

    def hold(self, finding: ClassFinding, seconds: float) -> ClassFinding:
        newest = (seconds, self._find_level(finding))
        # a stream begins as if its first frame had been there before: a single image keeps its own state
        self._newest.extend([newest] if self._newest else FALLING_FRAMES * [newest])
        rising = sorted(level for _, level in list(self._newest)[-RISING_FRAMES:])[RISING_FRAMES // 2]
        holding = max(level for then, level in self._newest if seconds - then <= LONGEST_HOLD_S)
        self._level = max(rising, min(self._level, holding))
        state = _LEVELS[self._level]
        return finding if state == finding.state else change(finding, state=state)

    def _find_level(self, finding: ClassFinding) -> int:
        """Find the level of a frame; one that is found already may be a little less sure."""
        is_held = (
            self._level == _HIGHEST
            and finding.confidence is not None
            and finding.threshold is not None
            and finding.confidence >= find_holding_threshold(finding.threshold)
        )
        return _HIGHEST if is_held else _LEVELS.index(finding.state)


def find_holding_threshold(threshold: float) -> float:
    """Find the threshold of a class that is found already: sigmoid(logit(threshold) - HOLDING_LOGITS)."""
    odds = math.exp(-HOLDING_LOGITS) * threshold
    return odds / (odds + 1.0 - threshold)


@dataclass(frozen=True)
class ClassSteadiness:
    """How one class was shown over a stream or clip."""

    name: str
    seconds: dict[str, float]
    """In each state; the time until the next frame belongs to a frame's state."""
    changes: int
    """Of the state, from one frame to the next."""
    flicker_per_minute: float | None
    """Changes of the state per minute; None where no time passed."""
    area_jitter: float | None
    """Mean change of the area from frame to frame, divided by the mean area, over frames that show the class; None
    where no two frames in a row do."""


class SteadinessRecorder:
    """Collects states and areas of one class, frame by frame; a stream may run for months."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._seconds = dict.fromkeys(STATES, 0.0)
        self._last: tuple[float, str, int] | None = None
        self._changes, self._pairs = 0, 0
        self._area_change, self._area_sum = 0.0, 0.0

    def record(self, seconds: float, state: str, area: int) -> None:
        """Add a frame.

        Args:
            seconds: When it was captured.
            state: Of the class.
            area: Of the class's mask, in any unit.
        """
        if self._last is not None:
            then, old, old_area = self._last
            self._seconds[old] += seconds - then if 0.0 <= seconds - then <= LONGEST_PAUSE_S else 0.0
            self._changes += state != old
            if min(area, old_area) > 0:
                self._pairs += 1
                self._area_change += abs(area - old_area)
                self._area_sum += (area + old_area) / 2
        self._last = (seconds, state, area)

    def forget(self) -> None:
        """Compare the next frame with none: it is of another scene."""
        self._last = None

    def report(self) -> ClassSteadiness:
        """Summarise what was recorded so far."""
        minutes = sum(self._seconds.values()) / 60.0
        return ClassSteadiness(
            name=self._name,
            seconds={state: round(value, 3) for state, value in self._seconds.items()},
            changes=self._changes,
            flicker_per_minute=round(self._changes / minutes, 2) if minutes > 0.0 else None,
            area_jitter=round(self._area_change / self._area_sum, 5) if self._pairs else None,
        )
