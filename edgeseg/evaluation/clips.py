"""How steady masks are in the clips beside labelled images: DATA/clips/NAME/images, frames in the order of their names.

The states are those that a stream shows; beside them stands what every frame by itself would say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeseg.core.decision import FOUND
from edgeseg.core.progress import Advance, ignore
from edgeseg.core.stats import Estimate, estimate_any
from edgeseg.frame.images import list_images, read_image
from edgeseg.inference.segmenter import Segmentation, Segmenter
from edgeseg.inference.steadiness import ClassSteadiness
from edgeseg.streaming.states import StateKeeper, StateReport

FOLDER, FRAMES = "clips", "images"
# Clips of images do not say their rate; those of `data synth` have this one.
FRAMES_PER_SECOND = 30.0


@dataclass(frozen=True)
class ClipSteadiness:
    """How steady one class is over clips; means over clips, each weighing the same."""

    flicker_per_minute: Estimate | None
    """Changes of its state per minute, as a stream shows it."""
    flicker_frame_by_frame: Estimate | None
    """The same where every frame is decided by itself."""
    area_jitter: Estimate | None
    """Mean change of the area from frame to frame by the mean area; None where it is nowhere shown."""
    found_share: Estimate | None
    """Share of the time in which it is found."""


@dataclass(frozen=True)
class ClipFigures:
    """Figures of all clips."""

    clips: int
    frames: int
    out_of_distribution: int
    """Frames that are none of those the model was trained on."""
    per_class: dict[str, ClipSteadiness]


def list_clips(root: Path) -> list[Path]:
    """List the folders with the frames of each clip; empty where a data folder has no clips."""
    folder = root / FOLDER
    if not folder.is_dir():
        return []
    found = sorted(path / FRAMES for path in folder.iterdir() if (path / FRAMES).is_dir())
    return [path for path in found if list_images(path)]


def count_frames(clips: Sequence[Path]) -> int:
    """Count the frames of clips, for a progress bar."""
    return sum(len(list_images(clip)) for clip in clips)


def evaluate_clips(segmenter: Segmenter, clips: Sequence[Path], on_frame: Advance = ignore) -> ClipFigures | None:
    """Play clips through a model and measure how steady its masks are; None without clips.

    Args:
        segmenter: The model.
        clips: The folders with each clip's frames.
        on_frame: Called with each frame's clip, for a progress bar.
    """
    if not clips:
        return None
    pairs = [_play(segmenter, clip, on_frame) for clip in clips]
    steady, single = [one for one, _ in pairs], [other for _, other in pairs]
    names = [spec.name for spec in segmenter.card.output.classes]
    return ClipFigures(
        len(clips),
        count_frames(clips),
        sum(report.out_of_distribution for report in steady),
        {name: _summarise(_pick(steady, name), _pick(single, name)) for name in names},
    )


def _play(segmenter: Segmenter, clip: Path, on_frame: Advance) -> tuple[StateReport, StateReport]:
    """Play one clip, its states held over frames and not."""
    keepers = [StateKeeper(segmenter.card.output.classes, is_steady) for is_steady in (True, False)]
    for number, result in enumerate(_segment(segmenter, clip)):
        for keeper in keepers:
            keeper.take(result, number / FRAMES_PER_SECOND)
        on_frame(clip.parent.name)
    steady, single = (keeper.report() for keeper in keepers)
    return steady, single


def _segment(segmenter: Segmenter, clip: Path) -> Iterator[Segmentation]:
    for path in list_images(clip):
        yield segmenter.segment(read_image(path, segmenter.card.input.in_colour))


def _pick(reports: Sequence[StateReport], name: str) -> list[ClassSteadiness]:
    return [one for report in reports for one in report.classes if one.name == name]


def _summarise(steady: Sequence[ClassSteadiness], single: Sequence[ClassSteadiness]) -> ClipSteadiness:
    shares = [one.seconds[FOUND] / sum(one.seconds.values()) for one in steady if sum(one.seconds.values()) > 0]
    return ClipSteadiness(
        _average([one.flicker_per_minute for one in steady]),
        _average([one.flicker_per_minute for one in single]),
        _average([one.area_jitter for one in steady]),
        _average(shares),
    )


def _average(values: Sequence[float | None]) -> Estimate | None:
    known = [value for value in values if value is not None]
    return estimate_any(known, [str(number) for number in range(len(known))])
