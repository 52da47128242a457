"""What the page is told beside the picture: rates, ages, times, areas, heat, and how source and recording fare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic

import numpy as np

from edgeseg.core.spec import ClassSpec
from edgeseg.core.stats import Percentiles
from edgeseg.core.thermal import Thermal
from edgeseg.runtime.areas import measure_areas
from edgeseg.runtime.sinks.base import Result
from edgeseg.runtime.sinks.courier import Courier
from edgeseg.runtime.sources.inbox import Inbox
from edgeseg.runtime.viewer.broadcast import Broadcast
from edgeseg.runtime.viewer.hub import KEPT_FRAMES, Heard

EMPTY = np.zeros((1, 1), np.uint8)


@dataclass(frozen=True)
class ClassNumbers:
    """One class: its colour as CSS writes it, and its area in the newest mask."""

    name: str
    colour: str
    area_px: int
    area_mm2: float | None


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
    frame_px: tuple[int, int] | None
    """Width and height; None before the first frame."""
    classes: tuple[ClassNumbers, ...]
    thermal: Thermal
    notices: tuple[NoticeNumbers, ...]
    """The newest last; the source is lost while the last one says so."""
    recording: RecordingNumbers | None
    """None where no folder was named."""
    camera: CameraNumbers | None
    """None where the frames come from somewhere else."""


def collect_numbers(broadcast: Broadcast) -> Numbers:
    """Collect what the page shows at this moment."""
    info, classes, hub = broadcast.info, broadcast.classes, broadcast.hub
    seen, times, backend = hub.look(), info.recorder.report(window=KEPT_FRAMES), info.backend()
    return Numbers(
        stream=hub.name,
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
        frame_px=_measure_frame(seen.newest),
        classes=_measure_classes(seen.newest, classes, info.mm_per_px),
        thermal=broadcast.thermometer.read(),
        notices=tuple(_tell_notice(heard) for heard in seen.notices),
        recording=_describe_recording(broadcast.recording),
        camera=_describe_camera(info.inbox),
    )


def _tell_notice(heard: Heard) -> NoticeNumbers:
    return NoticeNumbers(heard.notice.state, heard.notice.sentence, round(monotonic() - heard.at, 1))


def _describe_recording(recording: Courier | None) -> RecordingNumbers | None:
    if recording is None:
        return None
    report = recording.report()
    return RecordingNumbers(recording.is_on, report.taken, report.missed, report.failure)


def _describe_camera(inbox: Inbox | None) -> CameraNumbers | None:
    return None if inbox is None else CameraNumbers(inbox.size.width, inbox.size.height, inbox.fps)


def _measure_frame(newest: Result | None) -> tuple[int, int] | None:
    if newest is None:
        return None
    height, width = newest.frame.image.shape[:2]
    return (width, height)


def _measure_classes(
    newest: Result | None, classes: Sequence[ClassSpec], mm_per_px: float | None
) -> tuple[ClassNumbers, ...]:
    labels = newest.segmentation.labels if newest else EMPTY
    return tuple(
        ClassNumbers(area.name, "#{:02x}{:02x}{:02x}".format(*spec.colour), area.area_px, area.area_mm2)
        for spec, area in zip(classes, measure_areas(labels, classes, mm_per_px), strict=True)
    )
