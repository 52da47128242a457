"""What the page is told beside the picture: rates, ages, times, areas and where the network runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeseg.core.spec import ClassSpec
from edgeseg.core.stats import Percentiles
from edgeseg.runtime.areas import measure_areas
from edgeseg.runtime.sinks.base import Result, StreamInfo
from edgeseg.runtime.viewer.hub import KEPT_FRAMES, Hub

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


def collect_numbers(info: StreamInfo, classes: Sequence[ClassSpec], hub: Hub) -> Numbers:
    """Collect what the page shows at this moment."""
    seen, times, backend = hub.look(), info.recorder.report(window=KEPT_FRAMES), info.backend()
    return Numbers(
        stream=hub.name,
        model=info.model,
        source=info.source,
        backend=BackendNumbers(backend.name, backend.requested, backend.fallback_reason),
        ended=seen.ended,
        frames=seen.results,
        fps=round(seen.fps, 2),
        idle_ms=None if seen.idle_ms is None else round(seen.idle_ms, 1),
        budget_ms=times.budget_ms,
        misses=times.misses,
        late=times.late,
        frame_age_ms=times.frame_age_ms,
        latency_ms=times.latency_ms,
        ages_ms=tuple(round(age, 2) for age in seen.ages_ms),
        frame_px=_measure_frame(seen.newest),
        classes=_measure_classes(seen.newest, classes, info.mm_per_px),
    )


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
