"""The JSON of the live page: `Numbers` of the whole stream, which pages poll, and `PictureFigures` of one picture.

The figures of a picture are sent in the headers of its own part, so that areas never belong to another frame than the
one on the screen. Field names are keys of the page's scripts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from time import monotonic
from typing import Any

from edgeseg.core.decision import NOTHING
from edgeseg.core.spec import ClassSpec
from edgeseg.core.stats import Percentiles
from edgeseg.inference.instances import Instance, describe_instance, scale_instances
from edgeseg.inference.masks import count_pixels, measure_areas
from edgeseg.machine.thermal import Thermal
from edgeseg.streaming.sinks.base import LatestResultSink
from edgeseg.streaming.sources.base import LatestSlot
from edgeseg.streaming.states import describe_states
from edgeseg.streaming.switching import SourceStatus
from edgeseg.streaming.tracking import Picture
from edgeseg.streaming.viewer.state import KEPT_FRAMES, TimedNotice, ViewerContext

# Single findings of a class whose measures the page lists.
SHOWN_INSTANCES = 8
_FINDING_KEYS = ("state", "confidence", "probability", "threshold")
_NOTHING_KNOWN: dict[str, Any] = {"findings": [], "frame_classes": {}, "out_of_distribution": False}


@dataclass(frozen=True)
class BackendNumbers:
    """The backend in use, the one that was requested, and why they differ."""

    name: str
    requested: str
    fallback_reason: str | None


@dataclass(frozen=True)
class NoticeNumbers:
    """A notice about the source, and its age."""

    state: str
    sentence: str
    seconds_ago: float


@dataclass(frozen=True)
class RecordingNumbers:
    """State of the recording; `failure` says why it ended."""

    on: bool
    taken: int
    missed: int
    failure: str | None


@dataclass(frozen=True)
class CameraNumbers:
    """What the page requests of its device's camera."""

    width: int
    height: int
    fps: float


@dataclass(frozen=True)
class SourceNumbers:
    """A source that can be chosen."""

    number: int
    name: str
    state: str
    sentence: str
    """Why it gives no frames."""


@dataclass(frozen=True)
class PlaybackNumbers:
    """A recording that is played back."""

    pictures: int
    seconds: float
    has_frames: bool
    """Whether frames were recorded beside the masks."""
    unreadable: int


@dataclass(frozen=True)
class Numbers:
    """Everything the page shows of the stream; times are those of the newest frames."""

    stream: str
    """A random name, by which an open page notices that another stream, or another source of it, is shown."""
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
    """Whether the budget counts; with --every-frame it does not."""
    thermal: Thermal
    notices: tuple[NoticeNumbers, ...]
    """The newest last; while that one says "lost", the source is."""
    recording: RecordingNumbers | None
    """None without --record."""
    camera: CameraNumbers | None
    """None where the frames do not come from the page."""
    sources: tuple[SourceNumbers, ...] = ()
    """Of a stream with several sources."""
    chosen: int = 1
    """The number of the source that is shown, or is about to be."""
    modalities: tuple[str, ...] = ()
    """Among which the page chooses what it shows."""
    playback: None = None
    label: str = ""
    """The name of the source, where all of several are segmented; their page is one level up."""


def collect_numbers(context: ViewerContext) -> Numbers:
    """Collect the figures of this moment."""
    info, backend, seen = context.info, context.info.backend(), context.live_state.snapshot()
    times = (seen.recorder or info.recorder).report(window=KEPT_FRAMES)
    return Numbers(
        stream=seen.stream,
        model=info.model,
        source=info.source if seen.turn is None else seen.turn.name,
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
        notices=tuple(_describe_notice(notice) for notice in seen.notices),
        recording=describe_recording(context.recording),
        camera=_describe_camera(info.find_latest_slot()),
        sources=() if info.switch is None else tuple(_describe_source(one) for one in info.switch.describe()),
        chosen=1 if info.switch is None else info.switch.chosen,
        modalities=info.modalities,
        label="" if info.member is None else info.member.label,
    )


def _describe_source(source: SourceStatus) -> SourceNumbers:
    return SourceNumbers(source.number, source.name, source.state, source.sentence)


def _describe_notice(timed: TimedNotice) -> NoticeNumbers:
    return NoticeNumbers(timed.notice.state, timed.notice.sentence, round(monotonic() - timed.at, 1))


def describe_recording(recording: LatestResultSink | None) -> RecordingNumbers | None:
    """Describe the state of a recording; None where there is none."""
    if recording is None:
        return None
    report = recording.report()
    return RecordingNumbers(recording.is_on, report.taken, report.missed, report.failure)


def _describe_camera(latest_slot: LatestSlot | None) -> CameraNumbers | None:
    if latest_slot is None:
        return None
    return CameraNumbers(latest_slot.size.width, latest_slot.size.height, latest_slot.fps)


@dataclass(frozen=True)
class InstanceFigures:
    """A single finding of a class."""

    number: int
    """0 until it was seen in two frames in a row."""
    state: str
    confidence: float | None
    area_px: int
    area_mm2: float | None
    long_px: float
    long_mm: float | None
    short_px: float
    short_mm: float | None


@dataclass(frozen=True)
class ClassFigures:
    """A class, its CSS colour, and its area in the mask that is shown."""

    name: str
    colour: str
    area_px: int
    area_mm2: float | None
    state: str | None = None
    """None where nothing is known but the mask."""
    confidence: float | None = None
    probability: float | None = None
    threshold: float | None = None
    """Of the operating point; None where the file has none."""
    instances: tuple[InstanceFigures, ...] = ()
    """The largest `SHOWN_INSTANCES`."""
    instance_count: int = 0


@dataclass(frozen=True)
class PictureFigures:
    """The figures of one picture."""

    stream: str
    """The stream's random name."""
    number: int
    """Of the frame that is shown."""
    name: str
    """Of its file, where it has one."""
    mask_number: int
    """Of the frame that was segmented; an older one where the mask was warped."""
    frame_px: tuple[int, int]
    """Width and height."""
    classes: tuple[ClassFigures, ...]
    frame_classes: dict[str, float] = field(default_factory=dict)
    """The probability of every frame class."""
    out_of_distribution: bool = False
    picture: int = 0
    """By which the page asks for this picture again, drawn otherwise."""
    source: int = 1
    """The number of the frame's source."""
    seconds: float | None = None
    """In a recording, when the frame was captured, since the first one."""
    next_seconds: float | None = None
    age_ms: float | None = None
    """In a recording, the age of the frame when its mask was ready."""
    hidden: tuple[int, ...] = ()
    """Numbers of the classes that this picture leaves out."""


def measure_picture(
    picture: Picture, classes: Sequence[ClassSpec], mm_per_px: float | None, stream: str = ""
) -> PictureFigures:
    """Measure the mask of a picture, as it is shown."""
    height, width = picture.labels.shape
    areas = measure_areas(picture.labels, classes, mm_per_px)
    seen = describe_states(picture.segmentation) if picture.segmentation is not None else _NOTHING_KNOWN
    findings: list[dict[str, Any]] = seen["findings"] or [{} for _ in areas]
    instances = list_shown(picture, classes, mm_per_px)
    return PictureFigures(
        stream=stream,
        number=picture.number,
        name=picture.name,
        mask_number=picture.mask_number,
        frame_px=(width, height),
        classes=tuple(
            ClassFigures(
                name=area.name,
                colour=write_colour(spec),
                area_px=area.area_px,
                area_mm2=area.area_mm2,
                instances=tuple(map(_describe_instance, instances[area.name][:SHOWN_INSTANCES])),
                instance_count=len(instances[area.name]),
                **{key: found.get(key) for key in _FINDING_KEYS},
            )
            for spec, area, found in zip(classes, areas, findings, strict=True)
        ),
        frame_classes=seen["frame_classes"],
        out_of_distribution=seen["out_of_distribution"],
    )


def list_shown(
    picture: Picture, classes: Sequence[ClassSpec], mm_per_px: float | None = None
) -> dict[str, list[Instance]]:
    """List the single findings of every class whose mask a picture shows, the largest first."""
    shown: dict[str, list[Instance]] = {spec.name: [] for spec in classes}
    if picture.segmentation is None or not picture.labels.any():
        return shown
    drawn = {spec.name for spec, area in zip(classes, count_pixels(picture.labels, len(classes)), strict=True) if area}
    for one in scale_instances(picture.segmentation.instance_list, mm_per_px).instances:
        if one.name in drawn and one.state != NOTHING:
            shown[one.name].append(one)
    return shown


def _describe_instance(one: Instance) -> InstanceFigures:
    values = describe_instance(one)
    return InstanceFigures(**{known.name: values[known.name] for known in fields(InstanceFigures)})


def write_colour(spec: ClassSpec) -> str:
    """Write a colour for CSS."""
    return "#{:02x}{:02x}{:02x}".format(*spec.colour)
