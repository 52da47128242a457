"""How steady masks are in the clips beside labelled images: DATA/clips/NAME/images, frames in the order of their names.

The states are those that a stream shows; beside them stands what every frame by itself would say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.decision import FOUND
from edgeseg.core.errors import DataError
from edgeseg.core.progress import Advance, ignore
from edgeseg.core.stats import Estimate, estimate_any
from edgeseg.evaluation.detection import IdentityFigures, IdentityJudge, join_identities
from edgeseg.frame.images import list_images, read_image
from edgeseg.inference.following import ClassCount
from edgeseg.inference.segmenter import Segmenter
from edgeseg.inference.steadiness import ClassSteadiness
from edgeseg.streaming.states import StateKeeper, StateReport
from edgeseg.streaming.tracking import MaskWarper

FOLDER, FRAMES, INSTANCES = "clips", "images", "instances"
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
    count: Estimate | None = None
    """Different single findings in a clip."""
    count_changes_per_minute: Estimate | None = None
    """Changes of the number of findings in view."""
    warped_agreement: Estimate | None = None
    """Dice of each frame's mask with that of the frame before, moved along by optical flow."""


@dataclass(frozen=True)
class ClipFigures:
    """Figures of all clips."""

    clips: int
    frames: int
    out_of_distribution: int
    """Frames that are none of those the model was trained on."""
    per_class: dict[str, ClipSteadiness]
    identity: IdentityFigures | None = None
    """Over all clips that say which true finding is which (clips/NAME/instances); of the first class."""


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
    played = [_play(segmenter, clip, on_frame) for clip in clips]
    names = [spec.name for spec in segmenter.card.output.classes]
    return ClipFigures(
        len(clips),
        count_frames(clips),
        sum(one.steady.out_of_distribution for one in played),
        {name: _summarise(played, name, number) for number, name in enumerate(names)},
        join_identities([one.identity for one in played if one.identity is not None]),
    )


@dataclass(frozen=True)
class _Played:
    """What one clip gave."""

    steady: StateReport
    single: StateReport
    agreement: tuple[float | None, ...]
    """Of every class."""
    identity: IdentityFigures | None


def _play(segmenter: Segmenter, clip: Path, on_frame: Advance) -> _Played:
    """Play one clip, its states held over frames and not."""
    classes = segmenter.card.output.classes
    steady, single = (StateKeeper(classes, is_steady) for is_steady in (True, False))
    agreement, judge = WarpedAgreement(len(classes)), IdentityJudge()
    truths = _list_truths(clip)
    for number, (path, frame) in enumerate(_read(segmenter, clip)):
        result = segmenter.segment(frame)
        shown = steady.take(result, number / FRAMES_PER_SECOND)
        single.take(result, number / FRAMES_PER_SECOND)
        agreement.take(frame, result.labels)
        truth = truths.get(path.stem)
        if truth is not None:
            judge.take(
                _read_truth(truth, result.labels), [one for one in shown.instances if one.name == classes[0].name]
            )
        on_frame(clip.parent.name)
    return _Played(steady.report(), single.report(), agreement.report(), judge.report() if truths else None)


def _read(segmenter: Segmenter, clip: Path) -> Iterator[tuple[Path, NDArray[Any]]]:
    for path in list_images(clip):
        yield path, read_image(path, segmenter.card.input.in_colour)


def _list_truths(clip: Path) -> dict[str, Path]:
    folder = clip.parent / INSTANCES
    return {path.stem: path for path in list_images(folder)} if folder.is_dir() else {}


def _read_truth(path: Path, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    truth = read_image(path, False)
    if truth.shape != labels.shape or truth.dtype != np.uint8:
        raise DataError(
            f"Expected the numbers of the findings as 8 bit of the frame's size in {path.name}, got others.",
            f"Leave the folder {INSTANCES} out to judge the clip without them.",
        )
    return np.asarray(truth, np.uint8)


class WarpedAgreement:
    """Whether masks move with the tissue: Dice with the mask of the frame before, moved by optical flow."""

    def __init__(self, classes: int) -> None:
        self._classes, self._warper = classes, MaskWarper()
        self._last: tuple[NDArray[Any], NDArray[np.uint8]] | None = None
        self._values: list[list[float]] = [[] for _ in range(classes)]

    def take(self, frame: NDArray[Any], labels: NDArray[np.uint8]) -> None:
        """Take a frame and its labels."""
        if self._last is not None and self._last[1].shape == labels.shape:
            moved = self._warper.warp(self._last[1], self._last[0], frame)
            for number, values in enumerate(self._values, start=1):
                before, now = moved == number, labels == number
                total = int(before.sum()) + int(now.sum())
                if total:
                    values.append(2.0 * int((before & now).sum()) / total)
        self._last = frame, labels

    def report(self) -> tuple[float | None, ...]:
        """Give the mean for every class; None where no two frames in a row show it."""
        return tuple(float(np.mean(values)) if values else None for values in self._values)


def _pick(reports: Sequence[StateReport], name: str) -> list[ClassSteadiness]:
    return [one for report in reports for one in report.classes if one.name == name]


def _summarise(played: Sequence[_Played], name: str, place: int) -> ClipSteadiness:
    steady = _pick([one.steady for one in played], name)
    shares = [one.seconds[FOUND] / sum(one.seconds.values()) for one in steady if sum(one.seconds.values()) > 0]
    counts = [_find_count(one.steady, name) for one in played]
    return ClipSteadiness(
        _average([one.flicker_per_minute for one in steady]),
        _average([one.flicker_per_minute for one in _pick([one.single for one in played], name)]),
        _average([one.area_jitter for one in steady]),
        _average(shares),
        _average([0.0 if one is None else float(one.count) for one in counts]),
        _average([0.0 if one is None else one.changes_per_minute for one in counts]),
        _average([one.agreement[place] for one in played]),
    )


def _find_count(report: StateReport, name: str) -> ClassCount | None:
    return next((one for one in report.counts if one.name == name), None)


def _average(values: Sequence[float | None]) -> Estimate | None:
    known = [value for value in values if value is not None]
    return estimate_any(known, [str(number) for number in range(len(known))])
