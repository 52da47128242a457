"""What the page is told of the whole stream: rates, ages, times, heat, and how source and recording fare.

What is about one frame, as areas are, travels with its picture (figures.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic

from edgeseg.core.stats import Percentiles
from edgeseg.machine.thermal import Thermal
from edgeseg.streaming.sinks.base import LatestResultSink
from edgeseg.streaming.sources.base import LatestSlot
from edgeseg.streaming.viewer.state import KEPT_FRAMES, TimedNotice, ViewerContext


@dataclass(frozen=True)
class BackendNumbers:
    """What the network runs on, and why not on what was asked for."""

    name: str
    requested: str
    fallback_reason: str | None


@dataclass(frozen=True)
class NoticeNumbers:
    """What happened to the source, and how long ago."""

    state: str
    sentence: str
    seconds_ago: float


@dataclass(frozen=True)
class RecordingNumbers:
    """Whether results are being recorded, how many were, and why no more are."""

    on: bool
    taken: int
    missed: int
    failure: str | None


@dataclass(frozen=True)
class CameraNumbers:
    """What the page asks its device's camera for."""

    width: int
    height: int
    fps: float


@dataclass(frozen=True)
class Numbers:
    """Everything the page shows in words and figures; times are those of the newest frames."""

    stream: str
    """Differs from stream to stream, for a page that outlives one."""
    model: str
    source: str
    backend: BackendNumbers
    ended: bool
    frames: int
    fps: float
    captured_fps: float
    rates: tuple[int, ...]
    """Masks in each of the last seconds."""
    idle_ms: float | None
    budget_ms: float
    misses: float
    late: int
    frame_age_ms: Percentiles
    latency_ms: dict[str, Percentiles]
    ages_ms: tuple[float, ...]
    judged: bool
    """Whether the budget counts: not where every frame of a recorded source is waited for."""
    thermal: Thermal
    notices: tuple[NoticeNumbers, ...]
    """The newest last; the source is lost while the last one says so."""
    recording: RecordingNumbers | None
    """None where no folder was named."""
    camera: CameraNumbers | None
    """None where the frames come from somewhere else."""


def collect_numbers(context: ViewerContext) -> Numbers:
    """Collect what the page shows at this moment."""
    info, live_state = context.info, context.live_state
    seen, times, backend = live_state.snapshot(), info.recorder.report(window=KEPT_FRAMES), info.backend()
    return Numbers(
        stream=live_state.name,
        model=info.model,
        source=info.source,
        backend=BackendNumbers(backend.name, backend.requested, backend.fallback_reason),
        ended=seen.ended,
        frames=seen.results,
        fps=round(seen.fps, 2),
        captured_fps=round(seen.captured_fps, 2),
        rates=seen.rates,
        idle_ms=None if seen.idle_ms is None else round(seen.idle_ms, 1),
        budget_ms=times.budget_ms,
        misses=times.misses,
        late=times.late,
        frame_age_ms=times.frame_age_ms,
        latency_ms=times.latency_ms,
        ages_ms=tuple(round(age, 2) for age in seen.ages_ms),
        judged=not info.every_frame,
        thermal=context.thermal.read(),
        notices=tuple(_on_notice(heard) for heard in seen.notices),
        recording=_describe_recording(context.recording),
        camera=_describe_camera(info.latest_slot),
    )


def _on_notice(heard: TimedNotice) -> NoticeNumbers:
    return NoticeNumbers(heard.notice.state, heard.notice.sentence, round(monotonic() - heard.at, 1))


def _describe_recording(recording: LatestResultSink | None) -> RecordingNumbers | None:
    if recording is None:
        return None
    report = recording.report()
    return RecordingNumbers(recording.is_on, report.taken, report.missed, report.failure)


def _describe_camera(latest_slot: LatestSlot | None) -> CameraNumbers | None:
    return (
        None if latest_slot is None else CameraNumbers(latest_slot.size.width, latest_slot.size.height, latest_slot.fps)
    )
