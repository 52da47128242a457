"""Instances followed over the frames of a stream or clip: the same finding keeps its number.

Every instance is looked for where its own motion, or that of the others while it is out of sight, has brought it; the
best overlapping pairs of a class are taken first. Regions of one class never overlap in a frame, so an assignment that
is optimal as a whole differs from this one only by chance. A number is given once a finding was seen in two frames in a
row, kept while it is out of sight for a short time, and given to no other one.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import hypot
from statistics import median

import cv2
import numpy as np

from edgeseg.core.decision import NOTHING
from edgeseg.inference.confidence import ClassFinding, change
from edgeseg.inference.instances import Instance, InstanceList
from edgeseg.inference.steadiness import LONGEST_PAUSE_S, SteadyStates

# A finding gets its number with this frame in a row; in the first frame of a scene at once.
SEEN_FRAMES = 2
# Out of sight for longer, a finding that comes back is another one.
REMEMBERED_S = LONGEST_PAUSE_S
# Pairs that overlap less are the same only where their centres are near: within this share of their long diameters.
LEAST_OVERLAP, NEAR = 0.1, 0.5
# Share of the newest step in a finding's motion, which is measured between centroids and so shakes with the outline.
_NEWEST = 0.5
# The longest time over which motion is carried on: tissue breathes and beats, it does not travel.
_CARRIED_S = 0.2
# Of the frames whose instances nobody has followed yet; each holds its scores.
_MOST_WAITING = 32
# A part of a finding may be lost for a frame; one whose area changes by more than this factor is matched last.
_ALIKE = 3.0


@dataclass(frozen=True)
class ClassCount:
    """How many findings of one class a stream or clip showed."""

    name: str
    count: int
    """Different ones, by their numbers."""
    most_at_once: int
    returned: int
    """How often one came back after it was out of sight."""
    changes_per_minute: float | None
    """Of the number that is seen at once; None where no time passed."""


@dataclass
class _Track:
    """A finding that was seen before."""

    instance: Instance
    seconds: float
    number: int = 0
    seen: int = 1
    missed: int = 0
    velocity: tuple[float, float] = (0.0, 0.0)
    """Pixels per second."""
    states: SteadyStates = field(default_factory=SteadyStates)


@dataclass
class _Tally:
    """What is counted of one class."""

    numbers: int = 0
    most: int = 0
    returned: int = 0
    changes: int = 0
    seen: int = 0


class Follower:
    """Numbers the instances of one stream or clip; frame after frame."""

    def __init__(self) -> None:
        self._tracks: list[_Track] = []
        self._tallies: dict[str, _Tally] = {}
        self._last_at: float | None = None
        self._size: tuple[int, int] | None = None
        self._seconds = 0.0

    def follow(
        self, seen: InstanceList, seconds: float, size: tuple[int, int], findings: Sequence[ClassFinding] = ()
    ) -> InstanceList:
        """Give the instances of the next frame the numbers that they have in the stream.

        Args:
            seen: Of the frame.
            seconds: When it was captured.
            size: Height and width of the frame; where it changes, the scene does.
            findings: Of the classes; the state of one alone is that of its class.

        Returns:
            The same instances; number 0 for those that were not seen often enough. Their states hold over frames.
        """
        begins = self._last_at is None or self._size != size or not 0.0 <= seconds - self._last_at <= LONGEST_PAUSE_S
        if begins:
            self._tracks.clear()
        elif self._last_at is not None:
            self._seconds += seconds - self._last_at
        self._last_at, self._size = seconds, size
        if not seen.instances and not self._tracks:
            self._count(())
            return seen
        pairs = self._match(seen.instances, seconds)
        numbered = tuple(self._take(one, pairs.get(place), seconds, begins) for place, one in enumerate(seen.instances))
        self._drop(seconds)
        self._count(numbered)
        return replace(seen, instances=_keep_class_states(numbered, findings))

    def forget(self) -> None:
        """Begin anew, with number 1: the next frame is of another source."""
        self._tracks, self._tallies = [], {}
        self._last_at = self._size = None
        self._seconds = 0.0

    def report(self) -> tuple[ClassCount, ...]:
        """Count what was seen so far, for every class that was seen."""
        minutes = self._seconds / 60.0
        return tuple(
            ClassCount(
                name,
                tally.numbers,
                tally.most,
                tally.returned,
                round(tally.changes / minutes, 2) if minutes > 0.0 else None,
            )
            for name, tally in self._tallies.items()
        )

    def _match(self, seen: Sequence[Instance], seconds: float) -> dict[int, _Track]:
        """Pair instances with what was seen before, the best pairs first."""
        if not seen or not self._tracks:
            return {}
        common = self._find_common_motion(seconds)
        places, reaches = np.array([one.centroid for one in seen]), np.array([one.long_px for one in seen])
        scored = []
        for track in self._tracks:
            old, shift = track.instance, _predict(track, seconds, common)
            # what is farther away than both are long can neither overlap nor be near
            apart = np.abs(places - np.add(old.centroid, shift)).max(axis=1)
            scored += [
                (score, place, track)
                for place in np.flatnonzero(apart <= reaches + old.long_px + 1.0).tolist()
                if seen[place].name == old.name and (score := _compare(old, shift, seen[place])) > 0.0
            ]
        scored.sort(key=lambda entry: (-entry[0], entry[1], entry[2].number))
        pairs: dict[int, _Track] = {}
        taken: set[int] = set()
        for _, place, track in scored:
            if place not in pairs and id(track) not in taken:
                pairs[place] = track
                taken.add(id(track))
        return pairs

    def _find_common_motion(self, seconds: float) -> tuple[float, float]:
        """Find the motion of what was seen in the last frame: tissue moves as a whole."""
        moving = [track.velocity for track in self._tracks if track.missed == 0 and track.seconds < seconds]
        if not moving:
            return 0.0, 0.0
        # of lists as short as these ten times as fast as numpy's
        return median(along for along, _ in moving), median(down for _, down in moving)

    def _take(self, one: Instance, track: _Track | None, seconds: float, begins: bool) -> Instance:
        tally = self._tallies.setdefault(one.name, _Tally())
        if track is None:
            track = _Track(one, seconds)
            self._tracks.append(track)
        else:
            tally.returned += bool(track.number and track.missed)
            _update(track, one, seconds)
        # what counts as nothing, such as on a frame unlike the training, is no finding to be counted
        if track.number == 0 and one.state != NOTHING and (begins or track.seen >= SEEN_FRAMES):
            tally.numbers += 1
            track.number = tally.numbers
        held = track.states.hold((ClassFinding(one.name, one.state, one.confidence),), seconds)
        return change(one, number=track.number, state=one.state if one.state == NOTHING else held[0].state)

    def _drop(self, seconds: float) -> None:
        """Forget what is out of sight for too long; what has no number yet at once."""
        for track in self._tracks:
            track.missed += track.seconds != seconds
        self._tracks = [
            track
            for track in self._tracks
            if not track.missed or (track.number and seconds - track.seconds <= REMEMBERED_S)
        ]

    def _count(self, instances: Sequence[Instance]) -> None:
        now = Counter(one.name for one in instances if one.number and one.state != NOTHING)
        for name, tally in self._tallies.items():
            tally.changes += now[name] != tally.seen
            tally.seen = now[name]
            tally.most = max(tally.most, now[name])


def _keep_class_states(instances: tuple[Instance, ...], findings: Sequence[ClassFinding]) -> tuple[Instance, ...]:
    """Give an instance that is the only one of its class the state of the class, which holds over frames already."""
    states = {finding.name: finding.state for finding in findings}
    counts = Counter(one.name for one in instances)
    return tuple(
        change(one, state=states[one.name]) if counts[one.name] == 1 and one.name in states else one
        for one in instances
    )


def _predict(track: _Track, seconds: float, common: tuple[float, float]) -> tuple[float, float]:
    """Predict by how much a finding has moved since it was seen."""
    passed = min(seconds - track.seconds, _CARRIED_S)
    velocity = track.velocity if track.missed == 0 else common
    return velocity[0] * passed, velocity[1] * passed


def _update(track: _Track, one: Instance, seconds: float) -> None:
    passed = seconds - track.seconds
    if passed > 0.0 and track.missed == 0:
        step = [(new - old) / passed for new, old in zip(one.centroid, track.instance.centroid, strict=True)]
        mixed = [_NEWEST * new + (1.0 - _NEWEST) * old for new, old in zip(step, track.velocity, strict=True)]
        track.velocity = mixed[0], mixed[1]
    track.seen += 1
    track.missed = 0
    track.instance, track.seconds = one, seconds


def _compare(old: Instance, shift: tuple[float, float], new: Instance) -> float:
    """Score how surely two instances are the same: 1 plus the overlap, or the nearness of their centres below 1."""
    overlap = measure_overlap(old, new, (round(shift[0]), round(shift[1])))
    if overlap >= LEAST_OVERLAP:
        return 1.0 + overlap
    apart = hypot(*(to - start - by for to, start, by in zip(new.centroid, old.centroid, shift, strict=True)))
    reach = NEAR * max(old.long_px, new.long_px)
    alike = max(old.area_px, new.area_px) <= _ALIKE * min(old.area_px, new.area_px)
    return 1.0 - apart / reach if apart < reach and alike else 0.0


def measure_overlap(one: Instance, other: Instance, shift: tuple[int, int] = (0, 0)) -> float:
    """Measure the overlap of two instances' masks (IoU), the first one moved by whole pixels."""
    x, y = one.box[0] + shift[0], one.box[1] + shift[1]
    left, top = max(x, other.box[0]), max(y, other.box[1])
    right = min(x + one.box[2], other.box[0] + other.box[2])
    bottom = min(y + one.box[3], other.box[1] + other.box[3])
    if right <= left or bottom <= top:
        return 0.0
    first = one.mask[top - y : bottom - y, left - x : right - x]
    second = other.mask[top - other.box[1] : bottom - other.box[1], left - other.box[0] : right - other.box[0]]
    both = cv2.countNonZero(cv2.bitwise_and(first, second))
    return both / (one.area_px + other.area_px - both)


class FollowQueue:
    """Follows the instances of a stream once somebody asks for them, in the order of the frames.

    Tracing and measuring them takes longer than everything else after the network, and not every stream is asked: so
    it must not delay the mask. Any thread may ask.
    """

    def __init__(self) -> None:
        self._follower = Follower()
        self._lock = threading.Lock()
        self._waiting: deque[_Waiting] = deque()

    def add(
        self,
        see: Callable[[], InstanceList],
        seconds: float,
        size: tuple[int, int],
        findings: Sequence[ClassFinding],
    ) -> Callable[[], InstanceList]:
        """Add the next frame, and give what `Follower.follow` gives, as a function.

        Args:
            see: Finds the instances of the frame.
            seconds: When it was captured.
            size: Height and width of the frame.
            findings: Of the classes.
        """
        waiting = _Waiting(see, seconds, size, findings)
        # without the lock: the stream must not wait for a page's thread that follows an older frame
        self._waiting.append(waiting)
        return partial(self._find, waiting)

    def settle(self) -> None:
        """Follow the instances of all frames so far."""
        with self._lock:
            self._follow_waiting()

    def catch_up(self, at_least: int = 1) -> None:
        """Do the same where at least so many frames wait, unless another thread is at it."""
        waiting = len(self._waiting)
        # where that one is too slow, it is waited for
        if waiting >= at_least and self._lock.acquire(blocking=waiting > _MOST_WAITING):
            try:
                self._follow_waiting()
            finally:
                self._lock.release()

    def _follow_waiting(self) -> None:
        while self._waiting:
            one = self._waiting.popleft()
            one.found = self._follower.follow(one.see(), one.seconds, one.size, one.findings)

    def forget(self) -> None:
        """Begin anew, with number 1: the next frame is of another source."""
        self.settle()
        with self._lock:
            self._follower.forget()

    def report(self) -> tuple[ClassCount, ...]:
        """Count what was seen so far, for every class that was seen."""
        self.settle()
        with self._lock:
            return self._follower.report()

    def _find(self, waiting: _Waiting) -> InstanceList:
        if waiting.found is None:
            self.settle()
        assert waiting.found is not None
        return waiting.found


@dataclass
class _Waiting:
    """A frame whose instances nobody has asked for."""

    see: Callable[[], InstanceList]
    seconds: float
    size: tuple[int, int]
    findings: Sequence[ClassFinding]
    found: InstanceList | None = None
