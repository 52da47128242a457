"""Unlabelled frames: the images, clips and DICOM files of a folder, on the network's input grid.

Frames that look like a case that is kept to validate or test would leak it into the training, and are refused.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.errors import DataError, EdgesegError, TrainingError
from edgeseg.core.progress import progress_bar
from edgeseg.core.spec import InputSpec, Region
from edgeseg.data.dataset import LabelledImage
from edgeseg.data.duplicates import BLOCK, THRESHOLD, make_thumbnail
from edgeseg.data.reading import crop
from edgeseg.frame.images import to_grey
from edgeseg.frame.preprocess import frame_to_grid, use_region
from edgeseg.prediction.inputs import Item, count_kinds, list_inputs, open_frames
from edgeseg.training.memory import check_frames
from edgeseg.training.run import FrameRecord

_LOG = logging.getLogger(__name__)
T = TypeVar("T")
S = TypeVar("S")
# Frames kept of one clip, evenly from first to last: neighbouring frames say nearly the same.
KEPT_OF_CLIP = 200
# Frames decoded of one clip, 11 minutes at 30 a second: a file may announce any length.
DECODED_OF_CLIP = 20_000
# Files that a message names.
_NAMED = 8
# Numbers of a stored thumbnail: of norm 1 and centred, none exceeds 1.
_THUMBNAIL_STEPS = 127


@dataclass(frozen=True)
class FrameView:
    """A frame on the network's input grid, and its thumbnail."""

    pixels: NDArray[np.uint8]
    thumbnail: NDArray[np.int8]


@dataclass(frozen=True)
class FrameSet:
    """Unlabelled frames in memory."""

    root: Path
    pixels: NDArray[np.uint8]
    """(n, height, width, channels), not yet denoised."""
    files: tuple[str, ...]
    """The file of every frame, relative to the folder."""
    thumbnails: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.files)

    @property
    def fingerprint(self) -> str:
        """Hash the frames as the network sees them."""
        return hashlib.sha256(self.pixels.data).hexdigest()

    def describe(self, out: Path) -> FrameRecord:
        """Describe the frames for a record in the folder `out`."""
        folder = os.path.relpath(self.root, out)
        return FrameRecord(folder, len(self), len(set(self.files)), self.fingerprint)


def read_frames(root: Path, spec: InputSpec) -> FrameSet:
    """Read the frames of a folder and its subfolders; unreadable files are named and left out.

    Args:
        root: The folder. Masks of a labelled folder are left out.
        spec: The network's input.
    """
    if not root.is_dir():
        raise DataError(f"Expected a folder of frames at {root}, got none.", "Name a folder of images, clips or DICOM.")
    items = list_inputs([root])
    frame_bytes = spec.height * spec.width * spec.channels
    check_frames(count_kinds(items).get("image", 0), frame_bytes)
    views: list[FrameView] = []
    files: list[str] = []
    unreadable: dict[str, EdgesegError] = {}
    with progress_bar("Reading unlabelled frames", len(items)) as advance:
        for item in items:
            try:
                read = _read_item(item, spec)
            except EdgesegError as error:
                unreadable[item.name] = error
                read = []
            views += read
            files += [item.name] * len(read)
            # what is read has already been taken from the free memory; this is for its copy in one array
            check_frames(len(views), frame_bytes)
            advance(item.name)
    _tell_unreadable(root, len(items), len(files), unreadable)
    return FrameSet(
        root,
        np.stack([view.pixels for view in views]),
        tuple(files),
        np.stack([view.thumbnail for view in views]),
    )


def _tell_unreadable(root: Path, files: int, frames: int, unreadable: Mapping[str, EdgesegError]) -> None:
    if not frames:
        first = next((f" {name}: {error}" for name, error in unreadable.items()), "")
        raise DataError(f"Expected frames in {root}, got {files} files without one.{first}", "Copy the files again.")
    if unreadable:
        _LOG.warning(
            "%d of %d files in %s cannot be read and are left out:\n  %s%s",
            len(unreadable),
            files,
            root,
            "\n  ".join(f"{name}: {error}" for name, error in list(unreadable.items())[:_NAMED]),
            "\n  ..." if len(unreadable) > _NAMED else "",
        )
    if frames == 1:
        _LOG.warning("%s holds one frame only: hardly anything can be learned from it.", root)


def _read_item(item: Item, spec: InputSpec) -> list[FrameView]:
    """Read an image, or frames of a clip evenly from first to last."""
    with open_frames(item, spec.in_colour) as reader:
        return thin_out(reader, lambda frame: _view_frame(frame.image, spec, reader.region))


def _view_frame(frame: NDArray[Any], spec: InputSpec, region: Region | None) -> FrameView:
    return FrameView(frame_to_grid(frame, use_region(spec, region)), shrink_frame(crop(frame, region)))


def thin_out(
    frames: Iterable[T], convert: Callable[[T], S], kept: int = KEPT_OF_CLIP, decoded: int = DECODED_OF_CLIP
) -> list[S]:
    """Keep evenly spaced frames of a clip whose length is not known before its end.

    Args:
        frames: The frames.
        convert: Makes of a frame what is kept of it.
        kept: The most that are kept.
        decoded: The most that are looked at.
    """
    found: list[S] = []
    step = 1
    for number, frame in enumerate(islice(frames, decoded)):
        if number % step == 0:
            found.append(convert(frame))
        if len(found) > kept:
            # every second one stays
            found, step = found[::2], 2 * step
    return found


def shrink_frame(frame: NDArray[Any]) -> NDArray[np.int8]:
    """Make a frame's thumbnail, in grey and in steps of 1/127."""
    return np.rint(make_thumbnail(to_grey(frame)) * _THUMBNAIL_STEPS).astype(np.int8)


def refuse_leaks(frames: FrameSet, held_out: Sequence[LabelledImage]) -> None:
    """Refuse frames that are near-duplicates of cases that validate or test.

    Args:
        frames: The unlabelled frames.
        held_out: These cases.
    """
    leaking = find_leaks(frames.thumbnails, held_out)
    if not leaking:
        return
    files = list(dict.fromkeys(frames.files[number] for number in leaking))
    more = f" and {len(files) - _NAMED} more" if len(files) > _NAMED else ""
    raise TrainingError(
        f"Expected unlabelled frames of other patients than the validation and test cases, got {len(leaking)} frames "
        f"in {frames.root} that look nearly the same as one of these: {', '.join(files[:_NAMED])}{more}.",
        "Move these files out of the folder, with all others of the same patients: test figures would flatter.",
    )


def find_leaks(thumbnails: NDArray[np.int8], held_out: Sequence[LabelledImage]) -> list[int]:
    """List the numbers of the frames that are near-duplicates of cases."""
    if not held_out:
        return []
    cases = _normalise(np.stack([shrink_frame(image.frame) for image in held_out]))
    found: list[int] = []
    for start in range(0, len(thumbnails), BLOCK):
        alike = (_normalise(thumbnails[start : start + BLOCK]) @ cases.T).max(axis=1) > THRESHOLD
        found += [start + int(number) for number in np.flatnonzero(alike)]
    return found


def _normalise(thumbnails: NDArray[np.int8]) -> NDArray[np.float32]:
    """Scale thumbnails to norm 1 again; those of uniform frames are zeros and stay so."""
    real = thumbnails.astype(np.float32)
    return np.asarray(real / np.maximum(np.linalg.norm(real, axis=1, keepdims=True), 1.0), dtype=np.float32)
