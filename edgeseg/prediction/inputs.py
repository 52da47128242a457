"""What a source holds: images, videos and DICOM files as items with a relative name, and their frames one by one."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from numpy.typing import NDArray

from edgeseg.core.errors import DataError, SourceError
from edgeseg.core.limits import CASES, IMAGE_BYTES, check_regular
from edgeseg.core.spec import InputSpec, Region
from edgeseg.data.layouts import GENERAL, SPECIFIC
from edgeseg.frame.images import SUFFIXES, read_image
from edgeseg.frame.modalities import stack_pictures
from edgeseg.streaming.sources.base import Health, Source
from edgeseg.streaming.sources.files import (
    DICOM_SUFFIXES,
    VIDEO_SUFFIXES,
    DicomSource,
    VideoSource,
    is_dicom,
    is_image,
    is_pattern,
    match_pattern,
)

_LOG = logging.getLogger(__name__)
Kind = Literal["image", "video", "dicom"]
_ENDINGS = {*SUFFIXES, *VIDEO_SUFFIXES, *DICOM_SUFFIXES}
# The list of the files on a CD: DICOM without a picture (PS3.10, 8.6).
_DICOM_DIRECTORY = "DICOMDIR"
_PARTNERS_HINT = "Lay the pictures as images/NAME and images_MODALITY/NAME, or give them in Python."


@dataclass(frozen=True)
class Item:
    """One file that holds frames."""

    path: Path
    name: str
    """Relative to the folder that all items are in, with slashes; no two items share one."""
    kind: Kind
    pictures: tuple[Path, ...] = ()
    """The files of all modalities of the frame, in the model's order, where they were joined."""
    spec: InputSpec | None = None
    """What joined pictures are stacked for."""
    problem: str = ""
    """Why it cannot be opened, in a sentence."""

    @property
    def stem(self) -> str:
        """Give the name without the ending of its kind: the dots of a UID are no endings."""
        start, dot, ending = self.name.rpartition(".")
        named = bool(start) and not start.endswith("/")
        return start if named and f"{dot}{ending}".lower() in _ENDINGS else self.name


@dataclass(frozen=True)
class InputFrame:
    """One frame of an item: grey or BGR, and its number in the item from 0."""

    image: NDArray[Any]
    number: int


class FrameReader:
    """The frames of one item, in order; those that cannot be decoded are counted in `health`."""

    def __init__(self, item: Item, colour: bool) -> None:
        """Open an item.

        Args:
            item: What to read.
            colour: Whether the model's input is colour.

        Raises:
            EdgesegError: It cannot be read.
        """
        if item.problem:
            raise DataError(item.problem, _PARTNERS_HINT)
        self.item, self._colour = item, colour
        self._source = _open_source(item, colour)

    @property
    def announced(self) -> int | None:
        """How many frames the header announces, as a hint; None where it says nothing."""
        return 1 if self._source is None else self._source.announced

    @property
    def is_clip(self) -> bool:
        """Say whether the item may hold several frames: every video, and DICOM files that announce it."""
        return self.item.kind == "video" or (self.announced or 1) > 1

    @property
    def fps(self) -> float:
        """Frames per second; of no meaning for an image."""
        return Source.fps if self._source is None else self._source.fps

    @property
    def region(self) -> Region | None:
        """The ultrasound region of every frame, where the file has it."""
        return None if self._source is None else self._source.region

    @property
    def mm_per_px(self) -> float | None:
        """The size of a pixel, where the file has it."""
        return None if self._source is None else self._source.mm_per_px

    @property
    def health(self) -> Health:
        """Count what could not be decoded so far."""
        return Health() if self._source is None else self._source.health

    def __iter__(self) -> Iterator[InputFrame]:
        """Decode one frame after the other.

        Raises:
            EdgesegError: An image cannot be decoded, or not one frame of a clip.
        """
        if self._source is None:
            yield InputFrame(_read_picture(self.item, self._colour), 0)
            return
        number = 0
        while (image := self._source.read()) is not None:
            yield InputFrame(image, number)
            number += 1

    def close(self) -> None:
        """Close the file."""
        if self._source is not None:
            self._source.close()


@contextmanager
def open_frames(item: Item, colour: bool) -> Iterator[FrameReader]:
    """Open the frames of an item for the block."""
    reader = FrameReader(item, colour)
    try:
        yield reader
    finally:
        reader.close()


def _read_picture(item: Item, colour: bool) -> NDArray[Any]:
    """Read an image, or the pictures of all modalities as one stack."""
    for path in (item.path, *item.pictures):
        check_regular(path, IMAGE_BYTES)
    if item.spec is None:
        return read_image(item.path, colour)
    names = item.spec.modalities
    pictures = [read_image(path, name in item.spec.signed) for name, path in zip(names, item.pictures, strict=True)]
    return stack_pictures(pictures, item.spec)


def _open_source(item: Item, colour: bool) -> Source | None:
    if item.kind == "image":
        return None
    return VideoSource(item.path) if item.kind == "video" else DicomSource(item.path, colour)


def list_inputs(sources: Sequence[str | Path], passes: Callable[[Path], bool] = lambda _: True) -> tuple[Item, ...]:
    """List what sources hold, in the order of the names.

    In a folder, hidden files, masks of labelled data and files of other kinds are left out; what is named itself is
    taken as it is.

    Args:
        sources: Files, folders with their subfolders, and patterns such as `exam*/*.png`.
        passes: Whether to look into a subfolder.

    Raises:
        EdgesegError: A source holds no frames, or too many files.
    """
    found: dict[Path, Kind] = {}
    roots: list[Path] = []
    for source in sources:
        root, items = _list_source(source, passes)
        roots.append(root)
        for path, kind in items:
            found.setdefault(path, kind)
            _check_count(len(found), source)
    root = Path(os.path.commonpath(roots)) if roots else Path()
    named = ((path, path.relative_to(root).as_posix(), kind) for path, kind in found.items())
    return tuple(Item(path, name, kind) for path, name, kind in sorted(named, key=lambda one: PurePosixPath(one[1])))


def _list_source(source: str | Path, passes: Callable[[Path], bool]) -> tuple[Path, list[tuple[Path, Kind]]]:
    """List one source, and find the folder that its names are relative to."""
    path = Path(os.path.abspath(source))  # noqa: PTH100 - links stay, `..` goes: names are relative to this
    try:
        exists, is_folder = os.path.lexists(path), path.is_dir()
    except (OSError, ValueError) as error:  # too long a name, a NUL byte, a folder that may not be looked into
        reason = error.strerror if isinstance(error, OSError) else error
        raise SourceError(f"Expected images, videos or DICOM at {path}, got none: {reason}.", "Check it.") from error
    if is_folder:
        return path, _list_folder(path, passes)
    if exists:
        return path.parent, [(path, _demand_kind(path))]
    if is_pattern(str(source)):
        return _list_matches(path, passes)
    raise SourceError(f"Expected images, videos or DICOM files at {path}, got nothing there.", "Check the path.")


def _list_matches(pattern: Path, passes: Callable[[Path], bool]) -> tuple[Path, list[tuple[Path, Kind]]]:
    """List the files that match a pattern, and what is in the folders that match."""
    root, matches = match_pattern(pattern)
    found: list[tuple[Path, Kind]] = []
    wanted = pattern.relative_to(root).parts
    for path in matches:
        # as in a shell, a star takes no hidden file
        if any(part.startswith(".") and part not in wanted for part in path.relative_to(root).parts):
            continue
        kind = find_kind(path)
        if path.is_dir():
            found += _walk(path, path, passes)[0]
        elif kind is not None:
            found.append((path, kind))
        _check_count(len(found), pattern)
    if not found:
        raise SourceError(f"Expected images, videos or DICOM files that match {pattern}, got none.", _name_kinds())
    return root, found


def _demand_kind(path: Path) -> Kind:
    kind = find_kind(path)
    if kind is None:
        raise SourceError(f"Expected an image, a video or a DICOM file, got {path}.", _name_kinds())
    return kind


def _list_folder(root: Path, passes: Callable[[Path], bool]) -> list[tuple[Path, Kind]]:
    """List the frames below a folder, without masks of labelled data."""
    found, left_out = _walk(root, root, passes)
    if left_out:
        _LOG.info("%d masks in %s are left out.", left_out, root)
    if not found:
        what = f"only {left_out} masks" if left_out else "none"
        hint = "Name the folder of the images that these masks belong to." if left_out else _name_kinds()
        raise DataError(f"Expected images, clips or DICOM files in {root}, got {what}.", hint)
    return found


def _walk(root: Path, top: Path, passes: Callable[[Path], bool]) -> tuple[list[tuple[Path, Kind]], int]:
    masks = _list_masks(root)
    found: list[tuple[Path, Kind]] = []
    left_out = 0
    for folder, names in _walk_folders(top, passes):
        of_masks = is_in_mask_folder(folder, root)
        paths = [folder / name for name in sorted(names) if not name.startswith(".")]
        frames = [(path, kind) for path in paths if (kind := find_kind(path)) is not None]
        kept = [] if of_masks else [(path, kind) for path, kind in frames if path not in masks]
        left_out += len(frames) - len(kept)
        found += kept
        _check_count(len(found), root)
    return found, left_out


def _walk_folders(top: Path, passes: Callable[[Path], bool]) -> Iterator[tuple[Path, list[str]]]:
    """Walk through a folder; a link to a folder is followed once, and never back into the folder itself."""
    real_top = os.path.realpath(top)
    followed: set[str] = set()
    waiting = [top]
    while waiting:
        for place, folders, names in os.walk(waiting.pop(), onerror=_tell_closed):
            kept = [name for name in sorted(folders) if not name.startswith(".") and passes(Path(place, name))]
            folders[:] = [name for name in kept if not Path(place, name).is_symlink()]
            for link in (Path(place, name) for name in kept if name not in folders):
                target = os.path.realpath(link)
                if target not in followed and not _lies_within(target, real_top) and not _lies_within(real_top, target):
                    followed.add(target)
                    waiting.append(link)
            yield Path(place), names


def _lies_within(path: str, folder: str) -> bool:
    return os.path.commonpath((path, folder)) == folder


def _tell_closed(error: OSError) -> None:
    _LOG.warning("The folder %s is left out: %s.", error.filename, error.strerror or error)


def _list_masks(root: Path) -> set[Path]:
    """List the masks of a labelled folder, which would be taken for frames."""
    found: set[Path] = set()
    for layout in SPECIFIC:
        try:
            cases = layout.find(root).cases if layout.fits(root) else ()
        except DataError as error:
            _LOG.warning("The masks in %s are not known by the layout %s: %s", root, layout.name, error)
            continue
        found.update(mask for case in cases for mask in case.masks if mask != case.image)
    return found or set().union(*(layout.list_masks(root) for layout in GENERAL))


def is_in_mask_folder(folder: Path, root: Path) -> bool:
    """Say whether a folder at or below a root is one of masks by its name, or of the instances beside masks."""
    parts = folder.relative_to(root).parts
    places = (root.resolve(), *(root.joinpath(*parts[:depth]) for depth in range(1, len(parts) + 1)))
    return any(_is_of_masks(place) for place in places)


def _is_of_masks(folder: Path) -> bool:
    beside = folder.name == "instances" and (folder.parent / "masks").is_dir()
    return beside or folder.name == "masks" or folder.name.startswith("masks_")


def find_kind(path: Path) -> Kind | None:
    """Tell by its ending what a file is, or by its content where it has none that is known; None for others."""
    try:
        # a FIFO with such an ending is listed, and refused when it is read
        if is_image(path):
            return "image"
        if path.suffix.lower() in VIDEO_SUFFIXES:
            return "video"
        return "dicom" if path.name != _DICOM_DIRECTORY and is_dicom(path) else None
    except OSError as error:
        _LOG.warning("%s is left out: %s.", path, error.strerror or error)
        return None


def _check_count(count: int, source: object) -> None:
    if count > CASES:
        raise DataError(f"Expected at most {CASES} files of frames in {source}, got more.", "Divide the folder.")


def _name_kinds() -> str:
    return f"Known are {', '.join((*SUFFIXES, *VIDEO_SUFFIXES))} and DICOM files."


def count_kinds(items: Iterable[Item]) -> dict[Kind, int]:
    """Count the items of each kind."""
    counts: dict[Kind, int] = {}
    for item in items:
        counts[item.kind] = counts.get(item.kind, 0) + 1
    return counts
