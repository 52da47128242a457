"""Latency of a stream: times per stage, frame age against the budget, and percentiles of them."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.stats import Percentiles, summarise_times
from edgeseg.inference.segmenter import StageTimes

# Frames that the figures cover: 36 minutes at 30 per second.
CAPACITY = 65536
# Frames of the short window, for metrics and the report: ten seconds at 30 per second.
WINDOW = 300
STAGES = ("preprocess", "invoke", "postprocess", "total")
# How long a frame waited for the segmenter, and how long the sinks held up the stream.
CAPTURE, PUBLISH = "capture", "publish"


class TimeSeries:
    """A ring buffer of the newest values of one measurement, in milliseconds."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        # full() touches every page now; pages of zeros() would be allocated one by one, and look like a leak for hours
        self._values: NDArray[np.float64] = np.full(capacity, 0.0)
        self.count = 0

    def add(self, milliseconds: float) -> None:
        """Add one value; when the buffer is full it replaces the oldest."""
        self._values[self.count % len(self._values)] = milliseconds
        self.count += 1

    def newest(self, number: int = CAPACITY) -> NDArray[np.float64]:
        """Return the newest values, the oldest of them first."""
        held = min(self.count, len(self._values))
        taken = min(number, held)
        return self._values[np.arange(self.count - taken, self.count) % len(self._values)]


@dataclass(frozen=True)
class WindowReport:
    """Percentiles of the newest `WINDOW` frames."""

    frames: int
    latency_ms: dict[str, Percentiles]
    frame_age_ms: Percentiles


@dataclass(frozen=True)
class LatencyReport:
    """Percentiles of a stream, and how often the budget was missed."""

    latency_ms: dict[str, Percentiles]
    frame_age_ms: Percentiles
    interval_ms: Percentiles
    """From one mask to the next."""
    jitter_ms: float
    """Standard deviation of the interval."""
    first_inference_ms: float
    budget_ms: float
    late: int
    misses: float
    """Share of the frames whose age was over the budget."""


class LatencyRecorder:
    """Collects the times of a stream; the page and the metrics read it from other threads while it runs."""

    def __init__(self, budget_ms: float, first_inference_ms: float, capacity: int = CAPACITY) -> None:
        self.budget_ms = budget_ms
        self._series = {stage: TimeSeries(capacity) for stage in (CAPTURE, *STAGES, PUBLISH)}
        self._ages, self._intervals = TimeSeries(capacity), TimeSeries(capacity)
        self._ready_at: float | None = None
        self._first = first_inference_ms
        self._late = 0
        self._lock = threading.Lock()

    def record(self, times: StageTimes, age_ms: float, ready_at: float | None = None) -> None:
        """Add one frame.

        Args:
            times: Of its stages.
            age_ms: From its capture to its mask.
            ready_at: When the mask was ready, in monotonic seconds.
        """
        with self._lock:
            for stage in STAGES:
                self._series[stage].add(getattr(times, stage))
            # what the stages do not explain is the wait between capture and segmentation
            self._series[CAPTURE].add(max(0.0, age_ms - times.total))
            self._ages.add(age_ms)
            self._late += age_ms > self.budget_ms
            if ready_at is not None and self._ready_at is not None:
                # the first mask has no interval
                self._intervals.add(1e3 * (ready_at - self._ready_at))
            self._ready_at = ready_at

    def pause(self) -> None:
        """Begin anew with the intervals between masks: the next one is of another source."""
        with self._lock:
            self._ready_at = None

    def begin_part(self, capacity: int = WINDOW) -> LatencyRecorder:
        """Make a recorder of the newest frames for a part of the stream, such as one of its sources."""
        return LatencyRecorder(self.budget_ms, self._first, capacity)

    def record_publish(self, milliseconds: float) -> None:
        """Add how long publishing one result took."""
        with self._lock:
            self._series[PUBLISH].add(milliseconds)

    @property
    def late(self) -> int:
        """Number of frames whose age was over the budget."""
        with self._lock:
            return self._late

    def report_ages(self, window: int = WINDOW) -> Percentiles:
        """Summarise the frame age of the newest frames alone, for a page that shows many sources."""
        with self._lock:
            ages = self._ages.newest(window)
        return summarise_times(ages)

    @property
    def misses(self) -> float:
        """Share of the frames whose age was over the budget."""
        with self._lock:
            return round(self._late / self._ages.count, 5) if self._ages.count else 0.0

    def report(self, window: int = CAPACITY) -> LatencyReport:
        """Summarise the newest frames; `late` and `misses` count all."""
        with self._lock:
            # only copies under the lock: percentiles of 65536 values take milliseconds
            stages = {stage: series.newest(window) for stage, series in self._series.items()}
            ages, late, count = self._ages.newest(window), self._late, self._ages.count
            between = self._intervals.newest(window)
        intervals = summarise_times(between)
        return LatencyReport(
            latency_ms={stage: summarise_times(values) for stage, values in stages.items()},
            frame_age_ms=summarise_times(ages),
            interval_ms=intervals,
            jitter_ms=intervals.std,
            first_inference_ms=round(self._first, 4),
            budget_ms=self.budget_ms,
            late=late,
            misses=round(late / count, 5) if count else 0.0,
        )

    def report_window(self) -> WindowReport:
        """Summarise the newest `WINDOW` frames."""
        newest = self.report(WINDOW)
        with self._lock:
            frames = min(WINDOW, self._ages.count)
        return WindowReport(frames, newest.latency_ms, newest.frame_age_ms)
